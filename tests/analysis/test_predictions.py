"""Other people's methods: the bank goes out, predictions come in, and they are rows like any other.

The study is small and really computed; its predictions are made from the exported files alone.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pipeline
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
import torch
import yaml
from click.testing import CliRunner
from pyarrow import csv as pa_csv
from reports import data_of

from metabench import jobs
from metabench.analysis import bank_schema, frames, tables
from metabench.cli import main
from metabench.learning.baselines import fixed
from metabench.learning.settings import Protocol
from metabench.learning.tasks import Points, TaskStream
from metabench.records.artifacts import ArtifactError
from metabench.records.predictions import bank_number
from metabench.records.running import Running
from metabench.views import figures, report
from metabench.views.drawing.reading import Tables
from metabench.workflow import estimate, staleness
from metabench.workflow.artefacts import artefacts

SEEDS, TASKS = 2, 6
CONTENT = small.tiny(
    cells=[small.short_fomaml(10, 0.01), small.RANDOM], validation={"tasks": 4, "interval": 5}
)

DISTRIBUTION = small.study(CONTENT).config.tasks


def content(**files: Path) -> dict[str, Any]:
    """Return the content of the study with files of predictions, by name."""
    entries = [{"predictions": str(path), "name": name} for name, path in files.items()]
    return CONTENT | {"cells": [*CONTENT["cells"], *entries]}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with its records, without tables and without predictions."""
    root = tmp_path_factory.mktemp("computed") / "tiny"
    small.compute(small.running(CONTENT, root))
    return root


@pytest.fixture(scope="module")
def bank(computed: Path) -> Path:
    """The exported bank of the study."""
    out = computed.with_name("bank")
    jobs.export_bank(small.running(CONTENT, computed), out, 3, ("parquet", "npz", "csv"))
    return out


@pytest.fixture(scope="module")
def questions(bank: Path) -> pd.DataFrame:
    """What a method predicts."""
    return pd.read_parquet(bank / "test-query.parquet")


@pytest.fixture(scope="module")
def means(bank: Path, questions: pd.DataFrame) -> pd.DataFrame:
    """The answers of a method with seeds: the mean label of the support points, and half of it."""
    support = pd.read_parquet(bank / "test-support.parquet")
    mean = support.groupby(["protocol", "task"])["y"].mean().rename("prediction").reset_index()
    answers = questions.merge(mean).drop(columns="x")
    halved = answers.assign(prediction=answers["prediction"] / 2)
    return pd.concat([answers.assign(seed=0), halved.assign(seed=1)])


@pytest.fixture(scope="module")
def done(
    computed: Path, means: pd.DataFrame, questions: pd.DataFrame, tmp_path_factory: Any
) -> Running:
    """The study with the tables of two methods: one with seeds, one that predicts zero without."""
    folder = tmp_path_factory.mktemp("done")
    means.to_parquet(folder / "means.parquet")
    questions.assign(prediction=0.0).to_parquet(folder / "nothing.parquet")
    root = Path(shutil.copytree(computed, folder / "tiny"))
    files = {name: folder / f"{name}.parquet" for name in ("means", "nothing")}
    running = small.running(content(**files), root)
    for name in files:
        jobs.predictions(running, name)
    jobs.tables(running)
    return running


def rows(running: Running, table: str, **where: Any) -> pd.DataFrame:
    """Return the rows of a table that have some values."""
    found = frames.read(running.layout.tables, table)
    for column, value in where.items():
        found = found[found[column] == value]
    return found.reset_index(drop=True)


def in_words(table: pd.DataFrame, *without: str) -> list[dict[str, str]]:
    """Return rows as text, without the columns that name them and some others."""
    named = {"algorithm", "role", "seed", *without}
    return table[[c for c in table if c not in named]].astype(str).to_dict("records")


@pytest.mark.parametrize("table", ["leaderboard.csv", "adaptation.csv", "tails.csv"])
def test_predicting_zero_elsewhere_gives_the_row_of_the_zero_predictor(
    done: Running, table: str
) -> None:
    nothing, zero = (rows(done, table, algorithm=name) for name in ("nothing", "zero"))
    assert len(zero) >= 2 and in_words(nothing) == in_words(zero)
    assert set(nothing["role"]) == {"predictions"}


def test_predicting_zero_elsewhere_scores_exactly_one(done: Running) -> None:
    found = rows(done, "leaderboard.csv", algorithm="nothing")
    assert list(found["score"]) == [1.0, 1.0] and list(found["failed"]) == [1.0, 1.0]
    assert list(found["seeds"]) == [0, 0]
    losses = [rows(done, "tasks.parquet", algorithm=name)["loss"] for name in ("nothing", "zero")]
    assert losses[0].equals(losses[1])


def test_a_baseline_computed_by_hand_from_the_exported_points_has_its_row_to_the_last_digit(
    done: Running, bank: Path, questions: pd.DataFrame, tmp_path: Path
) -> None:
    support = pd.read_parquet(bank / "test-support.parquet")
    answers = []
    for protocol, rows_of_protocol in questions.groupby("protocol"):
        given = support[support["protocol"] == protocol]
        x, y = (stacked(given, column) for column in ("x", "y"))
        found = fixed.least_squares(DISTRIBUTION, Points(x, y), stacked(rows_of_protocol, "x"))
        answers.append(rows_of_protocol.assign(prediction=found.flatten().numpy()))
    pd.concat(answers).to_parquet(tmp_path / "by-hand.parquet")
    running = scored(done, tmp_path, **{"by-hand": tmp_path / "by-hand.parquet"})
    jobs.tables(running)
    for table in ("leaderboard.csv", "adaptation.csv", "tasks.parquet", "tails.csv"):
        mine, theirs = (rows(running, table, algorithm=n) for n in ("by-hand", "least-squares"))
        assert len(theirs) and in_words(mine) == in_words(theirs), table


def stacked(table: pd.DataFrame, column: str) -> torch.Tensor:
    """Return a column as ``(task, point, 1)``."""
    return torch.from_numpy(table[column].to_numpy().reshape(TASKS, -1, 1).copy())


def scored(done: Running, folder: Path, **files: Path) -> Running:
    """Return the study with other predictions, whose records are made, in a folder of its own."""
    root = Path(shutil.copytree(done.layout.root, folder / "tiny"))
    running = small.running(content(**files), root)
    for name in files:
        jobs.predictions(running, name)
    return running


def test_predictions_with_seeds_have_intervals_over_seeds_and_rows_for_each(done: Running) -> None:
    found = rows(done, "tasks.parquet", algorithm="means", region="all", protocol="standard")
    assert set(found["seed"]) == {0, 1}
    assert list(rows(done, "leaderboard.csv", algorithm="means")["seeds"]) == [SEEDS, SEEDS]
    pairs = rows(done, "comparisons.csv", region="all", protocol="standard", role="published")
    sides = set(zip(pairs["algorithm_a"], pairs["algorithm_b"], strict=True))
    assert {("fomaml", "means"), ("means", "gaussian-process"), ("means", "nothing")} <= sides
    assert pairs["difference"].notna().all()
    assert "means" in set(rows(done, "ranking.csv")["algorithm"])


def test_predictions_are_in_the_figures_and_in_the_report(done: Running, tmp_path: Path) -> None:
    drawn = figures.draw_all(done.layout.tables, tmp_path, kinds=("svg",))
    assert drawn
    page = report.write(done.layout.tables, tmp_path / "report.html")
    assert "predictions" in {row["role"] for row in data_of(page)["board"]}
    assert {"means", "nothing"} <= set(Tables(done.layout.tables).baselines)


def test_a_file_in_another_order_and_format_gives_the_same_bytes(
    done: Running, means: pd.DataFrame, questions: pd.DataFrame, tmp_path: Path
) -> None:
    shuffled = means.sample(frac=1, random_state=0)[sorted(means)]
    shuffled.to_csv(tmp_path / "means.csv", index=False, float_format="%.17g")
    arrays: dict[str, Any] = {}
    for protocol, rows_of_protocol in questions.groupby("protocol"):
        arrays[f"{protocol}/bank"] = rows_of_protocol["bank"].iloc[0]
        arrays[f"{protocol}/prediction"] = np.zeros((TASKS, len(rows_of_protocol) // TASKS))
    np.savez(tmp_path / "nothing.npz", **arrays)
    files = {"means": tmp_path / "means.csv", "nothing": tmp_path / "nothing.npz"}
    running = scored(done, tmp_path, **files)
    for name in files:
        before, after = (r.layout.predictions(name).read_bytes() for r in (done, running))
        assert before == after
    jobs.tables(running)
    for name in tables.names():
        before, after = ((r.layout.tables / name).read_bytes() for r in (done, running))
        assert before == after, name


def test_a_changed_file_is_scored_again_and_nothing_else_of_the_records(
    done: Running, means: pd.DataFrame, tmp_path: Path
) -> None:
    means.to_parquet(tmp_path / "means.parquet")
    running = scored(done, tmp_path, means=tmp_path / "means.parquet")
    records = ("train", "evaluate", "baselines", "predictions")

    def stale() -> list[str]:
        every = [a for a in artefacts(running, "elsewhere") if a.job in records]
        return [path.name for path in staleness.outdated(every)]

    assert stale() == []
    means.assign(prediction=means["prediction"] + 1).to_parquet(tmp_path / "means.parquet")
    assert stale() == ["means.safetensors"]
    jobs.predictions(running, "means")
    assert stale() == []


def at(table: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    """Return predictions with one value replaced: that of the eighth row."""
    changed = table.reset_index(drop=True)
    changed.loc[7, column] = value
    return changed


FIRST = "protocol standard, seed 0, task 0, point 7"
MISTAKES = {
    "missing": (
        lambda t: t.iloc[8:],
        "there must be one for each query point; protocol standard, seed 0, task 0, point 0 is "
        "missing, and 7 others are missing or doubled",
    ),
    "one missing": (
        lambda t: t.reset_index(drop=True).drop(index=7),
        f"there must be one for each query point; {FIRST} is missing",
    ),
    "doubled": (
        lambda t: pd.concat([t, t.iloc[7:8]]),
        f"there must be one for each query point; {FIRST} stands 2 times",
    ),
    "of another bank": (
        lambda t: at(t, "bank", 123456789),
        "under protocol standard they must be of the bank {bank}, the study's, got 123456789; "
        "export it again: metabench bank export",
    ),
    "no number": (
        lambda t: at(t, "prediction", np.nan),
        f"they must be finite numbers; {FIRST} has nan",
    ),
    "infinite": (
        lambda t: at(t, "prediction", np.inf),
        f"they must be finite numbers; {FIRST} has inf",
    ),
    "a task too many": (
        lambda t: at(t, "task", 6),
        "task must be 0 to 5 under protocol standard, got 6",
    ),
    "a seed too many": (
        lambda t: at(t, "seed", 2),
        "seed must be 0 to 1 under protocol standard, got 2",
    ),
    "a seed too few": (
        lambda t: t[t["seed"] == 0],
        "there must be one for each query point; protocol standard, seed 1, task 0, point 0 is "
        "missing, and 299 others are missing or doubled",
    ),
    "half a task": (
        lambda t: at(t.astype({"task": float}), "task", 0.5),
        "task must be a whole number, got 0.5 in row 8",
    ),
    "no protocol": (
        lambda t: t[t["protocol"] != "robustness"],
        "there must be some under every protocol, and robustness is missing",
    ),
    "no column": (
        lambda t: t.drop(columns="prediction"),
        "the columns must be bank, protocol, task, point, prediction, and seed where there are "
        "seeds; prediction is missing",
    ),
    "an empty field": (
        lambda t: at(t.astype({"task": "Int64"}), "task", None),
        "every row must have a task, and some have none",
    ),
}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_in_a_file_of_predictions_has_its_one_line(
    computed: Path, means: pd.DataFrame, tmp_path: Path, mistake: str, ending: str
) -> None:
    change, message = MISTAKES[mistake]
    path, table = tmp_path / f"means.{ending}", change(means)
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path, index=False)
    running = small.running(content(means=path), computed)
    with pytest.raises(ArtifactError) as caught:
        running.require_predictions()
    line = str(caught.value)
    assert line.startswith(f"predictions in {path}: ") and line.isprintable()
    assert message.format(bank=bank_number(running.study.bank_settings, "standard")) in line


def test_arrays_have_their_mistakes_told_like_rows(
    computed: Path, questions: pd.DataFrame, tmp_path: Path
) -> None:
    banks = {p: rows["bank"].iloc[0] for p, rows in questions.groupby("protocol")}
    points = {p: len(rows) // TASKS for p, rows in questions.groupby("protocol")}

    def message_for(**changes: Any) -> str:
        arrays = {f"{p}/bank": number for p, number in banks.items()}
        arrays |= {f"{p}/prediction": np.zeros((TASKS, points[p])) for p in banks} | changes
        np.savez(tmp_path / "m.npz", **{k: v for k, v in arrays.items() if v is not None})
        with pytest.raises(ArtifactError) as caught:
            small.running(content(m=tmp_path / "m.npz"), computed).require_predictions()
        return str(caught.value)

    some = np.zeros((TASKS, points["standard"]))
    key = "standard/prediction"
    shape = f"{key} must have the shape (task, point) = (6, 50) or (seed, task, point) = (2, 6, 50)"
    others = "robustness/bank, robustness/prediction, standard/prediction"
    line = f"there must be an array standard/bank; the arrays are {others}"
    assert message_for(**{"standard/bank": None}).endswith(line)
    line = (
        "there must be an array standard/prediction; the arrays are robustness/bank, standard/bank"
    )
    assert line in message_for(**{"standard/prediction": None})
    assert f"{shape}, got (5, 50)" in message_for(**{key: some[:5]})
    assert f"{shape}, got (300,)" in message_for(**{key: some.ravel()})
    assert f"{shape}, got (6, 50, 1)" in message_for(**{key: some[..., None]})
    assert f"{shape}, got (3, 6, 50)" in message_for(**{key: np.zeros((3, *some.shape))})
    both = {key: np.zeros((SEEDS, *some.shape))}
    assert "either all protocols have seeds or none has" in message_for(**both)
    no_numbers = f"{key} must be an array of numbers, and is damaged or has objects"
    assert no_numbers in message_for(**{key: some.astype(object)})
    real = f"{key} must be an array of real numbers, got complex128"
    assert real in message_for(**{key: some + 1j})
    no_bank = "standard/bank must be one number, got the shape (0,)"
    assert no_bank in message_for(**{"standard/bank": np.zeros(0)})
    assert "protocol standard, task 0, point 7 has nan" in message_for(**{key: at_7(some)})


def at_7(predictions: Any) -> Any:
    """Return predictions of which the eighth is not finite."""
    changed = predictions.copy()
    changed[0, 7] = np.nan
    return changed


def message_of(path: Path, computed: Path) -> str:
    """Return the one line with which a file is refused, without its beginning."""
    with pytest.raises(ArtifactError) as caught:
        small.running(content(m=path), computed).require_predictions()
    begin, line = f"predictions in {path}: ", str(caught.value)
    assert line.startswith(begin) and line.isprintable()
    return line.removeprefix(begin)


def test_columns_of_another_type_have_one_line_that_names_it(
    computed: Path, means: pd.DataFrame, tmp_path: Path
) -> None:
    path, table = tmp_path / "m.parquet", pa.Table.from_pandas(means, preserve_index=False)
    pairs = [[y, y] for y in means["prediction"]]
    structs = [{"y": y} for y in means["prediction"]]
    for column, values, got in (
        ("prediction", pairs, "numbers, got one of list<"),
        ("prediction", structs, "numbers, got one of struct<y: double>"),
        ("prediction", ["a"] * len(means), "numbers, got one of string"),
        ("task", pairs, "numbers, got one of list<"),
        ("protocol", pairs, "text, got one of list<"),
    ):
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(values)), path)
        assert message_of(path, computed).startswith(f"{column} must be a column of {got}")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_column_that_is_there_twice_is_one_line(
    computed: Path, means: pd.DataFrame, tmp_path: Path, ending: str
) -> None:
    path, table = tmp_path / f"m.{ending}", pa.Table.from_pandas(means, preserve_index=False)
    doubled = table.append_column("prediction", table.column("prediction"))
    (pq.write_table if ending == "parquet" else pa_csv.write_csv)(doubled, path)
    line = "there must be one column prediction, and there are 2"
    assert message_of(path, computed) == line


def test_the_missing_value_of_r_is_not_finite_and_has_its_place(
    computed: Path, means: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "m.csv"
    at(means, "prediction", np.nan).to_csv(path, index=False, na_rep="NA")
    assert message_of(path, computed) == f"they must be finite numbers; {FIRST} has nan"
    at(means.astype({"task": "Int64"}), "task", None).to_csv(path, index=False, na_rep="NA")
    assert message_of(path, computed) == "every row must have a task, and some have none"
    at(means.astype({"prediction": object}), "prediction", "1,5").to_csv(path, index=False)
    line = "prediction must be a number, got '1,5' in row 8; decimals need a point"
    assert message_of(path, computed) == line


COMMAS = (
    "a CSV file must have commas between its columns, and decimals with a point; its first line is"
)
NOT_A_TABLE = {
    "only the names of columns": (
        lambda t: ",".join(t.columns).encode(),
        "it must have rows, and has only its first line",
    ),
    "semicolons": (
        lambda t: t.to_csv(index=False, sep=";").encode(),
        f"{COMMAS} 'bank;protocol;task;point;prediction;seed'",
    ),
    "semicolons and decimal commas": (
        lambda t: t.to_csv(index=False, sep=";", decimal=",").encode(),
        f"{COMMAS} 'bank;protocol;task;point;prediction;seed'",
    ),
    "commas for both": (
        lambda t: t.assign(prediction=0.5).to_csv(index=False).replace("0.5", "0,5").encode(),
        "every row must have 6 fields, as many as the first line, got 7 in row 1; "
        "decimals need a point",
    ),
    "UTF-16": (
        lambda t: t.to_csv(index=False).encode("utf-16"),
        "a CSV file must be text in UTF-8, and line 1 is not",
    ),
    "UTF-16 without a mark": (
        lambda t: t.to_csv(index=False).encode("utf-16-le"),
        "a CSV file must be text in UTF-8, and line 1 is not",
    ),
    "Latin-1": (
        lambda t: at(t, "protocol", "gewöhnlich").to_csv(index=False).encode("latin-1"),
        "a CSV file must be text in UTF-8, and line 9 is not",
    ),
    "parquet": (
        lambda t: t.to_parquet(),
        "a CSV file must be text in UTF-8, and line 1 is not",
    ),
    "empty": (lambda _: b"", f"{COMMAS} ''"),
}


@pytest.mark.parametrize("kind", NOT_A_TABLE)
def test_a_csv_file_with_other_separators_or_text_is_one_line_that_says_what_is_allowed(
    computed: Path, means: pd.DataFrame, tmp_path: Path, kind: str
) -> None:
    encode, line = NOT_A_TABLE[kind]
    path = tmp_path / "m.csv"
    path.write_bytes(encode(means))
    assert message_of(path, computed) == line


def test_the_mark_that_spreadsheets_put_before_utf_8_is_no_mistake(
    computed: Path, means: pd.DataFrame, tmp_path: Path
) -> None:
    read = []
    for encoding in ("utf-8", "utf-8-sig"):
        path = tmp_path / f"{encoding}.csv"
        means.to_csv(path, index=False, encoding=encoding)
        read.append(small.running(content(m=path), computed).reader.answers("m").answers)
    plain, marked = read
    assert (tmp_path / "utf-8-sig.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert plain and plain.keys() == marked.keys()
    assert all((plain[name] == marked[name]).all() for name in plain)


def test_a_file_that_is_no_parquet_is_one_line(
    computed: Path, means: pd.DataFrame, tmp_path: Path
) -> None:
    path, whole = tmp_path / "m.parquet", means.to_parquet()
    for content_of_file in (b"", means.to_csv().encode(), whole[: len(whole) // 2]):
        path.write_bytes(content_of_file)
        line = "it must be a parquet file, and is damaged or something else"
        assert message_of(path, computed) == line


def test_a_damaged_file_of_arrays_is_one_line_without_advice_of_libraries(
    computed: Path, questions: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "m.npz"
    banks = {f"{p}/bank": rows["bank"].iloc[0] for p, rows in questions.groupby("protocol")}
    np.savez(path, **banks, **{"standard/prediction": np.zeros((TASKS, 50))})
    whole = path.read_bytes()
    something_else = "it must be an npz file, and is damaged or something else"
    for content_of_file in (b"", b"no arrays", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content_of_file)
        assert message_of(path, computed) == something_else
    middle = whole.index(b"standard/prediction.npy") + 400
    path.write_bytes(whole[:middle] + b"spoilt" + whole[middle + 6 :])
    damaged = "standard/prediction must be an array of numbers, and is damaged or has objects"
    assert message_of(path, computed) == damaged


def test_the_error_for_a_missing_file_has_the_path_that_was_looked_up(
    computed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = message_of(Path("mine.csv"), computed)
    assert line.startswith(f"there must be a file {tmp_path / 'mine.csv'}, and there is none")
    assert line.endswith("a study names it relative to the working directory")


def test_the_plan_has_a_line_for_each_file_of_predictions(done: Running) -> None:
    lines = estimate.plan(done, 1).splitlines()
    (means,) = [line.split() for line in lines if line.startswith("  means ")]
    (nothing,) = [line.split() for line in lines if line.startswith("  nothing ")]
    assert means == ["means", "predictions", "2", "seeds"]
    assert nothing == ["nothing", "predictions", "no", "seeds"]


def described(bank: Path) -> Any:
    """Return the schema of an exported bank."""
    return json.loads((bank / "schema.json").read_text())


def test_the_schema_describes_every_file_column_and_array_and_nothing_else(bank: Path) -> None:
    files = described(bank)["files"]
    assert {*files, "schema.json"} == {path.name for path in bank.iterdir()}
    for name, schema in files.items():
        if name == "bank.npz":
            continue
        table = pd.read_parquet(bank / Path(name).with_suffix(".parquet"))
        assert list(schema["columns"]) == list(
            table if name.endswith(".parquet") else pd.read_csv(bank / name)
        )
        assert schema["rows"] == len(table)
        types = {"str": "string"}
        assert {key: column["type"] for key, column in schema["columns"].items()} == {
            key: types.get(str(dtype), str(dtype)) for key, dtype in table.dtypes.items()
        }
    with np.load(bank / "bank.npz") as file:
        assert list(files["bank.npz"]["arrays"]) == file.files
        for key, schema in files["bank.npz"]["arrays"].items():
            assert (schema["type"], schema["shape"]) == (file[key].dtype, [*file[key].shape])
            assert len(schema["axes"]) == file[key].ndim


def test_the_schema_has_the_study_and_its_protocols(bank: Path, questions: pd.DataFrame) -> None:
    schema = described(bank)
    assert (schema["study"], schema["seeds"]) == ("tiny", SEEDS)
    assert schema["protocols"]["robustness"] == {
        "bank": questions.set_index("protocol")["bank"]["robustness"].iloc[0],
        "shots": 5,
        "support": [0.0, 5.0],
        "domain": [-5.0, 5.0],
        "noise": 0.0,
        "updates": 10,
        "query_points": 50,
        "test_tasks": TASKS,
        "validation_tasks": 4,
    }


@pytest.mark.parametrize("which", ["without seeds", "with seeds"])
def test_predictions_as_the_schema_describes_them_are_accepted(
    bank: Path, computed: Path, means: pd.DataFrame, tmp_path: Path, which: str
) -> None:
    schema = described(bank)
    expected = schema["predictions"][which]
    table = means if which == "with seeds" else means[means["seed"] == 0].drop(columns="seed")
    assert len(table) == expected["rows"] and set(table) == set(expected["columns"])
    arrays = {
        name: np.full(array["shape"], schema["protocols"][name.split("/")[0]]["bank"])
        if name.endswith("/bank")
        else np.zeros(array["shape"], array["type"])
        for name, array in expected["arrays"].items()
    }
    np.savez(tmp_path / "arrays.npz", **arrays)
    table[list(expected["columns"])].to_parquet(tmp_path / "table.parquet")
    files = {"arrays": tmp_path / "arrays.npz", "table": tmp_path / "table.parquet"}
    started = small.running(content(**files), computed)
    seeds = {name: started.reader.answers(name).seeded for name in files}
    assert set(seeds.values()) == {which == "with seeds"}


def test_a_study_with_a_bad_file_is_refused_before_anything_runs(
    means: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline.copy(tmp_path / "study"))
    at(means, "bank", 123456789).to_parquet("means.parquet")
    Path("tiny.yaml").write_text(yaml.safe_dump(content(means=Path("means.parquet"))))
    ran = pipeline.snakemake(Path.cwd(), "--cores", "1", config="tiny.yaml")
    assert ran.returncode == 2 and not Path("results").exists()
    assert "metabench: predictions in means.parquet: under protocol" in ran.stderr
    assert "Traceback" not in ran.stderr
    planned = CliRunner().invoke(main, ["plan", "--study", "tiny.yaml"])
    assert planned.exit_code == 2 and planned.stderr.count("\n") == 1
    assert planned.stderr.startswith("metabench: predictions in means.parquet: under protocol")
    exported = CliRunner().invoke(main, ["bank", "export", "--study", "tiny.yaml", "--out", "bank"])
    assert exported.exit_code == 0, "the way out that the line names is open"


def test_test_labels_are_in_no_exported_file(bank: Path, computed: Path) -> None:
    assert "y" not in pd.read_parquet(bank / "test-query.parquet")
    assert "y" in pd.read_parquet(bank / "validation-query.parquet")
    with np.load(bank / "bank.npz") as file:
        assert "standard/test-query/y" not in file.files
    settings = small.running(CONTENT, computed).study.bank_settings
    labels = settings.held_out("standard")["test"].query.y.numpy().astype(np.float32)
    for path in bank.glob("*.parquet"):
        table = pd.read_parquet(path)
        if "y" in table:
            assert not set(labels.ravel()) & set(table["y"].to_numpy().astype(np.float32)), path


def test_every_format_says_the_same_and_twice_in_the_same_bytes(
    bank: Path, computed: Path, tmp_path: Path
) -> None:
    again = jobs.export_bank(
        small.running(CONTENT, computed), tmp_path, 3, ("parquet", "npz", "csv")
    )
    assert {path.name for path in again} == {path.name for path in bank.iterdir()}
    assert all(path.read_bytes() == (bank / path.name).read_bytes() for path in again)
    with np.load(bank / "bank.npz") as file:
        for path in bank.glob("*.parquet"):
            table = pd.read_parquet(path)
            pd.testing.assert_frame_equal(table, pd.read_csv(path.with_suffix(".csv")), rtol=0)
            parts = table.groupby("protocol") if "protocol" in table else [(None, table)]
            for protocol, rows in parts:
                place = "/".join(filter(None, (protocol, path.stem)))
                assert np.array_equal(file[f"{place}/x"].ravel(), rows["x"])
                if "y" in rows:
                    assert np.array_equal(file[f"{place}/y"].ravel(), rows["y"])


def test_the_exported_training_tasks_are_those_that_algorithms_meet_in_order(bank: Path) -> None:
    block = TaskStream(DISTRIBUTION, (1,), meta_batch_size=1).block(0)
    shots = 10  # the most of any protocol
    for kind, points in (("support", block.support(shots)), ("query", block.query())):
        table = pd.read_parquet(bank / f"training-{kind}.parquet").query("seed == 1")
        assert np.array_equal(table["y"], points.y[:3].flatten())
    assert list(table["task"].unique()) == [0, 1, 2]


OTHER_TASKS = [
    {"shots": 6},
    {"support": [-5.0, 0.0]},
    {"queries": 7},
    {"domain": [-9.0, 9.0]},
    {"noise": 0.1},
    {"tasks": {"phase": [0.0, 1.0]}},
    {"bank": 1},
    {"placement": "even"},
    {"gap": [1.0, 2.0]},
    {"outliers": 1},
]
SAME_TASKS = [{"updates": 3}, {"optimizer": "adam"}, {"regions": "distance"}]


def test_the_number_of_a_bank_depends_on_its_tasks_alone() -> None:
    def number(**changes: Any) -> int:
        return bank_number(small.study(CONTENT | changes).bank_settings, "robustness")

    robustness = CONTENT["protocols"]["robustness"]
    assert 10**8 <= number() < 10**9
    assert number() == number(seeds=3)
    for change in SAME_TASKS:
        assert number(protocols={"robustness": robustness | change}) == number(), change
    for change in OTHER_TASKS:
        assert number(protocols={"robustness": robustness | change}) != number(), change
    assert {key for change in OTHER_TASKS + SAME_TASKS for key in change} == set(
        Protocol.model_fields
    ), "each key of a protocol is known to change the tasks, or not to"
    assert number(evaluation={"tasks": 7}) != number()
    assert number(tasks={"family": "sine", "amplitude": [0.1, 4.0]}) != number()


def test_the_program_of_the_page_on_predictions_runs_on_an_exported_bank(
    bank: Path, computed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (small.ROOT / "docs" / "predictions.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (entry,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bank, "bank")
    exec(program, {})
    cells = [*CONTENT["cells"], *yaml.safe_load(entry)["cells"]]
    small.running(CONTENT | {"cells": cells}, computed).require_predictions()
    assert set(pd.read_parquet("mine.parquet")["prediction"]) != {0.0}


def test_the_page_on_predictions_has_the_columns_of_every_exported_table(bank: Path) -> None:
    page = (small.ROOT / "docs" / "predictions.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|;]*).*\| (`.*`) \|$", page, re.MULTILINE)
    documented = {file: re.findall(r"`(\w+)`", columns) for file, _, columns in rows}
    assert documented == {path.stem: list(pd.read_parquet(path)) for path in bank.glob("*.parquet")}
    assert {file: row.strip() for file, row, _ in rows} == bank_schema.ROWS
