"""Tables of predictive distributions, of a study with an algorithm that predicts variances."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small import RANDOM, compute, running, study, tiny

from metabench.analysis import frames, measured, reduction, tables
from metabench.analysis.verification import folders
from metabench.learning.predictive import LEVELS, MEASURES
from metabench.records import manifests
from metabench.views.drawing.reading import Tables

MINE = '''
"""Plain descent from random weights, with a variance that grows along x."""

from metabench import Adaptation, Algorithm, Predictive, descending, support_and_query
from metabench.learning.algorithms import fomaml


def distribution(network, theta, question, h):
    mean = descending(network, theta, question, h)[-1]
    return Predictive(mean, (0.1 + question.x.abs()).expand_as(mean))


ALGORITHM = Algorithm(
    fomaml.Hyperparameters, fomaml.cost, support_and_query, fomaml.meta_gradient,
    adaptation=Adaptation(descending, plain=True, distribution=distribution),
)
'''


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("study")
    (folder / "with_variance.py").write_text(MINE)
    mine = {"algorithm": str(folder / "with_variance.py"), "meta_iterations": 0, "published": {}}
    steps = {"meta_batch_size": 2, "shots": 5, "inner_steps": 1, "inner_step_size": 0.02}
    content = tiny(cells=[mine | steps | {"meta_step_size": 0.01}, RANDOM])
    content["tasks"]["noise"] = 0.3
    content["protocols"]["clear"] = {**content["protocols"]["standard"], "noise": 0.0}
    started = running(content, folder / "results")
    compute(started)
    read = measured.read(started)
    out = folder / "tables"
    tables.write_all(read, out)
    return SimpleNamespace(study=read, folder=out, table=cache(lambda name: frames.read(out, name)))


def rows(done: SimpleNamespace, **where: str):
    found = done.table("predictive.csv")
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def test_cells_and_baselines_that_predict_variances_have_rows_under_noise(
    done: SimpleNamespace,
) -> None:
    found = rows(done)
    assert set(found["protocol"]) == {"standard", "robustness"}, "labels of `clear` have no noise"
    assert set(rows(done, role="baseline")["algorithm"]) == {
        "bayes",
        "gaussian-process-fitted",
        "gaussian-process-periodic",
        "linear",
    }
    assert set(found["algorithm"]) - set(rows(done, role="baseline")["algorithm"]) == {
        "with_variance"
    }
    assert set(rows(done, protocol="standard")["region"]) == {"all"}
    assert set(rows(done, protocol="robustness")["region"]) == {"all", "seen", "unseen"}


@pytest.mark.parametrize("region", ["all", "seen", "unseen"])
def test_a_row_has_the_means_over_seeds_and_tasks_of_its_region(
    done: SimpleNamespace, region: str
) -> None:
    record = next(r for r in done.study.cells if r.cell.algorithm == "with_variance")
    number = ["all", "seen", "unseen"].index(region)
    of_region = record.evaluation["predictive/robustness"][number].astype(np.float64)
    means = dict(zip(MEASURES, of_region.mean((1, 2)), strict=True))
    [row] = rows(done, algorithm="with_variance", protocol="robustness", region=region).itertuples()
    assert row.nll == pytest.approx(means["nll"]) and row.nll_lower < row.nll < row.nll_upper
    assert row.sharpness == pytest.approx(means["deviation"])
    errors = [abs(means[f"coverage {level}"] - level / 100) for level in LEVELS]
    assert row.calibration_error == pytest.approx(np.mean(errors))
    assert row.coverage_90 == pytest.approx(means["coverage 90"])


def test_the_bands_are_those_of_the_first_seed_of_the_showcase(done: SimpleNamespace) -> None:
    found = done.table("bands.csv").query("protocol == 'standard'")
    shown = done.table("showcase.csv").query(
        "protocol == 'standard' and algorithm == 'with_variance' and seed == 0"
    )
    assert found["prediction"].to_numpy() == pytest.approx(shown["after"].to_numpy())
    assert found["deviation"].to_numpy() == pytest.approx(np.sqrt(0.1 + np.abs(found["x"])))


@pytest.mark.parametrize(("noise", "algorithm"), [(0.0, "alpaca"), (0.3, "random")])
def test_a_study_without_noise_or_predicted_variances_has_no_such_tables_and_figures(
    noise: float, algorithm: str
) -> None:
    steps = {} if algorithm == "random" else {"meta_step_size": 0.1}
    content = tiny(cells=[{**RANDOM, "algorithm": algorithm, **steps}])
    content["tasks"]["noise"] = noise
    plain = study(content)
    assert not {"predictive.csv", "bands.csv"} & set(tables.names(plain.config))
    assert not plain.noisy_protocols


def test_the_tables_name_the_figures_that_the_study_promises(done: SimpleNamespace) -> None:
    assert Tables(done.folder).noisy_protocols == ["robustness", "standard"]


def test_a_reference_keeps_them_and_misses_them_where_they_are_gone(
    done: SimpleNamespace, tmp_path: Path
) -> None:
    manifests.write(done.folder, tables.names(done.study.config), {"kind": "tables"})
    reduction.write(done.folder, tmp_path / "reference")
    pair = folders.match(done.folder, tmp_path / "reference")
    assert pair.identical["predictive.csv"] and pair.identical["bands.csv"]
