"""An evaluation follows its protocol."""

from itertools import chain

import pytest
import small
import torch

from metabench.analysis import columns
from metabench.learning import algorithms, baselines, settings
from metabench.learning.algorithm import Question
from metabench.learning.evaluation import Step, adaptation_losses, evaluate
from metabench.learning.held_out import QUARTERS, held_out
from metabench.learning.network import Network
from metabench.learning.settings import Protocol
from metabench.learning.tasks import Bank, SineDistribution, SineOrLineDistribution
from metabench.learning.training import train

FLUX = SineDistribution()
NETWORK = Network((1, 8, 8, 1))
SEEDS = (0, 4, 9)
RIGHT_HALF = (0.0, 5.0)
PLAIN = ("fomaml", "reptile", "maml", "fomaml_tail")
LEARNED = ("meta_sgd", "maml_plus_plus")
OWN_WAY = ("anil", "cavia")
WITHOUT_STEPS = ("neural_process", "ridge")
NUMBER = "fixed 0.05"
"""The rule of a step size that is a number."""


def protocol(**more):
    return settings.EvaluatedProtocol(**{"shots": 5, "support": RIGHT_HALF, "updates": 3, **more})


(NUMBER,) = protocol(steps=("0.05",)).steps
"""The rule of a step size that is a number, as arrays are called after it."""


def theta_of(algorithm):
    """What an algorithm begins with, moved a little, so that nothing is at a special place."""
    value = algorithms.load(algorithm)
    initial = value.begin(NETWORK, SEEDS, small.published(algorithm).hyperparameters)
    noise = torch.randn(initial.shape, generator=torch.Generator().manual_seed(0))
    return initial.float() * (1 + 0.2 * noise)


def found(algorithm, theta=None, **more):
    """What an evaluation finds; some protocol `p` unless protocols are given."""
    protocols = more.pop("protocols", None) or {"p": protocol(**more.pop("protocol", {}))}
    given = small.evaluate_settings(
        algorithm, protocols=protocols, network={"hidden": [8, 8]}, **more
    )
    theta = theta_of(algorithm) if theta is None else theta
    return evaluate(given, theta, algorithms.load(algorithm))


def same(a, b):
    """Whether two evaluations have the same arrays, bit for bit."""
    return a.keys() == b.keys() and all(
        torch.equal(a[name].nan_to_num(nan=-1.0), b[name].nan_to_num(nan=-1.0)) for name in a
    )


# A protocol that says nothing more.


@pytest.mark.parametrize("algorithm", ["fomaml", "meta_sgd", "cavia", "joint", "ridge"])
def test_a_protocol_that_repeats_what_holds_anyway_changes_no_bit(algorithm, each_engine):
    usual = algorithms.load(algorithm).adaptation.steps
    values = {
        "noise": 0.0,
        "placement": "random",
        "outliers": 0,
        "regions": "support",
        "domain": FLUX.domain,
        "tasks": {},
        "optimizer": "sgd",
        "steps": usual,
    }
    plain = found(algorithm)
    for name, value in values.items():
        assert same(found(algorithm, protocol={name: value}), plain), name


def test_without_changes_the_distribution_is_the_very_same():
    assert protocol().distribution(FLUX) is FLUX


def test_protocols_of_a_group_do_not_notice_each_other():
    every = {
        "usual": protocol(),
        "noisy": protocol(noise=0.5, shots=3),
        "wide": protocol(domain=(-8.0, 8.0), steps=("own", "own x 4")),
        "adam": protocol(optimizer="adam", queries=7),
        "larger": protocol(tasks={"amplitude": (5.0, 9.0)}, updates=5),
    }
    together = found("fomaml", protocols=every)
    alone = [found("fomaml", protocols={name: given}) for name, given in every.items()]
    assert same(together, dict(chain.from_iterable(one.items() for one in alone)))


# Noise, query domain, tasks.


def test_noise_of_a_protocol_is_on_support_labels_alone():
    noisy, clean = (held_out(p, FLUX, "test-bank", 200) for p in (protocol(noise=0.3), protocol()))
    error = noisy.support.y - clean.support.y
    assert 0.25 < error.std() < 0.35 and torch.equal(noisy.support.x, clean.support.x)
    assert torch.equal(noisy.query.y, clean.query.y)
    quiet = protocol(noise=0.0).distribution(FLUX.model_copy(update={"noise": 0.3}))
    assert quiet.noise == 0


def bank_of(given, purpose="test-bank", tasks=FLUX):
    return Bank(0, purpose, given.distribution(tasks), 200)


def test_noise_of_a_protocol_is_that_of_tasks_with_the_same_noise():
    by_protocol = found("fomaml", protocol={"noise": 0.3})
    by_tasks = found("fomaml", tasks=FLUX.model_copy(update={"noise": 0.3}))
    assert same(by_protocol, by_tasks)
    assert not same(by_protocol, found("fomaml"))


# Where support points lie, and labels that mislead.


def support_of(**more):
    return held_out(protocol(**more), FLUX, "test-bank", 200).support


def test_even_points_are_the_centers_of_equal_parts_for_every_task():
    assert support_of(placement="even").x[..., 0].unique(dim=0).tolist() == [
        [0.5, 1.5, 2.5, 3.5, 4.5]
    ]
    one = support_of(placement="even", shots=1, support=(-5.0, 5.0))
    assert one.x.unique().tolist() == [0.0]


def test_points_around_a_gap_are_uniform_on_both_islands_and_only_they_are_seen():
    more = {"support": (-5.0, 5.0), "gap": (-3.0, 1.0), "shots": 20}
    tasks = held_out(protocol(**more), FLUX, "test-bank", 400)
    x = tasks.support.x
    assert not ((x > -3) & (x < 1)).any()
    left, right = (x <= -3).double().mean(), (x >= 1).double().mean()
    assert abs(left - 2 / 6) < 0.02 and abs(right - 4 / 6) < 0.02
    assert x.min() < -4.99 and x.max() > 4.99
    seen = FLUX.grid[tasks.regions["seen"], 0]
    assert ((seen <= -3) | (seen >= 1)).all() and len(seen) + len(tasks.regions["unseen"]) == 50
    even = support_of(**more | {"placement": "even", "shots": 3})
    assert even.x[0, :, 0].tolist() == [-4.0, 2.0, 4.0]


def test_outliers_are_the_first_points_with_labels_of_others_of_their_task():
    clean, wrong = support_of(), support_of(outliers=2)
    assert torch.equal(clean.x, wrong.x) and torch.equal(clean.y[:, 2:], wrong.y[:, 2:])
    error = (wrong.y - clean.y)[:, :2]
    assert (error != 0).all()
    amplitude = bank_of(protocol()).drawn.amplitude
    assert (wrong.y.abs().amax((1, 2)) <= amplitude).all()
    # Labels at independent points of a wave: twice its variance, about A^2 / 2 each.
    assert 0.8 < float(error.square().mean() / amplitude.square().mean()) < 1.2
    assert torch.equal(support_of(outliers=1).y[:, :1], wrong.y[:, :1])


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "growing"])
def test_each_kind_of_noise_has_the_same_standard_deviation_and_a_shape_of_its_own(kind):
    more = {"support": (-5.0, 5.0), "shots": 200}
    clean = support_of(**more)
    noisy = support_of(**more, noise=0.5, tasks={"noise_kind": kind})
    assert torch.equal(clean.x, noisy.x)
    error = (noisy.y - clean.y) / 0.5
    # The mean of the squares of heavy tails converges slowly.
    assert abs(float(error.square().mean()) - 1) < (0.1 if kind == "heavy-tailed" else 0.03)
    far = clean.x.abs() > 4
    growth = float(error[far].square().mean() / error[clean.x.abs() < 1].square().mean())
    tails = float((error.abs() > 4).double().mean())
    assert (growth > 20) == (kind == "growing") and growth > 0.8
    assert (tails > 0.003) == (kind == "heavy-tailed")


def test_quarters_go_from_the_points_nearest_to_a_support_point_to_the_farthest():
    tasks = held_out(protocol(regions="distance"), FLUX, "test-bank", 30)
    assert list(tasks.regions) == ["all", *QUARTERS] and QUARTERS == columns.QUARTERS
    for task in range(30):
        apart = (FLUX.grid - tasks.support.x[task, :, 0]).abs().amin(-1)
        parts = [apart[tasks.regions[name][task]] for name in QUARTERS]
        assert [len(part) for part in parts] == [13, 13, 12, 12]
        assert torch.cat(parts).tolist() == sorted(apart.tolist())


def test_the_loss_of_a_quarter_is_that_of_its_points():
    given = found("fomaml", protocol={"regions": "distance", "steps": ("own",)})["test/p/own"]
    whole = found("fomaml", protocol={"steps": ("own",)})["test/p/own"][0]
    everywhere, *quarters = given
    assert torch.equal(everywhere, whole)
    sizes = torch.tensor([13, 13, 12, 12]) / 50
    together = sum(size * part for size, part in zip(sizes, quarters, strict=True))
    torch.testing.assert_close(together, everywhere)
    assert quarters[0][-1].mean() < quarters[3][-1].mean()


def test_the_quarters_of_each_task_are_its_own():
    tasks = held_out(protocol(regions="distance"), FLUX, "test-bank", 20).to(torch.float32)
    theta = theta_of("fomaml")
    losses = adaptation_losses(small.plain(NETWORK), theta, tasks, 1, Step(torch.full((3,), 0.01)))
    square = (NETWORK.predict(theta[0], tasks.query.x) - tasks.query.y).square()[..., 0]
    for n, name in enumerate(QUARTERS, 1):
        expected = [square[task, tasks.regions[name][task]].mean() for task in range(20)]
        torch.testing.assert_close(losses[n, 0, 0], torch.stack(expected))


def test_the_best_prediction_is_not_computed_for_labels_that_it_does_not_expect():
    for more in ({"outliers": 1}, {"tasks": {"noise_kind": "growing"}}):
        assert "bayes" in baselines.names(FLUX, protocol(noise=0.3))
        assert "bayes" not in baselines.names(FLUX, protocol(noise=0.3, **more))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"outliers": 6}, "outliers must be at most shots, got 6 of 5"),
        ({"gap": (-1.0, 2.0)}, r"gap must lie inside support \[0, 5\], got \[-1, 2\]"),
        ({"gap": (2.0, 5.0)}, r"gap must lie inside support \[0, 5\], got \[2, 5\]"),
    ],
)
def test_impossible_support_points_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        protocol(**wrong)


def test_a_wider_query_domain_moves_the_query_points_and_nothing_else():
    wide, usual = (
        held_out(p, FLUX, "test-bank", 200) for p in (protocol(domain=(-9.0, 9.0)), protocol())
    )
    assert torch.equal(wide.support.x, usual.support.x)
    assert torch.equal(wide.support.y, usual.support.y)
    assert (wide.query.x[0], wide.query.x[-1]) == (-9, 9) and len(wide.query.x) == 50
    torch.testing.assert_close(wide.query.y, bank_of(protocol()).drawn(wide.query.x))
    x = wide.query.x[:, 0]
    assert wide.regions["seen"].tolist() == ((x >= 0) & (x <= 5)).nonzero()[:, 0].tolist()
    fresh = protocol(domain=(-9.0, 9.0), queries=40)
    assert held_out(fresh, FLUX, "test-bank", 200).query.x.abs().max() > 8.9


def test_losses_under_a_wider_query_domain_are_those_on_its_grid():
    wide = protocol(domain=(-9.0, 9.0))
    losses = found("fomaml", protocols={"wide": wide})["test/wide/own"]
    waves, grid = Bank(0, "test-bank", FLUX, 20).drawn, torch.linspace(-9, 9, 50).double()
    for run, theta in enumerate(theta_of("fomaml").double()):
        square = (NETWORK.predict(theta, grid[:, None]) - waves(grid[:, None])).square()
        expected = square.mean((-2, -1)).float()
        torch.testing.assert_close(losses[0, 0, run], expected, rtol=1e-4, atol=1e-5)


def test_another_amplitude_changes_the_waves_and_nothing_else():
    larger, usual = (bank_of(p) for p in (protocol(tasks={"amplitude": (5.0, 10.0)}), protocol()))
    assert (larger.drawn.amplitude >= 5).all() and (usual.drawn.amplitude < 5).all()
    assert torch.equal(larger.drawn.phase, usual.drawn.phase)
    assert torch.equal(larger.support(5, RIGHT_HALF).x, usual.support(5, RIGHT_HALF).x)


def test_another_family_keeps_what_all_families_share():
    tasks = SineDistribution(amplitude=(1.0, 2.0), domain=(-3.0, 3.0), grid_points=30, noise=0.1)
    changes = {"family": "sine-or-line", "slope": (0.0, 1.0)}
    mixed = protocol(support=(0.0, 3.0), tasks=changes).distribution(tasks)
    expected = SineOrLineDistribution(
        slope=(0.0, 1.0), domain=(-3.0, 3.0), grid_points=30, noise=0.1
    )
    assert mixed == expected
    both = protocol(support=(0.0, 3.0), tasks=changes, noise=0.4, domain=(-4.0, 4.0))
    update = {"noise": 0.4, "domain": (-4.0, 4.0)}
    assert both.distribution(tasks) == expected.model_copy(update=update)


@pytest.mark.parametrize(
    "tasks", [{"colour": 1}, {"amplitude": [2.0, 1.0]}, {"family": "cosine"}, {"family": "sine-or"}]
)
def test_settings_that_are_none_of_the_family_are_refused(tasks):
    with pytest.raises(ValueError):
        Protocol(shots=5, support=RIGHT_HALF, updates=1, tasks=tasks).distribution(FLUX)


def test_validation_losses_meet_the_tasks_and_the_optimizer_of_their_protocol():
    def curve(**more):
        given = {"protocol": Protocol(shots=5, support=RIGHT_HALF, updates=3, **more)}
        known = small.train_settings("fomaml", 5, network={"hidden": [8, 8]}, validation=given)
        return train(known, SEEDS, algorithms.load("fomaml"))

    usual = curve()
    for more in (
        {"noise": 0.5},
        {"domain": (-9.0, 9.0)},
        {"tasks": {"amplitude": (5.0, 6.0)}},
        {"optimizer": "adam"},
    ):
        other = curve(**more)
        assert torch.equal(other.theta, usual.theta), "training itself does not see it"
        assert not (other.validation_loss == usual.validation_loss).any(), more


def test_the_picture_shows_the_support_points_of_the_protocol():
    """The task of the picture stays; its labels have the noise of the protocol."""
    usual, noisy = (
        found("fomaml", protocols={"p": protocol(noise=noise)})["showcase/p"]
        for noise in (None, 0.5)
    )
    assert torch.equal(usual[0], noisy[0]) and not torch.equal(usual[1], noisy[1])


# The optimizer.


def adam(gradients):
    """Directions of Adam without its first moment, from the formula."""
    v = 0.0
    for done, gradient in enumerate(gradients, start=1):
        v = 0.999 * v + 0.001 * gradient**2
        yield gradient / ((v / (1 - 0.999**done)).sqrt() + 1e-8)


def question(optimizer=None, multiple=1.0, step_size=None):
    """Two updates on the support points of three tasks, one for each run; float64."""
    support = Bank(0, "test-bank", FLUX, 3).support(5, RIGHT_HALF)
    return Question(support.repeated(2), FLUX.grid, step_size, multiple, optimizer)


def sizes_of(algorithm, theta, h):
    """Step sizes of each parameter at each of two updates."""
    start = theta[..., : NETWORK.parameters]
    if algorithm == "meta_sgd":
        return [theta[..., NETWORK.parameters :]] * 2
    if algorithm == "maml_plus_plus":
        alpha = theta[..., NETWORK.parameters :].unflatten(-1, (h.inner_steps, -1))
        return [alpha[..., k, NETWORK.layer_of_parameter] for k in range(2)]
    everywhere = torch.full_like(start, h.inner_step_size)
    return [everywhere * NETWORK.head if algorithm == "anil" else everywhere] * 2


@pytest.mark.parametrize("algorithm", [*PLAIN, *LEARNED, "anil"])
def test_adam_at_test_time_takes_the_steps_of_its_formula(algorithm, each_engine):
    value, h = algorithms.load(algorithm), small.published(algorithm).hyperparameters
    theta, request = theta_of(algorithm).double(), question("adam")
    phi = theta[..., : NETWORK.parameters]
    gradients, expected = [], [NETWORK.predict(phi, request.x)]
    for size in sizes_of(algorithm, theta, h):
        gradients.append(NETWORK.loss_and_gradient(phi, *request.batches.at(0))[1])
        *_, direction = adam(gradients)
        phi = phi - size * direction
        expected.append(NETWORK.predict(phi, request.x))
    predicted = value.adaptation.predict(NETWORK, theta, request, h)
    torch.testing.assert_close(predicted, torch.stack(expected), rtol=1e-9, atol=1e-9)
    last = value.adaptation.predict(NETWORK, theta, request._replace(only=[len(expected) - 1]), h)
    torch.testing.assert_close(last[0], expected[-1], rtol=1e-9, atol=1e-9)


def test_adam_moves_the_context_of_cavia():
    value, h = algorithms.load("cavia"), small.published("cavia").hyperparameters
    theta, request = theta_of("cavia").double()[0], question("adam")
    wide = Network((1 + h.context, 8, 8, 1))
    rows = [theta[:8], theta[NETWORK.parameters :], theta[8 : NETWORK.parameters]]
    support = request.batches.at(0).at(0)

    def predict(context, x):
        beside = context.expand(len(x), -1)
        return wide.predict(torch.cat(rows), torch.cat([x, beside], -1))

    context = torch.zeros(h.context, dtype=torch.float64, requires_grad=True)
    rule = torch.optim.Adam([context], lr=h.inner_step_size, betas=(0.0, 0.999))
    for _ in range(2):
        rule.zero_grad()
        (predict(context, support.x) - support.y).square().mean().backward()
        rule.step()
    mine = request._replace(batches=support.repeated(2))
    predicted = value.adaptation.predict(NETWORK, theta, mine, h)
    expected = predict(context.detach(), request.x)
    torch.testing.assert_close(predicted[2], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("algorithm", [*PLAIN, *LEARNED, *OWN_WAY, "joint", *WITHOUT_STEPS])
def test_the_optimizer_matters_to_all_that_take_gradient_steps_and_to_no_other(algorithm):
    usual, other = (found(algorithm, protocol={"optimizer": rule}) for rule in (None, "adam"))
    for name, losses in usual.items():
        if name.startswith("test/"):
            assert torch.equal(losses[:, 0], other[name][:, 0]), "before any update"
            assert torch.equal(losses[:, 1], other[name][:, 1]) == (algorithm in WITHOUT_STEPS)


def test_an_algorithm_with_an_optimizer_of_its_own_keeps_it_unless_a_protocol_says_otherwise():
    of_its_own = {"hyperparameters": {"inner_optimizer": "adam"}}
    usual = found("reptile", **of_its_own)
    assert same(usual, found("reptile", protocol={"optimizer": "adam"}))
    assert same(found("reptile", protocol={"optimizer": "sgd"}, **of_its_own), found("reptile"))


# Step rules.


@pytest.mark.parametrize("algorithm", [*PLAIN, *OWN_WAY])
def test_a_multiple_of_its_own_step_is_its_own_step_times_that(algorithm, each_engine):
    own = small.published(algorithm).hyperparameters.inner_step_size
    times_four = found(algorithm, protocol={"steps": ("own x 4",)})
    larger = found(
        algorithm, protocol={"steps": ("own",)}, hyperparameters={"inner_step_size": 4 * own}
    )
    renamed = {name.replace("own x 4", "own"): tensor for name, tensor in times_four.items()}
    assert same(renamed, larger)
    assert times_four["step_size/p/own x 4"].tolist() == [4 * own] * 3


@pytest.mark.parametrize("algorithm", LEARNED)
def test_a_multiple_of_learned_steps_is_each_of_them_times_that(algorithm):
    theta = theta_of(algorithm)
    larger = theta.clone()
    larger[:, NETWORK.parameters :] *= 3
    by_rule = found(algorithm, theta, protocol={"steps": ("own x 3",)})["test/p/own x 3"]
    by_theta = found(algorithm, larger, protocol={"steps": ("own",)})["test/p/own"]
    assert torch.equal(by_rule, by_theta)
    assert not torch.equal(by_rule, found(algorithm, theta)["test/p/own"])


@pytest.mark.parametrize("algorithm", [*PLAIN, *OWN_WAY, *LEARNED, "joint", "random"])
def test_a_number_is_a_common_step_of_that_size(algorithm, each_engine):
    by_number = found(algorithm, protocol={"steps": (NUMBER,)})
    by_common = found(algorithm, protocol={"steps": ("common",)}, common_step_size=0.05)
    assert same({name.replace(NUMBER, "common"): t for name, t in by_number.items()}, by_common)
    assert by_number[f"step_size/p/{NUMBER}"].tolist() == [0.05] * 3


@pytest.mark.parametrize("algorithm", LEARNED)
def test_a_given_step_size_stands_in_place_of_learned_ones(algorithm):
    theta = theta_of(algorithm)
    plain = found("fomaml", theta[:, : NETWORK.parameters], protocol={"steps": (NUMBER,)})
    assert same(found(algorithm, theta, protocol={"steps": (NUMBER,)}), plain)


@pytest.mark.parametrize("algorithm", ["fomaml", "meta_sgd", "anil"])
def test_any_algorithm_that_takes_steps_can_be_tuned(algorithm):
    candidates = (0.001, 0.01, 0.03)
    rules = {"steps": ("tuned", "common"), "updates": 2}
    result = found(algorithm, protocol=rules, tuning_step_sizes=candidates)
    tuning = result["tuning/p"]
    assert tuning.shape == (3, len(SEEDS))
    assert result["step_size/p/tuned"].tolist() == [candidates[n] for n in tuning.argmin(0)]
    torch.testing.assert_close(
        result["validation/p/tuned"][-1].double().mean(-1), tuning.min(0).values, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("algorithm", [*LEARNED, *OWN_WAY, *PLAIN])
def test_equal_sizes_are_one_result_only_where_a_step_size_says_everything(algorithm):
    """Learned steps that began at the common size are others than the common step."""
    result = found(algorithm, common_step_size=0.3, hyperparameters={"inner_step_size": 0.3})
    own, common = (result[f"test/p/{rule}"] for rule in ("own", "common"))
    assert torch.equal(result["step_size/p/own"], result["step_size/p/common"])
    assert torch.equal(own, common) == (algorithm not in LEARNED)


def test_the_picture_is_drawn_with_the_first_step_rule():
    pictures = {
        rules: found("fomaml", protocol={"steps": rules})["showcase/p"][-1]
        for rules in (("own", NUMBER), (NUMBER, "own"), (NUMBER,), ("own",))
    }
    assert torch.equal(pictures[NUMBER, "own"], pictures[NUMBER,])
    assert torch.equal(pictures["own", NUMBER], pictures["own",])
    assert not torch.equal(pictures["own",], pictures[NUMBER,])


def test_losses_of_a_rule_are_those_of_its_step_size():
    given = protocol(steps=("own x 4",))
    tasks = held_out(given, FLUX, "test-bank", 20).to(torch.float32)
    step = Step(torch.full((3,), 0.08, dtype=torch.float64))
    expected = adaptation_losses(small.plain(NETWORK), theta_of("fomaml"), tasks, 3, step)
    assert torch.equal(found("fomaml", protocols={"p": given})["test/p/own x 4"], expected)
