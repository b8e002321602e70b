"""Write finished records into MLflow.

Only the track commands import this module. It determines which runs a study should have; `runs`
finds, compares and writes them. The paths in a copied store are first rewritten to its own folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine

from metabench.records.artifacts import replacing
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.jobs import TrainJob, seeds_of
from metabench.views.tracking import contents, predicted, rest, store, view
from metabench.views.tracking.contents import Content
from metabench.views.tracking.rest import StoreError
from metabench.views.tracking.runs import PARENT, Key, Runs, Wanted, called, run_tags, study_tags

NOTE = "mlflow.note.content"
"""Tag with the description of a run or an experiment."""


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
            f"store {name} was requested, but MLFLOW_TRACKING_URI now means {rest.hidden(uri)}"
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
            f"cannot write to the MLflow store {rest.hidden(uri)}: {_reason(error)}"
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


def _reason(error: Exception) -> str:
    """Return an error of MLflow as one line that says what to do."""
    # A URI may contain a password, and SQLAlchemy appends the statement with its values.
    text = rest.hidden(str(error)).partition("[SQL:")[0]
    message = " ".join(text.split())[:300]
    no_answer = "it does not answer; start it and run again, nothing else in the study waits for it"
    known = {
        "error code 401": rest.REJECTED,
        "error code 403": rest.FORBIDDEN,
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
        self.runs = Runs(client, experiment, running.engine)

    @classmethod
    def open(cls, running: Running, name: str, uri: str) -> Self:
        """Find or create the experiment, and give it the store's name."""
        client = _client(store.absolute(uri))
        experiment = _experiment(client, running.study.name, store.artifact_folder(uri))
        client.set_experiment_tag(experiment, store.generation_tag(uri), name.rpartition("-")[2])
        client.set_experiment_tag(experiment, view.TAG, view.saved(running.study))
        return cls(client, running, name, experiment)

    def track_cell(self, cell: Cell, blocks: Iterable[str]) -> dict[Key, str]:
        """Mirror the runs of some blocks of a cell's seeds, and write the blocks' markers.

        Returns:
            The id of each run.
        """
        shown = {seeds: contents.runs(self.running, cell, seeds) for seeds in blocks}
        # Times come from the records: MLflow drops a metric that it has, but only with the same
        # time.
        times = {seeds: _time(self.running.layout.trained(cell.path, seeds)) for seeds in shown}
        kept = self._settle(
            cell.name,
            {
                (cell.algorithm, cell.name, seed): (content, times[seeds])
                for seeds, runs in shown.items()
                for seed, content in runs.items()
            },
        )
        for seeds, runs in shown.items():
            marker = self.running.layout.marker(self.name, cell.path, seeds)
            digests = {str(seed): content.digest for seed, content in runs.items()}
            header = contents.cell_header(self.running, cell, seeds)
            store.write_marker(marker, header, {"runs": digests})
        return kept

    def track_study(self) -> str:
        """Mirror the study's own run, and make its children exactly the study's runs.

        Returns:
            The number of runs, and the command that shows them.
        """
        kept: dict[Key, str] = {}
        for name in self.running.study.predictions:
            kept |= self._track_predictions(name)
        children = self.runs.children()
        marked = [(job, self._marked(job)) for job in self.running.study.train_jobs]
        kept |= self.runs.held(children, {key: d for _, runs in marked for key, d in runs.items()})
        # Somebody has deleted runs of these blocks, or their artifacts.
        lost = [job for job, runs in marked if not runs.keys() <= kept.keys()]
        for job in lost:
            kept |= self.track_cell(job.cell, [job.seeds])
        self._keep(self.runs.children() if lost else children, set(kept.values()))
        header = contents.study_header(self.running)
        marker = self.running.layout.study_marker(self.name)
        store.write_marker(marker, header, {"runs": len(kept)})
        study = self.running.study.name
        return f"{len(kept)} runs of {study} are in MLflow: metabench ui --study {study}"

    def _marked(self, job: TrainJob) -> dict[Key, str]:
        """Return the digest of each run of a block, according to its marker."""
        cell, seeds = job
        digests = store.read_marker(self.running.layout.marker(self.name, cell.path, seeds))["runs"]
        return {(cell.algorithm, cell.name, seed): digests[str(seed)] for seed in seeds_of(seeds)}

    def _keep(self, children: Mapping[Key, list[Run]], kept: set[str]) -> None:
        """Mirror the study's own run, give it the runs to keep, and delete the others."""
        content = contents.whole_study(self.running)
        wanted = Wanted(
            self.runs.of_study(),
            content,
            study_tags(self.running.study.name),
            _time(self.running.layout.provenance),
        )
        (parent,) = self.runs.settle([wanted])
        self.client.set_experiment_tag(self.experiment, NOTE, content.tags[NOTE])
        runs = [run for found in children.values() for run in found]
        self.runs.adopt([run for run in runs if run.info.run_id in kept], parent)
        self.runs.delete([run for run in runs if run.info.run_id not in kept])

    def _track_predictions(self, name: str) -> dict[Key, str]:
        """Mirror predictions that were made elsewhere, and return the ids of their runs."""
        when = _time(self.running.layout.predictions(name))
        runs = predicted.runs(self.running, name)
        return self._settle("-", {(name, "-", seed): (run, when) for seed, run in runs.items()})

    def _settle(self, cell: str, shown: Mapping[Key, tuple[Content, int]]) -> dict[Key, str]:
        """Ensure that exactly one run of a cell shows each content, with its time.

        Returns:
            The id of each run.
        """
        old = self.runs.children(called(cell))
        parent = self._parent(min(when for _, when in shown.values()))
        wanted = [
            Wanted(old.get(key, []), content, run_tags(key) | {PARENT: parent}, when)
            for key, (content, when) in shown.items()
        ]
        return dict(zip(shown, self.runs.settle(wanted), strict=True))

    def _parent(self, when: int) -> str:
        """Return the study's run.

        The first cell creates an empty one, which is completed when all are done.
        """
        if found := self.runs.of_study():
            return found[0].info.run_id
        study = self.running.study.name
        run = self.client.create_run(self.experiment, when, study_tags(study), study)
        return run.info.run_id


def _time(path: Path) -> int:
    """Return when a file was written, in milliseconds."""
    return int(path.stat().st_mtime * 1000)


def _experiment(client: MlflowClient, study: str, artifacts: str | None) -> str:
    """Return the number of a study's experiment, which is created if there is none."""
    found = client.get_experiment_by_name(study)
    if found and found.lifecycle_stage == "active":
        return found.experiment_id
    if found:
        _set_aside(client, found)
    try:
        return _create(client, study, artifacts)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another process has created it since.
        return _experiment(client, study, artifacts)


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
