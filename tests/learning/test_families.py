"""The contract of every task family, and what is specific to each."""

import inspect
from importlib import import_module
from math import cos, pi, sin, sqrt

import pytest
import small
import torch

from metabench import jobs
from metabench.analysis import frames
from metabench.learning import algorithms, settings
from metabench.learning.baselines import (
    evaluate,
    least_squares,
    linear_model,
    names,
    training_tasks,
)
from metabench.learning.held_out import held_out, picture_x
from metabench.learning.randomness import BLOCK
from metabench.learning.tasks import (
    FAMILIES,
    Bank,
    DigitsDistribution,
    MultimodalDistribution,
    PlaneWaveDistribution,
    Points,
    SeaTemperatureDistribution,
    SineDistribution,
    SineOrLine,
    SineOrLineDistribution,
    TaskStream,
    distribution,
    recorded,
)
from metabench.learning.tasks.recorded import RecordedDistribution
from metabench.learning.training import train
from metabench.study import config
from metabench.study.messages import ConfigError
from metabench.views.figures import step_sizes

VARIANTS = {
    **{name: family() for name, family in FAMILIES.items()},
    "sine minus": SineDistribution(sign="minus"),
    "sine of frequencies": SineDistribution(frequency=(0.5, 2.0)),
    "lines alone": SineOrLineDistribution(lines=1.0),
    "other ranges": SineOrLineDistribution(
        amplitude=(1.0, 2.0), slope=(0.0, 1.0), intercept=(5.0, 6.0), domain=(-1.0, 3.0)
    ),
    "plane waves of other ranges": PlaneWaveDistribution(
        amplitude=(1.0, 2.0), direction=(1.0, 4.0), domain=(-1.0, 3.0), grid_points=8
    ),
    "two modes": MultimodalDistribution(modes=2),
    "three modes of other ranges": MultimodalDistribution(
        modes=3, curvature=(1.0, 2.0), center=(0.0, 1.0), domain=(-1.0, 3.0)
    ),
    "three digits": DigitsDistribution(classes=(7, 9, 8), grid_points=9, domain=(-1.0, 3.0)),
}
every_variant = pytest.mark.parametrize("tasks", VARIANTS.values(), ids=VARIANTS)
ENDLESS = {
    name: tasks for name, tasks in VARIANTS.items() if not isinstance(tasks, RecordedDistribution)
}
every_endless_variant = pytest.mark.parametrize("tasks", ENDLESS.values(), ids=ENDLESS)
RECORDED = {name: tasks for name, tasks in VARIANTS.items() if name not in ENDLESS}
every_recorded_variant = pytest.mark.parametrize("tasks", RECORDED.values(), ids=RECORDED)
PARTS = ("training", "validation-bank", "test-bank")
SEEDS = (4, 0, 9)


def unit(tasks, *shape):
    """Uniform numbers, as many as so many tasks are made of."""
    numbers = torch.Generator().manual_seed(1)
    return torch.rand(*shape, tasks.width, dtype=torch.float64, generator=numbers)


def parameters(drawn):
    """The parameters of a stack of tasks, ``(..., task, parameter)``."""
    return torch.stack([value for value in vars(drawn).values() if value is not None], dim=-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_found_by_its_name_and_written_by_its_keys(name):
    tasks = FAMILIES[name]()
    assert tasks.family == name
    assert distribution({"family": name}) == distribution(tasks.model_dump(mode="json")) == tasks
    assert config.parse(small.content(tasks={"family": name})).tasks == tasks


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_states_its_mathematics_and_where_it_comes_from(name):
    documentation = import_module(FAMILIES[name].__module__).__doc__
    assert "y = " in documentation and "Reference" in documentation


@every_variant
def test_a_stack_of_tasks_has_a_label_for_each_point(tasks):
    drawn = tasks.draw(unit(tasks, 2, 3, 5))
    assert parameters(drawn).shape[:3] == (2, 3, 5)
    x = torch.rand(2, 3, 5, 7, tasks.features, dtype=torch.float64)
    assert drawn(x).shape == (2, 3, 5, 7, 1) and drawn(x).isfinite().all()
    on_grid = drawn(tasks.grid)
    assert tasks.grid.shape == (tasks.grid_size, tasks.features)
    assert on_grid.shape == (2, 3, 5, tasks.grid_size, 1) and on_grid.dtype == torch.float64
    assert torch.equal(on_grid, drawn(tasks.grid.expand(2, 3, 5, -1, -1)))


@every_variant
def test_labels_leave_their_points_alone(tasks):
    x = tasks.grid
    tasks.draw(unit(tasks, 5))(x)
    assert torch.equal(x, tasks.grid)


@every_variant
def test_a_slice_of_uniform_numbers_gives_the_same_tasks(tasks):
    numbers, x = unit(tasks, 4, 6), tasks.grid
    together = tasks.draw(numbers)
    assert torch.equal(together(x), tasks.draw(numbers)(x))
    for index in [0, slice(1, 3), (slice(None), slice(2, 4)), (3, slice(5, 6))]:
        alone = tasks.draw(numbers[index])
        assert torch.equal(parameters(alone), parameters(together)[index])
        assert torch.equal(alone(x), together(x)[index])


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_are_told_apart_by_each_of_the_numbers_that_they_are_made_of(name):
    tasks = FAMILIES[name]()
    numbers, x = unit(tasks, 400), tasks.grid
    for n in range(tasks.width):
        other = numbers.clone()
        other[:, n] = (other[:, n] + 0.5) % 1
        assert not torch.equal(tasks.draw(numbers)(x), tasks.draw(other)(x))


@every_variant
def test_least_squares_fits_every_task_of_a_family_that_has_a_basis(tasks):
    held = held_out(small.protocol(10, tasks.domain), tasks, "test-bank", 300)
    assert ("least-squares" in names(tasks)) == (tasks.basis(tasks.grid) is not None)
    if "least-squares" in names(tasks):
        prediction = least_squares(tasks, held.support, held.query.x)
        torch.testing.assert_close(prediction, held.query.y, rtol=0, atol=1e-10)


@every_variant
def test_the_baselines_of_a_family_are_finite_under_every_protocol(tasks):
    support = max(tasks.domain[0], 0.0), tasks.domain[1]
    protocol = settings.BaselineProtocol(
        shots=5, support=support, updates=1, gaussian_process_length_scale=2.0
    )
    every = inspect.signature(tasks.one).parameters
    showcase = {name: 1982.0 if name == "year" else 1.0 for name in every}
    given = small.baseline_settings({"right": protocol}, tasks=tasks, showcase=showcase)
    found = evaluate(given)
    measured = {name.split("/")[-1] for name in found if name.startswith("test/")}
    assert measured == set(names(tasks))
    assert all(tensor.isfinite().all() for tensor in found.values())


@every_variant
def test_noise_is_added_to_what_is_learned_from_and_has_its_standard_deviation(tasks):
    noisy = tasks.model_copy(update={"noise": 0.3})
    block, bank = TaskStream(noisy, (0, 1), 2).block(0), Bank(0, "test-bank", noisy, 2000)
    support, query, fresh = block.support(5), block.query(), block.query(7)
    batches, held = block.mini_batches(5, 10), bank.support(5, noisy.domain)
    order = block.shuffles()[..., :50].unflatten(-1, (5, 10)).movedim(-2, 1)
    assert torch.equal(noisy.grid[order], batches.x)
    for points, truth in [
        (support, block.drawn(support.x)),
        (query, block.drawn(noisy.grid)),
        (fresh, block.drawn(fresh.x)),
        (held, bank.drawn(held.x)),
    ]:
        error = (points.y - truth).flatten()
        assert abs(error.mean()) < 3 * 0.3 / sqrt(len(error))
        assert abs(error.std() - 0.3) < 3 * 0.3 / sqrt(2 * len(error))
        assert error.unique().numel() == len(error), "each label has a noise of its own"
    by_batch = query.y[:, None].expand(-1, 5, -1, -1, -1, -1).gather(-2, order[..., None])
    assert torch.equal(by_batch, batches.y), "a point of the grid has one label"


@every_variant
def test_the_noise_of_a_label_has_nothing_to_do_with_its_point(tasks):
    noisy = tasks.model_copy(update={"noise": 0.3})
    block, bank = TaskStream(noisy, (0, 1), 2).block(0), Bank(0, "test-bank", noisy, 2000)
    support, fresh, held = block.support(5), block.query(5), bank.support(5, noisy.domain)
    noises = {
        "support": (support.x, support.y - block.drawn(support.x)),
        "query": (fresh.x, fresh.y - block.drawn(fresh.x)),
        "grid": (block.query(5).x, (block.query().y - block.drawn(noisy.grid))[..., :5, :]),
        "bank": (held.x, held.y - bank.drawn(held.x)),
    }
    for name, (x, noise) in noises.items():
        for n in range(tasks.features):
            pair = torch.stack([x[..., n].flatten(), noise.flatten()])
            assert abs(torch.corrcoef(pair)[0, 1]) < 4 / sqrt(noise.numel()), name


@every_variant
def test_noise_changes_neither_tasks_nor_points_nor_what_losses_are_measured_against(tasks):
    noisy = tasks.model_copy(update={"noise": 0.3})
    plain, other = (TaskStream(d, SEEDS, 2).block(3) for d in (tasks, noisy))
    assert torch.equal(parameters(plain.drawn), parameters(other.drawn))
    assert torch.equal(plain.support(5).x, other.support(5).x)
    assert torch.equal(plain.query(5).x, other.query(5).x)
    plain, other = (
        held_out(small.protocol(5, tasks.domain), d, "test-bank", 20) for d in (tasks, noisy)
    )
    assert torch.equal(plain.support.x, other.support.x) and not torch.equal(
        plain.support.y, other.support.y
    )
    assert torch.equal(plain.query.y, other.query.y)


@every_variant
def test_a_noisy_run_does_not_depend_on_its_neighbours(tasks):
    noisy = tasks.model_copy(update={"noise": 0.3, "training_tasks": 7})
    stack = TaskStream(noisy, SEEDS, 2).block(1)
    for run, seed in enumerate(SEEDS):
        alone = TaskStream(noisy, (seed,), 2).block(1)
        for kind in (
            lambda block: block.support(5),
            lambda block: block.query(),
            lambda block: block.query(5),
        ):
            assert torch.equal(kind(alone).y[:, 0], kind(stack).y[:, run])


@every_endless_variant
@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_run_visits_as_many_training_tasks_as_there_are_and_each_seed_has_its_own(tasks, count):
    few = tasks.model_copy(update={"training_tasks": count})
    visited = []
    for run in range(len(SEEDS)):
        blocks = [
            parameters(TaskStream(few, SEEDS, 2).block(n).drawn)[:, run].flatten(0, 1)
            for n in range(2)
        ]
        assert len(torch.cat(blocks).unique(dim=0)) == count
        assert all(len(block.unique(dim=0)) == count for block in blocks), "again and again"
        visited.append({tuple(row) for row in torch.cat(blocks).tolist()})
    assert len(set.union(*visited)) == count * len(SEEDS)


@every_endless_variant
def test_training_tasks_are_visited_equally_often(tasks):
    few = tasks.model_copy(update={"training_tasks": 10})
    drawn = parameters(TaskStream(few, (0,), 3).block(0).drawn)
    _, counts = drawn.reshape(3 * BLOCK, -1).unique(dim=0, return_counts=True)
    assert counts.sum() == 3000 and (counts.double() - 300).abs().max() < 4 * sqrt(3000 * 0.1 * 0.9)


@every_variant
def test_the_points_of_a_training_task_are_fresh_at_every_visit(tasks):
    one = tasks.model_copy(update={"training_tasks": 1})
    x = TaskStream(one, (0,), 1).block(0).support(5).x
    assert x.unique().numel() == x.numel()


@every_endless_variant
def test_a_bank_has_as_many_tasks_as_it_is_asked_for_however_few_are_trained_on(tasks):
    few = tasks.model_copy(update={"training_tasks": 3})
    held = parameters(Bank(0, "test-bank", few, 200).drawn)
    assert torch.equal(held, parameters(Bank(0, "test-bank", tasks, 200).drawn))
    assert len(held.unique(dim=0)) == 200


SHOWCASES = [
    ("sine", {"amplitude": 4.0, "phase": 1.0}, lambda x: 4 * torch.sin(x + 1)),
    (
        "sine",
        {"amplitude": 4.0, "phase": 1.0, "frequency": 2.5},
        lambda x: 4 * torch.sin(2.5 * x + 1),
    ),
    ("sine-or-line", {"amplitude": 4.0, "phase": 1.0}, lambda x: 4 * torch.sin(x + 1)),
    ("sine-or-line", {"line": 1.0, "slope": -2.0, "intercept": 0.5}, lambda x: 0.5 - 2 * x),
    ("sine-or-line", {"line": 1.0, "slope": -2.0, "amplitude": 3.0}, lambda x: -2 * x),
    (
        "plane-wave",
        {"amplitude": 4.0, "phase": 1.0, "direction": 0.7},
        lambda x: 4 * torch.sin((cos(0.7) + sin(0.7)) * x + 1),
    ),
    ("multimodal", {"mode": 0.0, "scale": 4.0, "center": -1.0}, lambda x: 4 * torch.sin(x + 1)),
    ("multimodal", {"mode": 1.0, "scale": -2.0, "bias": 0.5}, lambda x: 0.5 - 2 * x),
    (
        "multimodal",
        {"mode": 2.0, "scale": -0.1, "center": 2.0, "bias": 3.0},
        lambda x: 3 - 0.1 * (x - 2) ** 2,
    ),
    (
        "multimodal",
        {"mode": 3.0, "scale": 2.0, "center": 1.0, "bias": -1.0},
        lambda x: 2 * torch.tanh(x - 1) - 1,
    ),
    (
        "multimodal",
        {"mode": 4.0, "scale": -2.0, "center": 1.0, "bias": 3.0},
        lambda x: 3 - 2 * (x - 1).abs(),
    ),
]


@pytest.mark.parametrize(("family", "showcase", "formula"), SHOWCASES)
def test_one_task_is_what_its_parameters_say(family, showcase, formula):
    x = torch.linspace(-5.5, 5.5, 111, dtype=torch.float64)[:, None]
    tasks = FAMILIES[family]()
    found = tasks.one(**showcase)(x.expand(-1, tasks.features))
    assert found.shape == (111, 1)
    torch.testing.assert_close(found, formula(x), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_task_has_no_parameters_of_another_family(family):
    with pytest.raises(TypeError):
        FAMILIES[family]().one(colour=1.0)


# What is particular to each family.


def test_minus_takes_the_phase_from_x():
    numbers, x = unit(SineDistribution(), 50), SineDistribution().grid
    amplitude, phase = 0.1 + 4.9 * numbers[:, 0, None, None], 2 * pi * numbers[:, 1, None, None]
    for sign, formula in (
        ("plus", amplitude * torch.sin(x + phase)),
        ("minus", amplitude * torch.sin(x - phase)),
    ):
        torch.testing.assert_close(SineDistribution(sign=sign).draw(numbers)(x), formula)


def test_a_frequency_is_uniform_on_its_interval_and_stretches_the_wave():
    tasks = SineDistribution(frequency=(0.5, 2.0))
    waves = Bank(0, "test-bank", tasks, 20_000).drawn
    assert 0.5 <= waves.frequency.min() < 0.51 and 1.99 < waves.frequency.max() < 2
    assert abs(waves.frequency.mean() - 1.25) < 3 * 1.5 / sqrt(12 * 20_000)
    few, x = Bank(0, "test-bank", tasks, 20).drawn, tasks.grid
    turns = few.frequency[:, None, None] * x + few.phase[:, None, None]
    torch.testing.assert_close(few(x), few.amplitude[:, None, None] * torch.sin(turns))
    assert tasks.basis(x) is None
    assert not {"least-squares", "gaussian-process-periodic"} & set(names(tasks))


def test_waves_of_frequency_one_are_those_of_no_frequency():
    numbers = unit(SineDistribution(frequency=(1.0, 1.0 + 2e-6)), 50)
    numbers[..., 2] = 0
    x = SineDistribution().grid
    one = SineDistribution(frequency=(1.0, 1.0 + 2e-6)).draw(numbers)
    assert torch.equal(one(x), SineDistribution().draw(numbers[..., :2])(x))


@pytest.mark.parametrize("lines", [0.0, 0.3, 0.5, 1.0])
def test_lines_have_their_share(lines):
    drawn = Bank(0, "test-bank", SineOrLineDistribution(lines=lines), 4000).drawn
    assert set(drawn.line.tolist()) <= {0.0, 1.0}
    assert abs(drawn.line.mean() - lines) <= 3 * sqrt(lines * (1 - lines) / 4000)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("amplitude", 0.1, 5.0),
        ("phase", 0.0, 2 * pi),
        ("slope", -3.0, 3.0),
        ("intercept", -3.0, 3.0),
    ],
)
def test_the_parameters_of_waves_and_lines_are_uniform_on_their_intervals(name, low, high):
    values = getattr(Bank(0, "test-bank", SineOrLineDistribution(), 20_000).drawn, name)
    assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() < high
    assert abs(values.mean() - (low + high) / 2) < 3 * (high - low) / sqrt(12 * len(values))


def test_a_task_is_a_wave_or_a_line():
    drawn, x = (
        Bank(0, "test-bank", SineOrLineDistribution(), 100).drawn,
        SineDistribution().grid,
    )
    line, amplitude, phase, slope, intercept = (
        value[:, None, None] for value in vars(drawn).values()
    )
    expected = torch.where(line == 1, slope * x + intercept, amplitude * torch.sin(x + phase))
    torch.testing.assert_close(drawn(x), expected)
    assert isinstance(drawn, SineOrLine) and 30 < int(drawn.line.sum()) < 70


@pytest.mark.parametrize("modes", [2, 3, 5])
def test_modes_are_equally_likely(modes):
    drawn = Bank(0, "test-bank", MultimodalDistribution(modes=modes), 4000).drawn
    found, counts = drawn.mode.unique(return_counts=True)
    assert found.tolist() == list(range(modes))
    expected = 4000 / modes
    assert (counts - expected).abs().max() < 4 * sqrt(expected * (1 - 1 / modes))


@pytest.mark.parametrize(
    ("mode", "parameter", "low", "high"),
    [
        (0, "scale", 0.1, 5.0),
        (0, "center", 0.0, pi),
        (1, "scale", -3.0, 3.0),
        (1, "bias", -3.0, 3.0),
        (2, "center", -3.0, 3.0),
        (2, "bias", -3.0, 3.0),
        *[(mode, name, -3.0, 3.0) for mode in (3, 4) for name in ("scale", "center", "bias")],
    ],
)
def test_the_parameters_of_a_mode_are_uniform_on_their_intervals(mode, parameter, low, high):
    drawn = Bank(0, "test-bank", MultimodalDistribution(), 50_000).drawn
    values = getattr(drawn, parameter)[drawn.mode == mode]
    assert low <= values.min() < low + 0.01 and high - 0.01 < values.max() < high
    assert abs(values.mean() - (low + high) / 2) < 3 * (high - low) / sqrt(12 * len(values))


def test_sines_have_no_bias_and_lines_no_center():
    drawn = Bank(0, "test-bank", MultimodalDistribution(), 1000).drawn
    assert not drawn.bias[drawn.mode == 0].any() and not drawn.center[drawn.mode == 1].any()


def test_half_of_the_quadratic_functions_open_downwards_and_their_curvature_is_uniform():
    drawn = Bank(0, "test-bank", MultimodalDistribution(), 50_000).drawn
    scales = drawn.scale[drawn.mode == 2]
    for sizes in (scales[scales > 0], -scales[scales < 0]):
        assert abs(len(sizes) / len(scales) - 0.5) < 3 * 0.5 / sqrt(len(scales))
        assert 0.02 <= sizes.min() < 0.021 and 0.149 < sizes.max() < 0.15
        assert abs(sizes.mean() - 0.085) < 3 * 0.13 / sqrt(12 * len(sizes))


@every_recorded_variant
def test_every_row_is_in_one_part_and_the_banks_draw_from_theirs(tasks):
    rows = {name: set(tasks.rows(name).tolist()) for name in PARTS}
    assert sum(map(len, rows.values())) == len(set.union(*rows.values()))
    trained = parameters(TaskStream(tasks, (0,), 20).block(0).drawn)
    assert set(trained.flatten().tolist()) == rows["training"]
    for name in PARTS[1:]:
        drawn = parameters(Bank(0, name, tasks, 10_000).drawn)
        assert set(drawn.flatten().tolist()) == rows[name]


@every_recorded_variant
def test_half_of_the_rows_are_trained_on_and_a_quarter_is_in_each_bank(tasks):
    counts = [len(tasks.rows(name)) for name in PARTS]
    shares = [count / sum(counts) for count in counts]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


@pytest.mark.parametrize("name", PARTS)
def test_the_images_of_a_part_show_the_classes_of_the_distribution(name):
    shown = [DigitsDistribution(classes=(digit,)).rows(name).tolist() for digit in range(10)]
    some, every = DigitsDistribution(classes=(3, 1)), DigitsDistribution()
    assert some.rows(name).tolist() == shown[1] + shown[3]
    assert every.rows(name).tolist() == [image for images in shown for image in images]
    labels = recorded.table("digits.csv.gz")[:, -1]
    assert all(set(labels[images].tolist()) == {digit} for digit, images in enumerate(shown))


def test_at_the_centers_of_pixels_an_image_is_that_of_the_file():
    tasks, table = DigitsDistribution(), recorded.table("digits.csv.gz")
    assert table.shape == (1797, 65) and table[:, :64].max() == 16
    images = tasks.at(torch.arange(1797))(tasks.grid)
    torch.testing.assert_close(16 * images[..., 0], table[:, :64], rtol=0, atol=1e-12)


def test_between_pixels_an_image_is_bilinear_and_beyond_them_it_is_constant():
    tasks = DigitsDistribution()
    task, step = tasks.one(image=8), 10 / 7
    pixels = task(tasks.grid).reshape(8, 8)
    (a, b), (c, d) = pixels[2:4, 3:5]
    row, column = 0.25, 0.75
    x = torch.tensor([[(2 + row) * step - 5, (3 + column) * step - 5], [7.0, 3 * step - 5]])
    between = (1 - row) * ((1 - column) * a + column * b) + row * ((1 - column) * c + column * d)
    expected = torch.stack([between, pixels[7, 3]])
    torch.testing.assert_close(task(x)[:, 0], expected.float(), check_dtype=False)


def test_a_year_has_the_monthly_means_of_the_file_and_lines_between_them():
    task = SeaTemperatureDistribution().one(year=1997)
    months = torch.linspace(-5, 5, 12, dtype=torch.float64)[:, None]
    january, december = 23 + task(months)[[0, 11], 0]
    assert (january, december) == (pytest.approx(23.70), pytest.approx(27.08))
    middle = task((months[3:4] + months[4:5]) / 2)
    torch.testing.assert_close(middle, task(months)[3:5].mean(0, keepdim=True))


def test_the_training_mean_is_that_of_the_first_thirty_years_whatever_the_support_set():
    tasks = SeaTemperatureDistribution(grid_points=12)
    components = linear_model.learned(training_tasks(tasks))
    support = Points(*(torch.full((2, 3, 1), 9.0, dtype=torch.float64) for _ in range(2)))
    found = linear_model.training_mean(components, support, tasks.grid)
    years = recorded.table("sea_temperature.csv")[:30, 1:] - 23
    assert found.shape == (2, 12, 1)
    assert (found[0] == found[1]).all()
    # Some years are drawn more often than others among the thousand tasks.
    error = years.std(0) / sqrt(1000)
    assert ((found[0, :, 0] - years.mean(0)).abs() < 4 * error).all()


def test_the_training_mean_is_a_baseline_of_records_alone_whose_pictures_end_with_the_domain():
    for family, tasks in (("digits", DigitsDistribution()), ("sea", SeaTemperatureDistribution())):
        assert "training-mean" in names(tasks), family
        assert picture_x(tasks).abs().max() == 5
    assert "training-mean" not in names(SineDistribution())
    assert picture_x(SineDistribution()).max() == 5.5


@pytest.mark.parametrize(
    ("family", "showcase", "mistake"),
    [
        ("digits", {"image": 1797.0}, "image must be a whole number from 0 to 1796, got 1797"),
        ("digits", {"image": 0.5}, "image must be a whole number from 0 to 1796, got 0.5"),
        ("sea-temperature", {"year": 2011.0}, "from 1950 to 2010, got 2011"),
        ("multimodal", {"mode": 5.0, "scale": 1.0}, "mode must be a whole number from 0 to 4"),
    ],
)
def test_a_showcase_that_no_task_has_is_an_error_in_one_line(family, showcase, mistake):
    content = small.content(tasks={"family": family}, showcase=showcase)
    with pytest.raises(ConfigError, match=mistake) as error:
        small.study(content).check()
    assert str(error.value).endswith("(showcase)")


def test_classes_are_put_in_order_and_given_once():
    assert DigitsDistribution(classes=(9, 7)) == DigitsDistribution(classes=(7, 9))
    with pytest.raises(ValueError, match="each class must be given once, got 7, 7"):
        DigitsDistribution(classes=(7, 7))


# Jobs and studies.


@pytest.mark.parametrize("algorithm", ["fomaml", "reptile", "joint", "ridge", "neural_process"])
@every_variant
def test_every_family_can_be_trained_on(tasks, algorithm):
    noisy = tasks.model_copy(update={"noise": 0.1, "training_tasks": 5})
    given = small.train_settings(algorithm, 6, tasks=noisy, network={"hidden": [8, 8]})
    state = train(given, (0, 1), algorithms.load(algorithm))
    assert state.theta.isfinite().all() and state.validation_loss.isfinite().all()


def study_content():
    """A study of waves and lines: labels with noise, five tasks to train on, and ridge regression
    by two optimizers.
    """
    shared = {"meta_batch_size": 2, "shots": 5, "meta_step_size": 0.01, "meta_iterations": 20}
    ridge = {"algorithm": "ridge", **shared}
    cells = [
        {
            "algorithm": "fomaml",
            "inner_steps": 1,
            "inner_step_size": 0.02,
            **shared,
            "published": {},
        },
        {
            **ridge,
            "meta_optimizer": "adam",
            "meta_schedule": "cosine",
            "queries": 8,
            "published": {},
        },
        {**ridge, "meta_optimizer": "sgd"},
        {"algorithm": "joint", **shared, "published": {}},
        {"algorithm": "random", "meta_iterations": 0, "published": {}},
    ]
    return small.tiny(
        study="mixture",
        tasks={"family": "sine-or-line", "lines": 0.5, "noise": 0.1, "training_tasks": 5},
        cells=cells,
        showcase={"line": 1.0, "slope": 2.0},
        validation={"tasks": 5, "interval": 10},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of waves and lines that was really trained, with its tables."""
    started = small.running(study_content(), tmp_path_factory.mktemp("mixture"))
    small.compute(started)
    jobs.tables(started)
    return started


def test_a_study_of_waves_and_lines_has_every_table(done):
    tables = done.layout.tables
    board = frames.read(tables, "leaderboard.csv")
    assert set(board["algorithm"]) == {
        "fomaml",
        "ridge",
        "joint",
        "random",
        "gaussian-process",
        "gaussian-process-fitted",
        "least-squares",
        "linear",
        "zero",
    }
    assert set(board["protocol"]) == set(done.study.protocols)
    assert len(frames.read(tables, "runs.csv")) == 5 * done.study.config.seeds
    of_grids = {"axes.csv", "breaking_points.csv"}  # of which this study has none
    for path in [*tables.glob("*.csv"), *tables.glob("*.parquet")]:
        assert bool(len(frames.read(tables, path.name))) == (path.name not in of_grids), path.name


def test_what_an_algorithm_reads_stands_in_the_tables_and_nothing_else(done):
    cells = frames.read(done.layout.tables, "cells.csv")
    (fomaml,) = cells[cells["algorithm"] == "fomaml"].to_dict("records")
    ridge = cells[cells["algorithm"] == "ridge"].set_index("role")
    options = ["meta_optimizer", "meta_schedule", "queries"]
    assert ridge.loc["published", ["shots", *options]].tolist() == [5, "adam", "cosine", 8]
    assert ridge.loc["grid", options[:2]].tolist() == ["sgd", "constant"]
    assert ridge.loc["grid", ["queries"]].isna().all(), "empty stands for the grid"
    assert (
        ridge[["inner_steps", "inner_step_size", "context", "inner_optimizer"]]
        .isna()
        .all(axis=None)
    )
    assert all(fomaml[name] != fomaml[name] for name in ("queries", "context", "inner_optimizer"))
    assert (fomaml["meta_optimizer"], fomaml["meta_schedule"]) == ("sgd", "constant")
    board = frames.read(done.layout.tables, "leaderboard.csv").query(
        "algorithm == 'ridge' and role == 'published'"
    )
    assert set(board["queries"]) == {8} and set(board["meta_optimizer"]) == {"adam"}
    assert set(board["step"]) == {"own"} and board["step_size"].isna().all(), (
        "it takes no gradient steps"
    )


def test_a_heat_map_says_which_optimizer_its_cells_have(done):
    from metabench.views.drawing.reading import Tables

    figure = step_sizes.draw(Tables(done.layout.tables), "standard")
    titles = [axes.get_title() for axes in figure.axes]
    assert "Ridge head\nqueries 8\nAdam outside\ncosine decay" in titles
    assert "Ridge head" not in titles, "a single cell that is not published has no panel"


def test_least_squares_knows_waves_and_lines_but_not_the_noise(done):
    board = (
        frames.read(done.layout.tables, "leaderboard.csv")
        .query("protocol == 'standard'")
        .set_index("algorithm")
    )
    # Of 10 labels four coefficients are fitted, so that the mean loss is about the noise's variance
    # times 4/10.
    assert 0.1**2 * 0.1 < board.loc["least-squares", "mean"] < 0.1**2 * 2


def test_the_picture_of_a_study_of_waves_and_lines_is_its_line(done):
    rows = frames.read(done.layout.tables, "showcase.csv")
    assert len(rows) and (rows["truth"] - 2 * rows["x"]).abs().max() < 1e-6
