"""Fresh tables against a reference: what each level accepts, what it reports, and what it can
detect.
"""

import shutil
from collections.abc import Callable
from math import inf, log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.testing import assert_allclose
from scipy import stats
from small import ROOT

from metabench.analysis import frames, tables
from metabench.analysis.verification import chance, folders, rounding
from metabench.analysis.verification.compare import LEVELS, compare
from metabench.analysis.verification.distances import TOLERANCE
from metabench.cli import main

FLUX = ROOT / "results" / "reference" / "flux" / "tables"
ROUNDING = ROOT / "results" / "reference" / "rounding"
FOMAML, REPTILE = "inner 0.02, meta 0.01", "inner 0.02, meta 0.1"
RANDOM, DIVERGING = "untrained", "inner 0.04, meta 0.01"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cells and the baselines of the committed study, on 60 of its tasks."""
    folder = tmp_path_factory.mktemp("reference")
    for name in tables.names():
        table = frames.read(FLUX, name)
        if "cell" in table:
            table = table[table["cell"].isin([FOMAML, REPTILE, RANDOM, DIVERGING, "-"])]
        frames.write(table[table["task"] < 60] if "task" in table else table, folder / name)
    return folder


@pytest.fixture
def fresh(reference: Path, tmp_path: Path) -> Path:
    """A copy of the reference, to be changed."""
    return shutil.copytree(reference, tmp_path / "tables")


def verify(fresh: Path, reference: Path, level: str = "rounding", *more: object) -> Result:
    arguments = ["verify", "--tables", fresh, "--reference", reference, "--level", level, *more]
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def verdicts(fresh: Path, reference: Path) -> list[int]:
    """The exit code at each level, strictest first."""
    return [verify(fresh, reference, level).exit_code for level in LEVELS]


def deviating(answer: Result) -> list[str]:
    return [
        line.removeprefix("deviates: ")
        for line in answer.output.splitlines()
        if line.startswith("deviates: ")
    ]


def change(
    folder: Path, name: str, column: str, how: Callable[[pd.DataFrame], object], **where: object
) -> None:
    """Replace a column of the rows that have these values, by a function of those rows."""
    table = frames.read(folder, name)
    rows = np.all([table[key].isin(np.atleast_1d(value)) for key, value in where.items()], axis=0)
    values = table[column].astype(object)
    values[rows] = how(table[rows])
    table[column] = values.infer_objects()
    frames.write(table, folder / name)


def times(factor: float, column: str) -> Callable[[pd.DataFrame], object]:
    return lambda rows: rows[column] * factor


def scattered(column: str, scale: float = 0.2) -> Callable[[pd.DataFrame], object]:
    """Another training's losses: apart by a fifth, up as often as down."""
    return lambda rows: (
        rows[column] * np.exp(scale * np.random.default_rng(0).standard_normal(len(rows)))
    )


# ---- the levels


def test_identical_tables_reach_every_level(fresh: Path, reference: Path) -> None:
    assert verdicts(fresh, reference) == [0, 0, 0]
    answer = verify(fresh, reference, "identical")
    assert answer.output.splitlines()[-1] == "level reached: identical; required: identical"
    assert deviating(answer) == []


def test_the_committed_reference_is_identical_to_itself() -> None:
    found = compare(FLUX, FLUX)
    assert (
        found.reached == "identical"
        and len(found.cells) == 2 * (23 + 6)
        and found.tests == 2 * 23 + 23
    )


def test_files_that_are_no_tables_are_not_looked_at(fresh: Path, reference: Path) -> None:
    (fresh / "manifest.json").write_text("{}")
    assert verify(fresh, reference, "identical").exit_code == 0


def test_a_reference_from_before_a_table_existed_is_compared_in_the_others(
    fresh: Path, reference: Path
) -> None:
    (fresh / "gallery.csv").write_text("algorithm,cell\nfomaml,first\n")
    assert verify(fresh, reference, "identical").exit_code == 0
    answer = verify(reference, fresh)
    assert answer.exit_code == 2 and "gallery.csv" in answer.output


def test_a_flipped_last_digit_is_rounding_but_not_identical(fresh: Path, reference: Path) -> None:
    change(
        fresh,
        "leaderboard.csv",
        "mean",
        times(1 + 2e-9, "mean"),
        cell=FOMAML,
        protocol="standard",
        step="own",
    )
    assert verdicts(fresh, reference) == [1, 0, 0]
    answer = verify(fresh, reference, "identical")
    assert deviating(answer) == ["leaderboard.csv"]
    assert answer.output.splitlines()[-1] == "level reached: rounding; required: identical"


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("tasks.parquet", "loss"),
        ("leaderboard.csv", "mean"),
        ("leaderboard.csv", "median"),
        ("adaptation.csv", "iqm"),
    ],
)
def test_five_percent_in_one_cell_fail_two_levels_and_are_named(
    fresh: Path, reference: Path, file: str, column: str
) -> None:
    change(fresh, file, column, times(1.05, column), cell=REPTILE, protocol="robustness")
    assert verdicts(fresh, reference)[:2] == [1, 1]
    (line,) = deviating(verify(fresh, reference))
    assert line.startswith(f"reptile {REPTILE} robustness: {file} {column} 5%")


def test_five_percent_with_the_same_random_numbers_are_no_chance_and_fail_the_third_level_too(
    fresh: Path, reference: Path
) -> None:
    change(fresh, "tasks.parquet", "loss", times(1.05, "loss"), cell=FOMAML, protocol="standard")
    (line,) = deviating(verify(fresh, reference, "consistent"))
    assert line.endswith("losses by the factor 1.05 [1.05, 1.05]")
    assert verify(fresh, reference, "consistent").exit_code == 1


def test_five_percent_in_any_cell_of_the_committed_reference_exceed_rounding() -> None:
    known = folders.read(FLUX)
    tasks = known["tasks.parquet"]
    changed = {**known, "tasks.parquet": tasks.assign(loss=tasks["loss"] * 1.05)}
    runs = rounding.compare_runs(changed, known)
    found = rounding.compare_values(changed, known, runs).query("column == 'loss'")
    spared = found[found["held"] & (found["deviation"] < TOLERANCE)]
    # Where all runs have diverged there is no loss to change; 5% of 1e-31 are rounding as that
    # itself is.
    assert set(spared["cell"]) == {"inner 0.04, meta 0.03", "inner 0.02, meta 0.03", "-"}
    assert set(spared.loc[spared["cell"] == "-", "algorithm"]) == {"least-squares"}


def test_five_percent_in_one_run_exceed_rounding(fresh: Path, reference: Path) -> None:
    change(
        fresh,
        "tasks.parquet",
        "loss",
        times(1.05, "loss"),
        cell=FOMAML,
        protocol="standard",
        seed=3,
    )
    (line,) = deviating(verify(fresh, reference))
    assert line.startswith(f"fomaml {FOMAML} standard: tasks.parquet loss 5%")


def test_five_percent_where_seven_runs_have_no_loss_exceed_rounding(
    fresh: Path, reference: Path
) -> None:
    # Their validation curves were led elsewhere on the way to divergence: no excuse, if no other
    # run has stayed.
    change(fresh, "tasks.parquet", "loss", times(1.05, "loss"), cell=DIVERGING, protocol="standard")
    late = {"cell": DIVERGING, "meta_iteration": range(3000, 50_001, 1000)}
    change(fresh, "history.csv", "validation_loss", scattered("validation_loss"), **late)
    (line,) = deviating(verify(fresh, reference))
    assert line.startswith(f"fomaml {DIVERGING} standard: tasks.parquet loss 5%")


def test_the_order_of_rows_does_not_matter(fresh: Path, reference: Path) -> None:
    table = frames.read(fresh, "leaderboard.csv")
    frames.write(table.iloc[::-1], fresh / "leaderboard.csv")
    assert verdicts(fresh, reference) == [1, 0, 0]


@pytest.mark.parametrize("cell", [FOMAML, "-"])
def test_losses_at_the_level_of_rounding_are_equal(fresh: Path, reference: Path, cell: str) -> None:
    for folder, level in ((fresh, 1e-31), (reference, 3e-31)):
        change(folder, "tasks.parquet", "loss", lambda rows, level=level: level, cell=cell, task=7)
    assert verify(fresh, reference).exit_code == 0


@pytest.mark.parametrize(
    ("file", "column", "value"),
    [("leaderboard.csv", "selected", False), ("runs.csv", "status", "diverged")],
)
def test_another_choice_or_status_exceeds_rounding(
    fresh: Path, reference: Path, file: str, column: str, value: object
) -> None:
    where = {"step": "common", "protocol": "standard"} if column == "selected" else {"seed": 4}
    change(fresh, file, column, lambda rows: value, cell=REPTILE, **where)
    lines = deviating(verify(fresh, reference))
    assert lines and all(line.startswith(f"reptile {REPTILE} ") for line in lines)
    assert all(f"{file} {column} different" in line for line in lines)


# ---- runs that rounding leads elsewhere


def drift_apart(folder: Path, seeds: object, first: int) -> None:
    """Let runs of FOMAML be others at the end, and their validation curves from a meta-iteration
    on.
    """
    own = {"cell": FOMAML, "seed": seeds}
    change(folder, "tasks.parquet", "loss", scattered("loss"), **own)
    late = {**own, "meta_iteration": range(first, 50_001, 1000)}
    change(folder, "history.csv", "validation_loss", scattered("validation_loss"), **late)


def test_a_run_whose_validation_curve_leaves_on_the_way_was_led_elsewhere_and_is_named(
    fresh: Path, reference: Path
) -> None:
    drift_apart(fresh, [2, 6], first=20_000)
    answer = verify(fresh, reference)
    assert answer.exit_code == 0, answer.output
    rows = [line for line in answer.output.splitlines() if FOMAML in line]
    assert len(rows) == 2 and all(line.endswith("2 of 10: 2 6") for line in rows)


@pytest.mark.parametrize("first", [0, 1000, 60_000])
def test_a_run_that_differs_from_the_start_or_only_at_the_end_was_not(
    fresh: Path, reference: Path, first: int
) -> None:
    drift_apart(fresh, 2, first)
    assert [line.split(":")[0] for line in deviating(verify(fresh, reference))] == [
        f"fomaml {FOMAML} {protocol}" for protocol in ("robustness", "standard")
    ]


def test_one_run_at_least_must_stay(fresh: Path, reference: Path) -> None:
    drift_apart(fresh, range(10), first=20_000)
    assert verdicts(fresh, reference) == [1, 1, 0]


def test_runs_led_elsewhere_must_be_consistent_still(fresh: Path, reference: Path) -> None:
    drift_apart(fresh, range(9), first=20_000)
    change(fresh, "tasks.parquet", "loss", times(3, "loss"), cell=FOMAML, seed=range(9))
    assert verdicts(fresh, reference) == [1, 1, 1]
    assert "losses by the factor" in deviating(verify(fresh, reference))[0]


@pytest.mark.parametrize(("least", "code"), [(1, 0), (1.1, 1)])
def test_a_run_that_tunes_another_step_size_was_led_elsewhere_if_the_least_steps_agree(
    fresh: Path, reference: Path, least: float, code: int
) -> None:
    own = {"cell": RANDOM, "protocol": "standard", "seed": 5}
    change(fresh, "tasks.parquet", "loss", scattered("loss"), **own)
    change(fresh, "tuning.csv", "chosen", lambda rows: np.roll(rows["chosen"], 1), **own)
    change(
        fresh, "tuning.csv", "validation_loss", times(2, "validation_loss"), step_size=0.064, **own
    )
    change(
        fresh,
        "tuning.csv",
        "validation_loss",
        times(least, "validation_loss"),
        step_size=0.0005,
        **own,
    )
    assert verify(fresh, reference).exit_code == code


# ---- statistical consistency


def shift_seeds(folder: Path, factor: float) -> None:
    """Give each seed of two cells the losses of another, as if trained with other random numbers,
    times a factor.
    """
    for cell in (FOMAML, REPTILE):
        change(
            folder,
            "tasks.parquet",
            "loss",
            lambda rows: (
                rows.assign(seed=(rows["seed"] + 1) % 10)
                .sort_values(["seed", "protocol", "region", "task"])["loss"]
                .to_numpy()
                * factor
            ),
            cell=cell,
        )


def test_another_training_is_consistent_and_no_rounding(fresh: Path, reference: Path) -> None:
    shift_seeds(fresh, 1)
    assert verdicts(fresh, reference) == [1, 1, 0]
    assert len(deviating(verify(fresh, reference))) == 4
    assert verify(fresh, reference, "consistent").output.endswith(
        "reached: consistent; required: consistent\n"
    )


def test_another_training_beyond_the_detectable_factor_is_not_consistent(
    fresh: Path, reference: Path
) -> None:
    cells = compare(reference, reference).cells.query("cell in [@FOMAML, @REPTILE]")
    shift_seeds(fresh, 1.5 * cells["detectable"].max())
    answer = verify(fresh, reference, "consistent")
    assert answer.exit_code == 1
    assert {
        line.split(" ", 1)[1].split(" robustness")[0].split(" standard")[0]
        for line in deviating(answer)
    } == {FOMAML, REPTILE}
    assert answer.output.endswith("level reached: none; required: consistent\n")


def trained(noise: float, rng: np.random.Generator, task: np.ndarray) -> np.ndarray:
    """Log losses of ten runs on these tasks, ``(run, task)``: noise of the seed, and of seed and
    task.
    """
    return task + noise * rng.standard_normal((10, 1)) + 0.5 * rng.standard_normal((10, len(task)))


def test_a_consistent_study_fails_at_most_one_time_in_twenty() -> None:
    """Fifteen cells, each a test of its losses and one of its diverged runs, two independent
    trainings a study.
    """
    rng, tests, failed = np.random.default_rng(7), 30, []
    for _ in range(400):
        wrong = []
        for share in rng.uniform(size=15):
            task = rng.standard_normal(40)
            found = chance.factor_interval(trained(0.2, rng, task), trained(0.2, rng, task), tests)
            more = np.diff(rng.binomial(10, share, 2))[0]
            wrong += [not found.lower <= 1 <= found.upper]
            wrong += [chance.divergence_p_value(int(more), 10) <= chance.ERROR / tests]
        failed.append(any(wrong))
    assert 0.005 < np.mean(failed) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_a_change_of_the_detectable_size_is_detected_four_times_in_five(noise: float) -> None:
    rng, tests, detected = np.random.default_rng(8), 69, []
    for _ in range(1500):
        task = rng.standard_normal(40)
        known = trained(noise, rng, task)
        change = chance.detectable_factor(known, tests)
        found = chance.factor_interval(trained(noise, rng, task) + log(change), known, tests)
        detected.append(found.lower > np.exp(TOLERANCE))
    assert np.mean(detected) == pytest.approx(chance.POWER, abs=4 * np.sqrt(0.8 * 0.2 / 1500))


def test_a_single_run_shows_no_variance() -> None:
    one = np.log([[1.0, 2.0]])
    assert chance.factor_interval(one + log(3), one, 1) == pytest.approx((3, 0, inf))
    assert np.isnan(chance.detectable_factor(one, 1))


def test_two_runs_that_differ_tell_next_to_nothing() -> None:
    two = np.log([[1.0, 2.0], [3.0, 5.0]])
    assert chance.detectable_factor(two, 69) == inf
    assert chance.factor_interval(two[::-1], two, 69) == pytest.approx((1, 0, inf))


@pytest.mark.parametrize("more", range(1, 11))
def test_the_p_value_of_diverged_runs_bounds_the_tails_of_every_probability(more: int) -> None:
    tails = []
    for probability in np.linspace(0.02, 0.98, 25):
        counts = stats.binom.pmf(range(11), 10, probability)
        tails.append(np.convolve(counts, counts[::-1])[np.abs(np.arange(-10, 11)) >= more].sum())
    assert max(tails) == pytest.approx(chance.divergence_p_value(more, 10))  # attained at one half
    assert chance.divergence_p_value(-more, 10) == pytest.approx(
        chance.divergence_p_value(more, 10)
    )


def test_eight_of_ten_runs_that_diverge_are_told_in_the_flux_study() -> None:
    assert chance.detectable_runs(10, 69) == 8
    assert chance.detectable_runs(3, 69) is None
    assert_allclose(chance.divergence_p_value(10, 10), 2 * 0.25**10)


def test_cells_whose_runs_all_diverge_where_they_did_not_are_named(
    fresh: Path, reference: Path
) -> None:
    change(fresh, "runs.csv", "status", lambda rows: "diverged", cell=FOMAML)
    change(fresh, "tasks.parquet", "loss", lambda rows: inf, cell=FOMAML)
    for line in deviating(verify(fresh, reference, "consistent")):
        assert line.startswith(f"fomaml {FOMAML} ") and "+10 diverged runs (p = 1.9e-06)" in line
    assert verify(fresh, reference, "consistent").exit_code == 1


# ---- what cannot be compared


def without(**where: object) -> Callable[[Path], None]:
    """Delete rows from every table."""

    def delete(folder: Path) -> None:
        for name in tables.names():
            table = frames.read(folder, name)
            if set(where) <= set(table):
                rows = np.all([table[key] == value for key, value in where.items()], axis=0)
                frames.write(table[~rows], folder / name)

    return delete


def renamed(folder: Path) -> None:
    """Make it another study: a cell of other hyperparameters."""
    for name in tables.names():
        table = frames.read(folder, name)
        if "cell" in table:
            frames.write(
                table.assign(cell=table["cell"].astype(str).replace(FOMAML, "12345678")),
                folder / name,
            )


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-2000])


BAD = {
    "a table is missing": (lambda folder: (folder / "runs.csv").unlink(), "runs.csv: No such file"),
    "no table is there": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        "is not a complete folder of tables",
    ),
    "another study": (renamed, f"such as fomaml {FOMAML} 0"),
    "a seed is missing": (
        without(seed=9),
        "4 rows are missing, such as fomaml inner 0.02, meta 0.01 9",
    ),
    "tasks are missing": (
        without(task=59),
        "tasks.parquet is not of the reference's study and seeds",
    ),
    "a CSV file is cut off": (cut("history.csv"), "history.csv"),
    "a parquet file is cut off": (cut("curves.parquet"), "curves.parquet is not a readable table"),
    "a number is none": (
        lambda folder: (folder / "adaptation.csv").write_text(
            (folder / "adaptation.csv")
            .read_text()
            .replace(",robustness,own,all,10,", ",robustness,own,all,10,x", 1)
        ),
        "adaptation.csv is not a table of a study",
    ),
    "a column is missing": (
        lambda folder: frames.write(
            frames.read(folder, "runs.csv").drop(columns="status"), folder / "runs.csv"
        ),
        "runs.csv has other columns than the reference",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(
    fresh: Path, reference: Path, fault: str
) -> None:
    damage, expected = BAD[fault]
    damage(fresh)
    answer = verify(fresh, reference)
    assert answer.exit_code == 2, answer.output
    (line,) = answer.output.strip().splitlines()
    assert line.startswith("metabench: ") and expected in line and str(fresh) in line


# ---- what is said about it


def test_the_command_offers_the_levels_strictest_first() -> None:
    (option,) = (option for option in main.commands["verify"].params if option.name == "level")
    assert tuple(option.type.choices) == LEVELS


def test_how_far_each_column_is_can_be_written(
    fresh: Path, reference: Path, tmp_path: Path
) -> None:
    change(fresh, "tasks.parquet", "loss", times(1.05, "loss"), cell=FOMAML, protocol="standard")
    assert verify(fresh, reference, "rounding", "--out", tmp_path / "out.csv").exit_code == 1
    table = frames.read(tmp_path, "out.csv")
    far = table[table["deviation"] > 0]
    found = [list(row) for row in far[["cell", "protocol", "column", "rows"]].to_numpy()]
    assert found == [[FOMAML, "standard", "loss", 10]]
    assert far["deviation"].item() == pytest.approx(log(1.05), abs=1e-6)


def test_the_tolerance_is_three_times_what_was_measured_and_a_tenth_of_five_percent() -> None:
    measured = frames.read(ROUNDING, "deviations.csv")
    largest = measured.loc[measured["held"], "deviation"].max()
    assert set(measured["cell"]) == set(frames.read(FLUX, "tasks.parquet")["cell"])
    assert 3 * largest < TOLERANCE <= 0.1 * 0.05 < 4 * largest


def test_the_two_engines_agree_within_the_tolerance() -> None:
    measured = frames.read(ROUNDING, "engines.csv")
    assert set(measured["cell"]) == set(frames.read(FLUX, "tasks.parquet")["cell"])
    assert 0 < measured.loc[measured["held"], "deviation"].max() < TOLERANCE


def test_the_detectable_factors_in_the_documentation_are_those_of_the_reference() -> None:
    cells = compare(FLUX, FLUX).cells.set_index(folders.ROW)["detectable"].unstack()
    text = (ROOT / "docs" / "statistics.md").read_text()
    rows = [
        [part.strip() for part in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    documented = {tuple(row[0].strip("`").split(" ", 1)): row[1:] for row in rows}
    assert len(documented) == 21
    for key, factors in documented.items():
        assert factors == [
            f"{cells.loc[key, protocol]:.3g}" for protocol in ("robustness", "standard")
        ], key
