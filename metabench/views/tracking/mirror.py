"""Write finished records into MLflow.

This is the only module that imports MLflow, and only the track commands import this one.

Runs are found by their tags (algorithm, cell, seed) and compared by a digest of everything they
show. If a finished run with its artifacts has the same digest, there is nothing to do. Otherwise a
new run is written, and the old ones are deleted when it is complete. So a killed job leaves an
unfinished run, which the next attempt replaces. The paths in a copied store are first rewritten to
its own folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine

from metabench.records.artifacts import replacing
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import seeds_of
from metabench.views.tracking import contents, predicted, store
from metabench.views.tracking.contents import Content
from metabench.views.tracking.store import DIGEST_TAG, StoreError

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
"""Tag with the description of a run or an experiment."""

# MLflow rejects larger requests.
POINTS, ITEMS = 1000, 100
"""The most metrics, and the most parameters or tags, per request."""

Key = tuple[str, str, int]
"""Algorithm, cell and seed of a run."""


@contextmanager
def opened(running: Running, name: str) -> Iterator[Mirror]:
    """Yield the mirror of a study in the current store, as its only writer.

    Args:
        running: The study.
        name: Name of the store, from `metabench.views.tracking.store.store_name`.

    Raises:
        StoreError: The store cannot be written, or is not the intended one.
    """
    root, study = running.layout.root, running.study.name
    uri = store.uri_of(root)
    if name.rpartition("-")[0] != store.prefix(uri):
        raise StoreError(
            f"store {name} was requested, but MLFLOW_TRACKING_URI now means {store.shown(uri)}"
        )
    try:
        with store.only_writer(root, uri):
            _create_database(uri)
            # Only a store that answers is changed.
            store.require_answer(uri, study)
            store.relocate(uri)
            yield Mirror.open(running, name, uri)
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"cannot write to the MLflow store {store.shown(uri)}: {_reason(error, uri)}"
        ) from None


def _create_database(uri: str) -> None:
    """Let MLflow create a missing sqlite file under a temporary name.

    It cannot continue from a partial one.
    """
    file = store.database(uri)
    if file and not (file.exists() and file.stat().st_size):
        with replacing(file) as temporary, _without_fsync():
            _client(f"{store.SQLITE}{temporary.as_posix()}")


@contextmanager
def _without_fsync() -> Iterator[None]:
    """Let the system decide when sqlite's writes reach the disk.

    Creating the tables takes hundreds of small writes, and a file spoiled by a power failure is not
    in use yet.
    """

    def switch_off(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", switch_off)
    try:
        yield
    finally:
        event.remove(Engine, "connect", switch_off)


def _client(uri: str) -> MlflowClient:
    """Return MLflow's client, which at its start raises errors of its database driver."""
    try:
        return MlflowClient(uri)
    except Exception as error:
        raise StoreError(error) from None


def _reason(error: Exception, uri: str) -> str:
    """Return an error of MLflow as one line that says what to do."""
    # The URI may contain a password, and SQLAlchemy appends the statement with its values.
    text = str(error).replace(uri, store.shown(uri)).partition("[SQL:")[0]
    message = " ".join(text.split())[:300]
    no_answer = "it does not answer; start it and run again, nothing else in the study waits for it"
    known = {
        "Max retries exceeded": no_answer,
        "no answer": no_answer,
        "database is locked": "another program is writing to it; run again when it has finished",
        "not a database": "it is not an MLflow database; delete it and run again",
        "disk image is malformed": "it is damaged; delete it and run again",
        "disk is full": (full := "the disk is full; make room and run again"),
        "No space left": full,
    }
    return next((advice for symptom, advice in known.items() if symptom in message), message)


class Mirror:
    """A study's experiment.

    Args:
        client: MLflow's.
        running: The study.
        name: Name of the store.
        experiment: The experiment's id.
    """

    def __init__(self, client: MlflowClient, running: Running, name: str, experiment: str) -> None:
        self.client, self.running, self.name, self.experiment = client, running, name, experiment

    @classmethod
    def open(cls, running: Running, name: str, uri: str) -> Self:
        """Find or create the experiment, and give it the store's name."""
        study = running.study.name
        client, tag = _client(store.absolute(uri)), store.generation_tag(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment and experiment.lifecycle_stage != "active":
            _set_aside(client, experiment)
            experiment = None
        found = (
            experiment.experiment_id
            if experiment
            else _create(client, study, store.artifact_folder(uri))
        )
        client.set_experiment_tag(found, tag, name.rpartition("-")[2])
        return cls(client, running, name, found)

    def track_block(self, cell: Cell, seeds: str) -> dict[str, str]:
        """Mirror the runs of one block of a cell's seeds, and write its marker.

        Returns:
            The digest of each run's content, by its seed.
        """
        layout = self.running.layout
        marker = layout.marker(self.name, cell.path, seeds)
        shown = contents.runs(self.running, cell, seeds)
        # Times come from the records: MLflow drops a metric that it has, but only with the same
        # time.
        when = int(layout.trained(cell.path, seeds).stat().st_mtime * 1000)
        old = self._children(_called(cell.name))
        parent = self._parent(when)
        for seed, content in shown.items():
            key = (cell.algorithm, cell.name, seed)
            self._settle(old.get(key, []), content, _run_tags(key) | {PARENT: parent}, when)
        digests = {str(seed): content.digest for seed, content in shown.items()}
        header = contents.cell_header(self.running, cell, seeds)
        store.write_marker(marker, header, {"runs": digests})
        return digests

    def track_study(self) -> str:
        """Mirror the study's own run, and make its children exactly the study's runs.

        Returns:
            The number of runs, and the command that shows them.
        """
        layout, jobs = self.running.layout, self.running.study.train_jobs
        children, wanted = self._children(), set[Key]()
        for cell, seeds in jobs:
            marker = layout.marker(self.name, cell.path, seeds)
            run_ids = store.read_marker(marker)["runs"]
            digests = {
                (cell.algorithm, cell.name, seed): run_ids[str(seed)] for seed in seeds_of(seeds)
            }
            wanted |= digests.keys()
            if not all(
                self._held(children.get(key, []), digest) for key, digest in digests.items()
            ):
                # Somebody has deleted a run or its artifacts.
                self.track_block(cell, seeds)
        for name in self.running.study.predictions:
            wanted |= self._track_predictions(name)
        content = contents.whole_study(self.running)
        when = int(layout.provenance.stat().st_mtime * 1000)
        old = self._search("tags.`metabench.kind` = 'study'")
        parent = self._settle(old, content, _study_tags(self.running.study.name), when)
        self.client.set_experiment_tag(self.experiment, NOTE, content.tags[NOTE])
        for key, runs in self._children().items():
            self._adopt(runs if key in wanted else [], parent)
            self._delete([] if key in wanted else runs)
        header = contents.study_header(self.running)
        marker = layout.study_marker(self.name)
        store.write_marker(marker, header, {"runs": len(wanted)})
        study = self.running.study.name
        return f"{len(wanted)} runs of {study} are in MLflow: metabench ui --study {study}"

    def _track_predictions(self, name: str) -> set[Key]:
        """Mirror predictions that were made elsewhere, and return the keys of their runs."""
        when = int(self.running.layout.predictions(name).stat().st_mtime * 1000)
        old, parent = self._children(_called("-")), self._parent(when)
        keys = set()
        for seed, content in predicted.runs(self.running, name).items():
            key = (name, "-", seed)
            self._settle(old.get(key, []), content, _run_tags(key) | {PARENT: parent}, when)
            keys.add(key)
        return keys

    def _parent(self, when: int) -> str:
        """Return the study's run.

        The first cell creates an empty one, which is completed when all are done.
        """
        found = self._search("tags.`metabench.kind` = 'study'")
        if found:
            return found[0].info.run_id
        study = self.running.study.name
        run = self.client.create_run(self.experiment, when, _study_tags(study), study)
        return run.info.run_id

    def _settle(self, old: list[Run], content: Content, tags: Mapping[str, str], when: int) -> str:
        """Ensure that exactly one run shows the content, and return its id."""
        complete = [run for run in old if self._complete(run, content.digest, content.files)]
        if complete:
            kept = complete[0].info.run_id
            self._adopt(complete[:1], tags.get(PARENT))
        else:
            kept = self._write(
                content, tags, when, [run for run in old if DIGEST_TAG not in run.data.tags]
            )
        # The old runs are deleted last, so a killed job leaves them for the next attempt.
        self._delete([run for run in old if run.info.run_id != kept])
        return kept

    def _write(self, content: Content, tags: Mapping[str, str], when: int, empty: list[Run]) -> str:
        """Write a run, into an empty one if it exists; return its id.

        It is finished when everything is written.
        """
        # A run gets its digest first and its status last, so a partial run is not complete.
        digest = {DIGEST_TAG: content.digest}
        if empty:
            run_id = empty[0].info.run_id
            self.client.set_tag(run_id, DIGEST_TAG, content.digest)
        else:
            run_id = self.client.create_run(
                self.experiment, when, {**tags, **digest}, content.name
            ).info.run_id
        # MLflow rejects longer values of parameters and tags.
        params = [Param(key, value[:6000]) for key, value in content.params.items()]
        labels = [
            RunTag(key, value[:5000])
            for key, value in (contents.surroundings(self.running.engine) | content.tags).items()
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

    def _held(self, runs: list[Run], digest: str) -> bool:
        """Return whether one of some runs is complete and has this digest."""
        return any(self._complete(run, digest, [contents.THETA]) for run in runs)

    def _complete(self, run: Run, digest: str, files: Iterable[str]) -> bool:
        """Return whether a run is finished, has a digest, and has its files."""
        shown = run.info.status == "FINISHED" and run.data.tags.get(DIGEST_TAG) == digest
        return shown and self._has(run, files)

    def _has(self, run: Run, files: Iterable[str]) -> bool:
        """Return whether a run has some files; on a server this takes one request per folder."""
        place = run.info.artifact_uri
        if place.startswith("/"):
            return all(Path(place, name).is_file() for name in files)
        folders = {str(Path(name).parent) for name in files}
        listed = [
            file.path
            for folder in folders
            for file in self.client.list_artifacts(
                run.info.run_id, None if folder == "." else folder
            )
        ]
        return set(files) <= set(listed)

    def _write_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self.client.log_artifacts(run_id, folder)

    def _children(self, condition: str = "tags.`metabench.kind` = 'run'") -> dict[Key, list[Run]]:
        """Return the runs of the study by algorithm, cell and seed.

        This includes what killed jobs left.
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


def _called(name: str) -> str:
    """Return the condition for runs of cells with a name, up to quotes.

    MLflow cannot escape a quote within quotes; `_` matches any character.
    """
    pattern = re.sub(r"""['"\\]""", "_", name)
    return f"tags.`metabench.cell` LIKE '{pattern}'"


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
    """Create a study's experiment; the artifacts of a sqlite store are next to it."""
    if artifacts is None:
        return client.create_experiment(study)
    Path(artifacts).mkdir(parents=True, exist_ok=True)
    return client.create_experiment(study, artifacts, {store.ARTIFACTS_TAG: artifacts})


def _set_aside(client: MlflowClient, experiment: Experiment) -> None:
    """Free the name of a deleted experiment; its runs stay deleted."""
    found, name = experiment.experiment_id, experiment.name
    if experiment.lifecycle_stage != "active":
        # The name of a deleted experiment cannot be changed.
        client.restore_experiment(found)
    client.rename_experiment(found, f"{name} (set aside {found})")
    client.delete_experiment(found)
