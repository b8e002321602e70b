"""The fused engine compared with torch, and how an engine is selected."""

import ctypes
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrences import everything_of, random_inputs

from metabench.learning import algorithms, engine, maps, training
from metabench.learning.engine import EngineError, fused, processes
from metabench.learning.kernels import KERNELS, marginal_gradients
from metabench.learning.network import Network
from metabench.learning.step_sizes import LAST, Maps, Pulled, Sizes, Weights
from metabench.records import headers

ROOT = Path(__file__).resolve().parents[2]

needs_kernel = pytest.mark.skipif(engine.library() is None, reason="no kernel was compiled here")
FLUX = Network((1, 64, 64, 1))
EVERY = Weights(0.25, 0.75)


def several_widths():
    """Whether this processor has vectors of several widths that the kernel is compiled for."""
    return engine._processor_flags() >= engine.REQUIRED_FLAGS["avx2"]


def covered(*tensors):
    """Whether the kernel computes."""
    return FLUX._kernel(*tensors) is not None


class Reference(Network):
    """A network that torch computes."""

    def _kernel(self, *tensors):
        return None


class Narrow(Network):
    """A network with a kernel of its own."""

    def _kernel(self, *tensors):
        return self.compiled


def compiled(folder, compiler, *flags):
    """The kernel as a compiler makes it."""
    build = [compiler, "-std=gnu++17", "-fPIC", "-shared", "-w", '-DSOURCE=""', *flags]
    subprocess.run([*build, engine.SOURCE, "-o", folder / "kernel.so"], check=True)
    return ctypes.CDLL(str(folder / "kernel.so"))


def computed_by(library, network):
    """The same network, computed by a kernel that was compiled elsewhere."""
    kernel = fused.Kernel(network.widths, network.activation)
    kernel._library = library
    narrow = Narrow(network.widths, network.activation)
    narrow.__dict__["compiled"] = kernel
    if network.trunk != network:
        narrow.__dict__["trunk"] = computed_by(library, network.trunk)
    return narrow


def noise(seed, *shape, dtype=torch.float64):
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


def assert_agree(found, expected, tolerance=1e-10):
    """Hold results against each other, with an error relative to the largest number."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * (1 + b.abs().max())


def everything(network, theta, x, y, step_size):
    """All that an engine computes; descent has two batches, the points and the points mirrored."""
    batches = torch.stack([x, -x]), torch.stack([y, y])
    gradient = network.loss_and_gradient(theta, x, y)
    tasks = theta if theta.dim() > 1 else theta[None]
    summed = (
        network.summed_gradient(tasks, x, y),
        network.summed_gradient(tasks, x, y, (*batches, step_size)),
    )
    product = network.hessian_product(theta, x, y, noise(4, *theta.shape, dtype=theta.dtype))
    along = network.predict_along(theta, (*batches, step_size), x[..., :1, :] / 2)
    return (
        network.predict(theta, x),
        *gradient,
        *summed,
        product,
        network.descend(theta, *batches, step_size),
        along,
        *of_pulled_steps(network, theta, x, batches, step_size),
        *of_hidden_layers(network, theta, x),
        *of_shifts(network, tasks, x, y),
        *of_sizes(network, tasks, x, y, batches),
        *of_maps(network, tasks, x, y, batches, maps_near_identity(network, tasks)),
    )


def of_adapting_parts(network, theta, scale, weight, support, query, steps):
    """Gradients through the adaptation of a head, of a ridge regression and of a context."""
    return (
        network.gradient_through_head(theta, (support, query), 0.01, steps),
        *network.gradient_through_ridge(theta, scale, (support, query)),
        *network.gradient_through_context(theta, weight, (support, query), 0.1, steps),
    )


def of_pulled_steps(network, theta, x, batches, step_size):
    """What is computed of a descent that is pulled back to its start."""
    descent = *batches, Pulled(step_size, 2.0)
    tasks = theta if theta.dim() > 1 else theta[None]
    return (
        network.descend(theta, *descent),
        network.predict_along(theta, descent, x[..., :1, :] / 2),
        network.predict_along(theta, descent, x, [1]),
        network.summed_gradient(tasks, x, batches[1][0], descent),
    )


def of_hidden_layers(network, theta, x):
    """The features, and the gradient of a loss of them."""
    hidden = network.hidden(theta, x)
    cotangent = noise(5, *hidden.last.shape, dtype=theta.dtype)
    return hidden.flat, network.pulled_back(theta, x, hidden, cotangent)


def of_shifts(network, tasks, x, y):
    """All that is computed of networks whose first biases are shifted."""
    width = network.widths[1]
    shift = noise(6, *tasks.shape[:-1], width, dtype=tasks.dtype)
    return (
        network.predict(tasks, x, shift),
        *network.shifted_gradient(tasks, shift, x, y),
        network.gradient_along_shift(tasks, shift, x, y),
    )


def of_sizes(network, tasks, x, y, batches):
    """Descent with step sizes of parts of a network, and gradients through it."""
    found = [network.gradient_through(tasks, (*batches, 0.01), x, y)[0]]
    layers = len(network.widths) - 1
    for steps, length in [(1, network.parameters), (2, network.parameters), (2, layers)]:
        values = 0.01 * noise(8, steps, *tasks.shape[:-1], length, dtype=tasks.dtype)
        sizes = Sizes(values[..., :1, :] if length == layers else values)
        weights = EVERY if steps == 2 else LAST
        found += network.gradient_through(tasks, (*batches, sizes), x, y, weights)
        found.append(network.descend(tasks, *batches, sizes))
        found.append(network.predict_along(tasks, (*batches, sizes), x))
    found += network.gradient_through(tasks, (*batches, sizes), x, y, EVERY, second_order=False)
    return found


def maps_near_identity(network, tasks):
    """Maps of each run, which its tasks share."""
    runs = tasks[..., :1, 0].shape
    change = 0.1 * noise(9, *runs, maps.length(network.widths), dtype=tasks.dtype)
    return network.identity_maps.to(tasks.dtype) + change


def of_maps(network, tasks, x, y, batches, values):
    """Descent along mapped gradients, and gradients through it."""
    mapped = Maps(values, 0.01)
    return (
        *network.gradient_through(tasks, (*batches, mapped), x, y),
        *network.gradient_through(tasks, (*batches, mapped), x, y, EVERY),
        *network.gradient_through(tasks, (*batches, mapped), x, y, second_order=False),
        network.descend(tasks, *batches, mapped),
        network.predict_along(tasks, (*batches, mapped), x),
    )


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    features=st.sampled_from([1, 1, 2, 3]),
    outputs=st.sampled_from([1, 1, 2, 5]),
    activation=st.sampled_from(fused.ACTIVATIONS),
    points=st.integers(1, 60),
    stack=st.sampled_from([(), (3,), (2, 3)]),
    one_step=st.booleans(),
)
def test_both_engines_say_the_same_to_rounding(
    hidden, features, outputs, activation, points, stack, one_step
):
    widths = (features, *hidden, outputs)
    theta = 0.3 * noise(0, *stack, Network(widths).parameters)
    x, y = noise(1, *stack, points, features), noise(2, *stack, points, outputs)
    step_size = 0.01 if one_step else 0.01 * noise(3, *stack).abs()
    found = everything(Network(widths, activation), theta, x, y, step_size)
    assert_agree(found, everything(Reference(widths, activation), theta, x, y, step_size))
    single = [t.float() if isinstance(t, torch.Tensor) else t for t in (theta, x, y, step_size)]
    alike = everything(Network(widths, activation), *single)
    smooth = len(found) if activation == "tanh" else 1  # slopes of ReLU jump where z rounds past 0
    assert_agree(alike[:smooth], (t.float() for t in found[:smooth]), 1e-5)


@needs_kernel
@settings(max_examples=20, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    features=st.sampled_from([1, 2]),
    activation=st.sampled_from(fused.ACTIVATIONS),
    runs=st.integers(1, 3),
    tasks=st.integers(1, 4),
    shots=st.integers(1, 12),
    queries=st.integers(1, 20),
    steps=st.integers(1, 3),
    shared=st.booleans(),
)
def test_both_engines_say_the_same_of_what_adapts_a_part(
    hidden, features, activation, runs, tasks, shots, queries, steps, shared
):
    widths = (features, *hidden, 1)
    network = Network(widths, activation)
    theta, scale = 0.3 * noise(0, runs, network.parameters), noise(1, runs).exp()
    weight = 0.3 * noise(2, runs, 2, hidden[0])
    support = noise(3, runs, tasks, shots, features), noise(4, runs, tasks, shots, 1)
    query_shape = (queries, features) if shared else (runs, tasks, queries, features)
    query = noise(5, *query_shape), noise(6, runs, tasks, queries, 1)

    of_parts = partial(of_adapting_parts, steps=steps)
    given = theta, scale, weight, support, query
    found = of_parts(network, *given)
    assert_agree(found, of_parts(Reference(widths, activation), *given), 1e-9)
    if runs > 1:
        last = [t[-1:] for t in (theta, scale, weight)]
        alone = [[t if t.dim() == 2 else t[-1:] for t in pair] for pair in (support, query)]
        for whole, one in zip(found, of_parts(network, *last, *alone), strict=True):
            assert torch.equal(whole[-1:], one)


SETS = noise(0, 2, 3, 5, 1), noise(1, 2, 3, 5, 1)
"""Points of three tasks of two runs."""


@needs_kernel
def test_what_does_not_fit_the_tasks_or_the_weights_is_refused():
    theta = 0.3 * noise(2, 2, FLUX.parameters)
    fewer = SETS[0], SETS[1][:, :2]
    with pytest.raises(ValueError, match="cannot take"):
        FLUX.gradient_through_head(theta, (SETS, fewer), 0.1, 1)
    with pytest.raises(ValueError, match=r"weights of a context must be \(2, 4, 64\)"):
        FLUX.gradient_through_context(theta, noise(3, 2, 4, 32), (SETS, SETS), 0.1, 1)
    with pytest.raises(ValueError, match="needs at least one step"):
        FLUX.gradient_through(theta, (SETS[0][:0], SETS[1][:0], 0.1), SETS[0][0, 0], SETS[1][0, 0])
    with pytest.raises(ValueError, match="cannot go through steps that are pulled"):
        FLUX.gradient_through(theta, (*SETS, Pulled(0.1, 1.0)), SETS[0][0, 0], SETS[1][0, 0])


@needs_kernel
def test_weights_and_step_sizes_of_runs_broadcast_and_are_each_runs_own():
    theta, reference = 0.3 * noise(2, 2, FLUX.parameters), Reference(FLUX.widths)
    one, sizes = noise(3, 1).exp(), torch.tensor([0.01, 0.5], dtype=torch.float64)
    both = one.expand(2)
    assert_agree(
        FLUX.gradient_through_ridge(theta, one, (SETS, SETS)),
        reference.gradient_through_ridge(theta, both, (SETS, SETS)),
        1e-9,
    )
    found = FLUX.gradient_through_head(theta, (SETS, SETS), sizes, 1)
    for run in (0, 1):
        alone = tuple(t[run : run + 1] for t in SETS)
        size = float(sizes[run])
        expected = FLUX.gradient_through_head(theta[run : run + 1], (alone, alone), size, 1)
        assert torch.equal(found[run : run + 1], expected)


@needs_kernel
def test_step_sizes_may_be_views_of_any_stride():
    theta, reference = 0.3 * noise(2, 2, 3, FLUX.parameters), Reference(FLUX.widths)
    batches = tuple(t.expand(2, *t.shape) for t in SETS)
    wide = 0.01 * noise(3, 2, 2, 3, 2 * FLUX.parameters)[..., ::2]
    same = wide[:1].expand(2, -1, -1, -1)
    for values in (wide, same):
        found = FLUX.gradient_through(theta, (*batches, Sizes(values)), *SETS)
        expected = reference.gradient_through(theta, (*batches, Sizes(values)), *SETS)
        assert_agree(found, expected)
        assert_agree(
            [FLUX.descend(theta, *batches, Sizes(values))],
            [reference.descend(theta, *batches, Sizes(values))],
        )


def test_a_head_of_several_outputs_is_refused():
    network = Network((1, 4, 2))
    theta, points = torch.zeros(1, network.parameters), torch.zeros(1, 1, 3, 1)
    labels = torch.zeros(1, 1, 3, 2)
    with pytest.raises(ValueError, match=r"a head must have one output, got .*\(1, 4, 2\)"):
        network.gradient_through_head(theta, ((points, labels),) * 2, 0.1, 1)


@needs_kernel
@pytest.mark.parametrize("points_stack", [(), (3,), (2, 1), (1, 3), (2, 3)], ids=str)
def test_views_of_any_stride_are_read_right(points_stack):
    theta = 0.3 * noise(0, 2, FLUX.parameters)[:, None].expand(2, 3, -1)
    x, y = noise(1, *points_stack, 7, 1), noise(2, 14, *points_stack, 1).movedim(0, -2)[..., ::2, :]
    assert_agree(
        everything(FLUX, theta, x, y, 0.01), everything(Reference(FLUX.widths), theta, x, y, 0.01)
    )
    crossed = 0.3 * noise(3, FLUX.parameters, 2, 3).movedim(0, -1)
    assert_agree(
        everything(FLUX, crossed, x, y, 0.01),
        everything(Reference(FLUX.widths), crossed, x, y, 0.01),
    )
    alone = noise(5, 1, 14, 1)[:, ::14]  # its stride is 14, and yet it lies in one piece
    assert_agree(
        everything(FLUX, theta, alone, alone, 0.01),
        everything(Reference(FLUX.widths), theta, alone, alone, 0.01),
    )
    v = noise(4, FLUX.parameters, *points_stack).movedim(0, -1)
    assert_agree(
        [FLUX.hessian_product(theta, x, y, v)],
        [Reference(FLUX.widths).hessian_product(theta, x, y, v)],
    )


@needs_kernel
@pytest.mark.parametrize("algorithm", ["fomaml", "joint", "reptile"])
def test_a_short_training_ends_in_the_same_place(algorithm, choose_engine):
    ends = {}
    for name in engine.NAMES:
        choose_engine(name)
        ends[name] = training.train(
            small.train_settings(algorithm, 20), (0, 1), algorithms.load(algorithm)
        )
    begin = torch.stack([FLUX.initialize(seed) for seed in (0, 1)]).float()
    moved = (ends["torch"].theta - begin).norm()
    assert 0 < (ends["fused"].theta - ends["torch"].theta).norm() < 1e-3 * moved
    torch.testing.assert_close(
        ends["fused"].validation_loss,
        ends["torch"].validation_loss,
        rtol=1e-3,
        atol=0,
        equal_nan=False,
    )


def tanh(x):
    """The activation alone: a network of one unit whose weights are 1 and whose biases are 0."""
    theta = torch.tensor([1.0, 0.0, 1.0, 0.0])
    return Network((1, 1, 1)).predict(theta, x[:, None])[:, 0]


@needs_kernel
def test_the_tanh_of_the_kernel_is_right_to_a_few_units_in_the_last_place():
    x = torch.cat(
        [torch.linspace(-12, 12, 200_001), torch.logspace(-30, 1, 50_001), torch.tensor([0.0])]
    )
    exact = torch.tanh(x.double())
    unit = torch.finfo(torch.float32).eps * exact.abs().clamp(min=1e-38)
    found = tanh(x)
    assert ((found.double() - exact).abs() / unit).max() < 4
    assert found.abs().max() <= 1
    assert torch.equal(tanh(-x), -found)


@needs_kernel
@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
def test_what_is_no_number_stays_none(activation):
    network = Network((1, 5, 4, 1), activation)
    theta, x = noise(0, 3, network.parameters), torch.ones(2, 1, dtype=torch.float64)
    theta[1, 7] = torch.nan
    loss, gradient = network.loss_and_gradient(theta, x, x)
    assert loss.isfinite().tolist() == [True, False, True]
    assert not gradient[1].isfinite().all() and gradient[::2].isfinite().all()
    assert tanh(torch.tensor([torch.nan, 1e30, -1e30])).nan_to_num(7).tolist() == pytest.approx(
        [7, 1, -1]
    )


def everywhere(network, theta, x, y, step_sizes):
    """What descends, and what is predicted on the way."""
    batches = x.expand(3, *x.shape), y.expand(3, *y.shape)
    return network.descend(theta, *batches, step_sizes), network.predict_along(
        theta, (*batches, step_sizes), x
    )


@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(5,), (7, 64), (40, 40), (64, 64), (1, 3)], ids=str)
def test_a_network_that_diverges_does_not_touch_the_next_one(hidden, activation, each_engine):
    network = Network((1, *hidden, 1), activation)
    theta = 0.3 * noise(0, 3, network.parameters, dtype=torch.float32)
    x, y = (noise(seed, 3, 9, 1, dtype=torch.float32) for seed in (1, 2))
    sizes = torch.tensor([0.01, 1e30, 0.01])
    together = everywhere(network, theta, x, y, sizes)
    assert not together[0][1].isfinite().all()
    for n in (0, 2):
        phi, predicted = everywhere(
            network, theta[n : n + 1], x[n : n + 1], y[n : n + 1], sizes[n : n + 1]
        )
        assert phi.isfinite().all()
        assert torch.equal(together[0][n], phi[0]) and torch.equal(
            together[1][:, n], predicted[:, 0]
        )


@pytest.mark.parametrize("worst", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(5,), (7, 33), (40, 40), (64, 64), (5, 70, 64)], ids=str)
def test_the_hessian_of_a_network_that_diverged_does_not_touch_the_next_one(
    hidden, activation, worst, each_engine
):
    network = Network((1, *hidden, 1), activation)
    theta, v = (0.3 * noise(seed, 3, network.parameters, dtype=torch.float32) for seed in (0, 4))
    x, y = (noise(seed, 3, 9, 1, dtype=torch.float32) for seed in (1, 2))
    theta[1] *= worst
    v[1, ::3] *= worst
    together = network.hessian_product(theta, x, y, v)
    assert not together[1].isfinite().all()
    for n in (0, 2):
        alone = network.hessian_product(*(t[n : n + 1] for t in (theta, x, y, v)))
        assert alone.isfinite().all()
        assert_agree([together[n : n + 1]], [alone], 0 if each_engine == "fused" else 1e-6)


@needs_kernel
@pytest.mark.parametrize("activation", fused.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(5,), (7, 33), (5, 70, 64)], ids=str)
@pytest.mark.parametrize("points", [3, 10, 13])
def test_the_kernel_gives_a_slice_of_a_stack_the_bits_of_the_slice_alone_at_any_width(
    hidden, activation, points
):
    network = Network((1, *hidden, 1), activation)
    theta, v = (
        0.3 * noise(seed, 10, 3, network.parameters, dtype=torch.float32) for seed in (0, 4)
    )
    x, y = (noise(seed, 10, 3, points, 1, dtype=torch.float32) for seed in (1, 2))
    together = network.loss_and_gradient(theta, x, y)[1], network.hessian_product(theta, x, y, v)
    for runs in (slice(0, 1), slice(3, 5), slice(2, 9), (4, 1)):
        t, p, q, w = theta[runs], x[runs], y[runs], v[runs]
        assert_agree(
            [network.loss_and_gradient(t, p, q)[1], network.hessian_product(t, p, q, w)],
            [a[runs] for a in together],
            0,
        )


@pytest.mark.parametrize("hidden", [(64, 64), (40, 40), (5, 70)], ids=str)
def test_mapped_gradients_of_a_run_do_not_notice_a_neighbour_that_diverges(hidden, each_engine):
    network = Network((1, *hidden, 1))
    theta = 0.3 * noise(0, 4, 3, network.parameters, dtype=torch.float32)
    x, y = (noise(seed, 4, 3, 9, 1, dtype=torch.float32) for seed in (1, 2))
    theta[1] *= 1e30
    values = maps_near_identity(network, theta)

    def of_runs(runs):
        points = x[runs], y[runs]
        batches = tuple(t.expand(2, *t.shape) for t in points)
        return of_maps(network, theta[runs], *points, batches, values[runs])

    together = of_runs(slice(None))
    assert not together[0][1].isfinite().all()
    for run in (0, 2):
        for whole, alone in zip(together, of_runs(slice(run, run + 1)), strict=True):
            same = whole.narrow(list(whole.shape).index(4), run, 1)
            assert alone.isfinite().all()
            assert_agree([same], [alone], 0 if each_engine == "fused" else 1e-6)


@needs_kernel
def test_maps_that_do_not_fit_the_network_are_refused():
    theta, batches = 0.3 * noise(2, 2, 3, FLUX.parameters), tuple(t[None] for t in SETS)
    values = noise(3, 2, 1, maps.length(FLUX.widths) - 1)
    with pytest.raises(ValueError, match="cannot take"):
        FLUX.gradient_through(theta, (*batches, Maps(values, 0.1)), *SETS)


def inner_loop(network, steps):
    """A stack of runs and tasks, points to measure at, and steps to take before."""
    theta = 0.3 * noise(0, 4, 1, network.parameters, dtype=torch.float32).expand(4, 3, -1)
    x, y, a, b = (noise(seed, 4, 3, 13, 1, dtype=torch.float32) for seed in (1, 2, 3, 4))
    return (
        theta,
        x,
        y,
        (a.expand(steps, *a.shape), b.expand(steps, *b.shape), torch.full((4, 3), 0.01)),
    )


@pytest.mark.parametrize("hidden", [(64, 64), (5, 70), (7,)], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_gradients_after_an_inner_loop_are_those_at_its_end_to_the_bit(hidden, steps, each_engine):
    network = Network((1, *hidden, 1))
    theta, x, y, after = inner_loop(network, steps)
    found = network.summed_gradient(theta, x, y, after)
    assert torch.equal(found, network.summed_gradient(network.descend(theta, *after), x, y))
    if steps:
        assert not torch.equal(found, network.summed_gradient(theta, x, y))


@pytest.mark.parametrize("hidden", [(64, 64), (5, 70)], ids=str)
def test_gradients_after_an_inner_loop_do_not_notice_a_run_that_diverges(hidden, each_engine):
    network = Network((1, *hidden, 1))
    theta, x, y, after = inner_loop(network, 3)
    expected = network.summed_gradient(theta, x, y, after)
    after[-1][1] = 1e30
    found = network.summed_gradient(theta, x, y, after)
    assert not found[1].isfinite().all()
    assert torch.equal(found[[0, 2, 3]], expected[[0, 2, 3]])


@needs_kernel
@pytest.mark.parametrize("hidden", [(64, 64), (5, 70)], ids=str)
def test_what_a_thread_computed_before_does_not_matter(hidden):
    network, larger = Network((1, *hidden, 1)), Network((1, 96, 96, 96, 1))
    theta, x, y = 0.3 * noise(0, 2, network.parameters), noise(1, 2, 13, 1), noise(2, 2, 13, 1)
    with ThreadPoolExecutor(1) as pool:  # a new thread, with memory of its own
        expected = pool.submit(everything, network, theta, x, y, 0.01).result()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(
            everything, larger, theta.new_full((2, larger.parameters), torch.nan), x, y, 0.01
        ).result()
        found = pool.submit(everything, network, theta, x, y, 0.01).result()
    assert all(numbers.isnan().any() for numbers in lost)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_vectors_of_any_width_need_nothing_of_the_processor(compiler, width):
    if not shutil.which(compiler):
        pytest.skip("no such compiler")
    build = [
        compiler,
        "-std=gnu++17",
        "-fsyntax-only",
        "-w",
        '-DSOURCE=""',
        f"-DBYTES={width}",
        engine.SOURCE,
    ]
    answer = subprocess.run(build, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("measured", [[0], [3], [0, 2], [1, 3], [0, 1, 2, 3], range(1, 3)])
@pytest.mark.parametrize("sizes", ["one", "of parameters", "maps"])
def test_predictions_after_some_steps_are_those_of_all_of_them(measured, sizes, each_engine):
    network = Network((1, 8, 8, 1))
    theta = 0.3 * noise(0, 2, 3, network.parameters)
    x, y, query = noise(1, 3, 2, 3, 5, 1), noise(2, 3, 2, 3, 5, 1), noise(3, 2, 3, 7, 1)
    size = {
        "one": 0.05,
        "of parameters": Sizes(0.05 * noise(4, 3, 2, 1, network.parameters)),
        "maps": maps_near_identity(network, theta),
    }[sizes]
    size = Maps(size, 0.05) if sizes == "maps" else size
    every = network.predict_along(theta, (x, y, size), query)
    some = network.predict_along(theta, (x, y, size), query, measured)
    assert torch.equal(some, every[list(measured)])


@pytest.mark.parametrize("own_points", [False, True])
def test_tasks_that_share_a_network_predict_like_copies_of_it(own_points, each_engine):
    network = Network((1, 8, 8, 1))
    theta = (0.3 * noise(0, 3, network.parameters))[:, None].expand(-1, 4, -1)
    x, y = noise(1, 2, 3, 4, 5, 1), noise(2, 2, 3, 4, 5, 1)
    query = noise(3, 3, 4, 7, 1) if own_points else noise(3, 7, 1)
    shared, copied = (
        network.predict_along(phi, (x, y, 0.05), query) for phi in (theta, theta.contiguous())
    )
    assert torch.equal(shared, copied)


@pytest.mark.parametrize("measured", [[4], [-1], [2, 1], [1, 1], [0, 4]])
def test_predictions_after_steps_that_are_not_there_are_refused(measured):
    theta, x = 0.3 * noise(0, FLUX.parameters), noise(1, 3, 5, 1)
    with pytest.raises(ValueError, match=r"measured must ascend within 0 to 3, got \["):
        FLUX.predict_along(theta, (x, x, 0.05), x[0], measured)


@needs_kernel
def test_no_steps_are_no_steps_whatever_the_strides_of_no_points():
    theta = 0.3 * noise(0, 2, FLUX.parameters)
    x, y = torch.stack([noise(1, 2, 7), noise(2, 2, 7)], -1)[None].split(1, dim=-1)
    assert x.stride(-2) == 2
    assert torch.equal(FLUX.descend(theta, x[:0], y[:0], 0.01), theta)
    assert torch.equal(
        FLUX.predict_along(theta, (x[:0], y[:0], 0.01), x[0])[0], FLUX.predict(theta, x[0])
    )
    summed = FLUX.summed_gradient(theta, x[0], y[0], (x[:0], y[:0], 0.01))
    assert torch.equal(summed, FLUX.summed_gradient(theta, x[0], y[0]))


@needs_kernel
def test_threads_that_ask_for_the_same_shapes_do_not_disturb_each_other():
    theta = 0.3 * noise(0, 8, FLUX.parameters, dtype=torch.float32)
    x, y = (noise(seed, 8, 50, 1, dtype=torch.float32) for seed in (1, 2))
    expected = [FLUX.loss_and_gradient(theta * n, x, y)[1] for n in range(4)]

    def right(n):
        return all(
            torch.equal(FLUX.loss_and_gradient(theta * n, x, y)[1], expected[n]) for _ in range(100)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(4)))


@needs_kernel
def test_torch_computes_what_the_kernel_would_misread():
    theta, x = torch.zeros(2, FLUX.parameters), torch.zeros(2, 3, 1)
    assert covered(theta, x)
    assert not covered(theta.half(), x.half()) and not covered(theta.to("meta"), x.to("meta"))
    assert not covered(theta[:0], x[:0]) and not covered(theta.expand(2, 2, 2, -1), x)
    assert not covered(theta, x, torch.zeros(2).requires_grad_())
    assert FLUX.predict(theta.to("meta"), x.to("meta")).shape == (2, 3, 1)
    steps = torch.full((2,), 0.01).requires_grad_()
    FLUX.descend(theta + 0.1, x[None], x[None] + 1, steps).sum().backward()
    assert steps.grad.isfinite().all() and steps.grad.abs().sum() > 0
    assert FLUX.summed_gradient(theta.expand(3, 2, -1)[:, :0], x[:0], x[:0]).eq(0).all()
    assert FLUX.hessian_product(theta[:0], x[:0], x[:0], theta[:0]).shape == (0, FLUX.parameters)
    watched = theta[0].requires_grad_()
    FLUX.hessian_product(theta[0].detach() + 0.1, x[0], x[0], watched).sum().backward()
    assert watched.grad.isfinite().all()


@needs_kernel
def test_what_does_not_fit_is_refused_before_the_kernel_reads_it():
    theta, x = torch.zeros(FLUX.parameters), torch.zeros(2, 1)
    with pytest.raises(TypeError, match=r"one type.*float32.*float64"):
        FLUX.loss_and_gradient(theta, x, x.double())
    for wrong in [(theta[1:], x, x), (theta, x, x[1:]), (theta, x.repeat(1, 2), x.repeat(1, 2))]:
        with pytest.raises(ValueError, match="a network of 4353 parameters cannot take"):
            FLUX.loss_and_gradient(*wrong)
    with pytest.raises(TypeError, match=r"one type.*float64"):
        FLUX.hessian_product(theta, x, x, theta.double())
    with pytest.raises(ValueError, match="cannot take"):
        FLUX.hessian_product(theta, x, x, theta[1:])
    with pytest.raises(ValueError, match=r"do not broadcast to a stack of \(\)"):
        FLUX.hessian_product(theta, x, x, theta.expand(2, -1))
    with pytest.raises(ValueError, match="cannot take"):
        FLUX.descend(theta, x.expand(3, 2, 1), x.expand(2, 2, 1), 0.01)
    for shape in [(5, 2, 1), (2, 3, 2, 1)]:
        with pytest.raises(ValueError, match=r"do not broadcast to a stack of \(2,\)"):
            FLUX.predict(theta.expand(2, -1), torch.zeros(shape))


@needs_kernel
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
@pytest.mark.skipif(not several_widths(), reason="vectors of one width only")
def test_the_width_of_the_processors_vectors_has_no_part_in_a_number(tmp_path, monkeypatch):
    # Vectors of half the width: those that the processor has not would take minutes to compile.
    wide = "_avx512" in Path(engine.library()._name).name
    library = compiled(
        tmp_path,
        "g++",
        # The lowest level that fuses multiply and add, as the kernel does.
        *("-O1", "-fexpensive-optimizations", "-ffp-contract=fast"),
        *("-mavx2", "-mfma", f"-DBYTES={32 if wide else 16}"),
    )
    for hidden in [(64, 64), (40, 7), (5,), (7, 33, 96)]:
        for activation in fused.ACTIVATIONS:
            network = Network((1, *hidden, 1), activation)
            theta = 0.3 * noise(0, 4, network.parameters, dtype=torch.float32)
            x, y = noise(1, 2, 4, 13, 1, dtype=torch.float32)
            expected = everything(network, theta, x, y, 0.01)
            narrow = computed_by(library, network)
            found = everything(narrow, theta, x, y, 0.01)
            scale, weight = (
                noise(seed, 4, *shape, dtype=torch.float32).abs()
                for seed, shape in ((2, ()), (3, (2, hidden[0])))
            )
            sets = [noise(seed, 2, 4, 3, 13, 1, dtype=torch.float32) for seed in (4, 5)]
            expected += of_adapting_parts(network, theta, scale, weight, *sets, steps=2)
            found += of_adapting_parts(narrow, theta, scale, weight, *sets, steps=2)
            for a, b in zip(found, expected, strict=True):
                assert torch.equal(a, b)
            expected = of_gaussian_processes(network)
            for a, b in zip(of_gaussian_processes(narrow), expected, strict=True):
                assert torch.equal(a, b)
    for units in (5, 32, 40):
        given = random_inputs(0, units, torch.float32)
        expected = everything_of(*given)
        with monkeypatch.context() as narrow_vectors:
            narrow_vectors.setattr(engine, "library", lambda: library)
            found = everything_of(*given)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


@needs_kernel
@pytest.mark.parametrize("hidden", [(64, 64), (40, 7)])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float64, 1e-10, 1e-12), (torch.float32, 1e-4, 1e-4)]
)
def test_both_engines_take_the_same_gradient_of_a_likelihood(hidden, dtype, rtol, atol):
    widths = (1, *hidden, 1)
    theta = 0.3 * noise(0, 2, Network(widths).trunk.parameters, dtype=dtype)
    points = tuple(noise(seed, 2, 3, 11, 1, dtype=dtype) for seed in (1, 2))
    mean, variance = (noise(seed, 2, 1).exp() for seed in (3, 4))
    for name in ("rbf", "spectral"):
        kernel = KERNELS[name]
        values = torch.stack([kernel.begin(hidden[-1], seed) for seed in range(2)])
        found, expected = (
            marginal_gradients(kernel, network, theta, points, mean, variance, values)
            for network in (Network(widths), Reference(widths))
        )
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol * b.abs().max().item())


@needs_kernel
@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("y", torch.Tensor.double, TypeError, "y must be torch.float32, got torch.float64"),
        ("y", lambda t: t[:, :, 1:], ValueError, r"y must have the shape \(2, 3, 11, 1\), got"),
        ("mean", torch.Tensor.float, TypeError, "mean must be torch.float64"),
        ("noise", lambda t: t[1:], ValueError, r"noise must have the shape \(2, 1\)"),
    ],
)
def test_gaussian_processes_that_do_not_fit_are_refused_before_they_are_read(
    name, change, error, message
):
    theta = 0.3 * noise(0, 2, FLUX.trunk.parameters, dtype=torch.float32)
    given = {
        "x": noise(1, 2, 3, 11, 1, dtype=torch.float32),
        "y": noise(2, 2, 3, 11, 1, dtype=torch.float32),
        "mean": torch.zeros(2, 1, dtype=torch.float64),
        "noise": torch.ones(2, 1, dtype=torch.float64),
    }
    given[name] = change(given[name])
    values = torch.stack([KERNELS["rbf"].begin(64, seed) for seed in range(2)])
    with pytest.raises(error, match=message):
        FLUX.gradient_of_processes(
            theta,
            (given["x"], given["y"]),
            given["mean"],
            given["noise"],
            KERNELS["rbf"].mixture(values, 64),
        )


def of_gaussian_processes(network):
    """Every gradient of a likelihood, for a number of points that needs padding."""
    trunk, width = network.trunk, network.widths[-2]
    theta = 0.3 * noise(0, 2, trunk.parameters, dtype=torch.float32)
    x, y = noise(1, 2, 2, 3, 11, 1, dtype=torch.float32)
    mean, variance, weight = (noise(seed, 2, n).exp() for seed, n in ((3, 1), (4, 1), (5, 2)))
    scale, frequency = (noise(seed, 2, 2, width) for seed in (6, 7))
    kernel = processes.Mixture(weight, scale, frequency)
    *found, along = processes.gradients(trunk._kernel(theta), theta, x, y, mean, variance, kernel)
    return *found, *along


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("clang++"), reason="no Clang")
@pytest.mark.skipif(not several_widths(), reason="the flags are those of other processors")
def test_clang_makes_a_kernel_that_computes_the_same(tmp_path, monkeypatch):
    library = compiled(tmp_path, "clang++", "-O1", "-ffp-contract=fast", "-mavx2", "-mfma")
    for hidden in [(64, 64), (40, 7), (5,)]:
        network = Network((1, *hidden, 1))
        theta, (x, y) = 0.3 * noise(0, 4, network.parameters), noise(1, 2, 4, 13, 1)
        found = everything(computed_by(library, network), theta, x, y, 0.01)
        assert_agree(found, everything(Reference(network.widths), theta, x, y, 0.01))
    expected = everything_of(*random_inputs(0, 5))
    monkeypatch.setattr(engine, "library", lambda: library)
    assert_agree(everything_of(*random_inputs(0, 5)), expected)


def test_torch_computes_networks_without_a_hidden_layer():
    assert fused.kernel((1, 1), "tanh") is None


def test_autograd_sees_through_a_network():
    theta = FLUX.initialize(0).requires_grad_()
    FLUX.predict(theta, torch.ones(3, 1, dtype=torch.float64)).sum().backward()
    assert theta.grad.abs().sum() > 0


def test_the_engine_is_chosen_by_a_variable(choose_engine):
    choose_engine("torch")
    assert engine.name() == "torch" and fused.kernel(FLUX.widths, "tanh") is None
    choose_engine("")
    assert engine.name() == ("torch" if engine.library() is None else "fused")
    choose_engine("quick")
    with pytest.raises(
        EngineError, match="METABENCH_ENGINE must be one of fused, torch, got 'quick'"
    ):
        engine.name()


@needs_kernel
def test_another_engine_computes_from_the_moment_that_it_is_used(choose_engine):
    choose_engine("fused")
    assert fused.kernel(FLUX.widths, "tanh")
    engine.use("torch")
    assert engine.name() == "torch" and fused.kernel(FLUX.widths, "tanh") is None
    engine.use("fused")
    assert engine.name() == "fused" and fused.kernel(FLUX.widths, "tanh")


def test_an_engine_that_is_not_there_cannot_be_used(choose_engine, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "FOLDER", tmp_path)
    choose_engine("")
    with pytest.raises(EngineError, match="has no kernel for its processor"):
        engine.use("fused")


def test_without_a_compiled_kernel_torch_computes(choose_engine, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "FOLDER", tmp_path)
    choose_engine("")
    assert engine.name() == "torch"
    choose_engine("fused")
    with pytest.raises(EngineError, match="no kernel was compiled"):
        engine.name()


LAUNCHER = '#!/bin/sh\nexec "$@"\n'


@pytest.mark.skipif(not shutil.which("clang++"), reason="no Clang")
@pytest.mark.parametrize(
    ("compiler", "cxx"),
    [
        ("clang++", None),
        ("clang++", "g++-99"),
        ("clang++", "launcher g++"),
        ("clang++", "launcher clang++ -pipe"),
        ("clang++-99", "clang++-99"),
        ("clang++-99", "{programs}/clang++-99"),
    ],
)
def test_a_compiler_of_any_name_builds_the_kernels_where_that_of_python_is_missing(
    tmp_path, compiler, cxx
):
    source = tmp_path / engine.SOURCE.relative_to(ROOT)
    source.parent.mkdir(parents=True)
    source.write_text("int small;")
    shutil.copy(ROOT / "setup.py", tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "launcher").write_text(LAUNCHER)
    (programs / "launcher").chmod(0o755)
    (programs / compiler).symlink_to(shutil.which("clang++"))
    for program in ("ar", "ld"):
        (programs / program).symlink_to(shutil.which(program))
    environment = {"PATH": str(programs)}
    if cxx:
        environment["CXX"] = cxx.format(programs=programs)
    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    answer = subprocess.run(
        build, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert list(source.parent.glob("kernel_*.so")), answer.stdout + answer.stderr


@needs_kernel
def test_a_kernel_of_another_source_is_refused(choose_engine, monkeypatch, tmp_path):
    (tmp_path / "kernel.cpp").write_bytes(engine.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(engine, "SOURCE", tmp_path / "kernel.cpp")
    choose_engine("")
    with pytest.raises(
        EngineError,
        match=r"compiled from a different kernel.cpp; delete it, or rebuild it: make setup",
    ):
        engine.name()


@needs_kernel
def test_a_kernel_that_an_earlier_environment_left_is_passed_over(
    choose_engine, monkeypatch, tmp_path
):
    (kernel,) = engine.FOLDER.glob(f"kernel_{engine.kinds()[0]}.so")
    source = sha256(engine.SOURCE.read_bytes()).hexdigest().encode()
    left = tmp_path / f"{kernel.stem}.cpython-310.so"
    left.write_bytes(kernel.read_bytes().replace(source, bytes(b"0" * 64)))
    monkeypatch.setattr(engine, "FOLDER", tmp_path)
    choose_engine("")
    with pytest.raises(EngineError, match=r"cpython-310.so was compiled from a different"):
        engine.name()
    shutil.copy(kernel, tmp_path)
    choose_engine("")
    assert engine.name() == "fused"


@needs_kernel
def test_records_say_which_engine_made_them(choose_engine, tmp_path):
    found = []
    for name in engine.NAMES:
        choose_engine(name)
        started = small.running(small.tiny(), tmp_path)
        settings = small.train_settings("fomaml", 5)
        found.append(headers.training(settings, "0-1", started.engine)["engine"])
    assert found == list(engine.NAMES)


@pytest.mark.parametrize("by", ["fused", "torch"])
@pytest.mark.parametrize("most", [0.3, 2.0, 1e6])
def test_the_gradient_through_a_cut_descent_is_that_of_autograd(by, most):
    """Each number of an inner gradient is cut before its step; a cut one has no derivative."""
    network = Network((1, 9, 7, 1))
    torch.manual_seed(0)
    theta = torch.stack([network.initialize(seed) for seed in (0, 1)])[:, None].expand(2, 3, -1)
    x, query = 6 * torch.rand(4, 2, 3, 5, 1).double() - 3, torch.rand(2, 3, 6, 1).double()
    y, labels = 4 * x.sin(), query.cos()
    size = network.clipped(0.05, most, torch.float64)

    start = theta.clone().requires_grad_()
    phi, cut = start, 0.0
    for k in range(4):
        loss = (network.predict(phi, x[k]) - y[k]).square().mean((-2, -1)).sum()
        (gradient,) = torch.autograd.grad(loss, phi, create_graph=True)
        cut += (gradient.abs() > most).double().mean()
        phi = phi - 0.05 * gradient.clamp(-most, most)
    loss = (network.predict(phi, query) - labels).square().mean((-2, -1)).sum()
    (expected,) = torch.autograd.grad(loss, start)
    assert (cut > 0) == (most < 1e6), "some gradients are cut, and not all"

    if by == "fused" and engine.name() != "fused":
        pytest.skip("no kernel for this processor")
    where = network if by == "fused" else network._reference
    found, _ = where.gradient_through(theta, (x, y, size), query, labels, LAST, True)
    torch.testing.assert_close(found, expected.sum(1), rtol=1e-9, atol=1e-11)
    moved = where.descend(theta, x, y, size)
    torch.testing.assert_close(moved, phi.detach(), rtol=1e-10, atol=1e-12)
    along = where.predict_along(theta, (x, y, size), query, [len(x)])
    torch.testing.assert_close(
        along[0], network.predict(phi.detach(), query), rtol=1e-9, atol=1e-10
    )
