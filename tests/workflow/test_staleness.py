"""Which files of a study must be rebuilt, on a small, actually computed study."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small

from metabench.analysis import measured, tables
from metabench.learning import algorithms, engine
from metabench.records import artifacts, headers, manifests, provenance
from metabench.records.layout import Layout
from metabench.records.running import Running
from metabench.views import figures, report
from metabench.views.tracking import contents, store
from metabench.workflow import staleness
from metabench.workflow.artefacts import artefacts

NAME = "01234567-1"
JOINT = {
    "algorithm": "joint",
    "meta_iterations": 5,
    "meta_batch_size": 1,
    "shots": 5,
    "meta_step_size": [0.01, 0.02],
}
CONTENT = small.tiny(
    study="fresh", cells=[JOINT, small.RANDOM], validation={"tasks": 4, "interval": 5}
)
FIRST, SECOND, RANDOM = small.study(CONTENT).train_jobs


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: records, tables, figures (only their manifest matters here), markers."""
    root = tmp_path_factory.mktemp("computed") / "fresh"
    running = small.running(CONTENT, root)
    small.compute(running)
    tables.write_all(measured.read(running), root / "tables")
    (root / "figures").mkdir()
    (root / "figures" / "curve.svg").write_text("<svg/>")
    header = figures.header(manifests.read(root / "tables")["content"])
    manifests.write(root / "figures", ["curve.svg"], header)
    (root / "provenance.json").write_text("{}")
    header = report.header(manifests.read(root / "tables")["content"], root / "provenance.json", "")
    (root / "report.html").write_text(f"{report.MADE}{report.json_text(header)} -->\n")
    for cell, seeds in running.study.train_jobs:
        marker = running.layout.marker(NAME, cell.path, seeds)
        store.write_marker(marker, contents.cell_header(running, cell, seeds), {"runs": {}})
    marker = running.layout.study_marker(NAME)
    store.write_marker(marker, contents.study_header(running), {"runs": 6})
    return root


@pytest.fixture
def root(computed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(computed, tmp_path / "fresh"))


def reasons(
    root: Path, content: dict[str, Any] = CONTENT, engine: str | None = None
) -> dict[Path, str]:
    """Return why each stale file of a study must be rebuilt."""
    return staleness.outdated(artefacts(small.running(content, root, engine), NAME))


def outdated(root: Path, content: dict[str, Any] = CONTENT) -> set[str]:
    """Return what is stale: the stage of each file, with its algorithm and group if it has them."""
    found = set()
    for path in reasons(root, content):
        stage, *parts = path.relative_to(root).with_suffix("").parts
        words = [part for part in parts if part in ("joint", "random", "standard", "robustness")]
        found.add(" ".join([stage, *(words or parts[-1:])]))
    return found


DRAWN = {"figures manifest", "track study"}
TABLED = {"tables manifest", "report", *DRAWN}
BASELINES = {"baselines standard", "baselines robustness"}
TRAINED = {"train joint", "train random"}
TRACKED = {"track joint", "track random"}


def evaluated(*names: str) -> set[str]:
    """Return evaluations of algorithms, and what is made of them."""
    made = {f"evaluate {name} {group}" for name in names for group in ("standard", "robustness")}
    return made | {f"track {name}" for name in names} | TABLED


def test_a_study_that_was_just_finished_has_nothing_stale(root: Path) -> None:
    assert reasons(root) == {}


def test_what_is_not_there_is_not_stale(tmp_path: Path) -> None:
    assert reasons(tmp_path / "none") == {}


def test_a_different_version_of_a_package_makes_stale_what_may_depend_on_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = provenance.version
    everything = TRAINED | BASELINES | evaluated("joint", "random")
    drawn = DRAWN | {"report"}
    for package, expected in (("torch", everything), ("pandas", TABLED), ("matplotlib", drawn)):
        monkeypatch.setattr(
            provenance, "version", lambda name, p=package: "0" if name == p else installed(name)
        )
        assert outdated(root) == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("metabench.learning.algorithms.joint", {"train joint", *evaluated("joint")}),
        ("metabench.learning.evaluation", evaluated("joint", "random")),
        ("metabench.learning.baselines", BASELINES | TRACKED | TABLED),
        ("metabench.analysis.tables", TABLED),
        ("metabench.views.figures.comparisons", DRAWN),
        ("metabench.views.tracking.mirror", {"track study", *TRACKED}),
    ],
)
def test_edited_source_makes_stale_what_it_makes_and_all_that_is_made_of_that(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: str, expected: set[str]
) -> None:
    digest = provenance.code_digest

    def edited(*modules: str) -> str:
        return "edited" if module in modules else digest(*modules)

    for user in (headers, tables, figures, contents):
        monkeypatch.setattr(user, "code_digest", edited)
    assert outdated(root) == expected


def test_a_changed_setting_makes_stale_what_depends_on_it(root: Path) -> None:
    everything = TRAINED | evaluated("joint", "random")
    assert outdated(root, CONTENT | {"statistics": {"resamples": 60}}) == TABLED
    assert outdated(root, CONTENT | {"validation": {"tasks": 4, "interval": 4}}) == everything
    wider = CONTENT | {"network": {"hidden": [9]}}
    assert outdated(root, wider) == everything
    other_showcase = CONTENT | {"showcase": {"amplitude": 3.0, "phase": 1.0}}
    assert outdated(root, other_showcase) == BASELINES | evaluated("joint", "random")


def test_a_changed_protocol_makes_its_own_group_stale_and_no_other(root: Path) -> None:
    changed = {**CONTENT["protocols"]["standard"], "updates": 3}
    study = CONTENT | {"protocols": {**CONTENT["protocols"], "standard": changed}}
    expected = {"evaluate joint standard", "evaluate random standard", "baselines standard"}
    assert outdated(root, study) == expected | TRACKED | TABLED


def test_more_cells_seeds_and_groups_leave_the_records_that_are_there_fresh(root: Path) -> None:
    more_seeds = CONTENT | {"seeds": 4}
    assert outdated(root, more_seeds) == TABLED
    larger = CONTENT | {"cells": [{**JOINT, "meta_step_size": [0.01, 0.02, 0.03]}, small.RANDOM]}
    assert outdated(root, larger) == TABLED
    wide = {"shots": 3, "support": [-5.0, 5.0], "updates": 2, "gaussian_process_length_scale": 1.0}
    groups = CONTENT | {"protocols": {**CONTENT["protocols"], "wide": wide}}
    assert outdated(root, groups) == TRACKED | TABLED


def test_the_order_of_keys_in_the_study_file_makes_nothing_stale(root: Path) -> None:
    protocols = dict(reversed(CONTENT["protocols"].items()))
    assert outdated(root, dict(reversed(CONTENT.items())) | {"protocols": protocols}) == set()


def test_a_study_that_was_started_finds_stale_what_its_own_file_finds_stale(root: Path) -> None:
    running = small.running(CONTENT, root)
    running.write()
    content = small.config.read_json(running.layout.study.read_text(), "study.json")["study"]
    assert list(content["protocols"]) == list(CONTENT["protocols"])
    assert outdated(root, content) == set()


def test_records_of_a_different_engine_are_stale(root: Path) -> None:
    found = reasons(root, engine="torch" if engine.name() == "fused" else "fused")
    assert {Path(path).relative_to(root).parts[0] for path in found} == {
        *("train", "evaluate", "tables", "figures", "report.html", "track")
    }
    assert "was produced with a different engine" in next(iter(found.values()))


def layout_of(root: Path) -> Layout:
    return Running(small.study(CONTENT), Layout(root), "").layout


def test_a_record_that_was_exchanged_makes_stale_all_that_is_made_of_it(root: Path) -> None:
    path = layout_of(root).trained(FIRST.cell.path, FIRST.seeds)
    arrays, header = artifacts.read(path)
    artifacts.write(path, {**arrays, "theta": np.zeros_like(arrays["theta"])}, header)
    assert outdated(root) == evaluated("joint")
    other = layout_of(root).evaluated(SECOND.cell.path, "standard", SECOND.seeds)
    assert other not in reasons(root)


def test_what_is_missing_in_the_middle_makes_stale_all_that_is_made_of_it(root: Path) -> None:
    layout_of(root).trained(FIRST.cell.path, FIRST.seeds).unlink()
    assert outdated(root) == evaluated("joint")
    assert "which is rebuilt" in next(iter(reasons(root).values()))


@pytest.mark.parametrize("damage", [b"", b"not a record"])
def test_a_file_without_a_readable_header_is_stale(root: Path, damage: bytes) -> None:
    layout = layout_of(root)
    spoilt = {
        layout.baselines("standard"),
        layout.evaluated(FIRST.cell.path, "standard", FIRST.seeds),
        layout.study_marker(NAME),
    }
    for path in spoilt:
        path.write_bytes(damage)
    found = reasons(root)
    assert set(found) > spoilt
    assert layout.trained(FIRST.cell.path, FIRST.seeds) not in found
    assert all("\n" not in reason for reason in found.values())


def test_a_table_or_figure_that_was_changed_by_hand_is_stale(root: Path) -> None:
    (root / "figures" / "curve.svg").write_text("<svg></svg>")
    assert outdated(root) == DRAWN
    (root / "report.html").write_text("<html>")
    assert outdated(root) == DRAWN | {"report"}
    (root / "tables" / "runs.csv").write_text("algorithm\n")
    assert outdated(root) == TABLED


def test_a_studys_run_holds_its_report_so_it_is_stale_with_it(root: Path) -> None:
    (root / "report.html").write_text("<html>")
    assert outdated(root) == {"report", "track study"}


def test_an_edited_algorithm_file_makes_its_own_cells_stale(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(Path(algorithms.__file__).with_name("joint.py").read_text())
    monkeypatch.chdir(tmp_path)
    study = CONTENT | {"cells": [{**JOINT, "algorithm": "mine.py"}, small.RANDOM]}
    running = small.running(study, root)
    small.compute(running)
    train = {layout_of(root).trained(job.cell.path, job.seeds) for job in running.study.train_jobs}
    assert not train & reasons(root, study).keys()
    path.write_text(path.read_text() + "\nCONSTANT = 1\n")
    provenance.code_digest.cache_clear()
    assert {path for path in train & reasons(root, study).keys()} == {
        path for path in train if "mine" in path.parts
    }


def test_looking_for_what_is_stale_changes_no_file_and_no_time(root: Path) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for n, path in enumerate(files):
        os.utime(path, (n, 10**9 + 1000 * (n * 7 % len(files))))
    listing = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert outdated(root) == set()
    after = sorted(path for path in root.rglob("*") if path.is_file())
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in after} == listing
