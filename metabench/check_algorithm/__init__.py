"""Check the contract of an algorithm from its file alone, and report in plain words.

`metabench check-algorithm mine.py` runs these checks on any file; the tests run them on every
algorithm of the package. A check is a function: its docstring states what must hold, and it raises
`NotHeldError` with what does not. A remark is a function that yields observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import torch

from metabench.check_algorithm import (
    data,
    declarations,
    directions,
    predictions,
    remarks,
    surroundings,
    trainings,
)
from metabench.check_algorithm.subject import NotHeldError, Subject
from metabench.learning import algorithms

Check = Callable[[Subject], None]

ESSENTIAL: tuple[Check, ...] = (
    declarations.declares_its_hyperparameters,
    declarations.begins_with_its_seed,
    data.samples_whole_blocks,
    directions.returns_the_right_shape,
    predictions.predicts_every_update,
)
"""Checks without which the others make no sense."""

CHECKS: tuple[Check, ...] = (
    *ESSENTIAL,
    declarations.says_what_it_does,
    declarations.counts_its_cost,
    declarations.uses_each_hyperparameter,
    declarations.leaves_the_outer_step_to_the_outer_loop,
    data.draws_labels_of_its_tasks,
    data.keeps_query_and_support_apart,
    directions.is_deterministic,
    directions.notices_no_neighbour,
    directions.learns_something,
    directions.moves_every_number,
    directions.learns_from_every_task,
    directions.learns_from_every_point,
    directions.has_no_favourite_task,
    directions.stops_where_nothing_is_left_to_learn,
    directions.does_not_peek,
    directions.adapts_in_training_as_in_evaluation,
    predictions.predicts_each_point_by_itself,
    predictions.predicts_with_what_it_learned,
    predictions.predicts_one_distribution,
    predictions.adapts_to_every_support_point,
    predictions.moves_with_its_steps,
    predictions.gives_each_run_its_step_size,
    predictions.begins_with_inner_step_size,
    predictions.adapts_downhill,
    predictions.is_plain_where_it_says_so,
    trainings.trains_to_finite_losses,
    trainings.resumes_from_a_checkpoint,
    trainings.fits_the_outer_optimizers,
    trainings.descends_along_its_direction,
    trainings.learns,
    surroundings.works_with_other_networks_and_tasks,
    surroundings.leaves_global_states_alone,
    surroundings.is_the_same_in_every_process,
)

REMARKS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    remarks.equals_another,
    remarks.mixes_tasks,
    remarks.learns_from_more_than_the_last_step,
    remarks.approximates_a_gradient,
    remarks.costs_more_than_was_counted,
    remarks.imports_what_may_move,
)


class Finding(NamedTuple):
    """The result of one check."""

    check: str
    """Name of the check."""
    rule: str
    """What must hold."""
    wrong: str | None
    """What does not hold, or None."""


def findings(algorithm: str) -> Iterator[Finding]:
    """Yield the result of each check of an algorithm, given by name or file.

    If an essential check fails, it is the last.

    Raises:
        ValueError: It cannot be loaded.
    """
    torch.set_num_threads(1)  # as in every job: more of them change the bits
    algorithms.load(algorithm)
    subject = Subject(algorithm)
    for check in CHECKS:
        wrong = _wrong(check, subject)
        yield Finding(check.__name__, (check.__doc__ or "").split("\n")[0], wrong)
        if wrong and check in ESSENTIAL:
            return


def _wrong(check: Check, subject: Subject) -> str | None:
    """Return what does not hold, or None."""
    try:
        check(subject)
    except NotHeldError as error:
        return str(error)
    except Exception as error:  # what an author's code may raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def remark_lines(algorithm: str) -> Iterator[str]:
    """Yield remarks: what is not a mistake, but worth knowing about an algorithm."""
    subject = Subject(algorithm)
    for remark in REMARKS:
        with suppress(Exception):  # what an author's code may raise, which the checks report
            yield from remark(subject)
