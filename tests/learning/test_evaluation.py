import pytest
import small
import torch

from metabench.learning import algorithms
from metabench.learning.evaluation import CHUNK, Step, adaptation_losses, evaluate, final_losses
from metabench.learning.held_out import held_out, picture_support, regions
from metabench.learning.network import Network
from metabench.learning.settings import doubling
from metabench.learning.tasks import Bank, Sine, SineDistribution

FLUX = SineDistribution()
NETWORK = Network((1, 64, 64, 1))
PLAIN = small.plain(NETWORK)
RIGHT_HALF = (0.0, 5.0)
ANY = torch.zeros(1, 1, 1)
"""Support points, on which regions inside and outside an interval do not depend."""


def thetas(*seeds):
    return torch.stack([NETWORK.initialize(seed) for seed in seeds]).float()


def bank_of(tasks, purpose="test-bank", shots=5, interval=RIGHT_HALF):
    return held_out(small.protocol(shots, interval), FLUX, purpose, tasks).to(torch.float32)


def run(settings, theta):
    """What an evaluation of the algorithm in its settings finds."""
    return evaluate(settings, theta, algorithms.load(settings.algorithm))


def steps(runs, size=0.02):
    return Step(torch.full((runs,), size, dtype=torch.float64))


def test_index_0_is_the_loss_before_any_update():
    tasks = bank_of(20)
    losses = adaptation_losses(PLAIN, thetas(0, 1), tasks, 3, steps(2))
    assert losses.shape == (3, 4, 2, 20)
    for run, theta in enumerate(thetas(0, 1)):
        square = (NETWORK.predict(theta, tasks.query.x) - tasks.query.y).square()
        torch.testing.assert_close(losses[0, 0, run], square.mean((-2, -1)))
    assert not torch.isclose(losses[0, 1], losses[0, 0]).any()


def test_the_loss_of_the_last_update_alone_is_the_last_of_the_whole_curve(each_engine):
    tasks = bank_of(20)
    curve = adaptation_losses(PLAIN, thetas(0, 1), tasks, 3, steps(2))
    torch.testing.assert_close(final_losses(PLAIN, thetas(0, 1), tasks, 3, steps(2)), curve[0, -1])


def test_a_support_interval_splits_the_grid_into_seen_and_unseen():
    found = regions(FLUX, small.protocol(5, RIGHT_HALF), ANY)
    x = FLUX.grid[:, 0]
    assert list(found) == ["all", "seen", "unseen"]
    assert (x[found["seen"]] >= 0).all()
    assert (x[found["unseen"]] < 0).all()
    assert (
        torch.cat([found["unseen"], found["seen"]]).tolist()
        == found["all"].tolist()
        == list(range(50))
    )
    ends = regions(FLUX, small.protocol(5, (-5.0, FLUX.grid[10].item())), ANY)
    assert ends["seen"].tolist() == list(range(11)), "an interval holds both its ends"


def test_a_support_interval_of_the_whole_domain_leaves_nothing_unseen():
    assert list(regions(FLUX, small.protocol(5, (-5.0, 5.0)), ANY)) == ["all"]


def test_fresh_query_points_are_each_tasks_own_and_no_part_of_them_is_seen():
    protocol, bank = small.protocol(5, RIGHT_HALF, queries=7), Bank(0, "test-bank", FLUX, 20)
    tasks = held_out(protocol, FLUX, "test-bank", 20).to(torch.float32)
    assert tasks.query.x.shape == tasks.query.y.shape == (20, 7, 1)
    assert tasks.query.x.unique().numel() == 140
    assert list(tasks.regions) == ["all"]
    torch.testing.assert_close(
        tasks.query.y.double(), bank.drawn(tasks.query.x.double()), rtol=1e-5, atol=1e-5
    )
    losses = adaptation_losses(PLAIN, thetas(0, 1), tasks, 2, steps(2))
    predicted = NETWORK.predict(thetas(1)[0], tasks.query.x[18])
    torch.testing.assert_close(losses[0, 0, 1, 18], (predicted - tasks.query.y[18]).square().mean())
    assert torch.equal(bank.query(9).x[:, :7], bank.query(7).x), "more begin with those of fewer"


def test_the_loss_on_the_grid_is_the_weighted_mean_of_the_seen_and_the_unseen_part():
    tasks = bank_of(10, interval=(1.0, 5.0))
    assert [len(index) for index in tasks.regions.values()] == [50, 20, 30]
    everywhere, seen, unseen = adaptation_losses(PLAIN, thetas(3), tasks, 2, steps(1))
    torch.testing.assert_close(everywhere, 0.4 * seen + 0.6 * unseen)


def test_a_run_in_a_stack_scores_what_it_scores_alone(each_engine):
    together = adaptation_losses(PLAIN, thetas(5, 3, 1, 8), bank_of(40), 5, steps(4))
    for run, seed in enumerate((5, 3, 1, 8)):
        alone = adaptation_losses(PLAIN, thetas(seed), bank_of(40), 5, steps(1))
        assert torch.equal(alone[:, :, 0], together[:, :, run])


@pytest.mark.parametrize("tasks", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_a_task_scores_the_same_in_a_bank_of_any_size(tasks, each_engine):
    large = adaptation_losses(PLAIN, thetas(0), bank_of(40), 5, steps(1))
    found = adaptation_losses(PLAIN, thetas(0), bank_of(tasks), 5, steps(1))
    assert torch.equal(found, large[..., :tasks])


def test_each_run_adapts_with_its_own_step_size():
    sizes = Step(torch.tensor([0.001, 0.02], dtype=torch.float64))
    both = adaptation_losses(PLAIN, thetas(0, 0), bank_of(20), 4, sizes)
    for run, size in enumerate((0.001, 0.02)):
        one = adaptation_losses(PLAIN, thetas(0, 0), bank_of(20), 4, steps(2, size))
        assert torch.equal(both[:, :, run], one[:, :, run])


def test_evaluation_leaves_theta_alone():
    theta = thetas(0, 1)
    run(small.evaluate_settings("joint"), theta)
    assert torch.equal(theta, thetas(0, 1))


def test_an_evaluation_holds_every_protocol_and_step_size():
    found = run(small.evaluate_settings("fomaml"), thetas(0, 1))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    expected = {}
    for protocol, count, updates in (("standard", 1, 33), ("robustness", 3, 11)):
        for step in ("own", "common"):
            expected[f"test/{protocol}/{step}"] = (count, updates, 2, 20)
            expected[f"validation/{protocol}/{step}"] = (updates, 2, 10)
            expected[f"step_size/{protocol}/{step}"] = (2,)
        expected[f"showcase/{protocol}"] = (len(doubling(updates - 1)), 2, 111)
    assert shapes == expected


@pytest.mark.parametrize("algorithm", ["fomaml", "random", "cavia", "neural_process"])
def test_without_a_curve_the_measured_updates_have_the_same_bits(algorithm):
    settings = small.evaluate_settings(algorithm)
    without = {
        name: p.model_copy(update={"curve": False}) for name, p in settings.protocols.items()
    }
    value = algorithms.load(algorithm)
    theta = value.begin(settings.shape, (0, 1), settings.hyperparameters).float()
    every, some = (
        run(settings, theta),
        run(settings.model_copy(update={"protocols": without}), theta),
    )
    assert every.keys() == some.keys()
    for name, tensor in every.items():
        kind, protocol, *_ = name.split("/")
        updates = without[protocol].measured
        assert updates == doubling(without[protocol].updates)
        axis = {"test": 1, "validation": 0}.get(kind)
        expected = tensor if axis is None else tensor.index_select(axis, torch.tensor(updates))
        assert torch.equal(some[name].nan_to_num(-1), expected.nan_to_num(-1)), name


def test_a_cell_with_an_inner_step_is_evaluated_at_it_and_at_the_common_one():
    found = run(
        small.evaluate_settings("reptile", hyperparameters={"inner_step_size": 0.005}), thetas(0, 1)
    )
    assert found["step_size/standard/own"].tolist() == [0.005, 0.005]
    assert found["step_size/standard/common"].tolist() == [0.02, 0.02]
    for label, size in (("own", 0.005), ("common", 0.02)):
        expected = adaptation_losses(PLAIN, thetas(0, 1), bank_of(20), 10, steps(2, size))
        assert torch.equal(found[f"test/robustness/{label}"], expected)


def test_a_cell_without_an_inner_step_is_tuned_on_the_validation_bank_and_not_on_the_test_bank():
    settings = small.evaluate_settings("random")
    found = run(settings, thetas(0, 1, 2))
    candidates = settings.tuning_step_sizes
    losses = found["tuning/robustness"]
    assert losses.shape == (len(candidates), 3)
    for bank, same in (("validation-bank", True), ("test-bank", False)):
        curves = [
            adaptation_losses(PLAIN, thetas(0, 1, 2), bank_of(10, bank), 10, steps(3, c))
            for c in candidates
        ]
        means = torch.stack([curve[0, -1].double().mean(-1) for curve in curves])
        assert torch.equal(losses, means) == same
    best = [min(zip(losses[:, run].tolist(), candidates, strict=True))[1] for run in range(3)]
    assert found["step_size/robustness/tuned"].tolist() == best
    assert found["step_size/robustness/common"].tolist() == [0.02] * 3
    assert set(found) == {
        f"{kind}/{protocol}/{label}"
        for kind in ("test", "validation", "step_size")
        for protocol in ("standard", "robustness")
        for label in ("common", "tuned")
    } | {
        f"{kind}/{protocol}"
        for kind in ("tuning", "showcase")
        for protocol in ("standard", "robustness")
    }


def test_each_run_is_tuned_for_itself():
    found = run(
        small.evaluate_settings("random"), thetas(0, 1, 2) * torch.tensor([[1.0], [0.01], [3.0]])
    )
    assert found["step_size/standard/tuned"].unique().numel() > 1


def test_a_step_size_at_which_adaptation_diverges_is_not_chosen():
    settings = small.evaluate_settings("random", tuning_step_sizes=[0.001, 1e6])
    found = run(settings, thetas(0, 1))
    assert not found["tuning/standard"][1].isfinite().any()
    assert found["step_size/standard/tuned"].tolist() == [0.001, 0.001]


def test_the_validation_losses_of_an_evaluation_are_of_the_validation_bank():
    found = run(small.evaluate_settings("fomaml"), thetas(0))
    expected = adaptation_losses(PLAIN, thetas(0), bank_of(10, "validation-bank"), 10, steps(1))[0]
    assert torch.equal(found["validation/robustness/own"], expected)


def test_the_showcase_wave_is_fitted_better_after_adaptation():
    wave = Sine(torch.tensor(4.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    points = picture_support(FLUX, wave, small.protocol(10, (-5.0, 5.0)))
    assert points.x.shape == (10, 1)
    torch.testing.assert_close(points.y, 4 * torch.sin(points.x + 1))
    settings = small.evaluate_settings("fomaml", hyperparameters={"inner_step_size": 0.01})
    before, *_, after = run(settings, thetas(0))["showcase/standard"]
    x = torch.linspace(-5.5, 5.5, 111, dtype=torch.float64)
    truth = 4 * torch.sin(x + 1)
    torch.testing.assert_close(before[0], NETWORK.predict(thetas(0)[0], x[:, None].float())[:, 0])
    assert (after[0] - truth).square().mean() < (before[0] - truth).square().mean()
