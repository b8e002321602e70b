"""The runs of an experiment in MLflow: find them, compare them, write and delete them.

Runs are found by their tags (algorithm, cell, seed) and compared by a digest of everything they
show. If a finished run with its artifacts has the same digest, there is nothing to do. Otherwise a
new run is written, and the old ones are deleted when it is complete. So a killed job leaves an
unfinished run, which the next attempt replaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from metabench.views.tracking import contents, rest
from metabench.views.tracking.contents import Content
from metabench.views.tracking.store import DIGEST_TAG

PARENT = "mlflow.parentRunId"

# MLflow rejects requests with more than 100 parameters, 100 tags, or 1000 items altogether.
POINTS, ITEMS = 800, 100
"""The most metrics, and the most parameters or tags, per request."""

PAGE = 200
"""Runs per answer of a search: a server takes seconds for them, and an answer must not time out."""

REQUESTS = 4
"""Requests that a server answers at the same time. A sqlite file has one writer."""

Key = tuple[str, str, int]
"""Algorithm, cell and seed of a run."""

A = TypeVar("A")
B = TypeVar("B")


class Wanted(NamedTuple):
    """A run as it should be.

    Args:
        old: The runs that are there in its place.
        content: What it shows.
        tags: By which it is found.
        when: Time of its points, in milliseconds.
    """

    old: list[Run]
    content: Content
    tags: Mapping[str, str]
    when: int


class Runs:
    """The runs of an experiment.

    Args:
        client: MLflow's.
        experiment: The experiment's id.
        engine: The study's engine, which each run names.
    """

    def __init__(self, client: MlflowClient, experiment: str, engine: str) -> None:
        self.client, self.experiment, self.engine = client, experiment, engine

    def children(self, condition: str = "tags.`metabench.kind` = 'run'") -> dict[Key, list[Run]]:
        """Return the runs of the study by algorithm, cell and seed.

        This includes what killed jobs left.
        """
        found: dict[Key, list[Run]] = {}
        for run in self._search(condition):
            tags = run.data.tags
            key = (tags["metabench.algorithm"], tags["metabench.cell"], int(tags["metabench.seed"]))
            found.setdefault(key, []).append(run)
        return found

    def of_study(self) -> list[Run]:
        """Return the study's own runs: one, unless a killed job left an unfinished one."""
        return self._search("tags.`metabench.kind` = 'study'")

    def _search(self, condition: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], condition, max_results=PAGE, page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def settle(self, wanted: Iterable[Wanted]) -> list[str]:
        """Ensure that exactly one run shows each content, and return their ids."""
        return self._each(self._settle, wanted)

    def _settle(self, wanted: Wanted) -> str:
        old, content = wanted.old, wanted.content
        complete = [run for run in old if self._complete(run, content.digest, content.files)]
        if complete:
            kept = complete[0].info.run_id
            self._adopt(complete[0], wanted.tags.get(PARENT))
        else:
            kept = self._write(wanted)
        # The old runs are deleted last, so a killed job leaves them for the next attempt.
        for run in old:
            if run.info.run_id != kept:
                self.client.delete_run(run.info.run_id)
        return kept

    def held(self, children: Mapping[Key, list[Run]], digests: Mapping[Key, str]) -> dict[Key, str]:
        """Return the id of a complete run with the digest of each key, where there is one."""
        candidates = [(key, run) for key in digests for run in children.get(key, [])]

        def complete(candidate: tuple[Key, Run]) -> bool:
            key, run = candidate
            return self._complete(run, digests[key], [contents.THETA])

        answers = self._each(complete, candidates)
        return {
            key: run.info.run_id
            for (key, run), answer in zip(candidates, answers, strict=True)
            if answer
        }

    def adopt(self, runs: Iterable[Run], parent: str) -> None:
        """Make runs the children of a run."""
        self._each(lambda run: self._adopt(run, parent), runs)

    def delete(self, runs: Iterable[Run]) -> None:
        """Delete runs; they and their artifacts stay until `mlflow gc`."""
        self._each(lambda run: self.client.delete_run(run.info.run_id), runs)

    def _each(self, do: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """Do something with each item; after an error, with no further one."""
        at_once = REQUESTS if rest.is_server(self.client.tracking_uri) else 1
        if at_once == 1:
            return [do(item) for item in items]
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(do, items))

    def _write(self, wanted: Wanted) -> str:
        """Write a run, into an empty one if it exists; return its id.

        It is finished when everything is written.
        """
        content, when = wanted.content, wanted.when
        # A run gets its digest first and its status last, so a partial run is not complete.
        digest = {DIGEST_TAG: content.digest}
        empty = [run for run in wanted.old if DIGEST_TAG not in run.data.tags]
        if empty:
            run = empty[0]
            self.client.set_tag(run.info.run_id, DIGEST_TAG, content.digest)
        else:
            tags = {**wanted.tags, **digest}
            run = self.client.create_run(self.experiment, when, tags, content.name)
        run_id = run.info.run_id
        for metrics, params, labels in self._requests(content, when):
            self.client.log_batch(run_id, metrics, params, labels)
        self._write_files(run, content.files)
        if content.datasets:
            self.client.log_inputs(run_id, [_dataset(dataset) for dataset in content.datasets])
        self.client.set_terminated(run_id, end_time=when)
        return run_id

    def _requests(
        self, content: Content, when: int
    ) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
        """Yield what a run shows in as few requests as MLflow allows."""
        metrics = [Metric(point.key, point.value, when, point.step) for point in content.points]
        # MLflow rejects longer values of parameters and tags.
        params = [Param(key, value[:6000]) for key, value in content.params.items()]
        labels = contents.surroundings(self.engine) | content.tags
        tags = [RunTag(key, value[:5000]) for key, value in labels.items()]
        while metrics or params or tags:
            yield metrics[:POINTS], params[:ITEMS], tags[:ITEMS]
            metrics, params, tags = metrics[POINTS:], params[ITEMS:], tags[ITEMS:]

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
            for file in self._artifacts(run).list_artifacts(None if folder == "." else folder)
        ]
        return set(files) <= set(listed)

    def _write_files(self, run: Run, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self._artifacts(run).log_artifacts(folder)

    def _artifacts(self, run: Run) -> ArtifactRepository:
        """Return the store of a run's artifacts; the client's methods would fetch the run first."""
        return get_artifact_repository(run.info.artifact_uri, self.client.tracking_uri)

    def _adopt(self, run: Run, parent: str | None) -> None:
        if parent and run.data.tags.get(PARENT) != parent:
            self.client.set_tag(run.info.run_id, PARENT, parent)


def called(name: str) -> str:
    """Return the condition for runs of cells with a name, up to quotes.

    MLflow cannot escape a quote within quotes; `_` matches any character.
    """
    pattern = re.sub(r"""['"\\]""", "_", name)
    return f"tags.`metabench.cell` LIKE '{pattern}'"


def run_tags(key: Key) -> dict[str, str]:
    """Return the tags by which a run is found."""
    algorithm, cell, seed = key
    return {
        "metabench.kind": "run",
        "metabench.algorithm": algorithm,
        "metabench.cell": cell,
        "metabench.seed": str(seed),
    }


def study_tags(study: str) -> dict[str, str]:
    """Return the tags by which a study's own run is found."""
    return {"metabench.kind": "study", "metabench.study": study}


def _dataset(dataset: contents.Dataset) -> DatasetInput:
    source = json.dumps(
        {"tags": {key: json.dumps(value) for key, value in dataset.settings.items()}}
    )
    profile = json.dumps({"num_rows": dataset.settings["tasks"]})
    entity = Dataset(dataset.name, dataset.digest, "code", source, profile=profile)
    return DatasetInput(entity, [InputTag("mlflow.data.context", dataset.context)])
