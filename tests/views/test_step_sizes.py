"""Heat maps of grids over any hyperparameter, on tables made by hand."""

from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import handmade
import pytest
import rendered
import small

from metabench.analysis import frames
from metabench.study import config
from metabench.study.jobs import Study
from metabench.views.drawing import cell_grids
from metabench.views.drawing.reading import Tables
from metabench.views.figures import step_sizes


class Panel(NamedTuple):
    """What can be read off one heat map."""

    title: str
    down: str
    rows: list[str]
    across: str
    columns: list[str]
    means: list[str]


def panels(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Panel]:
    """Draw the grids of some cells for real, and return what each heat map says."""
    tables = Tables(handmade.write(handmade.grid(rows), tmp_path / "tables"))
    figure = rendered.drawn(lambda: step_sizes.draw(tables, "standard"))
    *found, _colours = figure.axes
    return [panel(axes) for axes in found if axes.axison]


def panel(axes: Any) -> Panel:
    return Panel(
        axes.get_title(loc="left"),
        axes.get_ylabel(),
        [label.get_text() for label in axes.get_yticklabels()],
        axes.get_xlabel(),
        [label.get_text() for label in axes.get_xticklabels()],
        [text.get_text().split("\n")[0] for text in axes.texts if text.get_text() != "★"],
    )


def cells(algorithm: str, **values: list[Any]) -> list[dict[str, Any]]:
    """Return the cells of a full grid."""
    return [
        {"algorithm": algorithm, **dict(zip(values, point, strict=True))}
        for point in product(*values.values())
    ]


def test_the_first_two_hyperparameters_that_vary_are_the_axes(tmp_path: Path) -> None:
    rows = cells("prox", meta_step_size=[0.1], strength=[0.5, 2.0], inner_step_size=[0.01, 0.02])
    (found,) = panels(tmp_path, rows)
    assert (found.down, found.rows) == ("inner step size", ["0.01", "0.02"])
    assert (found.across, found.columns) == ("strength", ["0.5", "2"])
    assert found.means == ["0.05", "0.1", "0.15", "0.2"]


def test_further_hyperparameters_are_panels_words_among_them(tmp_path: Path) -> None:
    rows = cells(
        "prox",
        meta_step_size=[0.1, 0.2],
        inner_step_size=[0.01, 0.02],
        hidden=["32", "64-64"],
        weight_decay=[3, 10],
    )
    found = panels(tmp_path, rows)
    assert {(panel.down, panel.across) for panel in found} == {
        ("inner step size", "meta step size")
    }
    assert [panel.title for panel in found] == [
        f"prox\nhidden {hidden}\nweight decay {decay}"
        for hidden, decay in product(["32", "64-64"], [3, 10])
    ]


def test_words_may_be_on_an_axis_and_an_empty_one_is_the_default(tmp_path: Path) -> None:
    rows = cells("maml", meta_optimizer=[None, "adam"], activation=["tanh", "relu", "sine"])
    (found,) = panels(tmp_path, rows)
    assert (found.down, found.rows) == ("meta optimizer", ["default", "adam"])
    assert (found.across, found.columns) == ("activation", ["relu", "sine", "tanh"])


def test_numbers_are_in_their_order_and_not_in_that_of_their_spelling(tmp_path: Path) -> None:
    (found,) = panels(tmp_path, cells("prox", strength=[2, 10, 0.5, 1e-5]))
    assert found.columns == ["1e-05", "0.5", "2", "10"]
    assert (found.across, found.down, found.rows) == ("strength", "", [""])


def test_step_sizes_that_do_not_vary_are_axes_where_nothing_else_is(tmp_path: Path) -> None:
    (found,) = panels(tmp_path, cells("maml", meta_step_size=[0.1], inner_step_size=[0.01]))
    assert (found.down, found.across) == ("inner step size", "meta step size")


def test_hyperparameters_that_vary_only_together_are_panels(tmp_path: Path) -> None:
    rows = [
        {"algorithm": "maml", "inner_step_size": size, "shots": shots, "queries": shots + 1}
        for size, shots in product([0.01, 0.001], [5, 10])
    ]
    found = panels(tmp_path, rows)
    assert [panel.title for panel in found] == [
        "MAML\nshots 5\nqueries 6",
        "MAML\nshots 10\nqueries 11",
    ]
    assert [panel.columns for panel in found] == [["0.001", "0.01"]] * 2


def test_step_sizes_are_axes_even_where_they_vary_only_together(tmp_path: Path) -> None:
    rows = [
        {"algorithm": "maml", "inner_step_size": size, "meta_step_size": 10 * size}
        for size in (0.1, 0.2)
    ]
    (found,) = panels(tmp_path, rows)
    assert found.rows == ["0.1", "0.2"] and found.columns == ["1", "2"]


def test_the_step_of_adaptation_is_an_axis_of_what_has_none_of_its_own(tmp_path: Path) -> None:
    rows = cells("joint", meta_step_size=[0.1, 0.2], strength=[1, 2])
    for row in rows:
        row["steps"] = ["common", "tuned"]
    found = panels(tmp_path, rows)
    assert [panel.title for panel in found] == [
        "Joint training\nstrength 1",
        "Joint training\nstrength 2",
    ]
    assert found[0].rows == ["common", "tuned"] and found[0].across == "meta step size"


def test_a_hole_in_a_grid_stays_empty(tmp_path: Path) -> None:
    rows = cells("prox", strength=[1, 2], depth=[1, 2])[:3]
    (found,) = panels(tmp_path, rows)
    assert found.means == ["0.05", "0.1", "0.15"] and len(found.rows) == len(found.columns) == 2


def test_cells_of_two_algorithms_with_one_name_are_not_mixed(tmp_path: Path) -> None:
    rows = [*cells("anil", strength=[1, 2]), *cells("maml", strength=[1, 2])]
    assert [found.means for found in panels(tmp_path, rows)] == [["0.05", "0.1"], ["0.15", "0.2"]]


def test_long_names_and_values_have_room(tmp_path: Path) -> None:
    name, value = (
        "a_hyperparameter_with_forty_letters_xxxx",
        "a_word_with_forty_letters_yyyyyyyyyyyyyy",
    )
    rows = cells(
        "prox", **{name: ["short", value], f"{name}2": ["short", value], f"{name}3": [1, 2]}
    )
    tables = Tables(handmade.write(handmade.grid(rows), tmp_path / "tables"))
    figure = rendered.drawn(lambda: step_sizes.draw(tables, "standard"))
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            shapes = [label.get_window_extent() for label in labels if label.get_text()]
            for first, second in pairwise(shapes):
                assert not first.overlaps(second)
    titles = [text for axes in figure.axes for text in rendered.title(axes) if text.get_text()]
    shapes = [text.get_window_extent() for text in titles]
    assert len(shapes) == 2 and not shapes[0].overlaps(shapes[1])
    assert all(shape.x1 <= figure.bbox.x1 and shape.y1 <= figure.bbox.y1 for shape in shapes)


def form_grids(rows: list[dict[str, Any]]) -> bool:
    """Return whether some cells form grids, and so have a figure of them."""
    return cell_grids.form_grids(handmade.grid(rows)["cells.csv"])


def test_a_study_without_anything_to_choose_has_no_figure_of_grids() -> None:
    assert not form_grids([{"algorithm": "random", "role": "published", "strength": None}])


def test_many_candidates_that_share_no_setting_have_no_figure_of_grids() -> None:
    """Trials of a search: four hyperparameters, each drawn for each trial."""
    trials = [
        {"algorithm": "prox", "a": n % 2, "b": n // 2, "c": n % 3, "d": n % 5} for n in range(12)
    ]
    assert not form_grids(trials)
    assert form_grids(trials[:5])
    assert form_grids(cells("prox", a=[0, 1, 2], b=[0, 1, 2], c=[0, 1, 2]))


REFERENCE = small.ROOT / "results" / "reference"
STUDIES = [path.name for path in REFERENCE.iterdir() if (path / "tables" / "cells.csv").is_file()]


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_a_study_knows_before_it_runs_whether_its_cells_form_grids(name: str) -> None:
    study = Study(config.load(small.ROOT / "config" / f"{name}.yaml"))
    tabled = frames.read(REFERENCE / name / "tables", "cells.csv")
    planned = cell_grids.planned(study.cells)
    assert cell_grids.form_grids(planned) == cell_grids.form_grids(tabled)
    assert cell_grids.form_grids(tabled) == (
        name not in ("adkl", "algorithms", "algorithms-atlas", "search")
    )
