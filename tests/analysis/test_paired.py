"""Comparison of two studies: what they share is paired, and what they do not share is reported."""

import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small import ROOT

from metabench.analysis import frames, paired
from metabench.analysis.statistics.pairs import difference_interval
from metabench.cli import main
from metabench.learning.scores import scores
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError

REFERENCE = ROOT / "results" / "reference"
REPTILE = "inner 0.02, meta 0.1"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The tables of the default study, with other losses of one cell."""
    folder = tmp_path / "other"
    shutil.copytree(REFERENCE / "flux" / "tables", folder)
    table = frames.read(folder, "tasks.parquet")
    mine = (table["algorithm"] == "reptile") & (table["cell"] == REPTILE)
    table.loc[mine, "loss"] *= np.float32(2)
    table.to_parquet(folder / "tasks.parquet", index=False)
    names = [path.name for path in folder.iterdir() if path.name != manifests.NAME]
    manifests.write(folder, names, {})
    return folder


def test_a_study_beside_itself_is_equal_throughout() -> None:
    found = paired.compare(REFERENCE / "flux", REFERENCE / "flux" / "tables")
    assert set(found["verdict"]) == {"equal"} and set(found["pair"]) == {"cell"}
    assert (found["difference"] == 0).all() and len(found) > 40


def test_a_cell_with_larger_losses_is_worse_by_the_paired_difference(other: Path) -> None:
    found = paired.compare(other, REFERENCE / "flux")
    changed = found[found["verdict"] != "equal"]
    assert set(changed["cell_a"]) == {REPTILE} and set(changed["verdict"]) == {"worse"}
    row = changed[changed["protocol"] == "robustness"].iloc[0]
    table = frames.read(REFERENCE / "flux" / "tables", "tasks.parquet")
    table = table[(table["protocol"] == "robustness") & (table["region"] == "all")]
    zero = table[table["algorithm"] == "zero"].sort_values("task")["loss"].to_numpy(np.float64)
    mine = table[(table["algorithm"] == "reptile") & (table["cell"] == REPTILE)]
    losses = mine.pivot(index="seed", columns="task", values="loss").to_numpy(np.float64)
    expected = difference_interval(scores(2 * losses, zero), scores(losses, zero))
    got = row[["difference", "difference_lower", "difference_upper"]]
    assert got.tolist() == pytest.approx(list(expected))
    back = paired.compare(REFERENCE / "flux", other)
    assert set(back.loc[back["verdict"] != "equal", "verdict"]) == {"better"}


def test_what_validation_selects_of_an_algorithm_is_a_pair_where_it_differs() -> None:
    found = paired.compare(REFERENCE / "flux", REFERENCE / "algorithms")
    selected = found[found["pair"] == "selected"]
    assert (selected["cell_a"] != selected["cell_b"]).all()
    assert {"fomaml", "reptile"} <= set(selected["algorithm"])
    cells = found[found["pair"] == "cell"]
    assert set(cells["verdict"]) == {"equal"}, "the same cell on the same bank, in another study"


def test_studies_without_a_protocol_on_the_same_tasks_are_not_compared(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(REFERENCE / "flux" / "tables", folder)
    table = frames.read(folder, "tasks.parquet")
    zero = table["algorithm"] == "zero"
    table.loc[zero, "loss"] = table.loc[zero, "loss"].to_numpy()[::-1]
    table.to_parquet(folder / "tasks.parquet", index=False)
    names = [path.name for path in folder.iterdir() if path.name != manifests.NAME]
    manifests.write(folder, names, {})
    with pytest.raises(ArtifactError, match="no protocol with the same test tasks"):
        paired.compare(folder, REFERENCE / "flux")


def test_the_command_prints_it_and_writes_a_page(other: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = [str(other), str(REFERENCE / "flux"), "--where", "verdict != 'equal'"]
    answer = CliRunner().invoke(main, ["compare", *words, "--format", "csv", "--page", str(page)])
    assert answer.exit_code == 0, answer.output
    printed = pd.read_csv(StringIO(answer.output))
    assert list(printed.columns) == list(paired.COLUMNS) and len(printed) == 2
    text = page.read_text()
    assert "vegaEmbed" in text and "Reptile, inner 0.02, meta 0.1" in text


def test_a_folder_without_tables_is_one_line(tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["compare", str(tmp_path), str(tmp_path)])
    assert answer.exit_code == 2 and len(answer.output.splitlines()) == 1
