"""Studies whose protocols have neither the algorithms' own step sizes nor tuned ones."""

from typing import Any

import pytest
import small

from metabench import jobs
from metabench.analysis import frames, shortlist
from metabench.records.running import Running
from metabench.views.drawing.lines import lines
from metabench.views.drawing.reading import Tables
from metabench.views.figures import candidates, equal_budget
from metabench.views.report import board
from metabench.views.tracking import contents

RULES: list[list[Any]] = [[0.05, 0.01], ["common"]]
REPTILE = {
    "algorithm": "reptile",
    "equal_budget": "fomaml",
    "meta_batch_size": 1,
    "shots": 10,
    "inner_steps": 1,
    "inner_step_size": 0.02,
    "meta_step_size": 0.1,
}


@pytest.fixture(scope="module", params=RULES, ids=["fixed", "common"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A finished study under one list of step rules."""
    every = {"updates": 2, "steps": request.param, "gaussian_process_length_scale": 1.5}
    protocols = {
        "standard": {"shots": 10, "support": [-5.0, 5.0], **every},
        "near": {"shots": [5, 10], "support": [0.0, 5.0], **every},
    }
    content = small.tiny(
        cells=[small.short_fomaml(4, [0.01, 0.1]), REPTILE, small.RANDOM],
        protocols=protocols,
        validation={"protocol": "standard", "tasks": 4, "interval": 2},
    )
    running = small.running(content, tmp_path_factory.mktemp("steps"))
    running.write()
    small.compute(running)
    jobs.tables(running)
    return running


@pytest.fixture(scope="module")
def first(done: Running) -> str:
    """The step rule by which cells are judged: the first by name."""
    return min(set(frames.read(done.layout.tables, "selection.csv")["step"]))


def test_every_figure_and_the_report_are_made(done: Running) -> None:
    drawn = jobs.figures(done.layout.tables, done.layout.figures, kinds=["png"])
    assert all(path.stat().st_size for path in drawn)
    page = jobs.report(done).read_text(encoding="utf-8")
    assert f"metabench report --study {done.study.name}</code>" in page


def test_every_candidate_has_one_dot(done: Running) -> None:
    axes = candidates.draw(Tables(done.layout.tables)).axes[0]
    dots, _, mark = axes.get_lines()
    assert len(dots.get_xdata()) == 2 and len(mark.get_xdata()) == 1


def test_cells_at_another_budget_are_drawn(done: Running) -> None:
    labels = equal_budget.draw(Tables(done.layout.tables)).axes[0].get_yticklabels()
    assert any("equal-budget" in label.get_text() for label in labels)


def test_published_and_selected_cells_have_a_line_at_the_first_step(
    done: Running, first: str
) -> None:
    found = lines(Tables(done.layout.tables), "standard")
    assert {line.step for line in found} == {first, "none"}
    assert {"fomaml", "random"} <= {line.algorithm for line in found}


def test_the_leaderboard_of_the_report_marks_a_row_of_each_cell(done: Running, first: str) -> None:
    rows = board.rows(Tables(done.layout.tables), ["standard"])
    judged = [(row["algorithm"], row["cell"]) for row in rows if row["judged"]]
    assert sorted(judged) == sorted({(row["algorithm"], row["cell"]) for row in rows})
    assert {row["step"] for row in rows if row["judged"]} == {first, "none"}


def test_the_ranking_is_by_the_same_step(done: Running, first: str) -> None:
    ranking = frames.read(done.layout.tables, "ranking.csv")
    assert set(ranking["step"]) == {first, "none"}


def test_the_short_list_has_the_candidates(done: Running) -> None:
    groups = shortlist.groups(done.layout.tables, 2)
    assert [group["algorithm"] for group in groups] == ["fomaml", "fomaml", "random"]


def test_the_studys_run_in_mlflow_has_the_scores(done: Running, first: str) -> None:
    board = frames.read(done.layout.tables, "leaderboard.csv")
    names = [point.key for point in contents._headline(board, done.study)]
    assert names and all(name.startswith(f"standard/{first}/") for name in names)
    assert any("reptile" in name for name in names)
