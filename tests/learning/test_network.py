from math import sqrt

import peers
import pytest
import torch

from metabench.learning.engine.reference import ACTIVATIONS
from metabench.learning.network import Network
from metabench.learning.settings import NetworkSettings

FLUX = Network((1, 64, 64, 1))
# Hidden layers that the kernel pads, and that it need not.
HIDDEN = [(64, 64), (40,), (40, 40), (7, 33), (5, 70, 64)]
# Widths of one and of several features in every position, since one feature takes a way of its own.
NETWORKS = [
    Network(widths, activation)
    for widths in [(1, 6, 5, 1), (1, 4, 1), (1, 1, 3, 1, 1), (2, 4, 3, 1), (1, 1)]
    for activation in ("tanh", "relu")
]
STACKS = [(), (3,), (2, 3)]


def of(hidden, activation):
    """The network of one input and one output with these hidden layers."""
    return Network((1, *hidden, 1), activation)


def noise(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def problem(network, stack, x_stack, points=7):
    """Parameters, inputs and labels; x and y may have fewer leading axes than theta."""
    theta = noise(0, *stack, network.parameters)
    return theta, noise(1, *x_stack, points, network.widths[0]), noise(2, *x_stack, points, 1)


def test_these_tests_compute_with_one_thread():
    assert torch.get_num_threads() == 1


def test_the_flux_scripts_network_has_4353_parameters():
    assert FLUX.parameters == 4353  # 64 + 64, 64 * 64 + 64, 64 + 1
    assert NetworkSettings().build(1) == FLUX


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_predictions_are_those_of_torch_nn(network):
    theta, x, _ = problem(network, (2, 3), (2, 3))
    found = network.predict(theta, x)
    assert found.shape == (2, 3, 7, 1)
    for r in range(2):
        for t in range(3):
            torch.testing.assert_close(
                found[r, t], peers.module_of(network, theta[r, t])(x[r, t]).detach()
            )


@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_hand_written_gradient_is_that_of_autograd(network, stack):
    theta, x, y = problem(network, stack, stack)
    loss, gradient = network.loss_and_gradient(theta, x, y)
    assert loss.shape == stack
    assert gradient.shape == theta.shape
    flat = (t.reshape(-1, *t.shape[len(stack) :]) for t in (theta, x, y))
    expected = [peers.loss_and_gradient(network, *one) for one in zip(*flat, strict=True)]
    torch.testing.assert_close(loss.flatten(), torch.stack([one[0] for one in expected]))
    torch.testing.assert_close(
        gradient.reshape(-1, network.parameters), torch.stack([one[1] for one in expected])
    )


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_hand_written_gradient_is_the_slope_of_the_loss(network):
    theta, x, y = problem(network, (2, 3), (2, 3))
    _, gradient = network.loss_and_gradient(theta, x, y)
    for seed in range(3):
        direction, h = noise(10 + seed, *theta.shape), 1e-6
        slope = (
            network.loss(theta + h * direction, x, y) - network.loss(theta - h * direction, x, y)
        ) / (2 * h)
        # Rounding 1e-16 / h of losses of size 10, truncation h^2: both are far below 1e-7.
        torch.testing.assert_close((gradient * direction).sum(-1), slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("network", [*NETWORKS, *map(of, HIDDEN, ["tanh", "relu"] * 2)], ids=str)
def test_the_hand_written_hessian_product_is_that_of_autograd(network, stack, each_engine):
    theta, x, y = problem(network, stack, stack)
    v = noise(3, *theta.shape)
    found = network.hessian_product(theta, x, y, v)
    assert found.shape == theta.shape
    flat = (t.reshape(-1, *t.shape[len(stack) :]) for t in (theta, x, y, v))
    expected = [peers.hessian_product(network, *one) for one in zip(*flat, strict=True)]
    torch.testing.assert_close(
        found.reshape(-1, network.parameters), torch.stack(expected), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_hand_written_hessian_product_is_the_slope_of_the_gradient(activation, each_engine):
    for hidden in HIDDEN:
        network = of(hidden, activation)
        theta, x, y = problem(network, (2, 3), (2, 3))
        theta, v, h = theta / 3, noise(3, *theta.shape), 1e-6
        ahead, behind = (network.loss_and_gradient(theta + s * v, x, y)[1] for s in (h, -h))
        found, slope = network.hessian_product(theta, x, y, v), (ahead - behind) / (2 * h)
        # Rounding 1e-16 / h of gradients of size 100, truncation h^2: both are far below 1e-6 of
        # the largest.
        assert (found - slope).abs().max() <= 1e-6 * slope.abs().max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_the_hessian_is_a_symmetric_matrix(hidden, activation, each_engine):
    network = of(hidden, activation)
    theta, x, y = problem(network, (2, 3), (2, 3))
    u, v = noise(3, *theta.shape), noise(4, *theta.shape)
    of_u, of_v, of_both = (network.hessian_product(theta, x, y, w) for w in (u, v, 2 * u - v))
    size = of_u.norm(dim=-1) * v.norm(dim=-1)
    assert (((u * of_v).sum(-1) - (v * of_u).sum(-1)).abs() <= 1e-12 * size).all()
    torch.testing.assert_close(of_both, 2 * of_u - of_v, rtol=0, atol=1e-12 * size.max().item())
    assert network.hessian_product(theta, x, y, 0 * v).eq(0).all()


@pytest.mark.parametrize("v_stack", [(), (3,), (1, 3), (2, 1)], ids=str)
def test_a_direction_broadcasts_over_the_stack_and_a_network_over_its_directions(
    v_stack, each_engine
):
    theta, x, y = (t.float() for t in problem(FLUX, (2, 3), (3,)))
    v = noise(3, *v_stack, FLUX.parameters).float()
    found = FLUX.hessian_product(theta, x, y, v)
    assert torch.equal(found, FLUX.hessian_product(theta, x, y, v.expand_as(theta).clone()))
    copies = theta[:, :1].expand_as(theta)
    assert torch.equal(
        FLUX.hessian_product(copies, x, y, v), FLUX.hessian_product(copies.clone(), x, y, v)
    )


@pytest.mark.parametrize("x_stack", [(), (3,), (1, 3), (2, 1)], ids=str)
def test_points_broadcast_over_the_stack(x_stack):
    network = Network((1, 6, 5, 1))
    theta, x, y = problem(network, (2, 3), x_stack)
    everywhere = [p.expand(2, 3, 7, 1).clone() for p in (x, y)]
    for found, expected in zip(
        network.loss_and_gradient(theta, x, y),
        network.loss_and_gradient(theta, *everywhere),
        strict=True,
    ):
        assert torch.equal(found, expected)
    assert torch.equal(network.predict(theta, x), network.predict(theta, everywhere[0]))
    assert torch.equal(network.loss(theta, x, y), network.loss(theta, *everywhere))


def test_the_loss_is_a_mean_over_points():
    theta, x = torch.zeros(FLUX.parameters), torch.zeros(2, 1)
    y = torch.tensor([[1.0], [3.0]])
    assert FLUX.loss(theta, x, y).item() == 5  # (1 + 9) / 2
    loss, gradient = FLUX.loss_and_gradient(theta, x, y)
    assert loss.item() == 5
    assert gradient[-1].item() == -4  # of the output's bias: 2 (0 - 2)


def test_loss_and_gradient_leaves_its_arguments_alone():
    for network in NETWORKS:
        for stack in STACKS:
            arguments = problem(network, stack, stack)
            before = [a.clone() for a in arguments]
            network.loss_and_gradient(*arguments)
            network.loss(*arguments)
            network.hessian_product(*arguments, arguments[0])
            assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


@pytest.mark.parametrize(
    "network", [FLUX, Network((1, 40, 40, 1)), Network((1, 64, 64, 1), "relu")], ids=str
)
@pytest.mark.parametrize("points", [5, 10, 50])
def test_a_slice_of_a_stack_has_the_bits_of_the_slice_alone(network, points, each_engine):
    """With one thread, in float32: the ground on which runs do not notice their neighbours."""
    theta, x, y = (t.float() for t in problem(network, (10, 3), (10, 3), points))
    prediction, (loss, gradient) = network.predict(theta, x), network.loss_and_gradient(theta, x, y)
    v = noise(3, *theta.shape).float()
    product = network.hessian_product(theta, x, y, v)
    for runs in (slice(0, 1), slice(3, 5), slice(2, 9)):
        assert torch.equal(network.predict(theta[runs], x[runs]), prediction[runs])
        alone = network.loss_and_gradient(theta[runs], x[runs], y[runs])
        assert torch.equal(alone[0], loss[runs])
        assert torch.equal(alone[1], gradient[runs])
        assert torch.equal(
            network.hessian_product(theta[runs], x[runs], y[runs], v[runs]), product[runs]
        )
    one = network.loss_and_gradient(theta[4, 1], x[4, 1], y[4, 1])
    assert torch.equal(one[1], gradient[4, 1]), "nor does it matter how many tasks a run has"
    assert torch.equal(network.hessian_product(*(t[4, 1] for t in (theta, x, y, v))), product[4, 1])


def test_initial_weights_and_biases_lie_within_one_over_the_root_of_fan_in():
    layers = FLUX.layers(FLUX.initialize(0))
    assert len(layers) == 3
    for (weight, bias), fan_in in zip(layers, (1, 64, 64), strict=True):
        bound = 1 / sqrt(fan_in)
        assert weight.shape[-2] == fan_in
        for values in (weight, bias):
            assert values.abs().max() <= bound
            # Uniform on +-bound: mean 0 with variance bound^2 / 3, and the square has variance 4
            # bound^4 / 45.
            n = values.numel()
            assert abs(values.mean()) <= 3 * bound / sqrt(3 * n)
            assert abs(values.square().mean() - bound**2 / 3) <= 3 * bound**2 * sqrt(4 / 45 / n)


def test_zero_biases_are_those_of_hidden_layers_and_change_no_weight():
    usual, zero = (Network((2, 5, 7, 1), "tanh", kind) for kind in ("uniform", "zero-biases"))
    for seed in (0, 1):
        initial = [network.layers(network.initialize(seed)) for network in (usual, zero)]
        *hidden, (last, last_zero) = zip(*initial, strict=True)
        for (weights, biases), (same, zeros) in hidden:
            assert torch.equal(weights, same) and biases.abs().min() > 0 and not zeros.any()
        assert torch.equal(last[0], last_zero[0]) and torch.equal(last[1], last_zero[1])


def test_initial_weights_have_the_bounds_of_torch_nn():
    for (weight, bias), fan_in in zip(FLUX.layers(FLUX.initialize(0)), (1, 64, 64), strict=True):
        with torch.random.fork_rng():
            theirs = torch.nn.Linear(fan_in, 1000)
        for ours, other in ((weight, theirs.weight), (bias, theirs.bias)):
            assert other.abs().max() <= 1 / sqrt(fan_in)
            if ours.numel() >= 64:
                assert ours.abs().max() == pytest.approx(other.abs().max().item(), rel=0.1)


def test_each_seed_has_initial_weights_of_its_own():
    assert not (FLUX.initialize(0) == FLUX.initialize(1)).any()
    assert torch.equal(FLUX.initialize(1), FLUX.initialize(1))


def test_the_operations_of_a_gradient_are_those_of_its_matrix_products():
    # The first layer passes no gradient on.
    assert FLUX.operations == 6 * (64 + 64 * 64 + 64) - 2 * 64


def test_a_summed_gradient_is_the_sum_of_the_gradients_of_the_tasks(each_engine):
    theta, x, y = problem(FLUX, (4, 3), (4, 3))
    expected = FLUX.loss_and_gradient(theta, x, y)[1].sum(-2)
    torch.testing.assert_close(FLUX.summed_gradient(theta, x, y), expected, rtol=1e-12, atol=1e-12)
