"""Checks of adaptation at test time: the results of `predict`."""

from __future__ import annotations

import torch
from torch import Tensor

from metabench.check_algorithm.subject import (
    SEEDS,
    STEP_SIZE,
    UPDATES,
    Subject,
    must,
    same,
)
from metabench.learning.adaptation import one_copy_per_task
from metabench.learning.algorithm import DESCENT, Question
from metabench.learning.tasks import Points


def predicts_every_update(s: Subject) -> None:
    """`predict` returns finite predictions of every update, or of some of them on request."""
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    found, want = s.predict(theta, support, x), (UPDATES + 1, len(SEEDS), 4, len(x), 1)
    must(
        tuple(found.shape) == want,
        f"predict must return {want}, (update, run, task, point, 1); got {tuple(found.shape)}",
    )
    must(
        found.dtype == theta.dtype and not found.requires_grad,
        "predictions must keep theta's type, and be detached from autograd",
    )
    must(bool(found.isfinite().all()), "predictions must be finite at the beginning")
    for only in ([0, UPDATES], [UPDATES]):
        some = s.predict(theta, support, x, only=only)
        asked, want = f"asked for updates {only}, predict must return", (len(only), *want[1:])
        must(tuple(some.shape) == want, f"{asked} {want}; got {tuple(some.shape)}")
        must(near(some, found[only]), f"{asked} the predictions of these updates")
    must(same(theta, s.begin()), "predict must not change theta")


def predicts_each_point_by_itself(s: Subject) -> None:
    """Predictions depend on no other query point, on no other task and on no other run."""
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    found = s.predict(theta, support, x)
    few = s.predict(theta, support, x[10:20])
    must(
        near(few, found[..., 10:20, :]),
        "a prediction depends on the other query points",
    )
    other = Points(support.x.clone(), support.y.clone())
    other.y[1] += 5
    changed = s.predict(theta, other, x)
    must(
        same(changed[:, :, [0, 2, 3]], found[:, :, [0, 2, 3]]),
        "a prediction depends on the support points of another task",
    )
    must(
        same(changed[0], found[0]),
        "predictions before the first update depend on the support labels",
    )
    alone = s.predict(theta[1:2], support, x)
    must(same(alone[:, 0], found[:, 1]), "a run predicts differently next to other runs")


def predicts_with_what_it_learned(s: Subject) -> None:
    """Predictions depend on theta and on x."""
    theta, support, x = s.begin(), s.held_out(1), s.tasks.grid.float()
    found = s.predict(theta, support, x)
    must(
        not same(found[:, 0], found[:, 1]) and not same(found[:, 0], found[:, 2]),
        "predictions do not depend on what was learned",
    )
    must(
        bool((found[-1] != found[-1, ..., :1, :]).any(-2).all()),  # a prior mean may be constant
        "predictions do not depend on x",
    )


def predicts_one_distribution(s: Subject) -> None:
    """If it predicts variances, they are positive, and the mean is what it predicts."""
    if not s.predicts_variance:
        return
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    mean, variance = s.distribution(theta, support, x)
    must(
        same(mean, s.predict(theta, support, x, only=[UPDATES])[0]),
        "the mean of the distribution is not what is predicted after the last update",
    )
    must(
        variance.shape == mean.shape and variance.dtype == mean.dtype,
        f"variances must be like the mean, {mean.dtype} {tuple(mean.shape)}; "
        f"got {variance.dtype} {tuple(variance.shape)}",
    )
    must(bool((variance > 0).all()), "every variance must be positive")
    alone = s.distribution(theta[1:2], support, x)
    must(same(alone.variance[0], variance[1]), "a variance depends on other runs")


def adapts_to_every_support_point(s: Subject) -> None:
    """The prediction after adaptation depends on the x and the label of each support point."""
    theta, x = s.begin((0,), torch.float64), s.tasks.grid
    support = s.held_out(1, dtype=torch.float64)
    support = Points(support.x.clone(), support.y.clone())
    base = s.predict(theta, support, x)[-1]
    for part, quantity in zip(support, ("place", "label"), strict=True):
        numbers = part.view(-1)
        for i, number in enumerate(numbers.clone()):
            numbers[i] = number + 0.5
            must(
                not same(s.predict(theta, support, x)[-1], base),
                f"predictions after adaptation do not depend on the {quantity} of support point "
                f"{i}",
            )
            numbers[i] = number


def moves_with_its_steps(s: Subject) -> None:
    """If it adapts in steps, predictions change with each update and with the step size."""
    if not s.takes_steps:
        return
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    found = s.predict(theta, support, x)
    for update in range(UPDATES):
        moved = (found[update + 1] != found[update]).any(-2)
        must(bool(moved.all()), f"update {update + 1} changes no prediction")
    if s.has_own_step:
        twice = s.predict(theta, support, x, multiple=2.0)
        must(not same(found[1:], twice[1:]), "twice its own step size changes no prediction")
    if s.takes_given_steps:
        one, two = (s.predict(theta, support, x, step_size=k * STEP_SIZE) for k in (1, 2))
        must(not same(one[1:], two[1:]), "the step size that it is given changes no prediction")


def gives_each_run_its_step_size(s: Subject) -> None:
    """If each run is given a step size, it adapts with its own."""
    if not s.takes_given_steps:
        return
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    sizes = STEP_SIZE * torch.tensor([0.5, 1.0, 2.0])
    together = s.predict(theta, support, x, step_size=sizes)
    for run in range(len(SEEDS)):
        alone = s.predict(theta[run : run + 1], support, x, step_size=float(sizes[run]))
        must(near(alone[:, 0], together[:, run]), "a run adapts with the step size of another")


def begins_with_inner_step_size(s: Subject) -> None:
    """Before training its own step size is inner_step_size, and multiples are multiples of it."""
    size = getattr(s.h, "inner_step_size", None)
    if size is None or not s.has_own_step or not s.takes_given_steps:
        return
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    for multiple in (1.0, 2.0):
        own = s.predict(theta, support, x, multiple=multiple)
        given = s.predict(theta, support, x, step_size=multiple * size)
        must(
            near(own, given),
            f"{multiple:g} times its own step size is not a step size of {multiple * size:g}, "
            f"though inner_step_size is {size:g}",
        )


def adapts_downhill(s: Subject) -> None:
    """If it adapts in steps, the loss on the support points falls."""
    if not s.takes_steps:
        return
    theta, support = s.begin(), s.held_out(16)
    losses = torch.stack([_on_support(s, theta, support, task) for task in range(16)]).mean(0)
    must(
        bool((losses[1:] < losses[:-1]).all()),
        "the mean loss on the support points does not fall with each update: "
        f"{', '.join(f'{loss:.4g}' for loss in losses)}",
    )


def _on_support(s: Subject, theta: Tensor, support: Points, task: int) -> Tensor:
    """Return the loss of each update on the support points of one task, ``(update,)``."""
    one = support.at(slice(task, task + 1))
    predicted = s.predict(theta, one, one.x[0])  # (update, run, 1, point, 1)
    return (predicted - one.y).square().mean((1, 2, 3, 4))


def is_plain_where_it_says_so(s: Subject) -> None:
    """If it declares that it adapts by plain descent, it does."""
    if not s.algorithm.adaptation.plain:
        return
    must(
        s.takes_given_steps and (not s.has_own_step or hasattr(s.h, "inner_step_size")),
        "plain descent takes steps of any size, and its own are inner_step_size",
    )
    theta, support, x = s.begin(), s.held_out(), s.tasks.grid.float()
    sizes = theta.new_full((len(theta), 4), STEP_SIZE)
    question = Question(support.repeated(UPDATES), x, sizes)
    plain = DESCENT.predict(s.network, one_copy_per_task(theta, 4), question, s.h)
    must(
        near(s.predict(theta, support, x, step_size=STEP_SIZE), plain),
        "adaptation is declared to be plain, but it is not gradient descent from theta",
    )


def near(a: Tensor, b: Tensor) -> bool:
    """Return whether predictions are equal up to rounding in float32."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5)
