"""The report: one page from tables alone, tested in a real browser if there is one."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import handmade
import numpy as np
import pandas as pd
import pytest
from browser import in_a_browser
from click.testing import CliRunner
from playwright.sync_api import Browser, Page
from reports import REFERENCE, Opened, data_of

from metabench.analysis import frames
from metabench.analysis.statistics.losses import ROUNDING
from metabench.cli import main
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.views import report
from metabench.views.drawing import style
from metabench.views.drawing.contenders import LOW
from metabench.views.drawing.curves import ceiling
from metabench.views.drawing.reading import Tables
from metabench.views.report import board, charts, findings
from metabench.views.report.board import number
from metabench.views.report.charts.differences import differences
from metabench.views.report.charts.matrix import matrix
from metabench.views.report.charts.parts import Control, interval, outline
from metabench.views.report.charts.showcase import showcase


def test_a_page_says_what_it_was_made_from_and_is_not_large(written: dict[str, Path]) -> None:
    for study, page in written.items():
        tables = manifests.read(REFERENCE / study / "tables")
        provenance = REFERENCE / study / "provenance.json"
        made = report.header(tables["content"], provenance, "")
        assert report.read_header(page) == made
        assert made != report.header("other", provenance, "")
        assert page.stat().st_size < 4e6
    with pytest.raises(ArtifactError, match="is not a report of metabench"):
        report.read_header(REFERENCE / "flux" / "provenance.json")


def test_the_same_tables_give_the_same_page_in_another_process(
    written: dict[str, Path], tmp_path: Path
) -> None:
    line = ["report", "--tables", str(REFERENCE / "flux" / "tables"), "--out", "flux.html"]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [Path(sys.executable).with_name("metabench"), *line]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "flux.html").read_bytes() == written["flux"].read_bytes()


def test_the_leaderboard_has_the_numbers_of_the_tables(written: dict[str, Path]) -> None:
    table = frames.read(REFERENCE / "flux" / "tables", "leaderboard.csv")
    rows = data_of(written["flux"])["board"]
    assert len(rows) == len(table)
    for row, (_, expected) in zip(rows, table.iterrows(), strict=True):
        for name in board.MEASURES:
            assert row["last"][name] == board.number(expected[name])
        chosen = expected["score"] if row["role"] == "baseline" else expected["chosen_score"]
        assert row["chosen"]["score"] == board.number(chosen)


def sentences(found: dict[str, pd.DataFrame], folder: Path) -> list[str]:
    return findings.sentences(Tables(handmade.write(found, folder)), ["standard"], 0.9)


def test_the_finding_names_who_is_ahead_and_whether_that_is_sure(tmp_path: Path) -> None:
    found = handmade.tables()
    names = [style.styles([name])[name].label for name, _ in handmade.CONTENDERS]
    first, *_ = sentences(found, tmp_path / "unsure")
    assert first.startswith(f"Under standard, {names[0]} has the lowest mean score of the trained")
    assert ", after 3 updates; " in first and first.endswith(f"; the cell of {names[0]} is f3.")
    assert f"{names[1]} comes next with 0.2" in first
    assert "the 90% interval of the difference, [-0.3, 0.1], includes 0" in first
    sure = found["comparisons.csv"].assign(difference_lower=-0.3, difference_upper=-0.1)
    first, *_ = sentences(found | {"comparisons.csv": sure}, tmp_path / "sure")
    assert "[-0.3, -0.1], excludes 0" in first


def test_the_finding_says_no_more_than_there_is(tmp_path: Path) -> None:
    found = handmade.tables()
    unknown = found["comparisons.csv"].assign(difference_lower=np.nan)
    first, *_ = sentences(found | {"comparisons.csv": unknown}, tmp_path / "unknown")
    assert "comes next with 0.2; the cell of" in first
    ranking = found["ranking.csv"]
    failed = ranking.assign(score=1.0)
    first, *_ = sentences(found | {"ranking.csv": failed}, tmp_path / "failed")
    assert first.startswith("Under standard, no trained algorithm is better than predicting zero.")
    alone = ranking[ranking["algorithm"] == "fomaml"]
    (only,) = sentences(found | {"ranking.csv": alone}, tmp_path / "alone")
    assert "comes next" not in only and "of the trained cells that validation selects, " in only
    nobody = sentences(found | {"ranking.csv": ranking[:0]}, tmp_path / "nobody")
    assert nobody == ["This study has nothing to compare."]


def test_a_random_initialization_is_not_called_trained(tmp_path: Path) -> None:
    found = handmade.tables()
    ranking = found["ranking.csv"]
    other = ranking[ranking["algorithm"] == "fomaml"].assign(algorithm="random", score=0.01)
    messages = sentences(found | {"ranking.csv": pd.concat([other, ranking])}, tmp_path / "random")
    assert messages[0].startswith("Under standard, FOMAML has the lowest mean score")


def test_the_finding_counts_no_updates_of_what_takes_no_steps() -> None:
    tables = Tables(REFERENCE / "algorithms" / "tables")
    steps, none, _ = findings.sentences(tables, ["robustness", "standard"], 0.95)
    assert steps.startswith("Under robustness, Meta-Curvature ") and ", after 10 updates; " in steps
    assert none.startswith("Under standard, Ridge head ") and "after" not in none
    tables = Tables(REFERENCE / "flux-noisy" / "tables")
    first, *_ = findings.sentences(tables, tables.protocols[3:], 0.95)
    assert first.startswith("Under robustness, Deep kernel transfer ") and "after" not in first


def test_the_page_on_reports_quotes_the_finding_of_the_default_study() -> None:
    page = (REFERENCE.parent.parent / "docs" / "reading-a-report.md").read_text()
    quoted = " ".join(re.findall(r"^> (.*)$", page, flags=re.MULTILINE))
    tables = Tables(REFERENCE / "flux" / "tables")
    first, *_ = findings.sentences(tables, ["robustness", "standard"], 0.95)
    assert quoted == first


@pytest.mark.parametrize(("study", "others"), [("flux", 1), ("flux-noisy", 4)])
def test_the_findings_are_three_sentences_whatever_the_number_of_protocols(
    study: str, others: int
) -> None:
    tables = Tables(REFERENCE / study / "tables")
    names = [name for name in tables.protocols if name != "robustness"]
    found = findings.sentences(tables, ["robustness", *names], 0.95)
    assert len(names) == others and len(found) == 3
    assert all(text.endswith(".") and ". " not in text for text in found)
    for name in names:
        rows = tables.rows("ranking.csv", protocol=name, role="selected")
        best = rows[rows["algorithm"].isin(tables.every_algorithm)]["score"].min()
        assert re.search(rf"\b{name}\b.* {best:.3g}\b", found[1])


@pytest.mark.parametrize("extreme", ["infinite", "zero", "long names"])
def test_charts_of_extreme_tables_are_valid_and_hold_what_they_say(
    tmp_path: Path, extreme: str
) -> None:
    found = handmade.tables()
    if extreme == "long names":
        found = handmade.renamed({"fomaml": "f" * 40, "reptile": "r" * 40})
    else:
        value = np.inf if extreme == "infinite" else 0.0
        losses = {name: value for name in ("mean", "median", "mean_upper", "mean_lower")}
        found["adaptation.csv"] = found["adaptation.csv"].assign(**losses)
    made = charts.every(Tables(handmade.write(found, tmp_path / "tables")), ["standard"], 0.95)
    report.json_text([chart.spec for chart in made])  # valid JSON, or an error
    (adapted,) = [chart for chart in made if chart.name == "adaptation"]
    (rows,) = adapted.spec["datasets"].values()
    means = [row for row in rows if row["statistic"] == "mean"]
    if extreme == "infinite":
        assert {row["value"] for row in means} == {"inf"}
        assert all(row["off"] and row["shown"] is None for row in means)
    if extreme == "zero":
        assert {row["shown"] for row in means} == {ROUNDING}, "a place on a logarithmic axis"


@pytest.mark.parametrize("study", ["algorithms", "flux", "flux-noisy"])
def test_no_winner_looks_certain_whose_probability_may_be_one_half(study: str) -> None:
    tables = Tables(REFERENCE / study / "tables")
    drawn = matrix(tables, Control("protocol", "protocol", tuple(tables.protocols)), 0.95)
    assert drawn is not None and "grey if the 95% interval of this percentage" in drawn.caption
    (rows,) = drawn.spec["datasets"].values()
    found = {(row["protocol"], row["a"], row["b"]): row for row in rows}
    known = tables.rows("comparisons.csv", role="selected", region="all")
    known = known[known["protocol"].isin(tables.protocols)]
    assert len(found) == len(rows) == 2 * len(known)
    for _, pair in known.iterrows():
        a, b = (tables.styles[pair[f"algorithm_{side}"]].line for side in "ab")
        one, other = found[pair["protocol"], a, b], found[pair["protocol"], b, a]
        lower, upper = pair["probability_lower"], pair["probability_upper"]
        assert one["certain"] == other["certain"] == (not lower <= 0.5 <= upper)
        if one["certain"]:
            assert (one["probability"] > 50) == (lower > 0.5)
            assert (other["probability"] > 50) == (upper < 0.5)


def test_a_field_of_the_matrix_gives_each_number_with_its_own_interval(tmp_path: Path) -> None:
    tables = Tables(handmade.write(handmade.tables(), tmp_path / "tables"))
    drawn = matrix(tables, Control("protocol", "protocol", ("standard",)), 0.95)
    assert drawn is not None
    (rows,) = drawn.spec["datasets"].values()
    shown = {(row["a"], row["b"]): (row["chance"], row["difference"], row["ratio"]) for row in rows}
    one, other = shown["FOMAML", "Reptile"], shown["Reptile", "FOMAML"]
    assert one == ("70 % [55 %, 95 %]", "-0.2 [-0.3, 0.1]", "0.5 [0.25, 0.8]")
    assert other == ("30 % [5 %, 45 %]", "0.2 [-0.1, 0.3]", "2 [1.25, 4]")


def test_labels_are_whole_in_one_line_or_broken_between_their_parts() -> None:
    tables = Tables(REFERENCE / "flux-noisy" / "tables")
    made = charts.every(tables, tables.protocols, 0.95)
    spoken = report.json_text([chart.spec for chart in made])
    assert "In-context transformer" in spoken and "In-contexttransformer" not in spoken
    (drawn,) = (chart for chart in made if chart.name == "distributions")
    (rows,) = drawn.spec["datasets"].values()
    cells = {(row["label"], row["cell"]) for row in rows}
    names = {row["name"] for row in rows}
    assert len(names) == len(cells) > 10, "each cell has a label of its own"
    assert "Deep kernel transfer,\nmeta 0.001, kernel linear" in names
    assert "Conditional NP" in names, "the only cell of its algorithm"
    (axis,) = {layer["encoding"]["y"]["axis"]["labelLimit"] for layer in drawn.spec["layer"]}
    assert axis == 0 and isinstance(drawn.spec["height"], int), "Vega warns of steps"


def test_a_task_has_the_mean_scores_of_its_contenders(tmp_path: Path) -> None:
    tables = Tables(handmade.write(handmade.tables(), tmp_path / "tables"))
    choice = charts.Control("protocol", "protocol", tuple(handmade.PROTOCOLS))
    chart = charts.task_by_task(tables, choice, 0.95)
    assert chart is not None
    (rows,) = (
        found
        for name, found in chart.spec["datasets"].items()
        if len(found) == len(handmade.PROTOCOLS) * handmade.TASKS
    )
    seventh = next(row for row in rows if row["protocol"] == "standard" and row["task"] == 7)
    losses = [0.1 + 0.07 + 0.02 * seed for seed in range(3)]
    zero = 0.1 + 0.07 + 4.0
    assert seventh["FOMAML"] == pytest.approx(sum(losses) / 3 / zero, rel=1e-2)
    expected = ((losses[0] + losses[2]) / zero + 1) / 3
    assert seventh["Reptile"] == pytest.approx(expected, rel=1e-2), "a diverged run has score 1"


def test_tables_of_another_version_are_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "old" / "tables"
    shutil.copytree(REFERENCE / "flux" / "tables", old)
    with pytest.raises(ArtifactError, match="does not say where tables come from"):
        report.write(old, tmp_path / "page.html")
    shutil.copy(REFERENCE / "flux" / "provenance.json", old.parent)
    table = frames.read(old, "leaderboard.csv").drop(columns="chosen_score")
    frames.write(table, old / "leaderboard.csv")
    names = [path.name for path in old.iterdir() if path.name != manifests.NAME]
    manifests.write(old, names, {})
    with pytest.raises(ArtifactError, match=r"of another version .* they lack 'chosen_score'"):
        report.write(old, tmp_path / "page.html")


def test_a_difference_is_turned_where_the_table_has_the_pair_the_other_way(tmp_path: Path) -> None:
    tables = handmade.tables()
    turned = {"algorithm_a": "algorithm_b", "algorithm_b": "algorithm_a"}
    turned |= {"cell_a": "cell_b", "cell_b": "cell_a"}
    other = tables["comparisons.csv"].rename(columns=turned)
    other = other.assign(difference_lower=0.1, difference_upper=0.3)
    made = Tables(handmade.write(tables | {"comparisons.csv": other}, tmp_path / "tables"))
    (a, _), (b, _), *_ = handmade.CONTENDERS
    assert findings._difference(made, "standard", a, b) == (-0.3, -0.1)


def test_what_a_study_is_called_cannot_leave_its_place_in_the_page(tmp_path: Path) -> None:
    root = tmp_path / "flux"
    shutil.copytree(REFERENCE / "flux", root)
    provenance = json.loads((root / "provenance.json").read_text())
    provenance["study"]["source"] = "</script><script>alert(1)</script>"
    (root / "provenance.json").write_text(json.dumps(provenance))
    text = report.write(root / "tables", tmp_path / "page.html").read_text()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_checkout_without_a_history_has_a_report(tmp_path: Path) -> None:
    root = tmp_path / "flux"
    shutil.copytree(REFERENCE / "flux", root)
    provenance = json.loads((root / "provenance.json").read_text())
    (root / "provenance.json").write_text(json.dumps(provenance | {"commit": None, "dirty": False}))
    text = report.write(root / "tables", tmp_path / "page.html").read_text()
    assert "of a checkout without a history. This page" in " ".join(text.split())


@pytest.mark.parametrize(
    "line", [[], ["--study", "flux", "--tables", "."], ["--tables", "."], ["--out", "x.html"]]
)
def test_a_report_is_of_a_study_or_of_tables(line: list[str]) -> None:
    answer = CliRunner().invoke(main, ["report", *line])
    assert answer.exit_code == 2 and "give either --study, or --tables and --out" in answer.output


# In a browser.


def differences_are_those_of_the_scores(page: Page) -> bool:
    """Return whether each difference on the page is that of two scores, whatever is shown."""
    return page.evaluate("""() => {
        const near = (a, b) => Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(a));
        let found = 0;
        for (const id of ["role", "step", "algorithm"]) find(`board-${id}`).value = "";
        for (const { value: other } of find("board-reference").options) {
            find("board-reference").value = other;
            for (const after of ["chosen", "last"]) {
                find("board-after").value = after;
                const rows = shown();
                for (const row of rows.filter((one) => one.apart)) {
                    found += 1;
                    const references = rows.filter((one) => one.algorithm === other);
                    const differences = references.map((one) => row.score - one.score);
                    if (!differences.some((value) => near(value, row.apart.value)))
                        return false;
                }
            }
        }
        return found > 20;
    }""")


@pytest.fixture
def flux(written: dict[str, Path], browser: Browser) -> Iterator[tuple[Opened, Page]]:
    """The report of the default study, opened."""
    opened = Opened(browser, written["flux"], 1280)
    yield opened, opened.page
    opened.page.close()


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("study", ["flux", "algorithms", "flux-atlas"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_is_silent_asks_nobody_and_overflows_nowhere(
    written: dict[str, Path], browser: Browser, study: str, width: int
) -> None:
    opened = Opened(browser, written[study], width)
    assert opened.messages == [] and opened.requests == [written[study].as_uri()]
    measured = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = opened.page.evaluate(measured)
    assert needed <= there
    for chart in data_of(written[study])["charts"]:
        drawn = opened.page.locator(f"#chart-{chart} svg.marks").bounding_box()
        box = opened.page.locator(f".sideways:has(#chart-{chart})").bounding_box()
        assert drawn and box and drawn["height"] > 100 and box["x"] + box["width"] <= width
        assert chart == "matrix" or drawn["width"] <= box["width"], "it alone scrolls sideways"
    opened.page.close()


def test_a_map_has_a_field_for_each_method_and_point_with_the_numbers_of_the_table(
    written: dict[str, Path],
) -> None:
    board = frames.read(REFERENCE / "flux-atlas" / "tables", "leaderboard.csv")
    axes = frames.read(REFERENCE / "flux-atlas" / "tables", "axes.csv")
    two = axes.groupby("group")["axis"].nunique()
    (rows,) = data_of(written["flux-atlas"])["charts"]["maps"]["datasets"].values()
    assert {row["grid"].split(":")[0] for row in rows} == set(two.index[two == 2])
    assert len({(row["method"], row["protocol"]) for row in rows}) == len(rows)
    known = board.set_index(["protocol", "algorithm", "cell", "step"])
    for row in rows[::7]:
        algorithm, _, cell = row["title"].partition(" ")
        found = known.loc[(row["protocol"], algorithm, cell, row["step"])]
        ends = (number(found[f"score_{end}"]) for end in ("lower", "upper"))
        assert row["score"] == number(found["score"]) and row["score interval"] == interval(*ends)
        at = axes[axes["protocol"] == row["protocol"]]
        values = [str(value) for value in at["value"]]
        assert set(row["point"].split(", ")) == set(map("{} {}".format, at["axis"], values))
        assert {row["x"], row["y"]} == set(values) and len(values) == 2


def test_differences_over_two_things_are_those_of_the_table(tmp_path: Path) -> None:
    tables = Tables(handmade.write(handmade.tables(), tmp_path / "tables"))
    drawn = differences(tables, Control("protocol", "protocol", ("standard",)), 0.95)
    assert drawn is not None
    (rows,) = drawn.spec["datasets"].values()
    assert [(row["x"], row["y"]) for row in rows] == [
        ("0.0", "5"),
        ("0.5", "5"),
        ("0.0", "10"),
        ("0.5", "10"),
    ]
    assert {(row["a"], row["b"]) for row in rows} == {("FOMAML", "Reptile")}
    assert [row["difference"] for row in rows] == [0.0, 0.1, 0.2, 0.3]
    assert [row["certain"] for row in rows] == [False, True, True, True]
    assert rows[3]["interval"] == "[0.14, 3.0]" and rows[3]["interval turned"] == "[-3.0, -0.14]"
    assert rows[0]["shade"] == 0 and rows[3]["shade"] == 1
    assert [control.values for control in drawn.controls[1:]] == [
        ("FOMAML", "Reptile"),
        ("Reptile", "FOMAML"),
    ]


def test_a_wave_has_a_prediction_at_each_position_of_the_slider(tmp_path: Path) -> None:
    tables = Tables(handmade.write(handmade.tables(), tmp_path / "tables"))
    drawn = showcase(tables, Control("protocol", "protocol", ("standard",)), 0.95)
    assert drawn is not None
    slider = drawn.controls[-1]
    assert slider.slider == {"standard": ["0", "1", "2"]} and slider.default == 2
    rows = [row for data in drawn.spec["datasets"].values() for row in data if "along" in row]
    along = tables.rows("showcase_updates.csv", algorithm="joint", protocol="standard")
    curves = along.pivot(index="x", columns="update", values="prediction")
    mine = [row for row in rows if row["label"] == tables.styles["joint"].line]
    assert [row["along"] for row in mine] == curves[::2].round(2).to_numpy().tolist()


def test_a_study_without_such_grids_has_no_map_of_differences(tmp_path: Path) -> None:
    found = handmade.tables()
    found["axes.csv"] = found["axes.csv"].query("group != 'both'")
    tables = Tables(handmade.write(found, tmp_path / "tables"))
    choice = Control("protocol", "protocol", ("standard",))
    assert differences(tables, choice, 0.95) is None


@in_a_browser
@pytest.mark.slow
def test_maps_show_what_was_chosen_and_name_the_point_under_the_pointer(
    written: dict[str, Path], browser: Browser
) -> None:
    opened = Opened(browser, written["flux-atlas"], 1280)
    page, (rows,) = (
        opened.page,
        data_of(written["flux-atlas"])["charts"]["maps"]["datasets"].values(),
    )
    fields = page.locator("#chart-maps .child_layer_0_marks path")
    for grid in sorted({row["grid"] for row in rows}):
        page.select_option("select[data-chart=maps][data-control=grid]", grid)
        assert fields.count() == sum(row["grid"] == grid for row in rows)
        for statistic in ("failed", "score"):
            page.select_option("select[data-chart=maps][data-control=statistic]", statistic)
            page.wait_for_function(f"views.maps.signal('statistic') === '{statistic}'")
            scale = "linear" if statistic == "failed" else "log"
            page.wait_for_function(f"views.maps.scale('color').type.endsWith('{scale}')")
    number_of_first = page.locator("#chart-maps .child_layer_1_marks text").first
    number_of_first.hover()
    shown = page.locator("#vg-tooltip-element").inner_text()
    first = next(row for row in rows if row["grid"] == grid)
    assert first["point"] in shown and first["score interval"] in shown
    number_of_first.click()
    assert page.evaluate("highlighted") == first["title"]
    assert opened.messages == []
    page.close()


@in_a_browser
@pytest.mark.slow
def test_two_contenders_are_compared_in_a_square_that_begins_near_their_scores(
    flux: tuple[Opened, Page],
) -> None:
    opened, page = flux
    for across, along in (("Reptile", "FOMAML"), ("Linear model", "Random init.")):
        page.select_option("select[data-chart=tasks][data-control=across]", across)
        page.select_option("select[data-chart=tasks][data-control=along]", along)
        page.wait_for_timeout(300)  # the chart is drawn
        titles = page.locator("#chart-tasks .role-axis-title text").all_text_contents()
        assert titles == [f"score of {across}", f"score of {along}"]
        (x, top), (y, _) = (page.evaluate(f"views.tasks.scale('{one}').domain()") for one in "xy")
        tasks = page.evaluate("Object.values(charts.tasks.datasets).flat()")
        shown = [row for row in tasks if row.get("protocol") == "robustness"]
        lowest = min(row[name] for row in shown for name in (across, along))
        assert x == y and top == 1 and x <= max(LOW, lowest) < 2.5 * x
        assert page.evaluate("views.tasks.signal('width') === views.tasks.signal('height')")
    assert opened.messages == []


@in_a_browser
@pytest.mark.slow
def test_the_leaderboard_sorts_filters_compares_and_copies(flux: tuple[Opened, Page]) -> None:
    opened, page = flux
    heads = page.locator("#board th").all_inner_texts()
    score = [title.startswith("score") for title in heads].index(True)
    median, cell = heads.index("median loss"), heads.index("cell")
    scores = [float(row[score].split()[0].strip("<")) for row in opened.rows()]
    assert scores == sorted(scores) and len(scores) > 5
    page.click("th[data-key=median] button")
    page.click("th[data-key=median] button")
    medians = [float(row[median].split()[0].strip("<")) for row in opened.rows()]
    assert medians == sorted(medians, reverse=True)
    assert page.get_attribute("th[data-key=median]", "aria-sort") == "descending"
    page.select_option("#board-algorithm", "reptile")
    page.select_option("#board-role", "")
    page.select_option("#board-protocol", "standard")
    shown = opened.rows()
    assert {row[0] for row in shown} == {"Reptile"} and len(shown) > 3
    page.select_option("#board-role", "selected")
    page.select_option("#board-reference", "fomaml")
    (row,) = opened.rows()
    assert differences_are_those_of_the_scores(page)
    table = frames.read(REFERENCE / "flux" / "tables", "comparisons.csv")
    pair = table.query(
        "role == 'selected' and protocol == 'standard' and region == 'all'"
        " and algorithm_a == 'fomaml' and algorithm_b == 'reptile'"
    ).iloc[0]
    difference = [title.startswith("difference") for title in heads].index(True)
    assert row[difference].startswith(
        f"{-pair['difference']:.3g} [{-pair['difference_upper']:.3g}, "
    )
    for kind, start in {
        "csv": '"algorithm"',
        "markdown": "| algorithm",
        "latex": "\\begin",
    }.items():
        copied = page.evaluate(f"copied({kind!r})")
        assert copied.startswith(start) and row[cell] in copied
        page.click(f"button[data-copy={kind}]")
        page.wait_for_function(f"find('copied').textContent === 'copied as {kind}'")
    assert opened.messages == []


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("study", ["flux", "algorithms"])
def test_the_score_is_seen_at_each_width_and_the_difference_on_a_desk(
    written: dict[str, Path], browser: Browser, study: str
) -> None:
    for width, keys in ((1280, ["score", "difference"]), (400, ["score"])):
        page = Opened(browser, written[study], width).page
        box = page.locator(".scroll:has(#board)").bounding_box()
        for key in keys:
            column = page.locator(f"#board th[data-key={key}]").bounding_box()
            assert box and column and column["x"] >= box["x"]
            assert column["x"] + column["width"] <= box["x"] + box["width"], (width, key)
        page.close()


@in_a_browser
@pytest.mark.slow
def test_a_table_in_latex_is_escaped_and_its_numbers_are_on_the_right(
    flux: tuple[Opened, Page],
) -> None:
    _, page = flux
    head, *_ = page.evaluate("copied('latex')").splitlines()
    assert head == r"\begin{tabular}{lrrlllrrrr}"
    keys = [column.key for column in board.COLUMNS]
    fields = {"label": "a~b", "cell": r"x_y=1e-05, {5%} \ ^", "role": "-", "step": "own"}
    fields |= {"score": "<1e-12", "difference": "-0.3 [-0.4, -0.2]", "updates": "32"}
    line = [fields.get(key, "0.1") for key in keys]
    row = page.evaluate("(line) => writers.latex([columns.map(() => ''), line])[4]", line)
    assert row == (
        r"a\textasciitilde{}b & $<$$1\times10^{-12}$ & $-$0.3 [$-$0.4, $-$0.2] & "
        r"x\_y=1e-05, \{5\%\} \textbackslash{} \textasciicircum{} & - & own & "
        r"32 & 0.1 & 0.1 & 0.1 \\"
    )


@in_a_browser
@pytest.mark.slow
def test_a_candidate_that_is_not_selected_is_found_where_the_page_says(
    flux: tuple[Opened, Page],
) -> None:
    _, page = flux
    rows = page.evaluate("board.filter((row) => row.role === 'grid' && !row.selected)")
    title = f"{rows[0]['algorithm']} {rows[0]['cell']}"
    page.evaluate("(title) => toggle(title)", title)
    assert page.evaluate("views.candidates.signal('highlight')") == title
    page.select_option("#board-role", "")
    page.select_option("#board-protocol", rows[0]["protocol"])
    found = page.locator("#board tr.highlight").evaluate_all(
        "(all) => all.map((one) => one.dataset.title)"
    )
    assert set(found) == {title}
    caption = " ".join(page.locator("#candidates > .caption").inner_text().split())
    assert "in the leaderboard if that shows all cells" in caption and "everywhere" not in caption


@in_a_browser
@pytest.mark.slow
def test_the_slider_moves_a_prediction_along_its_updates(flux: tuple[Opened, Page]) -> None:
    opened, page = flux
    path = "document.querySelectorAll('#chart-showcase path[aria-roledescription=\"line mark\"]')"
    curves = f"[...{path}].map((one) => one.getAttribute('d'))"
    slider = page.locator("#showcase input[type=range]")
    shown = "document.querySelector('#showcase output').value"
    for protocol, updates in (("standard", "32"), ("robustness", "10")):
        page.select_option("#showcase select[data-control=protocol]", protocol)
        page.wait_for_function(f"{shown} === '{updates}'")
    slider.focus()
    page.keyboard.press("Home")
    assert page.evaluate(shown) == "0"
    page.wait_for_timeout(500)  # the chart is drawn
    before = page.evaluate(curves)
    page.keyboard.press("End")
    page.wait_for_function(f"JSON.stringify({curves}) !== {json.dumps(json.dumps(before))}")
    assert page.evaluate(shown) == "10" and opened.messages == []


@in_a_browser
@pytest.mark.slow
def test_a_cell_is_found_in_all_charts_and_the_keyboard_reaches_everything(
    flux: tuple[Opened, Page],
) -> None:
    opened, page = flux
    page.locator("#board tbody tr", has_text="Reptile").first.click()
    assert page.evaluate("views.adaptation.signal('highlight')").startswith("reptile inner")
    assert page.evaluate("views.candidates.signal('highlight')").startswith("reptile inner")
    assert page.locator("#board tr.highlight").count() == 1
    page.locator("#board tr.highlight").click()
    assert page.evaluate("views.adaptation.signal('highlight')") == ""
    page.select_option("select[data-chart=adaptation][data-control=statistic]", "mean")
    assert page.evaluate("views.adaptation.signal('statistic')") == "mean"
    page.select_option("select[data-chart=adaptation][data-control=scale]", "linear")
    page.wait_for_function("views.adaptation.scale('y').type === 'linear'")
    wanted = page.locator(":is(a, select, input, button, summary, [tabindex='0']):visible").count()
    reached = set()
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        )
    assert len(reached) >= wanted
    assert opened.messages == []


@in_a_browser
@pytest.mark.slow
def test_algorithms_that_are_ticked_are_seen_alone_by_pointer_and_by_keys(
    flux: tuple[Opened, Page],
) -> None:
    opened, page = flux
    lines = "#chart-adaptation path[aria-roledescription='line mark']"
    every = page.locator(lines).count()
    page.focus("#adaptation details.many summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_function("views.adaptation.signal('algorithms').length === 1")
    (first,) = page.evaluate("views.adaptation.signal('algorithms')")
    marks = "document.querySelectorAll('#chart-adaptation .mark-symbol.role-mark path')"
    seen = f"new Set([...{marks}].map((one) => one.__data__.datum.algorithm))"
    page.wait_for_function(f"{seen}.size === 1")
    assert page.evaluate(f"[...{seen}]") == [first]
    page.click("#adaptation details.many label:has-text('Reptile')")
    page.wait_for_function(f"{seen}.size === 2 && {seen}.has('Reptile')")
    page.select_option("select[data-chart=adaptation][data-control=scale]", "linear")
    page.wait_for_function("views.adaptation.scale('y').type === 'linear'")
    assert page.evaluate(f"{seen}.size") == 2, "the choice stays in a chart that is drawn anew"
    for _ in range(2):
        page.locator("#adaptation input:checked").first.click()
    page.wait_for_function(f"{seen}.size > 2")
    assert page.locator(lines).count() == every and opened.messages == []


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_the_axes_of_adaptation_end_at_the_last_update_and_at_the_ceiling_of_losses(
    written: dict[str, Path], browser: Browser, scale: str
) -> None:
    tables = Tables(REFERENCE / "algorithms" / "tables")
    page = Opened(browser, written["algorithms"], 1280).page
    page.select_option("select[data-chart=adaptation][data-control=statistic]", "mean")
    page.select_option("select[data-chart=adaptation][data-control=scale]", scale)
    for protocol, last in (("standard", 32), ("robustness", 10)):
        page.select_option("select[data-chart=adaptation][data-control=protocol]", protocol)
        page.wait_for_function(f"views.adaptation.scale('x').domain()[1] === {last}")
        _, top = page.evaluate("views.adaptation.scale('y').domain()")
        assert 0 < top <= ceiling(tables.zero(protocol))
        numbers = page.locator("#chart-adaptation .role-axis-label text").all_text_contents()
        long = [text for text in numbers if len(text) > len("0.0001")]
        assert len(numbers) > 8 and not long
    page.close()


def test_losses_off_the_axis_are_marked_at_its_edge(written: dict[str, Path]) -> None:
    tables = Tables(REFERENCE / "algorithms" / "tables")
    (rows,) = data_of(written["algorithms"])["charts"]["adaptation"]["datasets"].values()
    rows = [row for row in rows if row["statistic"] == "mean"]
    for protocol in tables.protocols:
        mine = [row for row in rows if row["protocol"] == protocol]
        most = ceiling(tables.zero(protocol))
        off = [row for row in mine if row["off"] is not None]
        assert off and all(row["value"] == "inf" or row["value"] > most for row in off)
        assert all(row["shown"] is row["lower"] is None for row in off)
        heights = [row[key] for row in mine for key in ("shown", "upper") if row[key]]
        (edge,) = {row["off"] for row in off}
        assert max(heights) <= edge <= most
        places = {(row["title"], row["step"]): row["below"] for row in off}
        assert sorted(places.values()) == list(range(len(places))), "no arrow covers another"


def test_what_takes_no_steps_is_a_level_as_in_the_figures(written: dict[str, Path]) -> None:
    table = Tables(REFERENCE / "algorithms" / "tables").rows("adaptation.csv", region="all")
    (rows,) = data_of(written["algorithms"])["charts"]["adaptation"]["datasets"].values()
    flat = [row for row in rows if row["kind"] == "no steps"]
    heads = ("Ridge head", "Neural process", "Conditional NP")
    assert {row["label"] for row in flat} == {f"{name}, no steps" for name in heads}
    for row in flat:
        titles = table["algorithm"] + " " + table["cell"]
        known = table[(titles == row["title"]) & (table["step"] == row["step"])]
        known = known[known["protocol"] == row["protocol"]].sort_values("update")
        assert row["update"] in {0, known["update"].max()}
        assert row["value"] == number(known[row["statistic"]].iloc[-1])


def test_the_mark_of_lost_values_is_that_of_no_algorithm() -> None:
    tables = Tables(REFERENCE / "algorithms" / "tables")
    (adapted,) = (
        made for made in charts.every(tables, tables.protocols, 0.95) if made.name == "adaptation"
    )
    off = adapted.spec["layer"][-1]
    assert "Arrows" in adapted.caption and off["mark"]["shape"] == "arrow", "a word of Vega"
    shapes = adapted.spec["layer"][-2]["encoding"]["shape"]["scale"]["range"]
    assert all(shape.startswith("M") for shape in shapes), "paths of the figures"
    assert outline(r"$\uparrow$") not in shapes


def test_a_line_is_called_selected_unless_its_cell_is_published(written: dict[str, Path]) -> None:
    """In a study of many algorithms too, whose figures draw selected cells with solid lines."""
    for study, page in written.items():
        cells = frames.read(REFERENCE / study / "tables", "cells.csv")
        published = set(cells.query("role == 'published'")["cell"])
        (rows,) = data_of(page)["charts"]["adaptation"]["datasets"].values()
        for row in rows:
            if row["kind"] in ("published", "selected"):
                assert (row["kind"] == "published") == (row["cell"] in published), row["title"]


def test_missing_and_infinite_numbers_are_valid_json() -> None:
    rows = pd.DataFrame({"x": [0.1234567, float("inf"), float("nan")]})
    assert report.json_text([board.number(x) for x in rows["x"]]) == '[0.123457,"inf",null]'
