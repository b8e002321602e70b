"""Figures stay readable with extreme input: infinite losses, losses of 0, long names."""

from itertools import combinations
from pathlib import Path
from typing import Any

import handmade
import pytest
import rendered
from matplotlib.figure import Figure

from metabench.views import figures
from metabench.views.drawing import medium, style
from metabench.views.drawing.reading import Tables
from metabench.views.figures import Picture

EVERYTHING = {"fomaml", "reptile", "anil", "joint", "random", "zero", "gaussian-process"}
LONG = {
    "fomaml": "a_first_order_method_with_forty_letters_",
    "reptile": "reptilewithoutanyunderscoreinfortyletter",
    "anil": "anil_with_a_name_of_just_forty_letters_x",
    "standard": "standard-protocol-of-forty-letters-aaaaa",
    "robustness": "robustnessprotocolofforttylettersnobreak",
}
SAME = {"f1": "inner 0.02, meta 0.01", "f2": "inner 0.02, meta 0.1", "f3": "inner 0.1, meta 0.1"}
SAME |= {"r1": SAME["f1"], "r2": SAME["f2"], "j1": SAME["f1"], "n1": SAME["f1"], "a1": SAME["f1"]}
"""Cells of different algorithms with the same names, in the order of the names that they had."""

PICTURES = figures.of_study(handmade.FIELDS)
FAMILIES = {p.stem if "grid" in p.fields else p.family.key: p for p in PICTURES}
every_family = pytest.mark.parametrize("family", FAMILIES)


def drawn(picture: Picture, tables: Tables, **fields: str) -> Figure:
    """Draw one figure for real."""
    changed = picture._replace(fields={**picture.fields, **fields})
    return rendered.drawn(lambda: changed.draw(tables))


def read(tmp_path: Path, tables: dict[str, Any]) -> Tables:
    return Tables(handmade.write(tables, tmp_path / "tables"))


@every_family
def test_a_study_whose_losses_are_all_infinite_has_every_figure(
    tmp_path: Path, family: str
) -> None:
    figure = drawn(FAMILIES[family], read(tmp_path, handmade.infinite()))
    assert figure.axes and all(rendered.within(axes.get_position()) for axes in figure.axes)


@every_family
@pytest.mark.parametrize("which", [{"fomaml"}, EVERYTHING], ids=["one", "all"])
def test_losses_of_exactly_zero_are_drawn(tmp_path: Path, family: str, which: set[str]) -> None:
    figure = drawn(FAMILIES[family], read(tmp_path, handmade.zero(which)))
    for axes in figure.axes:
        for scale, limits in (
            (axes.get_xscale(), axes.get_xlim()),
            (axes.get_yscale(), axes.get_ylim()),
        ):
            assert scale != "log" or 0 < limits[0] < limits[1]


def test_a_loss_of_zero_is_said_where_a_logarithmic_axis_cannot_show_it(tmp_path: Path) -> None:
    tables = read(tmp_path, handmade.zero({"fomaml"}))
    colour = tables.styles["fomaml"].colour
    lines = drawn(FAMILIES["adaptation"], tables).axes[0].get_lines()
    arrows = [line for line in lines if "downarrow" in str(line.get_marker())]
    assert {line.get_color() for line in arrows} == {colour}
    assert {"score 0"} <= texts(drawn(FAMILIES["equal_budget"], tables))
    assert "0\n(0)" in texts(drawn(FAMILIES["step_sizes"], tables))
    labels = drawn(FAMILIES["validation_curves"], tables).axes[0].get_legend_handles_labels()[1]
    assert "FOMAML\n(0 at the end)" in labels


def texts(figure: Figure) -> set[str]:
    """Return what is written in the axes of a figure."""
    return {text.get_text() for axes in figure.axes for text in axes.texts}


@every_family
def test_names_of_forty_letters_neither_overlap_nor_leave_the_figure(
    tmp_path: Path, family: str
) -> None:
    assert all(len(name) == 40 for name in LONG.values())
    picture = FAMILIES[family]
    fields = {field: LONG.get(value, value) for field, value in picture.fields.items()}
    figure = drawn(picture, read(tmp_path, handmade.renamed(LONG)), **fields)
    found = rendered.boxes(figure)
    assert found
    for name, box in found.items():
        assert rendered.within(box), name
    for (first, a), (second, b) in combinations(found.items(), 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), (first, second)


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("grid_")])
def test_a_cell_may_have_the_name_of_another_algorithms_cell(tmp_path: Path, family: str) -> None:
    picture = FAMILIES[family]
    pages = []
    for name, found in (("known", handmade.tables()), ("same", handmade.renamed(SAME))):
        with medium.settings():  # those of grids say the names
            figure = picture.draw(Tables(handmade.write(found, tmp_path / name)))
            pages.append(style.save(figure, tmp_path / f"{name}-{family}")[1].read_bytes())
    assert pages[0] == pages[1]


def test_a_line_of_training_without_any_finite_loss_has_no_marks(tmp_path: Path) -> None:
    made = handmade.tables()
    history = made["history.csv"]
    trained = (history["cell"] == "f1") & (history["meta_iteration"] > 0)
    history.loc[trained, "validation_loss"] = float("inf")
    figure = drawn(FAMILIES["validation_curves"], read(tmp_path, made))
    assert (
        f"FOMAML\n({handmade.SEEDS} of {handmade.SEEDS} seeds diverged)"
        in figure.axes[0].get_legend_handles_labels()[1]
    )
