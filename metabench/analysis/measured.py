"""All measurements of a study, from which tables are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metabench.analysis.columns import HYPERPARAMETERS
from metabench.analysis.statistics.resampling import Resamples, resamples
from metabench.learning.hyperparameters import value_text
from metabench.learning.scores import scores
from metabench.records.measured import COST_COLUMNS, CellRecord, PredictionsRecord
from metabench.records.running import Running
from metabench.study.cells import Cell
from metabench.study.config import StudyConfig
from metabench.study.grids import singles
from metabench.study.protocols import Groups, Regions, regions
from metabench.study.schema import StudyProtocol

Found = TypeVar("Found")

DIVERGENCE = 10
"""An adaptation has diverged if its loss exceeds this many times a reference (`Study.limit`)."""

BEYOND = ("hidden", "activation", "initialization", "training_tasks")
"""Columns of what a group of cells may vary in addition to hyperparameters."""


class Entrant(NamedTuple):
    """What takes no updates here: a baseline, or predictions that were made elsewhere.

    Args:
        head: The columns that name it in a table.
        seeds: Its seeds; none where it has none.
        losses: ``(region, seed, task)``; one seed where it has none.
    """

    head: dict[str, str]
    seeds: list[int]
    losses: NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """All measurements of a study.

    Args:
        config: The study.
        groups: Its protocols by group and name.
        cells: A record for each cell.
        baselines: Losses ``(region, task)`` of the seedless baselines by ``test/PROTOCOL/NAME``.
        predictions: A record for each file of predictions.
        contents: A digest of all of this.
    """

    config: StudyConfig
    groups: Groups
    cells: list[CellRecord]
    baselines: dict[str, NDArray[Any]]
    predictions: list[PredictionsRecord]
    contents: str
    _found: dict[tuple[Any, ...], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def protocols(self) -> dict[str, StudyProtocol]:
        """All protocols by name."""
        return {name: one for group in self.groups.values() for name, one in group.items()}

    @cached_property
    def regions(self) -> Regions:
        """The names of the regions of each protocol."""
        return regions(self.config.tasks, self.protocols)

    @property
    def single_protocols(self) -> list[str]:
        """The protocols that are a group by themselves, which have figures of their own."""
        return singles(self.protocols)

    def once(self, find: Callable[..., Found], *place: str) -> Found:
        """Return the result of a function of this study, computed once for all tables.

        Args:
            find: The function, of the study and of a place in it.
            place: For instance an algorithm and a protocol.
        """
        key = (find, *place)
        if key not in self._found:
            self._found[key] = find(self, *place)
        return self._found[key]

    @cached_property
    def varied(self) -> list[str]:
        """The columns of settings, other than hyperparameters, that differ between cells."""
        every = [_beyond(record.cell) for record in self.cells]
        return [key for key in every[0] if len({cell[key] for cell in every}) > 1]

    def scores(self, record: CellRecord, protocol: str, step: str) -> NDArray[np.float64]:
        """Return a cell's test scores, ``(region, update, run, task)``."""
        zero = self.baselines[f"test/{protocol}/zero"][:, None, None]
        return scores(record.losses(protocol, step), zero)

    def validation_scores(
        self, record: CellRecord, protocol: str, step: str
    ) -> NDArray[np.float64]:
        """Return each run's mean validation score after each update, ``(update, run)``."""
        zero = self.baselines[f"validation/{protocol}/zero"][0]
        return np.asarray(scores(record.validation(protocol, step), zero).mean(-1))

    def limit(self, protocol: str) -> NDArray[np.float64]:
        """Return the loss above which an adaptation counts as diverged, ``(region, task)``.

        Ten times the larger of two losses of the zero predictor: on this task, and on average over
        tasks. The first alone would mark a slow adaptation to a nearly flat wave as diverged.
        """
        zero = self.baselines[f"test/{protocol}/zero"].astype(np.float64)
        return DIVERGENCE * np.maximum(zero, zero.mean(-1, keepdims=True))

    @cached_property
    def draws(self) -> Resamples:
        """The resamples of seeds and tasks, the same for all cells."""
        config = self.config
        return resamples(
            config.study, config.seeds, config.evaluation.tasks, config.statistics.resamples
        )

    def entrants(self, protocol: str) -> Iterator[Entrant]:
        """Yield what takes no updates under a protocol: baselines, then predictions."""
        place = {"protocol": protocol, "step": "none"}
        prefix = f"test/{protocol}/"
        for key in sorted(self.baselines):
            if key.startswith(prefix):
                head = {"algorithm": key.removeprefix(prefix), "cell": "-", "role": "baseline"}
                yield Entrant(head | place, [], self.baselines[key].astype(np.float64)[:, None])
        for record in self.predictions:
            head = {"algorithm": record.name, "cell": "-", "role": "predictions"}
            yield Entrant(head | place, record.seeds.tolist(), record.losses[f"test/{protocol}"])


def read(running: Running) -> Study:
    """Read all records of a study.

    Raises:
        ArtifactError: A record is missing or damaged, or has different settings, source or
            versions.
    """
    study, reader = running.study, running.reader
    cells = [reader.cell(cell) for cell in study.cells]
    contents = reader.contents()
    predictions = [reader.predictions(name) for name in study.predictions]
    return Study(study.config, study.groups, cells, reader.baselines(), predictions, contents)


def name(record: CellRecord) -> dict[str, str]:
    """Return the columns that name a cell in rows without a role."""
    return {column: record.head[column] for column in ("algorithm", "cell")}


def settings(study: Study, record: CellRecord) -> dict[str, Any]:
    """Return the settings of a cell as columns.

    A hyperparameter is empty if the algorithm does not read it. Other settings that a group of
    cells may vary have a column if they vary.
    """
    cell = record.cell
    found: dict[str, Any] = dict.fromkeys(HYPERPARAMETERS)
    found |= {"meta_iterations": cell.meta_iterations}
    found |= cell.hyperparameters.model_dump(mode="json")
    return found | {column: _beyond(cell)[column] for column in study.varied}


def _beyond(cell: Cell) -> dict[str, Any]:
    """Return the settings other than hyperparameters that groups may vary, as in `BEYOND`."""
    network = cell.network
    found = (
        value_text(network.hidden),
        network.activation,
        network.initialization,
        cell.tasks.training_tasks,
    )
    return dict(zip(BEYOND, found, strict=True))


def costs(record: CellRecord) -> dict[str, int]:
    """Return the training cost of each run of a cell."""
    each = record.cell.cost._asdict()
    return {COST_COLUMNS[what]: record.cell.meta_iterations * count for what, count in each.items()}


def joined(blocks: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all cells in one table, sorted by run."""
    keys = ["algorithm", "cell", "seed"]
    return pd.concat(list(blocks)).sort_values(keys, kind="stable", ignore_index=True)
