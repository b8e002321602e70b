"""A loop with a torch.nn.Module becomes an algorithm as the page on it says."""

import re
import runpy
from dataclasses import replace

import pytest
import small
import torch
from click.testing import CliRunner
from torch import nn

import metabench
from metabench.check_algorithm import CHECKS
from metabench.cli import main
from metabench.learning import algorithms
from metabench.learning.algorithm import Question
from metabench.learning.network import Network
from metabench.learning.tasks import Points, SineDistribution, TaskStream

LOOP = str(small.ROOT / "examples" / "loop.py")
BEFORE = small.ROOT / "examples" / "loop_before.py"
PAGE = small.ROOT / "docs" / "bring-your-own.md"
OF_STUDY = {"meta_step_size": 0.01, "meta_batch_size": 3}
VALUES = {"inner_step_size": 0.05, "inner_steps": 2, **OF_STUDY}


def batch(algorithm, h, seeds):
    """Return the data of the first meta-iteration."""
    block = TaskStream(SineDistribution(), seeds, h.meta_batch_size).block(0)
    return tuple(points.at(0) for points in algorithm.sample(block, h))


def brought(make_module, **more):
    """Return the algorithm of the example's loop with another module."""
    loop = algorithms.module(LOOP)
    functions = (loop.cost, loop.sample, make_module, loop.adapt, loop.meta_loss)
    return metabench.from_module(loop.Hyperparameters, *functions, **more)


def shown():
    """Return the three pieces of code that the page shows."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The example with the page's module in the place of its own."""
    _, loop, module = shown()
    path = tmp_path_factory.mktemp("own") / "normalized.py"
    path.write_text(
        re.sub(r"def make_module.*?\n(?=\n\ndef )", module, loop, count=1, flags=re.DOTALL)
    )
    return str(path)


def test_the_page_shows_the_files():
    before, after, _ = shown()
    assert before == BEFORE.read_text()
    assert after == (small.ROOT / "examples" / "loop.py").read_text()


def test_the_loop_before_learns(capsys):
    before = runpy.run_path(str(BEFORE))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before["main"].__globals__["ITERATIONS"] = 101
        before["main"]()
    first, last = (float(line.split()[1]) for line in capsys.readouterr().out.splitlines())
    assert last < first


def test_the_loop_before_and_after_has_the_same_gradient():
    before, loop, network = runpy.run_path(str(BEFORE)), algorithms.load(LOOP), Network((1, 8, 1))
    tasks = [before["draw_task"]() for _ in range(3)]
    module = algorithms.module(LOOP).make_module(network)
    before["meta_loss"](module, tasks).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])

    h = loop.hyperparameters(inner_steps=1, inner_step_size=0.01, **OF_STUDY)
    theta = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    x, y, query_x, query_y = (torch.stack(part)[None] for part in zip(*tasks, strict=True))
    sets = (Points(x, y), Points(query_x, query_y))
    found = loop.meta_gradient(network, theta[None], sets, h)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("which", ["loop", "own"])
def test_check_algorithm_finds_nothing_wrong_with_what_the_page_shows(which, own):
    answer = CliRunner().invoke(main, ["check-algorithm", {"loop": LOOP, "own": own}[which]])
    assert answer.exit_code == 0, answer.output
    assert f"all {len(CHECKS)} checks pass" in answer.output


@pytest.mark.parametrize("queries", [None, 7])
def test_the_loop_has_the_direction_of_maml(queries):
    """With one hidden layer a module's parameters lie as a network's do."""
    loop, maml = algorithms.load(LOOP), algorithms.load("maml")
    network, seeds = Network((1, 8, 1)), (0, 1)
    h = loop.hyperparameters(**VALUES, queries=queries)
    theta, data = loop.begin(network, seeds, h), batch(loop, h, seeds)
    found = loop.meta_gradient(network, theta, data, h)
    same = maml.hyperparameters(**VALUES, queries=queries)
    expected = maml.meta_gradient(network, theta, data, same)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("step_size", [None, 0.03])
def test_the_loop_predicts_as_maml_after_the_measured_updates(step_size):
    loop, maml = algorithms.load(LOOP), algorithms.load("maml")
    network, seeds = Network((1, 8, 1)), (0, 1)
    h = loop.hyperparameters(**VALUES)
    (support, _), x = batch(loop, h, seeds), torch.linspace(-5, 5, 9, dtype=torch.float64)[:, None]
    theta = loop.begin(network, seeds, h)[:, None].expand(-1, 3, -1)
    size = None if step_size is None else torch.full((2, 3), step_size, dtype=torch.float64)
    question = Question(support.repeated(4), x, size, multiple=2.0, only=[0, 1, 4])
    found = loop.adaptation.predict(network, theta, question, h)
    expected = maml.adaptation.predict(network, theta, question, maml.hyperparameters(**VALUES))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="a protocol asks for the optimizer adam"):
        loop.adaptation.predict(network, theta, question._replace(optimizer="adam"), h)


def test_linear_layers_begin_with_the_weights_of_the_network():
    """The constructor of `nn.Linear` asks for the same numbers in the same order."""
    loop, network = algorithms.load(LOOP), Network((1, 8, 1))
    found = loop.begin(network, (0, 5), None)
    expected = torch.stack([network.initialize(seed) for seed in (0, 5)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_own_initial_values_come_from_the_seed_and_leave_the_global_generator_alone(own):
    module, network = algorithms.load(own), Network((1, 40, 1))
    before = torch.get_rng_state()
    first, second, other = module.begin(network, (3, 3, 4), None)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second) and not torch.equal(first, other)
    made = algorithms.module(own).make_module(network)
    assert len(first) == sum(value.numel() for value in made.parameters())
    named = dict(zip(dict(made.named_parameters()), first.split([24] * 5 + [1]), strict=True))
    assert (named["norm.weight"] == 1).all() and (named["norm.bias"] == 0).all()
    deviation = (2 / 25) ** 0.5  # of xavier_normal_ from 1 to 24 units
    assert 0.5 * deviation < named["hidden.weight"].std() < 1.5 * deviation
    assert named["last.weight"].abs().max() <= 24**-0.5


def test_initial_values_may_be_made_from_uniforms_as_the_page_says(own):
    network, seeds = Network((2, 8, 1)), (0, 1)
    make_module = algorithms.module(own).make_module

    def begin(network, seeds, h):
        count = sum(value.numel() for value in make_module(network).parameters())
        rows = [metabench.uniforms(seed, "init", 0, count) for seed in seeds]
        return torch.stack([torch.from_numpy(row) for row in rows])

    theta = brought(make_module, begin=begin).begin(network, seeds, None)
    assert theta.shape == (2, 24 * 6 + 1) and not torch.equal(*theta)
    of_network = brought(make_module, begin=metabench.initial_weights)
    normal = replace(network, initialization="normal")
    assert torch.equal(of_network.begin(normal, (5,), None)[0], normal.initialize(5))


class Waves(nn.Module):
    """Fixed random features, a fixed gain, and a linear layer."""

    def __init__(self, network):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(network.widths[0], 6))
        self.gain = nn.Parameter(torch.rand(6), requires_grad=False)
        self.last = nn.Linear(6, network.widths[-1])

    def forward(self, x):
        return self.last(torch.sin(x @ self.frequencies) * self.gain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buffers_and_fixed_parameters_are_not_learned_and_the_same_in_all_runs(dtype):
    waves, network = brought(Waves), Network((1, 8, 1))
    h = waves.hyperparameters(**VALUES)
    theta, data = waves.begin(network, (2, 2), h).to(dtype), batch(waves, h, (0, 0))
    assert theta.shape == (2, 7)
    first, second = waves.meta_gradient(network, theta, tuple(p.to(dtype) for p in data), h)
    assert torch.equal(first, second) and first.any()


def drawn_by(draw):
    """Return what a module draws in its constructor for two equal seeds and another one."""

    class Drawn(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.drawn = nn.Parameter(torch.empty(6, 6))
            values = draw(self.drawn)
            if values is not None:
                self.drawn = nn.Parameter(values.detach())

    return brought(Drawn).begin(Network((1, 8, 1)), (3, 3, 4), None)


ARGUMENTS = {"constant_": (1.0,), "dirac_": None, "sparse_": None}
"""Arguments of functions of `torch.nn.init`; None if they do not fill the matrix of the test."""
INITIALIZERS = [
    name
    for name in sorted(vars(nn.init))
    if name.endswith("_") and not name.startswith("_") and ARGUMENTS.get(name, ()) is not None
]
NOT_DRAWN = {"constant_", "eye_", "ones_", "zeros_"}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_functions_of_torch_nn_init_draw_from_the_seed(name):
    before = torch.get_rng_state()
    first, second, other = drawn_by(lambda p: getattr(nn.init, name)(p, *ARGUMENTS.get(name, ())))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second) and torch.equal(first, other) == (name in NOT_DRAWN)


DRAWS = {
    "uniform_": lambda p: p.data.uniform_(-1, 1),
    "normal_": lambda p: p.data.normal_(0, 2),
    "rand": lambda p: torch.rand(6, 6),
    "randn": lambda p: torch.randn(6, 6),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_draws_that_the_page_names_come_from_the_seed(name):
    before = torch.get_rng_state()
    first, second, other = drawn_by(DRAWS[name])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


OTHER_DRAWS = {
    "exponential_": lambda p: p.data.exponential_(),
    "rand_like": torch.rand_like,
    "randint": lambda p: torch.randint(6, (6, 6)),
    "randperm": lambda p: nn.init.sparse_(p, 0.5),
}


@pytest.mark.parametrize("name", OTHER_DRAWS)
def test_a_module_that_draws_in_another_way_is_an_error(name):
    with pytest.raises(ValueError, match=rf"a module may draw .* got aten::{name}\b"):
        drawn_by(OTHER_DRAWS[name])


def test_a_generator_of_the_modules_own_is_left_to_it():
    drawn = []

    def make_module(network):
        own = torch.Generator().manual_seed(1)
        drawn.append(torch.randn(3, generator=own))
        return nn.Linear(1, 1)

    brought(make_module).begin(Network((1, 8, 1)), (0, 1), None)
    expected = torch.randn(3, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(numbers, expected) for numbers in drawn)
