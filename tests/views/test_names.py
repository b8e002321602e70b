"""Names beside the ends of lines."""

import itertools

import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from metabench.views.drawing import medium
from metabench.views.drawing.names import spread
from metabench.views.drawing.reading import Tables
from metabench.views.figures import adaptation

PLACES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
NOISY = Tables(small.ROOT / "results" / "reference" / "flux-noisy" / "tables")


@given(PLACES)
def test_names_neither_overlap_nor_change_places_nor_leave_the_axes(places):
    wanted, heights = np.array(places), np.full(len(places), 0.08)
    found = spread(wanted, heights)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(found[order]) >= 0.08 - 1e-9).all()
    assert found.min() >= 0.04 - 1e-9 and found.max() <= 0.96 + 1e-9


def test_names_with_room_stand_where_they_want_to_be():
    wanted = np.array([0.9, 0.1, 0.5])
    assert spread(wanted, np.array([0.1, 0.2, 0.1])) == pytest.approx(wanted)


def test_names_without_room_share_the_way():
    assert spread(np.array([0.5, 0.5]), np.array([0.1, 0.2])) == pytest.approx([0.425, 0.575])


def test_names_that_do_not_fit_reach_beyond_the_top():
    assert spread(np.array([1.0, 1.0]), np.array([0.8, 0.8])) == pytest.approx([0.4, 1.2])


@pytest.mark.parametrize("statistic", ["score", "mean"])
def test_every_line_is_named_once_in_the_order_of_the_ends(statistic):
    with medium.settings("screen"):
        figure = adaptation.draw(NOISY, "robustness", statistic)
        axes = figure.axes[0]
        lines, labels = axes.get_legend_handles_labels()
        figure.draw_without_rendering()
    assert figure.legends == []
    names = {text.get_text(): text for text in axes.texts}
    assert set(names) == set(labels) and len(axes.texts) == len(labels)
    boxes = sorted((text.get_window_extent() for text in names.values()), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
    assert all(axes.bbox.x1 < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    ends = {line.get_label(): np.asarray(line.get_ydata())[-1] for line in lines}
    by_end = sorted(labels, key=ends.__getitem__)
    heights = [names[label].get_window_extent().y0 for label in by_end]
    assert heights == sorted(heights)


def test_in_a_column_of_a_paper_there_is_a_legend():
    with medium.settings("paper"):
        figure = adaptation.draw(NOISY, "robustness", "score")
    assert len(figure.legends) == 1
    assert list(figure.axes[0].texts) == []
