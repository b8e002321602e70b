"""Write finished records into MLflow. The only module that imports it, and imported by the track
commands alone.

Runs are found by their tags (algorithm, cell, seed) and compared by a digest of all they show. The
same digest on a finished run: nothing to do. Otherwise a new run is written, and when it is
complete the old ones are deleted; so a killed job leaves an unfinished run that its repetition
replaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from metabench.records import records
from metabench.records.artifacts import replacing
from metabench.records.records import Paths
from metabench.study import plans
from metabench.study.config import StudyConfig
from metabench.study.plans import Cell
from metabench.views.tracking import contents, store
from metabench.views.tracking.contents import Content
from metabench.views.tracking.store import StoreError

PARENT = "mlflow.parentRunId"
DIGEST = "metabench.digest"
POINTS, ITEMS = 1000, 100
"""Metrics, and parameters or tags, of a request at most."""

Key = tuple[str, str, int]
"""Algorithm, cell and seed of a run."""


@contextmanager
def opened(root: Path, study: str, name: str) -> Iterator[Mirror]:
    """Yield the mirror of a study in the current store, as its only writer.

    Args:
        root: The study's folder.
        study: Its name.
        name: The store's, as `metabench.views.tracking.store.store_name` gave it.

    Raises:
        StoreError: The store cannot be written, or is another one than was meant.
    """
    uri = store.uri_of(root)
    if name.rpartition("-")[0] != store.prefix(uri):
        raise StoreError(
            f"store {name} was asked for, but MLFLOW_TRACKING_URI now means {store.shown(uri)}"
        )
    try:
        with store.only_writer(root, uri):
            _create_database(uri)
            store.require_answer(uri, study)
            yield Mirror.open(root, study, name, uri)
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"cannot write to the MLflow store {store.shown(uri)}: {_reason(error, uri)}"
        ) from None


def _create_database(uri: str) -> None:
    """Let MLflow lay out a sqlite file that is not there yet, beside its place: it cannot go on
    from half of one.
    """
    file = store.database(uri)
    if file and not (file.exists() and file.stat().st_size):
        with replacing(file) as temporary:
            _client(f"{store.SQLITE}{temporary.as_posix()}")


def _client(uri: str) -> MlflowClient:
    """Return MLflow's client; where it begins it lets the errors of its database's driver through."""
    try:
        return MlflowClient(uri)
    except Exception as error:
        raise StoreError(error) from None


def _reason(error: Exception, uri: str) -> str:
    """Return an error of MLflow as one line that says what to do."""
    said = " ".join(str(error).replace(uri, store.shown(uri)).partition("[SQL:")[0].split())[:300]
    silent = "it does not answer; start it and run again, nothing else of the study waits for it"
    known = {
        "Max retries exceeded": silent,
        "no answer": silent,
        "database is locked": "another program is writing to it; run again when it has finished",
        "not a database": "it is not an MLflow database; delete it and run again",
        "disk image is malformed": "it is damaged; delete it and run again",
        "disk is full": (full := "the disk is full; make room and run again"),
        "No space left": full,
    }
    return next((advice for symptom, advice in known.items() if symptom in said), said)


class Mirror:
    """A study's experiment.

    Args:
        client: MLflow's.
        root: The study's folder.
        experiment: The experiment's id.
        study: The study's name.
    """

    def __init__(self, client: MlflowClient, root: Path, experiment: str, study: str) -> None:
        self.client, self.root, self.experiment, self.study = client, root, experiment, study

    @classmethod
    def open(cls, root: Path, study: str, name: str, uri: str) -> Self:
        """Find or make the experiment, and give it the store's name."""
        client, tag = _client(uri), store.generation_tag(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment and (
            experiment.lifecycle_stage != "active" or store.moved(experiment.tags, uri)
        ):
            _set_aside(client, experiment)
            experiment = None
        found = (
            experiment.experiment_id
            if experiment
            else _create(client, study, store.artifact_folder(uri))
        )
        client.set_experiment_tag(found, tag, name.rpartition("-")[2])
        return cls(client, root, found, study)

    def track_block(self, study: StudyConfig, cell: Cell, block: str) -> dict[str, str]:
        """Mirror the runs of one block of a cell's seeds; return their digests by seed."""
        paths = Paths(self.root)
        shown = contents.runs(study, records.read_block(paths, study, cell, block), block)
        when = int(paths.evaluated(cell, block).stat().st_mtime * 1000)
        old = self._children(f"tags.`metabench.cell` = '{cell.id}'")
        parent = self._parent(when)
        for seed, content in shown.items():
            key = (cell.algorithm, cell.id, seed)
            self._settle(old.get(key, []), content, _run_tags(key) | {PARENT: parent}, when)
        return {str(seed): content.digest for seed, content in shown.items()}

    def track_study(
        self, study: StudyConfig, tracked: Mapping[tuple[Cell, str], Mapping[str, str]]
    ) -> int:
        """Mirror the study's own run, and make its children exactly the study's runs.

        Args:
            study: The study.
            tracked: The digests that `track_block` returned for each job.

        Returns:
            How many runs there are.
        """
        children = self._children()
        for (cell, block), digests in tracked.items():
            keys = {
                (cell.algorithm, cell.id, int(seed)): digest for seed, digest in digests.items()
            }
            if not all(
                any(_complete(run, keys[key]) for run in children.get(key, [])) for key in keys
            ):
                self.track_block(study, cell, block)  # somebody deleted a run
        content = contents.whole_study(study, self.root)
        when = int((self.root / "provenance.json").stat().st_mtime * 1000)
        parent = self._settle(
            self._search("tags.`metabench.kind` = 'study'"), content, _study_tags(study.study), when
        )
        wanted = {
            (c.algorithm, c.id, seed) for c, block in tracked for seed in plans.seeds_of(block)
        }
        for key, runs in self._children().items():
            self._adopt(runs if key in wanted else [], parent)
            self._delete([] if key in wanted else runs)
        return len(wanted)

    def _parent(self, when: int) -> str:
        """Return the study's run; an empty one is made by the first cell, and completed when all
        are done.
        """
        found = self._search("tags.`metabench.kind` = 'study'")
        if found:
            return found[0].info.run_id
        run = self.client.create_run(self.experiment, when, _study_tags(self.study), self.study)
        return run.info.run_id

    def _settle(self, old: list[Run], content: Content, tags: Mapping[str, str], when: int) -> str:
        """Leave exactly one run that shows the content, and return its id."""
        complete = [run for run in old if _complete(run, content.digest)]
        if complete:
            kept = complete[0].info.run_id
            self._adopt(complete[:1], tags.get(PARENT))
        else:
            kept = self._write(
                content, tags, when, [run for run in old if DIGEST not in run.data.tags]
            )
        self._delete([run for run in old if run.info.run_id != kept])
        return kept

    def _write(self, content: Content, tags: Mapping[str, str], when: int, empty: list[Run]) -> str:
        """Write a run, into an empty one if there is, and finish it when all is there; return its
        id.
        """
        digest = {DIGEST: content.digest}
        if empty:
            run_id = empty[0].info.run_id
            self.client.set_tag(run_id, DIGEST, content.digest)
        else:
            run_id = self.client.create_run(
                self.experiment, when, {**tags, **digest}, content.name
            ).info.run_id
        params = [Param(key, value[:6000]) for key, value in content.params.items()]
        labels = [
            RunTag(key, value[:5000])
            for key, value in (contents.surroundings() | content.tags).items()
        ]
        for n in range(0, max(len(params), len(labels)), ITEMS):
            self.client.log_batch(run_id, params=params[n : n + ITEMS], tags=labels[n : n + ITEMS])
        metrics = [Metric(point.key, point.value, when, point.step) for point in content.points]
        for n in range(0, len(metrics), POINTS):
            self.client.log_batch(run_id, metrics=metrics[n : n + POINTS])
        self._write_files(run_id, content.files)
        if content.datasets:
            self.client.log_inputs(run_id, [_dataset(dataset) for dataset in content.datasets])
        self.client.set_terminated(run_id, end_time=when)
        return run_id

    def _write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self.client.log_artifacts(run_id, folder)

    def _children(self, condition: str = "tags.`metabench.kind` = 'run'") -> dict[Key, list[Run]]:
        """Return the runs of the study by algorithm, cell and seed, also what killed jobs left of
        them.
        """
        found: dict[Key, list[Run]] = {}
        for run in self._search(condition):
            tags = run.data.tags
            key = (tags["metabench.algorithm"], tags["metabench.cell"], int(tags["metabench.seed"]))
            found.setdefault(key, []).append(run)
        return found

    def _search(self, condition: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], condition, max_results=1000, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _adopt(self, runs: list[Run], parent: str | None) -> None:
        for run in runs:
            if parent and run.data.tags.get(PARENT) != parent:
                self.client.set_tag(run.info.run_id, PARENT, parent)

    def _delete(self, runs: list[Run]) -> None:
        for run in runs:
            self.client.delete_run(run.info.run_id)


def _complete(run: Run, digest: str) -> bool:
    return run.info.status == "FINISHED" and run.data.tags.get(DIGEST) == digest


def _run_tags(key: Key) -> dict[str, str]:
    algorithm, cell, seed = key
    return {
        "metabench.kind": "run",
        "metabench.algorithm": algorithm,
        "metabench.cell": cell,
        "metabench.seed": str(seed),
    }


def _study_tags(study: str) -> dict[str, str]:
    return {"metabench.kind": "study", "metabench.study": study}


def _dataset(dataset: contents.Dataset) -> DatasetInput:
    source = json.dumps(
        {"tags": {key: json.dumps(value) for key, value in dataset.settings.items()}}
    )
    profile = json.dumps({"num_rows": dataset.settings["tasks"]})
    entity = Dataset(dataset.name, dataset.digest, "code", source, profile=profile)
    return DatasetInput(entity, [InputTag("mlflow.data.context", dataset.context)])


def _create(client: MlflowClient, study: str, artifacts: str | None) -> str:
    """Make a study's experiment; beside a sqlite store stand its artifacts."""
    if artifacts is None:
        return client.create_experiment(study)
    Path(artifacts).mkdir(parents=True, exist_ok=True)
    return client.create_experiment(study, artifacts, {store.ARTIFACTS_TAG: artifacts})


def _set_aside(client: MlflowClient, experiment: Experiment) -> None:
    """Free the name of an experiment that was deleted or whose artifacts are gone; its runs stay,
    deleted.
    """
    found, name = experiment.experiment_id, experiment.name
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(found)  # the name of a deleted one cannot be changed
    client.rename_experiment(found, f"{name} (set aside {found})")
    client.delete_experiment(found)
