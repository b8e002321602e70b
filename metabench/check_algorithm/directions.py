"""Checks of the direction that an algorithm descends: the results of `meta_gradient`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metabench.check_algorithm.data import by_task, has_tasks, raised
from metabench.check_algorithm.subject import SEEDS, Subject, must, one_iteration, same
from metabench.learning.algorithm import Batch
from metabench.learning.tasks import Points

ITERATIONS = 20
"""Meta-iterations whose direction must not be zero."""

LOSSES = {1: "squared error", 2: "log density"}
"""Losses by the degree of their gradient in the labels."""

ROUNDING = 1e-6
"""Relative difference of two directions that rounding may cause in float64."""


def returns_the_right_shape(s: Subject) -> None:
    """`meta_gradient` returns a finite direction like theta, and changes nothing it is given."""
    for dtype in (torch.float32, torch.float64):
        theta, batch = s.begin(dtype=dtype), s.batch(dtype=dtype)
        found = s.gradient(theta, batch)
        must(
            found.shape == theta.shape,
            f"meta_gradient must return theta's shape {tuple(theta.shape)}; "
            f"got {tuple(found.shape)}",
        )
        must(found.dtype == dtype, f"meta_gradient must keep the type {dtype}; got {found.dtype}")
        must(not found.requires_grad, "meta_gradient must detach its result from autograd")
        must(bool(found.isfinite().all()), "meta_gradient must be finite at the beginning")
        must(same(theta, s.begin(dtype=dtype)), "meta_gradient must not change theta")
        for before, after in zip(s.batch(dtype=dtype), batch, strict=True):
            must(
                same(before.x, after.x) and same(before.y, after.y),
                "meta_gradient must not change its data",
            )


def is_deterministic(s: Subject) -> None:
    """The same arguments give the same bits, again and again."""
    x, support = s.tasks.grid.float(), s.held_out()
    first, predicted = s.direction(torch.float32), s.predict(s.begin(), support, x)
    for _ in range(3):
        must(
            same(s.direction(torch.float32), first),
            "meta_gradient gave different numbers for the same arguments",
        )
        must(
            same(s.predict(s.begin(), support, x), predicted),
            "predictions gave different numbers for the same arguments",
        )


def notices_no_neighbour(s: Subject) -> None:
    """A run has the same bits alone, in a stack, and next to a run that has diverged."""
    together = s.gradient(s.begin(), s.batch())
    for run, seed in enumerate(SEEDS):
        alone = s.gradient(s.begin((seed,)), s.batch((seed,)))
        must(
            same(alone[0], together[run]),
            f"the run of seed {seed} gets a different meta_gradient next to other runs",
        )
    lost = s.begin()
    lost[1] = torch.nan
    found = s.gradient(lost, s.batch())
    must(
        same(found[[0, 2]], together[[0, 2]]),
        "a run that diverged changes the meta_gradient of its neighbours",
    )


def learns_something(s: Subject) -> None:
    """The direction is not zero, unless the algorithm does not train."""
    theta, block = s.begin(), s.sample()
    if not s.trains:
        found = s.gradient(theta, one_iteration(block, torch.float32))
        must(not bool(found.any()), "what has no outer loop must return a direction of zeros")
        return
    for iteration in range(ITERATIONS):
        found = s.gradient(theta, one_iteration(block, torch.float32, iteration))
        must(
            bool(found.any(-1).all()),
            f"the direction is zero (meta-iteration {iteration}): nothing is learned",
        )


def moves_every_number(s: Subject) -> None:
    """Some direction moves each of the numbers that it learns."""
    theta, block = s.begin(dtype=torch.float64), s.sample()
    if not s.trains:
        return
    moved = torch.zeros_like(theta, dtype=torch.bool)
    for iteration in range(ITERATIONS):
        moved |= s.gradient(theta, one_iteration(block, iteration=iteration)) != 0
    idle = int((~moved.any(0)).sum())
    must(not idle, f"{idle} of the {theta.shape[-1]} numbers that it learns never move")


def learns_from_every_task(s: Subject) -> None:
    """The direction of a run changes with the labels of each of its tasks, and of no other's."""
    theta, block = s.begin(dtype=torch.float64), s.sample()
    for task in range(s.meta_batch_size):
        other = s.sample(raised(s, 0, task))
        # An algorithm may leave a task out of a meta-iteration, but not out of all of them.
        must(
            any(_changes(s, theta, (block, other), i) for i in range(ITERATIONS)),
            f"the labels of task {task} of {s.meta_batch_size} change nothing in the direction",
        )


def _changes(s: Subject, theta: Tensor, blocks: tuple[Batch, Batch], iteration: int) -> bool:
    """Return whether the direction of the first run differs; those of other runs must not."""
    one, other = (s.gradient(theta, one_iteration(b, iteration=iteration)) for b in blocks)
    must(same(one[1:], other[1:]), "the labels of a run change another run's direction")
    return not same(one[0], other[0])


def learns_from_every_point(s: Subject) -> None:
    """The direction of a task changes with each label and each x that `sample` returns for it."""
    s = s.changed(meta_batch_size=1)  # of several tasks, an algorithm may leave some out
    theta = s.begin((0,), torch.float64)
    batch = s.batch((0,), torch.float64)
    base = s.gradient(theta, batch)
    for n, name in enumerate(_names(batch)):
        for part, quantity in enumerate(("place", "label")):
            numbers = batch[n][part].view(-1)
            idle = 0
            for i, number in enumerate(numbers.clone()):
                numbers[i] = number + 0.5
                idle += same(s.gradient(theta, batch), base)
                numbers[i] = number
            must(
                idle < len(numbers),
                f"the {quantity}s of the {name} change nothing in the direction",
            )
            must(
                not idle,
                f"{idle} of {len(numbers)} {quantity}s of the {name} change nothing in the "
                "direction",
            )


def _names(batch: Batch) -> Iterator[str]:
    """Yield the name of each set of points that `sample` returns."""
    if len(batch) == 2:
        yield from ("support set", "query set")
    else:
        yield from (f"points {n}" if len(batch) > 1 else "points" for n in range(len(batch)))


def has_no_favourite_task(s: Subject) -> None:
    """The direction is the same, up to rounding, when two tasks of a meta-batch swap places."""
    theta, batch = s.begin(dtype=torch.float64), s.batch(dtype=torch.float64)
    if s.meta_batch_size < 2 or not all(has_tasks(points) for points in batch):
        return
    order = [1, 0, *range(2, s.meta_batch_size)]
    swapped = []
    for x, y in batch:
        of_all = x.dim() < y.dim()  # a grid has no axis of tasks
        swapped.append(Points(x if of_all else x[..., order, :, :], y[..., order, :, :]))
    must(
        close(s.gradient(theta, tuple(swapped)), s.gradient(theta, batch)),
        "the order of the tasks of a meta-batch changes the direction: "
        "they are weighted differently, or what belongs to one is used for another",
    )


def stops_where_nothing_is_left_to_learn(s: Subject) -> None:
    """The direction shrinks if every label equals the initial prediction."""
    if not s.trains:
        return
    theta, batch = s.begin(dtype=torch.float64), s.batch(dtype=torch.float64)
    known = tuple(Points(points.x, _predicted_at(s, theta, points)) for points in batch)
    usual = s.gradient(theta, batch).norm(dim=-1)
    if not bool(usual.all()):  # as another check reports
        return
    ratio = float((s.gradient(theta, known).norm(dim=-1) / usual).max())
    must(
        ratio < (0.9 if s.predicts_variance else 0.5),  # variances remain to be learned
        f"where every label is predicted already, the direction is {ratio:.2g} times as long as "
        "with the labels of the tasks: it is not that of a loss",
    )


def _predicted_at(s: Subject, theta: Tensor, points: Points) -> Tensor:
    """Return the predictions before any update at the x of points, shaped as labels."""
    flat = by_task(points)
    anything = Points(flat.x[..., :1, :], flat.y[..., :1, :])
    predicted = s.predict(theta, anything, flat.x)[0]  # (run, task, point, 1)
    if not has_tasks(points):
        return predicted.squeeze(1)
    *mini_batches, _, _, count, _ = points.y.shape
    return predicted.unflatten(2, (*mini_batches, count)).movedim((0, 1), (-4, -3))


def does_not_peek(s: Subject) -> None:
    """If `sample` returns two sets, query labels enter only through the query loss."""
    s = s.changed(meta_batch_size=1)  # of several tasks, an algorithm may choose some by their loss
    batch = s.batch(dtype=torch.float64)
    if len(batch) != 2:
        return
    theta = s.begin(dtype=torch.float64)
    support, query = batch
    # The gradient of a squared error is affine in the labels: as they move along a line, so does
    # it, in a plane if its length is clipped. What has adapted to them leaves the plane. The
    # gradient of a log density is quadratic in them, with one more dimension. The line begins where
    # the error is 0: only there is a direction that comes from conjugate gradients affine, too.
    degree = 2 if s.predicts_variance else 1
    start = query.y
    if has_tasks(support):
        updates = getattr(s.h, "inner_steps", 1)
        start = s.predict(theta, support, query.x, updates=updates)[-1]
    *others, last = (
        s.gradient(theta, (support, Points(query.x, start + shift * query.x[..., :1].cos())))
        for shift in range(degree + 2)
    )
    plane = torch.linalg.qr(torch.stack(others, dim=-1)).Q  # (run, M, degree + 1)
    nearest = plane @ (plane.mT @ last[..., None])
    must(
        close(nearest[..., 0], last),
        "adaptation has seen the query labels: meta_gradient must be a polynomial of degree "
        f"{degree} in them, as is that of a {LOSSES[degree]}",
    )


def adapts_in_training_as_in_evaluation(s: Subject) -> None:
    """If query labels are as its own predictions after adaptation, nothing is left to learn."""
    must(
        left_to_learn(s.changed(inner_steps=1)) < ROUNDING,
        "training does not adapt as evaluation does: with query labels that are its own "
        "predictions after one inner step, the direction still depends on the support labels "
        "(or its loss has other terms in them)",
    )


def left_to_learn(s: Subject) -> float:
    """Return how much the support labels change a direction where the query loss is 0.

    It is relative to the usual length; 0 if `sample` does not return two sets.
    """
    theta, batch = s.begin(dtype=torch.float64), s.batch(dtype=torch.float64)
    if len(batch) != 2 or not has_tasks(batch[0]):
        return 0.0
    support, query = batch

    def left(labels: Tensor) -> Tensor:
        """Return the direction after adaptation to these labels."""
        relabelled = Points(support.x, labels)
        updates = getattr(s.h, "inner_steps", 1)
        predicted = s.predict(theta, relabelled, query.x, updates=updates)[-1]
        if not s.predicts_variance:
            return s.gradient(theta, (relabelled, Points(query.x, predicted)))
        # A normal distribution is the most likely one of labels a deviation above and below it.
        variance = s.distribution(theta, relabelled, query.x, updates=updates).variance
        beside = (Points(query.x, predicted + sign * variance.sqrt()) for sign in (1, -1))
        above, below = (s.gradient(theta, (relabelled, query)) for query in beside)
        return (above + below) / 2

    # What else the loss has, such as a penalty on theta, is the same in both and cancels out.
    difference = left(support.y) - left(support.y + 1)
    return float(difference.norm() / s.gradient(theta, batch).norm().clamp(min=1e-30))


def close(a: Tensor, b: Tensor) -> bool:
    """Return whether two directions are equal up to rounding."""
    return torch.allclose(a, b, rtol=ROUNDING, atol=1e-9 * float(b.abs().max()))
