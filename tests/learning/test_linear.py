import pytest
import torch

from metabench.learning.autograd import gradient_of
from metabench.learning.linear import factor, factor_or_nan, product, solve

STACK = (3, 4)


def numbers(seed, *shape, dtype=torch.float64):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


def positive(seed, *shape, dtype=torch.float64):
    """Positive definite matrices ``(..., n, n)``, the like of a kernel with a ridge."""
    features = numbers(seed, *shape, 64)
    return (features @ features.mT / 64 + 0.1 * torch.eye(shape[-1], dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 3), (3, 2)),
        ((*STACK, 5, 3), (*STACK, 3, 2)),
        ((*STACK, 5, 3), (3, 2)),
        ((4, 1, 3), (3, 1, 3, 1)),
        ((1, 1), (1, 1)),
    ],
    ids=str,
)
def test_a_product_is_that_of_torch_and_broadcasts_like_it(a, b):
    a, b = numbers(0, *a), numbers(1, *b)
    torch.testing.assert_close(product(a, b), a @ b, rtol=1e-13, atol=1e-13)
    assert product(a, b).shape == (a @ b).shape


@pytest.mark.parametrize("stack", [(), (1,), (7,), STACK], ids=str)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3), (5, 1), (10, 1), (20, 4)])
def test_a_solution_is_that_of_torch(stack, n, k):
    a, b = positive(0, *stack, n), numbers(1, *stack, n, k)
    torch.testing.assert_close(solve(a, b), torch.linalg.solve(a, b), rtol=1e-11, atol=1e-11)


def test_a_solution_in_float32_is_as_good_as_that_of_torch():
    a, b = positive(0, 50, 10), numbers(1, 50, 10, 1)
    exact, theirs = torch.linalg.solve(a, b), torch.linalg.solve(a.float(), b.float())
    assert (solve(a.float(), b.float()) - exact).norm() < 2 * (theirs - exact).norm()


@pytest.mark.parametrize("n", [1, 5, 10])
def test_a_slice_of_a_stack_and_a_stack_of_one_have_the_same_bits(n):
    a, b = (
        positive(0, *STACK, n, dtype=torch.float32),
        numbers(1, *STACK, n, 2, dtype=torch.float32),
    )
    wide = numbers(2, *STACK, 50, n, dtype=torch.float32)
    for compute in (lambda at: solve(a[at], b[at]), lambda at: product(wide[at], b[at])):
        together = compute(slice(None))
        for index in [
            1,
            slice(0, 1),
            slice(1, 3),
            (2, 3),
            (slice(0, 1), slice(0, 1)),
            (slice(None), 1),
        ]:
            assert torch.equal(compute(index), together[index])


def test_a_matrix_that_is_lost_does_not_disturb_its_neighbours():
    a, b = positive(0, 3, 5), numbers(1, 3, 5, 1)
    expected = solve(a, b)
    a[1] = torch.nan
    assert solve(a, b)[1].isnan().all() and torch.equal(solve(a, b)[[0, 2]], expected[[0, 2]])


def test_a_matrix_without_a_factor_is_nan_and_its_neighbours_are_not():
    a = positive(0, 3, 5)
    a[1] -= 10 * torch.eye(5)
    found = factor_or_nan(a)
    assert found[1].isnan().all()
    assert torch.equal(found[[0, 2]], factor(a[[0, 2]]))


def test_the_gradient_of_a_solution_is_its_slope():
    def symmetric(root, b):
        return solve(root @ root.mT + 0.5 * torch.eye(4, dtype=torch.float64), b)

    root, b = numbers(0, 2, 4, 4).requires_grad_(), numbers(1, 2, 4, 2).requires_grad_()
    assert torch.autograd.gradcheck(symmetric, (root, b))


def test_the_gradient_of_a_product_is_its_slope():
    for a, b in [((2, 3, 4), (2, 4, 2)), ((3, 4), (4, 2)), ((2, 3, 4), (4, 2))]:
        assert torch.autograd.gradcheck(
            product, (numbers(0, *a).requires_grad_(), numbers(1, *b).requires_grad_())
        )


def test_the_gradient_of_an_objective_is_that_of_its_sum_and_leaves_theta_alone():
    theta = numbers(0, 3, 5)
    found = gradient_of(lambda t: (t**3).mean(-1), theta)  # a loss of each row
    torch.testing.assert_close(found, 3 * theta**2 / 5)
    assert (
        not found.requires_grad and not theta.requires_grad and torch.equal(theta, numbers(0, 3, 5))
    )


def test_a_gradient_ends_at_its_theta():
    shared = numbers(0, 5).requires_grad_()
    theta = 2 * shared
    torch.testing.assert_close(gradient_of(lambda t: t.square(), theta), 2 * theta.detach())
    assert shared.grad is None
