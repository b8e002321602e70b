"""What of a study must be made again, on a small study that was really computed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small

from metabench.analysis import tables
from metabench.records import artifacts, manifests, provenance, records
from metabench.study import config, plans
from metabench.views import figures
from metabench.views.tracking import contents, store
from metabench.workflow import staleness as freshness

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
STUDY = config.parse(CONTENT)
JOBS = list(plans.train_jobs(STUDY))
IDS = {cell.id for cell, _ in JOBS}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: records, tables, figures (of which only the manifest matters here) and
    markers.
    """
    root = tmp_path_factory.mktemp("computed") / "fresh"
    small.compute(STUDY, root)
    tables.write_all(tables.read_study(root, STUDY), root / "tables")
    (root / "figures").mkdir()
    (root / "figures" / "curve.svg").write_text("<svg/>")
    header = figures.header(manifests.read(root / "tables")["content"])
    manifests.write(root / "figures", ["curve.svg"], header)
    for cell, block in JOBS:
        header = contents.cell_header(STUDY, records.Paths(root), cell, block)
        store.write_marker(store.marker(root, NAME, cell, block), header, {"runs": {}})
    store.write_marker(
        store.study_marker(root, NAME), contents.study_header(STUDY, root), {"runs": 6}
    )
    return root


@pytest.fixture
def root(computed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(computed, tmp_path / "fresh"))


def outdated(root: Path, study: config.StudyConfig = STUDY) -> set[str]:
    """Return the outdated files: the folder or stage of each, with its algorithm."""
    found = (Path(path).relative_to(root).parts for path in freshness.outdated(study, root, NAME))
    return {
        " ".join(part for part in parts[:3] if part != NAME and part not in IDS) for parts in found
    }


DRAWN = {"figures manifest.json", "track study.json"}
TABLED = {"tables manifest.json", *DRAWN}
EVALUATED = {
    *(
        f"{stage} {algorithm}"
        for stage in ("evaluate", "track")
        for algorithm in ("joint", "random")
    ),
    *TABLED,
}
"""What follows when figures, tables or evaluations must be made again, themselves among it."""


def test_a_study_that_was_just_finished_is_fresh(root: Path) -> None:
    assert outdated(root) == set()


def test_what_is_not_there_is_not_outdated(root: Path, tmp_path: Path) -> None:
    assert freshness.outdated(STUDY, tmp_path / "none", NAME) == {}


def test_another_version_of_a_package_outdates_what_may_depend_on_it(
    root: Path, monkeypatch
) -> None:
    installed = provenance.version
    for package, expected in (
        ("torch", {"train joint", "train random", "baselines.safetensors", *EVALUATED}),
        ("pandas", TABLED),
        ("matplotlib", DRAWN),
    ):
        monkeypatch.setattr(
            provenance, "version", lambda name, p=package: "0" if name == p else installed(name)
        )
        assert outdated(root) == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            "metabench.learning.algorithms.joint",
            {"train joint", "evaluate joint", "track joint", *TABLED},
        ),
        ("metabench.learning.evaluation", EVALUATED),
        ("metabench.analysis.tables", TABLED),
        ("metabench.views.figures.gallery", DRAWN),
        ("metabench.views.tracking.mirror", {"track joint", "track random", "track study.json"}),
    ],
)
def test_edited_source_outdates_what_it_makes_and_all_that_is_made_of_that(
    root: Path, monkeypatch, module: str, expected: set[str]
) -> None:
    digest = provenance.code_digest

    def edited(*modules: str) -> str:
        changed = module in modules and not (
            module == "metabench.learning.evaluation" and "metabench.learning.training" in modules
        )
        return "edited" if changed else digest(*modules)

    for user in (plans, tables, figures, contents):
        monkeypatch.setattr(user, "code_digest", edited)
    assert outdated(root) == expected


def test_a_changed_setting_outdates_what_depends_on_it(root: Path) -> None:
    more = config.parse({**CONTENT, "statistics": {"resamples": 60}})
    assert outdated(root, more) == TABLED
    validation = config.parse({**CONTENT, "validation": {"tasks": 4, "interval": 4}})
    assert outdated(root, validation) == {"train joint", "train random", *EVALUATED}


def test_a_record_that_was_exchanged_outdates_all_that_was_made_of_it(root: Path) -> None:
    paths, (cell, block) = records.Paths(root), JOBS[0]
    arrays, header = artifacts.read(paths.trained(cell, block))
    artifacts.write(
        paths.trained(cell, block), {**arrays, "theta": np.zeros_like(arrays["theta"])}, header
    )
    assert outdated(root) == {"evaluate joint", "track joint", *TABLED}


@pytest.mark.parametrize("damage", [b"", b"not a record"])
def test_a_file_without_a_readable_header_is_outdated(root: Path, damage: bytes) -> None:
    paths = records.Paths(root)
    paths.baselines.write_bytes(damage)
    paths.evaluated(*JOBS[0]).write_bytes(damage)
    store.study_marker(root, NAME).write_bytes(damage)
    found = freshness.outdated(STUDY, root, NAME)
    assert set(found) > {
        str(p) for p in (paths.baselines, paths.evaluated(*JOBS[0]), store.study_marker(root, NAME))
    }
    assert str(paths.trained(*JOBS[0])) not in found
    assert all("\n" not in reason for reason in found.values())


def test_a_table_or_figure_that_was_changed_by_hand_is_outdated(root: Path) -> None:
    (root / "figures" / "curve.svg").write_text("<svg></svg>")
    assert outdated(root) == DRAWN
    (root / "tables" / "runs.csv").write_text("algorithm\n")
    assert outdated(root) == TABLED


def test_when_files_were_touched_does_not_matter_and_their_times_are_put_in_order(
    root: Path,
) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for n, path in enumerate(files):
        os.utime(path, (n, 10**9 + 1000 * (n * 7 % len(files))))
    before = {path: path.stat().st_mtime for path in files}
    assert outdated(root) == set()
    freshness.order(STUDY, root, NAME, {})
    time = {path: path.stat().st_mtime for path in files}
    paths = records.Paths(root)
    for job in JOBS:
        theta, losses, marker = (
            paths.trained(*job),
            paths.evaluated(*job),
            store.marker(root, NAME, *job),
        )
        assert time[theta] == before[theta] <= time[losses] <= time[marker]
        assert all(time[table] >= time[losses] for table in (root / "tables").iterdir())
    assert time[root / "figures" / "curve.svg"] >= max(
        time[table] for table in (root / "tables").iterdir()
    )
    assert max(time.values()) == time[store.study_marker(root, NAME)]


def test_the_times_of_what_must_be_made_again_are_left_alone(root: Path) -> None:
    losses = records.Paths(root).evaluated(*JOBS[0])
    os.utime(losses, (1, 1))
    freshness.order(STUDY, root, NAME, {str(losses): "it must be"})
    assert losses.stat().st_mtime == 1
