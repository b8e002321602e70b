"""An expanded study: its cells, protocols and blocks of seeds, and the settings of each job.

A job is one cell and one block of seeds, and for an evaluation one group of protocols. Its settings
are everything that its result depends on and nothing else, so that adding cells, protocols or seeds
leaves finished jobs alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from metabench.learning import baselines
from metabench.learning.held_out import measures_distributions
from metabench.learning.predictions import BankSettings
from metabench.learning.settings import (
    Banks,
    BaselineProtocol,
    BaselineSettings,
    EvaluatedProtocol,
    EvaluateSettings,
    Protocol,
    TrainSettings,
    Validation,
)
from metabench.study import cell_groups, cells, grids, protocols
from metabench.study.cells import Cell
from metabench.study.limits import EVALUATIONS, SEED_BLOCK, SEEDS
from metabench.study.messages import ConfigError, Mistakes, shorten
from metabench.study.protocols import Regions
from metabench.study.schema import Predicted, StudyConfig, StudyProtocol


class TrainJob(NamedTuple):
    """One cell and one block of seeds."""

    cell: Cell
    seeds: str


class EvaluateJob(NamedTuple):
    """One cell, one group of protocols and one block of seeds."""

    cell: Cell
    group: str
    seeds: str


@dataclass(frozen=True)
class Study:
    """A study file and what follows from it, each computed once.

    Args:
        config: The content of the file.
    """

    config: StudyConfig

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.study

    def check(self) -> Study:
        """Compute everything, so that mistakes show now; raise ConfigError with a line for each."""
        mistakes = Mistakes()
        with mistakes.collected():
            protocols.require_showcase(self.config.tasks, self.config.showcase)
        groups = 0
        with mistakes.collected():
            groups = len(self.groups)
        with mistakes.collected():
            evaluations = len(self.cells) * len(self.blocks) * groups
            if evaluations > EVALUATIONS:
                raise ConfigError(
                    f"cells, blocks of seeds and groups of protocols make {evaluations} "
                    f"evaluations; a study may have at most {EVALUATIONS}. The protocols of one "
                    f"group are one evaluation (protocols)"
                )
        with mistakes.collected():
            self._require_free_names()
        mistakes.report()
        return self

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells in the order of the file."""
        return cell_groups.cells(self.config)

    @cached_property
    def predictions(self) -> dict[str, Predicted]:
        """The predictions that were made elsewhere, by name."""
        return {entry.name: entry for entry in self._predicted}

    @property
    def _predicted(self) -> list[Predicted]:
        return [entry for entry in self.config.cells if isinstance(entry, Predicted)]

    def _require_free_names(self) -> None:
        """Raise ConfigError if an algorithm file or predictions have the name of another row."""
        taken: set[str] = set()
        for protocol in self.protocols.values():
            taken.update(baselines.names(self.config.tasks, protocol))
        if same := taken & {cell.algorithm for cell in self.cells}:
            raise ConfigError(
                f"an algorithm file needs a name of its own; {min(same)} is that of a baseline "
                f"(cells)"
            )
        taken |= {cell.algorithm for cell in self.cells}
        for entry in self._predicted:
            if entry.name in taken:
                raise ConfigError(
                    f"predictions need a name of their own; {entry.name} is that of an algorithm, "
                    f"a baseline or other predictions of the study (cells)"
                )
            taken.add(entry.name)

    def cell(self, wanted: str) -> Cell:
        """Return the cell that a user or a path names; see `metabench.study.cells.find`."""
        return self._by_path.get(wanted) or cells.find(self.cells, wanted)

    @cached_property
    def _by_path(self) -> dict[str, Cell]:
        return {cell.path: cell for cell in self.cells}

    @cached_property
    def groups(self) -> protocols.Groups:
        """The protocols by group and name."""
        return protocols.groups(self.config)

    def group(self, wanted: str) -> str:
        """Return the name of a group of protocols; raise ConfigError if there is none."""
        if wanted not in self.groups:
            known = ", ".join(self.groups)
            raise ConfigError(f"unknown group of protocols {shorten(wanted)}; choose from {known}")
        return wanted

    @cached_property
    def protocols(self) -> dict[str, StudyProtocol]:
        """All protocols by name."""
        found: dict[str, StudyProtocol] = {}
        for group in self.groups.values():
            found |= group
        return found

    @property
    def single_protocols(self) -> list[str]:
        """The protocols that are a group by themselves, which have figures of their own."""
        return grids.singles(self.protocols)

    @property
    def regions(self) -> Regions:
        """The names of the regions of each protocol that has figures of its own."""
        single = {name: self.protocols[name] for name in self.single_protocols}
        return protocols.regions(self.config.tasks, single)

    @property
    def noisy_protocols(self) -> list[str]:
        """Those under which predictive distributions are judged."""
        if not cell_groups.predict_variances(self.config):
            return []
        tasks, known = self.config.tasks, self.protocols
        return [
            name for name in self.single_protocols if measures_distributions(known[name], tasks)
        ]

    @property
    def distant_protocols(self) -> list[str]:
        """Those whose losses are measured by distance to the nearest support point."""
        known = self.protocols
        return [name for name in self.single_protocols if known[name].regions == "distance"]

    @property
    def recurring(self) -> bool:
        """Whether cells differ in their number of training tasks."""
        return len({cell.tasks.training_tasks for cell in self.cells}) > 1

    @cached_property
    def grids(self) -> list[str]:
        """The groups of protocols that are grids."""
        return [name for name, group in self.groups.items() if protocols.axes(group)]

    @property
    def blocks(self) -> list[str]:
        """The blocks of seeds, aligned at multiples of the block size: ``["0-9", "10-14"]``."""
        size, seeds = self.config.seed_block, self.config.seeds
        return [f"{start}-{min(start + size, seeds) - 1}" for start in range(0, seeds, size)]

    @cached_property
    def train_jobs(self) -> list[TrainJob]:
        """The training jobs."""
        return [TrainJob(*pair) for pair in product(self.cells, self.blocks)]

    @cached_property
    def evaluate_jobs(self) -> list[EvaluateJob]:
        """The evaluation jobs."""
        return [
            EvaluateJob(cell, group, seeds)
            for cell, seeds in self.train_jobs
            for group in self.groups
        ]

    def train_settings(self, cell: Cell) -> TrainSettings:
        """Return everything that the result of training a cell depends on."""
        given = self.config.validation
        takes_own = "own" in cell.value.adaptation.steps
        validation = Validation(
            tasks=given.tasks,
            interval=given.interval,
            protocol=_narrowed(Protocol, self.protocols[given.protocol]),
            step=None if takes_own else self.config.evaluation.common_step_size,
        )
        return TrainSettings(
            algorithm=cell.module,
            hyperparameters=cell.hyperparameters,
            meta_iterations=cell.meta_iterations,
            tasks=cell.tasks,
            network=cell.network,
            validation=validation,
        )

    def evaluate_settings(self, cell: Cell, group: str) -> EvaluateSettings:
        """Return everything that the evaluation of a trained cell depends on, except its theta."""
        given = self._evaluated[group]
        rules = cell.value.adaptation.rules
        steps = {step for protocol in given.values() for step in rules(protocol.steps)}
        candidates = sorted(self.config.evaluation.tuning_step_sizes)
        return EvaluateSettings(
            algorithm=cell.module,
            hyperparameters=cell.hyperparameters,
            tasks=self.config.tasks,
            network=cell.network,
            protocols=given,
            banks=self.banks,
            common_step_size=self.config.evaluation.common_step_size,
            tuning_step_sizes=tuple(candidates) if "tuned" in steps else (),
            showcase=self.config.showcase,
        )

    @cached_property
    def _evaluated(self) -> dict[str, dict[str, EvaluatedProtocol]]:
        """The part of each group that evaluations depend on: the same for all cells."""
        return {name: _each(EvaluatedProtocol, group) for name, group in self.groups.items()}

    def baseline_settings(self, group: str) -> BaselineSettings:
        """Return everything that the baselines without seeds depend on."""
        return BaselineSettings(
            tasks=self.config.tasks,
            protocols=_each(BaselineProtocol, self.groups[group]),
            banks=self.banks,
            gaussian_process=self.config.gaussian_process,
            showcase=self.config.showcase,
        )

    @cached_property
    def bank_settings(self) -> BankSettings:
        """All that the held-out tasks depend on."""
        return BankSettings(
            tasks=self.config.tasks,
            protocols=_each(Protocol, self.protocols),
            banks=self.banks,
        )

    @property
    def banks(self) -> Banks:
        """Return the number of held-out tasks."""
        return Banks(test=self.config.evaluation.tasks, validation=self.config.validation.tasks)


Narrow = TypeVar("Narrow", bound=BaseModel)


def _each(model: type[Narrow], group: dict[str, StudyProtocol]) -> dict[str, Narrow]:
    return {name: _narrowed(model, protocol) for name, protocol in group.items()}


def _narrowed(model: type[Narrow], protocol: StudyProtocol) -> Narrow:
    """Return the part of a protocol that a job depends on."""
    return model.model_validate(protocol.model_dump(include=set(model.model_fields)))


@cache
def seeds_of(block: str) -> tuple[int, ...]:
    """Return the seeds of a block such as ``0-9``.

    Raises:
        ValueError: It is not two integers in ascending order, or has more seeds than a job or a
            study may have.
    """
    found = re.fullmatch("(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9})", block)
    first, last = map(int, found.groups()) if found else (1, 0)
    if not first <= last < min(SEEDS, first + SEED_BLOCK):
        raise ValueError(
            f"a block of seeds is FIRST-LAST, for instance 0-9, has {SEED_BLOCK} seeds at most, "
            f"and ends below {SEEDS}; got {block!r:.60}"
        )
    return tuple(range(first, last + 1))
