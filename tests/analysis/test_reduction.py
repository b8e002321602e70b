"""Reduced tables: few digits, enough rows, and digests that still detect a single byte."""

import json
import shutil
from collections.abc import Callable
from math import exp, log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import ROOT

from metabench.analysis import frames, reduction, tables
from metabench.analysis.verification.compare import LEVELS, Verification, compare
from metabench.analysis.verification.distances import TOLERANCE
from metabench.analysis.verification.report import report
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError

FLUX = ROOT / "results" / "reference" / "flux" / "tables"
FOMAML, REPTILE = "inner 0.02, meta 0.01", "inner 0.02, meta 0.1"
DIVERGING = "inner 0.04, meta 0.01"
TASKS = 300


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full tables of three cells and the baselines, with all digits and all regions' losses."""
    folder = tmp_path_factory.mktemp("full")
    rng = np.random.default_rng(0)
    for name in tables.names():
        table = frames.read(FLUX, name)
        if "cell" in table:
            table = table[table["cell"].isin([FOMAML, REPTILE, DIVERGING, "-"])]
        if name == "tasks.parquet":
            table = all_regions(table)
        for column in {"loss", "validation_loss"} & set(table):
            # The committed tables may be reduced: give their numbers digits beyond those.
            digits = 1 + 0.001 * rng.standard_normal(len(table))
            table[column] = (table[column] * digits).astype(table[column].dtype)
        frames.write(table, folder / name)
    manifests.write(folder, tables.names(), {"kind": "tables", "settings": {}})
    return folder


def all_regions(tasks: pd.DataFrame) -> pd.DataFrame:
    """Repeat the first tasks' losses, so that there are as many in each region."""
    few = tasks[tasks["task"] < reduction.REGION_TASKS]
    times = TASKS // reduction.REGION_TASKS
    return pd.concat(
        [few.assign(task=few["task"] + n * reduction.REGION_TASKS) for n in range(times)]
    ).astype({"task": "int32"})


@pytest.fixture(scope="module")
def reduced(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reduced")
    reduction.write(full, folder)
    return folder


@pytest.fixture
def fresh(full: Path, tmp_path: Path) -> Path:
    """A copy of the full tables, to be changed; a comparison does not need its manifest."""
    folder = shutil.copytree(full, tmp_path / "tables")
    (folder / manifests.NAME).unlink()
    return folder


def multiply(folder: Path, name: str, column: str, factor: float, **where: object) -> None:
    """Multiply a column where other columns have these values."""
    table = frames.read(folder, name)
    rows = np.all([table[key].isin(np.atleast_1d(value)) for key, value in where.items()], axis=0)
    table[column] = np.where(rows, table[column] * factor, table[column]).astype(
        table[column].dtype
    )
    frames.write(table, folder / name)


def reached(folder: Path, reference: Path) -> str | None:
    return compare(folder, reference).reached


# ---- digits


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_shortened_number_has_its_digits_and_is_as_near_as_promised(kind: type) -> None:
    rng = np.random.default_rng(1)
    values = (rng.choice([-1, 1], 20_000) * np.exp(rng.uniform(-70, 70, 20_000))).astype(kind)
    short = reduction.shortened(values, reduction.SHORT)
    assert short.dtype == kind
    fraction, _ = np.frexp(short)
    assert (np.ldexp(fraction, reduction.SHORT) % 1 == 0).all()
    far = np.abs(np.log(short / values.astype(np.float64)))
    assert 0.9 * reduction.PRECISION < far.max() < 0.0005
    assert np.array_equal(reduction.shortened(short, reduction.SHORT), short)


def test_what_is_infinite_or_missing_stays_and_nothing_else_becomes_so() -> None:
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    values = np.array([np.inf, -np.inf, np.nan, 0, largest, smallest], np.float32)
    short = reduction.shortened(values, reduction.SHORT)
    assert np.array_equal(short, values, equal_nan=True)


# ---- the folder


def test_a_reference_has_every_table_and_says_what_it_was_made_from(
    full: Path, reduced: Path
) -> None:
    header, before = manifests.read(reduced), manifests.read(full)
    packed = ("curves.parquet", "tasks.parquet")
    contents = {name: frames.content_digest(full / name) for name in packed}
    assert header["made"] == {
        "files": before["files"],
        "content": before["content"],
        "tables": contents,
    }
    assert header["settings"] == before["settings"]
    known = {name: {file, contents.get(name, file)} for name, file in before["files"].items()}
    assert reduction.made(reduced) == known and reduction.made(full) == {}
    for name in tables.names():
        table, whole = frames.read(reduced, name), frames.read(full, name)
        assert list(table) == list(whole), name
        pd.testing.assert_frame_equal(
            table, reduction.thin(name, whole), rtol=1.01 * reduction.PRECISION, check_dtype=False
        )
        if name not in reduction.BITS:
            assert (reduced / name).read_bytes() == (full / name).read_bytes()


def test_the_losses_on_the_whole_grid_are_all_kept(full: Path, reduced: Path) -> None:
    kept = frames.read(reduced, "tasks.parquet").groupby(["region"], observed=True)["task"]
    assert kept.nunique().to_dict() == {"all": TASKS, "seen": 100, "unseen": 100}


def test_the_same_tables_give_the_same_reference(full: Path, reduced: Path, tmp_path: Path) -> None:
    reduction.write(full, tmp_path / "again")
    for path in reduced.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_reference_is_not_reduced_twice(reduced: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is a reference already"):
        reduction.write(reduced, tmp_path)


# ---- what a comparison with it tells


def test_the_full_tables_are_identical_and_exactly_so(fresh: Path, reduced: Path) -> None:
    found = compare(fresh, reduced)
    assert found.reached == "identical"
    assert found.deviations["deviation"].max() == 0 and not found.reduced


def test_the_same_values_compressed_otherwise_are_identical(
    fresh: Path, full: Path, reduced: Path
) -> None:
    for path in fresh.glob("*.parquet"):
        before = path.read_bytes()
        frames.pack(frames.read(fresh, path.name), path)
        assert path.read_bytes() != before
    assert reached(fresh, reduced) == reached(fresh, full) == reached(full, fresh) == "identical"


def test_a_reference_that_knows_only_files_compares_their_bytes(
    fresh: Path, reduced: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(reduced, tmp_path / "older")
    header = json.loads((older / manifests.NAME).read_text())
    del header["made"]["tables"]
    (older / manifests.NAME).write_text(json.dumps(header))
    assert reached(fresh, older) == "identical"
    frames.pack(frames.read(fresh, "tasks.parquet"), fresh / "tasks.parquet")
    assert reached(fresh, older) == "rounding"


def last_bit(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table one of whose numbers has a different last bit."""
    column = next(name for name in table if str(table[name].dtype).startswith("float"))
    changed = table[column].to_numpy(copy=True)
    changed[7] = np.nextafter(changed[7], changed.dtype.type(0))
    return table.assign(**{column: changed})


def another_type(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({"seed": "uint8"})


def another_word(table: pd.DataFrame) -> pd.DataFrame:
    words = table["step"].cat.rename_categories({"none": "nothing"})
    return table.assign(step=words)


@pytest.mark.parametrize("change", [last_bit, another_type, another_word])
def test_the_content_of_a_table_is_its_columns_types_and_values(
    full: Path, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    known, path = full / "tasks.parquet", tmp_path / "tasks.parquet"
    table = frames.read(full, known.name)
    frames.pack(table, path)
    assert frames.content_digest(path) == frames.content_digest(known)
    frames.pack(change(table), path)
    assert frames.content_digest(path) != frames.content_digest(known)


@pytest.mark.parametrize("name", tables.names())
def test_one_changed_byte_or_bit_is_not_identical_and_its_file_is_named(
    fresh: Path, reduced: Path, name: str
) -> None:
    if (fresh / name).suffix == ".csv":
        (fresh / name).write_bytes((fresh / name).read_bytes() + b"\n")
    else:
        frames.write(last_bit(frames.read(fresh, name)), fresh / name)
    found = compare(fresh, reduced)
    assert found.reached == "rounding"
    assert [file for file, same in found.files.items() if not same] == [name]


def test_a_reference_is_identical_to_itself(reduced: Path) -> None:
    assert reached(reduced, reduced) == "identical"


def test_a_change_is_measured_as_by_the_full_tables(fresh: Path, full: Path, reduced: Path) -> None:
    """Different factors on different runs; what is lost is at most the precision."""
    for seed in range(10):
        multiply(fresh, "tasks.parquet", "loss", exp(0.0007 * seed), seed=seed, cell=FOMAML)
    multiply(fresh, "adaptation.csv", "iqm", 1.003, cell=REPTILE)
    by_full, by_reduced = compare(fresh, full), compare(fresh, reduced)
    assert by_reduced.reduced and not by_full.reduced
    both = by_full.cells.merge(by_reduced.cells, on=["algorithm", "cell", "protocol"])
    assert (both["deviation_x"] - both["deviation_y"]).abs().max() < 0.0005
    assert (both["level_x"] == both["level_y"]).all()
    for column in ("factor", "lower", "upper"):
        known = both["factor_x"].notna()
        ratio = np.log(both[f"{column}_x"] / both[f"{column}_y"])[known]
        assert ratio.abs().max() < 0.0005, column


@pytest.mark.parametrize(
    ("far", "level"),
    [(TOLERANCE - 0.0005, "rounding"), (TOLERANCE + 0.0005, None)],
)
@pytest.mark.parametrize("region", ["all", "seen", "unseen"])
def test_the_tolerance_is_right_to_within_the_precision(
    fresh: Path, reduced: Path, far: float, level: str | None, region: str
) -> None:
    where = {"cell": REPTILE, "protocol": "robustness", "seed": 3, "region": region}
    multiply(fresh, "tasks.parquet", "loss", exp(far), **where)
    row = one(compare(fresh, reduced))
    assert row["level"] == (level or "consistent")
    assert row["deviation"] == pytest.approx(far, abs=0.0005)


def one(found: Verification) -> "pd.Series[object]":
    cells = found.cells.set_index(["cell", "protocol"])
    return cells.loc[(REPTILE, "robustness")]


def test_five_percent_are_found_and_the_report_says_how_precise_it_is(
    fresh: Path, reduced: Path
) -> None:
    multiply(fresh, "tasks.parquet", "loss", 1.05, cell=REPTILE, seed=3)
    found = compare(fresh, reduced)
    assert not found.reaches("rounding")
    assert one(found)["deviation"] == pytest.approx(log(1.05), abs=0.0005)
    text = report(found, LEVELS[1])
    assert "the reference keeps fewer digits" in text and "accurate to 0.05%" in text


# ---- what cannot be compared


def test_a_reference_whose_bytes_are_not_those_of_its_manifest_is_refused(
    fresh: Path, reduced: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(reduced, tmp_path / "changed")
    (changed / "history.parquet").write_bytes(b"no table")
    with pytest.raises(ArtifactError, match=r"history\.parquet is damaged or was changed"):
        compare(fresh, changed)


@pytest.mark.parametrize("made", [3, {}, {"files": 7}])
def test_a_reference_that_does_not_say_what_it_was_made_from_is_refused(
    fresh: Path, reduced: Path, tmp_path: Path, made: object
) -> None:
    changed = shutil.copytree(reduced, tmp_path / "changed")
    header = json.loads((changed / manifests.NAME).read_text())
    (changed / manifests.NAME).write_text(json.dumps({**header, "made": made}))
    with pytest.raises(ArtifactError, match="does not name the reference's original tables"):
        compare(fresh, changed)


def test_missing_runs_are_named_with_a_reference_too(fresh: Path, reduced: Path) -> None:
    table = frames.read(fresh, "runs.csv")
    frames.write(table[table["seed"] != 9], fresh / "runs.csv")
    with pytest.raises(
        ArtifactError, match=r"3 rows are missing, such as fomaml inner 0.02, meta 0.01 9"
    ):
        compare(fresh, reduced)
