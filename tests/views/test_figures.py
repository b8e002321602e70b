import shutil
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pandas as pd
import pytest
import small
from docutils.core import publish_parts
from handmade import GRIDS, PROTOCOLS, SEEDS

from metabench.analysis import frames
from metabench.analysis.columns import QUARTERS
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.views import figures
from metabench.views.drawing import curves, medium, style
from metabench.views.drawing.contenders import contenders
from metabench.views.drawing.grids import Grid
from metabench.views.drawing.lines import lines
from metabench.views.drawing.reading import Fields, Tables
from metabench.views.figures import (
    adaptation,
    candidates,
    comparisons,
    distance,
    gallery,
    grids,
    profiles,
    step_sizes,
    task_by_task,
    training_tasks,
    trials,
    validation_curves,
)
from metabench.views.figures import showcase as showcase_figure
from metabench.views.report.charts.matrix import _both_ways


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small study's tables."""
    return handmade.write(handmade.tables(), tmp_path_factory.mktemp("made") / "tables")


@pytest.fixture(scope="module")
def tables(folder: Path) -> Tables:
    return Tables(folder)


@pytest.fixture(scope="module")
def drawn(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.draw_all(folder, tmp_path_factory.mktemp("first"))


def published(tables: Tables, algorithm: str) -> str:
    return str(style.styles([algorithm])[algorithm].label)


def test_the_tables_made_by_hand_have_columns_of_real_ones() -> None:
    reference = small.ROOT / "results" / "reference"
    for name, table in handmade.tables().items():
        study = "flux-noisy" if name in ("predictive.csv", "bands.csv") else "flux"
        real = frames.read(reference / study / "tables", name)
        assert set(table.columns) <= set(real.columns), name


@pytest.mark.parametrize(("study", "curves"), [("flux", True), ("digits", False)])
def test_only_a_study_whose_predictions_are_curves_has_a_gallery(study: str, curves: bool) -> None:
    tables = Tables(small.ROOT / "results" / "reference" / study / "tables")
    found = [p.stem for p in figures.of_tables(tables) if p.stem.startswith("gallery")]
    assert bool(found) == curves


def test_the_files_are_exactly_those_that_the_names_promise(drawn: list[Path]) -> None:
    names = list(PROTOCOLS)
    fields = Fields(
        names, list(GRIDS), names, ["standard"], gridded=names, curved=names, budgeted=True
    )
    stems = [picture.stem for picture in figures.of_study(fields)]
    assert len(set(stems)) == len(stems)
    assert {path.name for path in drawn[0].parent.iterdir()} == {
        manifests.NAME,
        *(f"{s}.{kind}" for s in stems for kind in ("png", "svg")),
    }
    assert set(manifests.read(drawn[0].parent)["files"]) == {path.name for path in drawn}


def test_tables_of_other_bytes_than_their_manifest_says_are_not_drawn(
    folder: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "history.csv").write_text((folder / "history.csv").read_text().replace("0", "1"))
    with pytest.raises(ArtifactError, match=r"history\.csv is damaged or was changed"):
        figures.draw_all(changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


AGAIN = """
import sys
from pathlib import Path
from metabench.views import figures
from metabench.views.drawing import medium, style
from metabench.views.drawing.reading import Tables
tables, out = Tables(Path(sys.argv[1])), Path(sys.argv[2])
pictures = figures.of_tables(tables)
with medium.settings():
    for picture in {picture.family.key: picture for picture in pictures}.values():
        style.save(picture.draw(tables), out / picture.stem)
print("torch" in sys.modules)
"""


def test_the_same_tables_give_the_same_bytes(
    folder: Path, drawn: list[Path], tmp_path: Path
) -> None:
    """One of each family, in another process, with another hash seed and a user's own settings."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 20\n")
    environment = {"MPLCONFIGDIR": str(tmp_path), "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", AGAIN, folder, tmp_path / "again"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "False"  # no torch
    again = list((tmp_path / "again").iterdir())
    # Cells of these tables do not differ in their training tasks, so one family has no figure.
    assert len(again) == 2 * (len(figures.families()) - 1)
    for path in again:
        assert path.read_bytes() == (drawn[0].parent / path.name).read_bytes(), path.name


def test_the_predictions_at_percentiles_are_drawn_with_their_losses(tables: Tables) -> None:
    panels = gallery.draw(tables, "standard").axes
    titles = [axes.get_title() for axes in panels[:4]]
    assert titles == ["5 %: loss 0.01", "50 %: loss 0.3", "95 %: loss 40", "99.9 %: loss inf"]
    truth, prediction, points = panels[0].lines
    rows = tables.rows("gallery.csv", protocol="standard", percentile=5.0, algorithm="fomaml")
    assert len(points.get_xdata()) == rows["shot"].notna().sum() > 0
    assert len(truth.get_xdata()) == len(prediction.get_xdata()) == rows["shot"].isna().sum()
    assert panels[0].get_ylim() == panels[3].get_ylim() == pytest.approx((-1.2, 1.2), abs=0.01)


def test_a_quarter_of_the_grid_has_a_mark_for_each_method(tables: Tables) -> None:
    (axes,) = distance.draw(tables, "standard").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == list(QUARTERS)
    rows = tables.rows("adaptation.csv", protocol="standard", region="far", step="own", cell="f1")
    scores = {round(float(line.get_ydata()[2]), 6) for line in axes.lines if len(line.get_ydata())}
    assert round(float(rows["score"].iloc[-1]), 6) in scores


def test_cells_that_differ_in_their_training_tasks_alone_share_a_line(tmp_path: Path) -> None:
    made = handmade.tables()
    cells = made["cells.csv"]
    count = cells["cell"].map({"f1": 10.0, "f2": 100.0})
    made["cells.csv"] = cells.assign(
        meta_step_size=0.01, inner_step_size=0.02, training_tasks=count
    )
    found = Tables(handmade.write(made, tmp_path / "tables"))
    assert found.fields.recurring == found.protocols
    (axes,) = training_tasks.draw(found, "standard").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["10", "100", "all new"]
    (fomaml,) = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [round(float(x)) for x in fomaml.get_xdata()] == [0, 1, 2]
    board = found.rows("leaderboard.csv", protocol="standard", step="own", algorithm="fomaml")
    assert list(fomaml.get_ydata()) == list(board.set_index("cell")["score"][["f1", "f2", "f3"]])
    assert not Tables(handmade.write(handmade.tables(), tmp_path / "plain")).fields.recurring


def test_a_protocol_of_a_grid_has_no_figures_of_its_own(tmp_path: Path) -> None:
    made = handmade.tables()
    for table in made.values():
        if "protocol" in table:
            table["protocol"] = table["protocol"].replace("robustness", "near shots 5")
    assert Tables(handmade.write(made, tmp_path / "tables")).protocols == ["standard"]


def test_nothing_in_a_file_tells_when_or_with_which_version_it_was_drawn(drawn: list[Path]) -> None:
    for path in drawn:
        content = path.read_bytes()
        assert b"dc:date" not in content
        assert b"matplotlib.org/" not in content.replace(b"http://matplotlib.org/\n", b"")


def test_a_figure_for_a_paper_is_a_pdf_of_the_same_bytes_each_time(
    tables: Tables, tmp_path: Path
) -> None:
    with medium.settings():
        pages = []
        for name in ("first", "again"):
            (page,) = style.save(trials.draw(tables), tmp_path / name, ["pdf"])
            pages.append(page.read_bytes())
    assert pages[0] == pages[1] and pages[0].startswith(b"%PDF")
    assert b"/Subtype /Type0" in pages[0], "letters that can be searched"
    assert b"CreationDate" not in pages[0]


def test_every_progress_step_is_one_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = figures.of_study
    few = ("equal_budget", "trials")
    monkeypatch.setattr(
        figures,
        "of_study",
        lambda *study: [picture for picture in every(*study) if picture.stem in few],
    )
    steps: list[None] = []
    drawn = figures.draw_all(folder, tmp_path, lambda: steps.append(None))
    assert len(drawn) == 2 * len(steps) == 4
    assert figures.count(folder) == 2


def test_the_names_of_figures_are_known_without_seaborn() -> None:
    """The workflow asks for them each time that it starts, and seaborn takes a second to import."""
    code = (
        "import sys; from metabench.views.drawing.reading import Fields;"
        "from metabench.views.figures import of_study;"
        "print(len(of_study(Fields(['standard']))), 'seaborn' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["9", "False"]


def test_every_figure_has_a_heading_labels_and_a_caption_in_the_report() -> None:
    for picture in figures.of_study(Fields(["standard", "one-shot"], ["shots"], budgeted=True)):
        assert picture.family.category and picture.labels
        # Snakemake adds links to every caption; a paragraph must end before them.
        parts = publish_parts(picture.caption, settings_overrides={"report_level": 2})
        assert parts["whole"].strip() and "system-message" not in parts["whole"]


def test_a_figure_says_what_fills_its_name() -> None:
    fields = Fields(["one-shot"], curved=["one-shot"], budgeted=True)
    found = {p.stem: p for p in figures.of_study(fields)}
    assert found["gallery_one-shot"].labels == {"protocol": "one-shot"}
    assert found["showcase_one-shot"].labels == {"protocol": "one-shot"}
    assert found["adaptation_one-shot_score"].labels == {
        "protocol": "one-shot",
        "statistic": "score",
    }
    assert found["equal_budget"].labels == {"figure": "equal budget"}


MINE = """
from matplotlib.figure import Figure

NAME = "mine_{protocol}_{size}"
CHOICES = {"size": ("small", "large")}
CATEGORY = "Mine"
CAPTION = "What I wanted to see."


def draw(tables, protocol, size):
    figure = Figure()
    figure.suptitle(f"{protocol} {size}")
    return figure
"""


def test_a_file_in_the_folder_is_a_figure_and_nothing_else_need_name_it(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    figures.families.cache_clear()
    try:
        found = {picture.stem: picture for picture in figures.of_study(Fields(["standard"]))}
    finally:
        monkeypatch.undo()
        figures.families.cache_clear()
    assert {"mine_standard_small", "mine_standard_large"} <= found.keys()
    drawn = found["mine_standard_large"].draw(tables)
    assert drawn.get_suptitle() == "standard large"


def test_every_algorithm_has_a_colour_and_marker_of_its_own() -> None:
    found = style.styles([*style.KNOWN, *(f"new{n}" for n in range(12))])
    assert (
        len({look.colour.lower() for look in found.values()}) == len(found) == len(style.KNOWN) + 12
    )
    known = [found[name] for name in style.KNOWN]
    assert len({look.marker for look in known}) == len(known)


def test_an_algorithm_keeps_its_colour_when_others_join() -> None:
    assert style.styles(["fomaml"])["fomaml"] == style.styles(["anil", "fomaml", "zzz"])["fomaml"]


def test_bands_are_the_tables_intervals(tables: Tables) -> None:
    axes = adaptation.draw(tables, "standard", "score").axes[0]
    colour = tables.styles["fomaml"].colour
    row = tables.rows("adaptation.csv", protocol="standard", region="all", cell="f1", step="own")
    band = next(
        b
        for b in axes.collections
        if len(b.get_paths()) and _hex(b.get_facecolor()[0]) == colour.lower()
    )
    vertices = {(round(x, 9), round(y, 9)) for x, y in band.get_paths()[0].vertices}
    for end in ("score_lower", "score_upper"):
        assert set(zip(row["update"].round(9), row[end].round(9), strict=True)) <= vertices


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])


def test_bars_of_baselines_are_the_tables_intervals(tables: Tables) -> None:
    axes = adaptation.draw(tables, "standard", "score").axes[0]
    row = tables.rows(
        "adaptation.csv", protocol="standard", region="all", algorithm="gaussian-process"
    ).iloc[0]
    bars = [segment for bar in axes.collections for segment in getattr(bar, "get_segments", list)()]
    assert any(
        np.allclose(bar[:, 1], [row["score_lower"], row["score_upper"]]) and bar[0, 0] > 4
        for bar in bars
    )


@pytest.mark.parametrize("study", ["algorithms", "flux-noisy"])
def test_each_bar_has_the_mark_of_its_line_and_a_line_that_leads_to_it(study: str) -> None:
    tables = Tables(small.ROOT / "results" / "reference" / study / "tables")
    protocol = tables.protocols[0]
    axes = adaptation.draw(tables, protocol, "score").axes[0]
    rows = tables.rows("adaptation.csv", protocol=protocol, region="all")
    last = rows["update"].max()
    for line in lines(tables, protocol):
        score = float(line.of(rows)["score"].iloc[-1])
        mine = [found for found in axes.get_lines() if found.get_color() == line.look["color"]]
        leads = [found for found in mine if found.get_linewidth() == curves.LEADER["linewidth"]]
        assert len(leads) == 1 and list(leads[0].get_ydata()) == [score, score]
        start, end = leads[0].get_xdata()
        assert start == last < end
        marks = [found.get_marker() for found in mine if list(found.get_xdata()) == [end]]
        assert line.look["marker"] in marks or line.step == "none"


@pytest.mark.parametrize("statistic", adaptation.CHOICES["statistic"])
def test_updates_start_at_zero_and_losses_are_logarithmic(tables: Tables, statistic: str) -> None:
    axes = adaptation.draw(tables, "robustness", statistic).axes[0]
    assert axes.get_xlim()[0] == 0
    assert axes.get_yscale() == "log"
    assert axes.get_lines()[0].get_xdata()[0] == 0
    assert profiles.draw(tables, "standard").axes[0].get_xscale() == "log"
    trained = validation_curves.draw(tables).axes
    assert {panel.get_yscale() for panel in trained} == {"log"}
    assert {panel.get_xscale() for panel in trained} == {"log"}


def test_least_squares_is_on_no_axis(tables: Tables) -> None:
    assert "least-squares" not in {line.algorithm for line in lines(tables, "standard")}
    assert adaptation.draw(tables, "standard", "mean").axes[0].get_ylim()[0] > 0.01


def test_the_selected_cell_is_dashed_beside_the_published_one(tables: Tables) -> None:
    mine = [line for line in lines(tables, "standard") if line.algorithm == "fomaml"]
    assert [(line.cell, line.look["linestyle"] == "-") for line in mine] == [
        ("f1", True),
        ("f3", False),
    ]
    yardstick = [
        (line.cell, line.step) for line in lines(tables, "standard") if line.algorithm == "joint"
    ]
    assert yardstick == [("j1", "common"), ("j1", "tuned")]


def test_a_diverged_cell_shows_in_the_loss_curves(tables: Tables) -> None:
    figure = adaptation.draw(tables, "standard", "mean")
    label = published(tables, "reptile")
    assert f"{label}\n(33.3 % diverged)" in figure.axes[0].get_legend_handles_labels()[1]
    marks = [line for line in figure.axes[0].get_lines() if "arrow" in str(line.get_marker())]
    assert {mark.get_color() for mark in marks} == {tables.styles["reptile"].colour}


def test_a_diverged_cell_is_annotated_in_the_heat_map(tables: Tables) -> None:
    figure = step_sizes.draw(tables, "standard")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"diverged\n2/{SEEDS}" in texts
    assert f"diverged\n1/{SEEDS}" in texts  # published, and framed like any other
    assert any("★" in text for text in texts)
    assert any(patch.get_hatch() for axes in figure.axes for patch in axes.patches)


def test_a_profile_ends_at_what_did_not_fail_and_the_legend_says_what_did(tables: Tables) -> None:
    axes = profiles.draw(tables, "standard").axes[0]
    lines = {str(line.get_label()).split(" (")[0]: line for line in axes.get_lines()}
    reptile = lines[published(tables, "reptile")]
    assert max(reptile.get_ydata()) == pytest.approx(2 / 3)
    assert "33.3 % failed" in str(reptile.get_label())
    assert "failed" not in str(lines[published(tables, "fomaml")].get_label())


def test_the_matrix_has_who_beats_whom_and_marks_what_is_certain(tables: Tables) -> None:
    ranks, matrix = comparisons.draw(tables, "standard").axes
    assert [label.get_text() for label in ranks.get_yticklabels()] == [
        f"{published(tables, name)}  {0.1 * (n + 1):.2g}"
        for n, (name, _) in enumerate(handmade.CONTENDERS)
    ]
    texts = {tuple(map(int, text.get_position())): text for text in matrix.texts}
    assert texts[1, 0].get_text() == "70" and texts[0, 1].get_text() == "30"  # column, row
    assert texts[3, 0].get_text() == "90" and texts[3, 0].get_fontweight() == "bold"
    assert texts[1, 0].get_fontweight() == "bold"
    assert texts[2, 0].get_fontweight() != "bold", "the interval of the percentage holds 50"
    assert len(texts) == 12


def test_percentages_are_those_of_the_report_whose_browser_rounds_a_half_up() -> None:
    tables = Tables(small.ROOT / "results" / "reference" / "algorithms" / "tables")
    found = contenders(tables, "robustness")
    rows = tables.rows("comparisons.csv", role="selected", region="all")
    pairs = _both_ways(tables, rows, ("robustness",))
    in_report = {(row["a"], row["b"]): Decimal(row["probability"]) for row in pairs}
    _, matrix = comparisons.draw(tables, "robustness").axes
    shown = {}
    for text in matrix.texts:
        column, row = map(int, text.get_position())
        shown[found[row].style.line, found[column].style.line] = text.get_text()
    assert shown == {
        pair: str(value.quantize(Decimal(1), ROUND_HALF_UP)) for pair, value in in_report.items()
    }
    assert Decimal("92.5") in in_report.values(), "otherwise nothing tells the rules apart"


def test_a_method_without_steps_is_a_flat_line_with_one_mark(tmp_path: Path) -> None:
    made = handmade.tables()
    adapted = made["adaptation.csv"]
    after = (adapted["cell"] == "a1") & (adapted["update"] > 0)
    adapted.loc[after, ["mean", "median", "score"]] = [0.5, 0.25, 0.125]
    adapted.loc[after, ["score_lower", "score_upper"]] = [0.1, 0.2]
    found = Tables(handmade.write(made, tmp_path / "tables"))
    axes = adaptation.draw(found, "standard", "score").axes[0]
    labels = {str(line.get_label()): line for line in axes.get_lines()}
    flat = labels[f"{published(found, 'anil')}, no steps"]
    assert list(flat.get_ydata()) == [0.125, 0.125] and flat.get_markevery() == [-1]
    assert [label for label in labels if label.endswith("no steps")] == [flat.get_label()]


def arrows(axes: Any) -> list[tuple[str, float]]:
    """Return the colour and the place of each arrow."""
    marks = [line for line in axes.get_lines() if "arrow" in str(line.get_marker())]
    return [(mark.get_color(), float(mark.get_xdata()[0])) for mark in marks]


def test_lines_of_training_have_the_marks_of_their_algorithms_and_arrows_where_they_leave(
    tmp_path: Path,
) -> None:
    made = handmade.tables()
    history = made["history.csv"]
    mine = history["cell"] == "f1"
    last = history.loc[mine, "meta_iteration"].max()
    history.loc[mine & (history["meta_iteration"] == last), "validation_loss"] = 1e6
    found = Tables(handmade.write(made, tmp_path / "tables"))
    axes = validation_curves.draw(found).axes[0]
    look = found.styles["fomaml"]
    line = next(line for line in axes.get_lines() if line.get_label() == look.label)
    assert line.get_marker() == look.marker
    infinite = found.styles["reptile"].colour, 200  # the mean, since a seed of it has diverged
    assert arrows(axes) == [infinite, (look.colour, last)]


def test_a_line_of_training_that_has_left_the_axis_goes_on_thin(tmp_path: Path) -> None:
    made = handmade.tables()
    history = made["history.csv"]
    mine = history["cell"] == "f1"
    second = sorted(history.loc[mine, "meta_iteration"].unique())[1]
    history.loc[mine & (history["meta_iteration"] == second), "validation_loss"] = 1e6
    found = Tables(handmade.write(made, tmp_path / "tables"))
    axes = validation_curves.draw(found).axes[0]
    line = next(line for line in axes.get_lines() if line.get_label() == "FOMAML")
    assert line.get_xdata()[-1] == second
    assert any(
        line.get_color() == found.styles["fomaml"].colour
        and line.get_linewidth() == validation_curves.FAINT["linewidth"]
        and second not in line.get_xdata()
        for line in axes.get_lines()
    )


def test_cells_of_one_algorithm_differ_in_dashes_and_legend() -> None:
    tables = Tables(small.ROOT / "results" / "reference" / "algorithms" / "tables")
    axes = validation_curves.draw(tables).axes[0]
    colour = tables.styles["ridge"].colour
    found = [line for line in axes.get_lines() if line.get_color() == colour]
    labels = axes.get_legend_handles_labels()[1]
    assert len(found) == 2 and {line.get_label() for line in found} <= set(labels)
    first, second = found
    assert first.get_label() != second.get_label()
    assert (first.is_dashed(), second.is_dashed()) == (False, True)


def test_a_score_below_the_axis_of_a_grid_is_an_arrow(tmp_path: Path) -> None:
    made = handmade.tables()
    board = made["leaderboard.csv"]
    low = (board["cell"] == "f1") & (board["protocol"] == "points shots 10")
    board.loc[low, ["score", "score_lower", "score_upper"]] = [1e-6, 1e-7, 1e-5]
    found = Tables(handmade.write(made, tmp_path / "tables"))
    axes = grids.draw(found, "points").axes[0]
    assert (found.styles["fomaml"].colour, 10) in arrows(axes)
    assert axes.get_ylim()[0] < grids.LOW


def add_baseline(made: dict[str, pd.DataFrame], name: str, **changes: float) -> None:
    """Add a baseline like the Gaussian process to tables."""
    for table in ("leaderboard.csv", "adaptation.csv"):
        rows = made[table]
        process = rows[rows["algorithm"] == "gaussian-process"]
        made[table] = pd.concat([rows, process.assign(algorithm=name, **changes)])


def compared_on_the_map(difference: float, lower: float, upper: float) -> pd.DataFrame:
    """Published ANIL against FOMAML at each point of the grid `both`."""
    pair = {"algorithm_a": "anil", "cell_a": "a1", "algorithm_b": "fomaml", "cell_b": "f1"}
    ends = {"difference": difference, "difference_lower": lower, "difference_upper": upper}
    return pd.DataFrame(
        {**pair, **ends, "role": "published", "region": "all", "protocol": protocol}
        for protocol in handmade.of_grids()
        if protocol.startswith("both ")
    )


def test_maps_of_scores_and_of_their_difference_have_a_scale_each(tmp_path: Path) -> None:
    made = handmade.tables()
    rows = compared_on_the_map(0.1, 0.05, 0.2)
    made["comparisons.csv"] = pd.concat([made["comparisons.csv"], rows])
    found = Tables(handmade.write(made, tmp_path / "tables"))
    panels = grids.draw(found, "both").axes
    scales = [axes.get_ylabel() for axes in panels if axes.get_label() == "<colorbar>"]
    assert sorted(scales) == ["difference of mean scores", "mean score"]


@pytest.mark.parametrize(("lower", "upper", "hatched"), [(0.05, 0.2, False), (-0.05, 0.2, True)])
def test_the_last_row_of_maps_has_differences_hatched_where_they_are_uncertain(
    tmp_path: Path, lower: float, upper: float, hatched: bool
) -> None:
    made = handmade.tables()
    to_process = {"algorithm_b": "gaussian-process-fitted", "cell_b": "-", "difference": -0.3}
    rows = compared_on_the_map(0.1, lower, upper)
    more = rows.assign(**to_process, difference_lower=-0.4, difference_upper=-0.2)
    made["comparisons.csv"] = pd.concat([made["comparisons.csv"], rows, more])
    add_baseline(made, "gaussian-process-fitted")
    found = Tables(handmade.write(made, tmp_path / "tables"))
    shown = [axes for axes in grids.draw(found, "both").axes if axes.images]
    titles = [axes.get_title() for axes in shown[-2:]]
    by_title = {axes.get_title(): axes for axes in shown if "−" in axes.get_title()}
    names = [set(title.split(" −\n")) for title in by_title]
    assert names == [{"ANIL", "FOMAML"}, {"ANIL", "GP, fitted kernel"}], titles
    first, second = by_title.values()
    sign = 1 if first.get_title().startswith("ANIL") else -1
    assert np.allclose(first.images[0].get_array(), sign * 0.1)
    assert np.allclose(second.images[0].get_array(), -0.3)
    assert bool(first.patches) == hatched and not second.patches


def test_the_best_possible_is_a_broad_line_and_baselines_below_the_axis_are_named(
    tmp_path: Path,
) -> None:
    made = handmade.tables()
    add_baseline(made, "bayes")
    add_baseline(made, "linear", **dict.fromkeys(("score", "score_lower", "score_upper"), 1e-9))
    found = Tables(handmade.write(made, tmp_path / "tables"))
    axes = grids.draw(found, "points").axes[0]
    by_label = {str(line.get_label()): line for line in axes.get_lines()}
    usual = by_label[found.styles["gaussian-process"].label].get_linewidth()
    assert by_label["Bayes-optimal"].get_linewidth() > 2 * usual
    assert not len(by_label["Linear model, below"].get_xdata())
    assert "Linear model" not in by_label


def test_each_task_is_a_point_at_the_mean_scores_of_two_contenders() -> None:
    tables = Tables(small.ROOT / "results" / "reference" / "flux-atlas" / "tables")
    panels = task_by_task.draw(tables, "robustness").axes
    names = [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels]
    process = "score of GP, fitted kernel"
    first, second = names[0]
    assert names == [(first, second), (first, process), (second, process)]
    rows = tables.rows("tasks.parquet", protocol="robustness", region="all", task=7)
    zero = rows.loc[rows["algorithm"] == "zero", "loss"].item()
    fitted = rows.loc[rows["algorithm"] == "gaussian-process-fitted", "loss"].item()
    points = panels[1].get_lines()[-1]
    assert points.get_ydata()[7] == pytest.approx(min(1, fitted / zero))
    chosen = next(side for side in contenders(tables, "robustness") if side.step != "none")
    assert first == f"score of {chosen.style.line}"
    mine = rows[(rows["algorithm"] == chosen.algorithm) & (rows["cell"] == chosen.cell)]
    assert points.get_xdata()[7] == pytest.approx((mine["loss"] / zero).clip(upper=1).mean())
    assert not figures_of("flux", "tasks_") and figures_of("flux-atlas", "tasks_")


def figures_of(study: str, start: str) -> list[str]:
    """The figures of a reference study whose names begin so."""
    tables = Tables(small.ROOT / "results" / "reference" / study / "tables")
    return [found.stem for found in figures.of_tables(tables) if found.stem.startswith(start)]


def test_trials_are_shown_of_algorithms_with_more_than_one(tables: Tables) -> None:
    axes = trials.draw(tables).axes[0]
    (line,) = axes.get_lines()
    assert line.get_label() == published(tables, "fomaml")
    assert list(line.get_xdata()) == [1, 2, 3]


def test_trials_under_many_protocols_are_in_rows_that_fit_the_page() -> None:
    tables = Tables(small.ROOT / "results" / "reference" / "flux-atlas" / "tables")
    places = [axes.get_subplotspec() for axes in trials.draw(tables).axes]
    assert len(places) == len(tables.protocols) == 6
    assert {place.rowspan.start for place in places} == {0, 1}
    assert {place.colspan.start for place in places} == {0, 1, 2}


def test_every_line_of_trials_has_a_mark() -> None:
    drawn = trials.draw(Tables(small.ROOT / "results" / "reference" / "algorithms" / "tables"))
    found = [line for axes in drawn.axes for line in axes.get_lines()]
    assert min(len(line.get_xdata()) for line in found) == 2, "the shortest line matters"
    for line in found:
        start, every = line.get_markevery()
        assert line.get_xdata()[start::every].size, line.get_label()


@pytest.mark.parametrize(("study", "bands"), [("flux", True), ("algorithms", False)])
def test_captions_name_the_lines_and_intervals_that_the_figure_of_the_study_has(
    study: str, bands: bool
) -> None:
    tables = Tables(small.ROOT / "results" / "reference" / study / "tables")
    found = {picture.stem: picture for picture in figures.of_tables(tables)}
    drawn = found["adaptation_standard_score"].draw(tables).axes[0]
    shaded = [b for b in drawn.collections if len(b.get_facecolor())]
    dashed = [line.look for line in lines(tables, "standard") if line.step != "none"]
    for stem in ("adaptation_standard_score", "robustness_regions"):
        caption = found[stem].caption
        assert ("Bands are" in caption) == bool(shaded) == bands
        assert ("Dashed lines" in caption) == any(look["linestyle"] != "-" for look in dashed)
    first = sorted(set(tables["history.csv"]["meta_iteration"]))[1]
    whole = [line for line in found["validation_curves"].draw(tables).axes[0].lines]
    whole = [line for line in whole if line.get_xdata()[0] == first]
    faint = any(line.get_alpha() == validation_curves.FAINT["alpha"] for line in whole)
    assert ("Faint lines are the seeds" in found["validation_curves"].caption) == faint == bands


def test_every_candidate_has_a_dot_and_the_selected_one_a_mark(tables: Tables) -> None:
    axes = candidates.draw(tables).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [published(tables, "fomaml")]
    dots, median, mark = (list(map(float, line.get_xdata())) for line in axes.get_lines())
    assert dots == [0.5, 0.25, 0.5 / 3]
    assert median == [0.25] and mark == [0.5 / 3]


def test_a_diverged_seed_is_marked_in_the_validation_curve(tables: Tables) -> None:
    axes = validation_curves.draw(tables).axes[0]
    colour = tables.styles["reptile"].colour
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [(line.get_color(), line.get_xdata()[0]) for line in crosses] == [(colour, 100)]
    label = f"{published(tables, 'reptile')}\n(1 of {SEEDS} seeds diverged)"
    mean = next(line for line in axes.get_lines() if line.get_label() == label)
    # A mean is never that of the survivors alone.
    assert np.isfinite(np.asarray(mean.get_ydata(), dtype=float)).sum() == 1


def test_a_diverged_seed_is_counted_in_the_showcase(tables: Tables) -> None:
    panels = showcase_figure.draw(tables, "standard").axes
    notes = {axes.get_title(): [t.get_text() for t in axes.texts] for axes in panels}
    assert notes[published(tables, "reptile")] == [f"1 of {SEEDS} seeds diverged"]
    assert notes[published(tables, "fomaml")] == []


def test_where_no_cell_is_published_the_selected_one_is_shown(tmp_path: Path) -> None:
    found = handmade.tables()
    grid = {"published": "grid"}
    for name in ("cells.csv", "leaderboard.csv", "adaptation.csv", "showcase.csv"):
        found[name] = found[name].assign(role=found[name]["role"].replace(grid))
    made = Tables(handmade.write(found, tmp_path / "tables"))
    title = showcase_figure.draw(made, "standard").axes[0].get_title()
    assert title.endswith(", selected")
    labels = validation_curves.draw(made).axes[0].get_legend_handles_labels()[1]
    assert f"{published(made, 'fomaml')}, selected" in labels


def test_a_study_without_special_cells_or_regions_still_has_every_figure(tmp_path: Path) -> None:
    gone = {
        "role": ["equal-budget"],
        "protocol": ["robustness"],
        "cell": ["r2"],
        "region": ["seen", "unseen"],
    }
    found = handmade.tables()
    for name, table in found.items():
        for column in table.columns.intersection(list(gone)):
            table = table[~table[column].isin(gone[column])]
        found[name] = table
    made = Tables(handmade.write(found, tmp_path / "tables"))
    assert "equal_budget" not in {picture.stem for picture in figures.of_tables(made)}
    stems = ("robustness_regions", "comparisons_standard", "step_sizes_standard")
    for picture in figures.of_tables(made):
        if picture.stem in stems:
            written = style.save(picture.draw(made), tmp_path / picture.stem)
            assert len(written) == 2 and all(path.stat().st_size > 1000 for path in written)


def test_of_many_algorithms_a_grid_has_one_line_each() -> None:
    tables = Tables(small.ROOT / "results" / "reference" / "algorithms-atlas" / "tables")
    found = Grid(tables, "width")
    trained = [line for line in found.lines if line.cell != "-"]
    assert [line.algorithm for line in trained] == tables.every_algorithm
    assert [line.label for line in trained] == [
        tables.styles[name].label for name in tables.every_algorithm
    ]
    board = tables.rows("leaderboard.csv", protocol="robustness")
    selected = set(board.loc[board["selected"], "cell"])
    assert {line.cell for line in trained} <= selected
    assert len(found.methods) > len(found.lines)
