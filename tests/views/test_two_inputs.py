"""A study whose x has two coordinates, from training to figures."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small

from metabench import jobs
from metabench.analysis import columns, frames
from metabench.records.artifacts import ArtifactError
from metabench.study.messages import ConfigError
from metabench.views import figures
from metabench.views.drawing import medium
from metabench.views.drawing.reading import Tables

AMPLITUDE, PHASE, DIRECTION = 4.0, 1.0, 0.5
CONTENT = small.tiny(
    tasks={"family": "plane-wave"},
    showcase={"amplitude": AMPLITUDE, "phase": PHASE, "direction": DIRECTION},
    cells=[small.short_fomaml(20, [0.01]), small.RANDOM],
)


def wave(table: pd.DataFrame) -> pd.Series:
    """Return the task of the pictures, written anew."""
    along = table["x1"] * np.cos(DIRECTION) + table["x2"] * np.sin(DIRECTION)
    return AMPLITUDE * np.sin(along + PHASE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that ran up to its tables."""
    root = tmp_path_factory.mktemp("plane")
    running = small.running(CONTENT, root)
    small.compute(running)
    jobs.tables(running)
    return root


def test_support_points_and_predictions_have_both_coordinates(root: Path) -> None:
    points, shown = (frames.read(root / "tables", name) for name in ("points.csv", "showcase.csv"))
    assert list(points.columns) == ["protocol", *columns.COORDINATES, "y"]
    assert points["protocol"].value_counts().to_dict() == {"standard": 10, "robustness": 5}
    np.testing.assert_allclose(points["y"], wave(points), rtol=1e-6)
    np.testing.assert_allclose(shown["truth"], wave(shown), rtol=1e-6, atol=1e-6)
    lattice = 41 * 41
    assert set(shown.groupby(["algorithm", "seed", "protocol"]).size()) == {lattice}
    assert len(shown[["x1", "x2"]].drop_duplicates()) == lattice
    assert (shown["before"] != shown["after"]).mean() > 0.99


def test_its_picture_maps_truth_and_predictions_and_no_figure_fails(root: Path) -> None:
    tables = Tables(root / "tables")
    pictures = figures.of_tables(tables)
    with medium.settings():
        drawn = {picture.stem: picture.draw(tables) for picture in pictures}
    first = tables.rows("showcase.csv", algorithm="fomaml", protocol="standard", seed=0)
    panels = drawn["showcase_standard"].axes[:3]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "ground truth",
        "before fine-tuning",
        "after fine-tuning",
    ]
    for axes, column in zip(panels, ("truth", "before", "after"), strict=True):
        (image,) = axes.images
        ordered = first.sort_values(["x1", "x2"])[column]  # rows downwards, columns to the right
        np.testing.assert_array_equal(np.asarray(image.get_array()).ravel(), ordered)
        edge = 5.5 + 11 / 40 / 2  # half a pixel beyond the last point
        assert image.origin == "upper"
        np.testing.assert_allclose(image.get_extent(), [-edge, edge, edge, -edge])
        (circles,) = axes.collections
        points = tables.rows("points.csv", protocol="standard")
        np.testing.assert_allclose(circles.get_offsets(), points[["x2", "x1"]])


def test_an_initialization_is_used_on_points_with_both_coordinates(
    root: Path, tmp_path: Path
) -> None:
    running = small.running(CONTENT, root)
    record = jobs.record_of(running, running.study.cell("fomaml/published"), 0)
    points, turned = tmp_path / "points.csv", tmp_path / "turned.csv"
    points.write_text("x1,x2,y\n1,2,3\n-1,0.5,0\n")
    turned.write_text("y,x2,x1\n3,2,1\n0,0.5,-1\n")
    csv_text = jobs.predict(record, 0, points, 5, None, 4)
    found = pd.read_csv(StringIO(csv_text))
    assert list(found.columns) == ["x1", "x2", "before", "after"] and len(found) == 16
    assert jobs.predict(record, 0, turned, 5, None, 4) == csv_text
    with pytest.raises(ConfigError, match="100000 points at most, got 400 to the 2"):
        jobs.predict(record, 0, points, 5, None, 400)
    points.write_text("x,y\n1,2\n")
    with pytest.raises(ArtifactError, match=r"columns x1, x2 and y: .* must name x1 once"):
        jobs.predict(record, 0, points, 5, None, 4)
