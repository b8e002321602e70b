"""The reference folder of a study: reduced tables, their figures, and nothing else."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small import ROOT

from metabench.analysis import frames, tables
from metabench.cli import main
from metabench.records import manifests
from metabench.records.layout import Layout
from metabench.views import figures

FLUX = ROOT / "results" / "reference" / "flux"
STEMS = ["equal_budget", "trials"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with full tables on few tasks, and files that a reference does not keep."""
    root = tmp_path_factory.mktemp("finished")
    for name in tables.names():
        table = frames.read(FLUX / "tables", name)
        frames.write(
            table[table["task"] < 20] if "task" in table else table, root / "tables" / name
        )
    manifests.write(root / "tables", tables.names(), {"kind": "tables"})
    shutil.copy(FLUX / "provenance.json", root)
    (root / "logs").mkdir()
    took = Layout(root).benchmark("train", "reptile", "inner-0.02_meta-0.1", "0-9")
    took.parent.mkdir(parents=True)
    took.write_text("s\th:m:s\tmax_rss\n61.25\t0:01:01\t27.1\n")
    return root


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    every = figures.of_study
    monkeypatch.setattr(
        figures,
        "of_study",
        lambda *groups: [picture for picture in every(*groups) if picture.stem in STEMS],
    )


def keep(root: Path, out: Path) -> Result:
    return CliRunner().invoke(main, ["reference", "--root", str(root), "--out", str(out)])


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_has_tables_png_figures_and_provenance_and_replaces_what_was_there(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reference" / "flux"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "old.svg").write_text("of an earlier run")
    before = files(finished)
    assert keep(finished, out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "figures",
        "provenance.json",
        "seconds.csv",
        "tables",
    ]
    [took] = frames.read(out, "seconds.csv").itertuples(index=False)
    assert tuple(took) == ("reptile", "inner 0.02, meta 0.1", "0-9", 61.25)
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "equal_budget.png",
        manifests.NAME,
        "trials.png",
    ]
    assert list(out.parent.iterdir()) == [out]  # no temporary folder is left
    assert files(finished) == before
    assert sum(map(len, files(out).values())) < sum(map(len, before.values())) / 2


def test_its_figures_are_those_that_its_own_tables_give(finished: Path, tmp_path: Path) -> None:
    keep(finished, tmp_path / "kept")
    for path in figures.draw_all(tmp_path / "kept" / "tables", tmp_path / "drawn"):
        if path.suffix == ".png":
            assert path.read_bytes() == (tmp_path / "kept" / "figures" / path.name).read_bytes()
    made = manifests.read(tmp_path / "kept" / "figures")
    assert made["tables"] == manifests.read(tmp_path / "kept" / "tables")["content"]


def test_the_same_study_gives_the_same_bytes_in_its_own_place_too(
    finished: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    assert keep(finished, tmp_path / "kept").exit_code == keep(copy, copy).exit_code == 0
    assert files(copy) == files(tmp_path / "kept")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "tables" / "runs.csv").unlink(), "runs.csv is missing"),
        (lambda root: (root / "tables" / manifests.NAME).unlink(), "run the study first"),
        (lambda root: keep(root, root), "is a reference already"),
        (lambda root: (root / "provenance.json").unlink(), "provenance.json"),
    ],
)
def test_what_cannot_be_kept_is_one_line_and_leaves_the_old_one(
    finished: Path, tmp_path: Path, damage: object, message: str
) -> None:
    root, out = shutil.copytree(finished, tmp_path / "copy"), tmp_path / "kept"
    out.mkdir()
    (out / "old").write_text("still here")
    damage(root)
    answer = keep(root, out)
    assert answer.exit_code == 2
    line = answer.output.strip().splitlines()[-1]
    assert line.startswith("metabench: ") and message in line
    assert files(out) == {"old": b"still here"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "kept"]


def test_the_page_on_algorithms_says_how_long_a_run_of_each_takes_in_the_search() -> None:
    took = frames.read(ROOT / "results" / "reference" / "search", "seconds.csv")
    seconds = took.groupby("algorithm")["seconds"].mean() / 3  # three seeds train as one job
    lines = [f"| {algorithm} | {mean:.1f} |" for algorithm, mean in seconds.sort_values().items()]
    assert "\n".join(lines) in (ROOT / "docs" / "algorithms.md").read_text()
