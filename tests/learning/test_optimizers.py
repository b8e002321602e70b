import pytest
import torch

from metabench.learning.optimizers import (
    INNER_OPTIMIZERS,
    OPTIMIZERS,
    SCHEDULES,
    Adam,
    Descent,
)
from metabench.learning.step_sizes import descended

pytestmark = pytest.mark.usefixtures("each_engine")
EXACT = {"rtol": 1e-13, "atol": 1e-15}
STACK = (3, 4, 5)


def numbers(seed, *shape, dtype=torch.float64):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


def steps(rule, theta, gradients, size):
    """Theta after each step."""
    memory = theta.new_zeros(rule.moments, *theta.shape)
    for done, gradient in enumerate(gradients):
        theta, memory = rule.step(theta, gradient, memory, size, done)
        yield theta


def of_torch(make, theta, gradients):
    """Theta after each step of an optimizer of torch."""
    parameter = torch.nn.Parameter(theta.clone())
    optimizer = make([parameter])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        yield parameter.detach().clone()


PEERS = {
    "descent": (Descent(), lambda parameters: torch.optim.SGD(parameters, lr=0.03)),
    "Adam": (Adam(), lambda parameters: torch.optim.Adam(parameters, lr=0.03)),
    "Adam of other decays": (
        Adam(0.5, 0.9),
        lambda parameters: torch.optim.Adam(parameters, lr=0.03, betas=(0.5, 0.9)),
    ),
    "Adam without its first moment": (
        Adam(beta1=0.0),
        lambda parameters: torch.optim.Adam(parameters, lr=0.03, betas=(0.0, 0.999)),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_steps_are_those_of_torch(name):
    rule, peer = PEERS[name]
    # Their sizes differ enough to show a wrong correction.
    gradients = [10.0**n * numbers(n, *STACK) for n in range(-3, 4)]
    for ours, theirs in zip(
        steps(rule, numbers(9, *STACK), gradients, 0.03),
        of_torch(peer, numbers(9, *STACK), gradients),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("rule", [Descent(), Adam(), Adam(beta1=0.0)], ids=str)
@pytest.mark.parametrize("own_sizes", [False, True])
def test_a_slice_of_a_stack_takes_the_same_steps_bit_for_bit(rule, own_sizes):
    theta, gradients = (
        numbers(0, *STACK, dtype=torch.float32),
        [numbers(n, *STACK, dtype=torch.float32) for n in (1, 2)],
    )
    sizes = (
        torch.rand(STACK[:-1], generator=torch.Generator().manual_seed(3)) if own_sizes else 0.03
    )
    *_, together = steps(rule, theta, gradients, sizes)
    for index in [0, 1, slice(1, 3), (2, 3), (slice(None), slice(1, 2))]:
        *_, alone = steps(
            rule, theta[index], [g[index] for g in gradients], sizes[index] if own_sizes else sizes
        )
        assert torch.equal(alone, together[index])


@pytest.mark.parametrize("rule", [Descent(), Adam(), Adam(beta1=0.0)], ids=str)
def test_a_step_changes_nothing_that_it_is_given(rule):
    theta, gradient = numbers(0, 2, 3), numbers(1, 2, 3)
    memory = numbers(2, rule.moments, 2, 3).abs()
    given = [theta, gradient, memory]
    before = [t.clone() for t in given]
    _, after = rule.step(*given, 0.1, 4)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert after.shape == memory.shape


def test_adam_remembers_the_squares_alone_where_it_has_no_first_moment():
    assert (Adam().moments, Adam(beta1=0.0).moments, Descent().moments) == (2, 1, 0)
    gradient = numbers(1, 3)
    _, memory = Adam(beta1=0.0).step(
        numbers(0, 3), gradient, torch.zeros(1, 3, dtype=torch.float64), 0.1, 0
    )
    torch.testing.assert_close(memory[0], 0.001 * gradient**2, rtol=1e-12, atol=0)


def test_the_first_step_of_adam_has_its_size_whatever_the_gradient():
    gradient = torch.tensor([1e-4, -3.0, 1e6], dtype=torch.float64)
    for rule in (Adam(), Adam(beta1=0.0)):
        (moved,) = steps(rule, torch.zeros(3, dtype=torch.float64), [gradient], 0.01)
        torch.testing.assert_close(moved, -0.01 * gradient.sign(), rtol=2e-4, atol=0)


def test_a_run_that_is_lost_does_not_disturb_its_neighbours():
    theta, gradients = numbers(0, 3, 5), [numbers(1, 3, 5), numbers(2, 3, 5)]
    *_, expected = steps(Adam(), theta, gradients, 0.1)
    gradients[0][1] = torch.nan
    *_, found = steps(Adam(), theta, gradients, 0.1)
    assert found[1].isnan().all() and torch.equal(found[[0, 2]], expected[[0, 2]])


def test_each_network_of_a_stack_may_have_a_size_of_its_own():
    theta, gradient, sizes = numbers(0, 2, 3, 5), numbers(1, 2, 3, 5), numbers(2, 2, 3)
    torch.testing.assert_close(
        descended(theta, gradient, sizes), theta - sizes[..., None] * gradient, **EXACT
    )


def test_plain_descent_and_adam_may_be_chosen_outside_and_inside():
    assert set(OPTIMIZERS) == set(INNER_OPTIMIZERS) == {"sgd", "adam"}
    assert OPTIMIZERS["adam"] == Adam(0.9, 0.999) and INNER_OPTIMIZERS["adam"] == Adam(0.0, 0.999)


@pytest.mark.parametrize(
    ("name", "quarter", "half", "end"),
    [
        ("constant", 1.0, 1.0, 1.0),
        ("linear", 0.75, 0.5, 0.0),
        ("cosine", (1 + 0.5**0.5) / 2, 0.5, 0.0),
    ],
)
def test_a_schedule_begins_with_the_whole_step_and_ends_with_none(name, quarter, half, end):
    schedule = SCHEDULES[name]
    assert schedule(0.0) == 1.0
    assert [schedule(share) for share in (0.25, 0.5, 1.0)] == pytest.approx(
        [quarter, half, end], abs=1e-15
    )


def test_the_cosine_schedule_is_that_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for done in range(10):
        assert SCHEDULES["cosine"](done / 10) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()
    assert set(SCHEDULES) == {"constant", "linear", "cosine"}
