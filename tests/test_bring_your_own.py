"""A loop with a torch.nn.Module becomes an algorithm as the page on it says."""

import re

import pytest
import small
import torch
from click.testing import CliRunner

from metabench.check_algorithm import CHECKS
from metabench.cli import main
from metabench.learning import algorithms
from metabench.learning.network import Network
from metabench.learning.tasks import SineDistribution, TaskStream

LOOP = str(small.ROOT / "examples" / "loop.py")


def test_the_page_shows_the_whole_file():
    page = (small.ROOT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
    loop, head, rest = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert f"{head}\n\n{loop}\n\n{rest}" == (small.ROOT / "examples" / "loop.py").read_text()


def test_check_algorithm_finds_nothing_wrong_with_the_loop():
    answer = CliRunner().invoke(main, ["check-algorithm", LOOP])
    assert answer.exit_code == 0, answer.output
    assert f"all {len(CHECKS)} checks pass" in answer.output


@pytest.mark.parametrize("queries", [None, 7])
def test_the_loop_has_the_direction_of_maml(queries):
    """With one hidden layer a module's parameters lie as a network's do."""
    loop, maml = algorithms.load(LOOP), algorithms.load("maml")
    network, seeds = Network((1, 8, 1)), (0, 1)
    values = {"meta_step_size": 0.01, "inner_step_size": 0.05, "inner_steps": 2, "queries": queries}
    values["meta_batch_size"] = 3
    h = loop.hyperparameters(**values)
    theta = loop.begin(network, seeds, h)
    block = TaskStream(SineDistribution(), seeds, h.meta_batch_size).block(0)
    batch = tuple(points.at(0) for points in loop.sample(block, h))
    found = loop.meta_gradient(network, theta, batch, h)
    expected = maml.meta_gradient(network, theta, batch, maml.hyperparameters(**values))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
