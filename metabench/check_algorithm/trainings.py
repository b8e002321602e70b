"""Checks in a short training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from metabench.check_algorithm.subject import State, Subject, must, same
from metabench.learning.step_sizes import descended
from metabench.learning.tasks import SineDistribution
from metabench.records import artifacts, headers, states

META_ITERATIONS = 200
"""Length of the training run in which the validation loss must fall."""

ALIKE = SineDistribution(amplitude=(2.0, 4.0), phase=(0.0, 1.0))
"""Tasks with so much in common that any learner finds it soon."""


def trains_to_finite_losses(s: Subject) -> None:
    """A short training run with small steps moves theta and keeps all losses finite."""
    state = s.train(8 if s.trains else 0)
    must(bool(state.theta.isfinite().all()), "theta is not finite after 8 meta-iterations")
    must(
        bool(state.validation_loss.isfinite().all()),
        "a validation loss is not finite within 8 meta-iterations",
    )
    must(
        not s.trains or bool((state.theta != s.begin()).any(-1).all()),
        "theta has not moved after 8 meta-iterations",
    )


def resumes_from_a_checkpoint(s: Subject) -> None:
    """Training that is interrupted and resumes from its checkpoint ends at the same bits."""
    if not s.trains:
        return
    found: list[State] = []
    whole = s.train(8, after_interval=found.append)
    settings = s.settings(8, interval=4)
    header = headers.training(settings, "0-2", "torch")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        artifacts.write(path, states.from_state(found[0]), header)
        state = states.read_checkpoint(path, settings, header)
    again = s.train(8, state=state)
    must(
        same(again.theta, whole.theta),
        "training that resumes from a checkpoint ends with different parameters",
    )


def fits_the_outer_optimizers(s: Subject) -> None:
    """Every optimizer and schedule of the outer loop can descend its direction."""
    if not s.trains:
        return
    for name in ("meta_optimizer", "meta_schedule"):
        for other in s.others(name):
            must(
                bool(other.train(4).theta.isfinite().all()),
                f"theta is not finite after 4 meta-iterations with {name} {getattr(other.h, name)}",
            )


def descends_along_its_direction(s: Subject) -> None:
    """Outer steps that it takes in one call have the bits of one step after the other."""
    if s.algorithm.descend is None:
        return
    theta, size = s.begin(), 0.1
    batches = tuple(points.at(slice(3)).to(theta.dtype) for points in s.sample())
    found = s.algorithm.descend(s.network, theta, batches, size)
    for k in range(3):
        theta = descended(theta, s.gradient(theta, tuple(p.at(k) for p in batches)), size)
    must(same(found, theta), "descend differs from steps along meta_gradient")


def learns(s: Subject) -> None:
    """The validation loss falls in a short training run on very similar tasks, several or one."""
    if not s.trains:
        return
    quick = replace(s, tasks=ALIKE).changed(meta_optimizer="adam", meta_step_size=0.005, shots=10)
    # With a single task, code that sums or averages over tasks may take a different branch.
    for subject in (quick, quick.changed(meta_batch_size=1)):
        losses = subject.train(META_ITERATIONS, META_ITERATIONS, tasks=32).validation_loss
        before, *_, after = losses.mean(-1).tolist()
        must(
            after < 0.7 * before,
            f"the validation loss does not fall in {META_ITERATIONS} meta-iterations with Adam and "
            f"meta_batch_size {subject.meta_batch_size}: {before:.3g} before, {after:.3g} after",
        )
