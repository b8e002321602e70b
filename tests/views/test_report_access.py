"""The report can be read by every reader: in grey, on a phone, without a pointer."""

import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from browser import in_a_browser
from matplotlib.markers import MarkerStyle
from playwright.sync_api import Browser, Page
from readable import faint, outside, touching
from reports import REFERENCE, STUDIES, Opened, data_of

from metabench.analysis import frames
from metabench.records import manifests
from metabench.views import report
from metabench.views.drawing import style
from metabench.views.drawing.reading import Tables
from metabench.views.report import charts
from metabench.views.report.charts.parts import chosen_title, outline

WIDTHS = (1280, 400)


@pytest.fixture(
    scope="module", params=[(study, width) for study in STUDIES for width in WIDTHS], ids=str
)
def page(
    written: dict[str, Path], browser: Browser, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """Each report at each width."""
    study, width = request.param
    opened = Opened(browser, written[study], width)
    yield opened.page
    assert opened.messages == []
    opened.page.close()


@pytest.fixture
def flux(written: dict[str, Path], browser: Browser) -> Iterator[Page]:
    """The report of the default study."""
    page = Opened(browser, written["flux"], 1280).page
    yield page
    page.close()


def settle(page: Page, chart: str) -> None:
    """Wait until a chart shows what was chosen; another scale draws it anew."""
    page.wait_for_timeout(300)
    page.evaluate("async (name) => { await views[name].runAsync(); }", chart)


@in_a_browser
@pytest.mark.slow
def test_every_text_has_the_contrast_of_level_aa(page: Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.wait_for_timeout(500)  # menus appear slowly
    assert faint(page) == []
    rows = page.locator("#board tbody tr button")
    rows.nth(rows.count() // 2).click()
    page.wait_for_function("Object.values(views).some((view) => view.signal('highlight'))")
    assert faint(page) == [], "with a highlighted cell"


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize("chart", ["matrix", "maps", "differences"])
def test_numbers_on_colours_have_it_whatever_a_reader_chooses(
    written: dict[str, Path], browser: Browser, chart: str
) -> None:
    page = Opened(browser, written["flux-atlas"], 1280).page
    for control in page.locator(f"select[data-chart={chart}]").all():
        for value in control.evaluate("(one) => [...one.options].map((option) => option.value)"):
            control.select_option(value)
            settle(page, chart)
            assert faint(page, f"#{chart}") == [], (control.get_attribute("data-control"), value)
    page.close()


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize(("study", "width"), [("flux", 400), ("flux-atlas", 1280)])
def test_no_text_is_cut_off_whatever_a_reader_chooses(
    written: dict[str, Path], browser: Browser, study: str, width: int
) -> None:
    page = Opened(browser, written[study], width).page
    for control in page.locator("select[data-chart]:not([data-control=highlight])").all():
        first = control.input_value()
        for value in control.evaluate("(one) => [...one.options].map((option) => option.value)"):
            control.select_option(value)
            page.wait_for_timeout(100)  # another scale draws a chart anew
            assert outside(page) == [], (control.get_attribute("data-control"), value)
        control.select_option(first)
    page.close()


@in_a_browser
@pytest.mark.slow
def test_what_a_pointer_shows_has_it_too(flux: Page) -> None:
    flux.locator("#chart-matrix text", has_text=re.compile("^[0-9]+$")).first.hover()
    flux.locator("#vg-tooltip-element.visible").wait_for()
    assert faint(flux, "#vg-tooltip-element") == []


@in_a_browser
@pytest.mark.slow
def test_labels_of_axes_and_legends_leave_room_between_them(page: Page) -> None:
    assert touching(page) == []


@in_a_browser
@pytest.mark.slow
def test_every_axis_says_what_it_shows(page: Page) -> None:
    for chart in page.locator("svg.marks").all():
        axes = chart.locator(".role-axis-title text, .role-row-title text, .role-column-title text")
        written = [text for text in axes.all_text_contents() if text]
        section = chart.evaluate("(one) => one.closest('section').id")
        # The rows of distributions are names.
        assert len(written) >= (1 if section == "distributions" else 2), section
        assert not any(text.startswith("=") for text in written), section


@in_a_browser
@pytest.mark.slow
def test_the_title_of_an_axis_follows_the_choice(flux: Page) -> None:
    titles = "#chart-{} .role-axis-title text"
    flux.select_option("select[data-chart=adaptation][data-control=statistic]", "failed")
    flux.wait_for_function("views.adaptation.scale('y').type === 'linear'")
    shown = flux.locator(titles.format("adaptation")).all_text_contents()
    assert set(shown) == {"updates", "share of failed adaptations"}
    flux.select_option(
        "select[data-chart=candidates][data-control=hyperparameter]", "meta_step_size"
    )
    settle(flux, "candidates")
    shown = flux.locator(titles.format("candidates")).all_text_contents()
    assert shown == ["meta_step_size", "validation score"]


def focused(page: Page) -> str:
    """Return the text of the element that has the focus."""
    return str(page.evaluate("document.activeElement.textContent"))


def outlined(page: Page) -> bool:
    """Return whether a reader sees where the focus is."""
    return bool(
        page.evaluate("""() => {
            const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
            return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
        }""")
    )


@in_a_browser
@pytest.mark.slow
def test_a_row_is_chosen_with_keys_alone(flux: Page) -> None:
    row = "#board tbody tr:has(button:focus)"
    for _ in range(200):
        flux.keyboard.press("Tab")
        if flux.locator(row).count() and focused(flux) == "Reptile":
            break
    title = flux.get_attribute(row, "data-title")
    assert title and title.startswith("reptile ") and outlined(flux)
    signal = "views.adaptation.signal('highlight')"
    for key in ("Enter", "Space"):
        flux.keyboard.press(key)
        assert flux.evaluate(signal) == title
        assert flux.get_attribute(f"{row} button", "aria-pressed") == "true"
        assert flux.locator("#board tr.highlight").get_attribute("data-title") == title
        flux.keyboard.press(key)
        assert flux.evaluate(signal) == ""
        assert flux.get_attribute(f"{row} button", "aria-pressed") == "false"


@in_a_browser
@pytest.mark.slow
def test_a_cell_is_chosen_beside_each_chart_with_keys_alone(flux: Page) -> None:
    controls = flux.locator("select[data-control=highlight]")
    with_cells = flux.evaluate("""() => Object.keys(charts).filter((name) =>
        Object.values(charts[name].datasets).flat().some((row) => "title" in row))""")
    assert controls.count() == len(with_cells) > 1
    for name in with_cells:
        control = flux.locator(f"select[data-chart={name}][data-control=highlight]")
        control.focus()
        flux.keyboard.press("ArrowDown")
        chosen = control.input_value()
        assert chosen and outlined(flux)
        assert flux.evaluate(f"views.{name}.signal('highlight')") == chosen
        assert flux.evaluate("highlighted") == chosen
        flux.keyboard.press("Home")
        assert flux.evaluate(f"views.{name}.signal('highlight')") == ""


@in_a_browser
@pytest.mark.slow
def test_differences_are_from_the_leader_of_the_protocol_until_a_reader_chooses(
    written: dict[str, Path], browser: Browser
) -> None:
    page = Opened(browser, written["algorithms"], 1280).page
    ranking = frames.read(REFERENCE / "algorithms" / "tables", "ranking.csv")
    board = frames.read(REFERENCE / "algorithms" / "tables", "leaderboard.csv")
    trained = set(board.query("selected")["algorithm"])
    selected = ranking[(ranking["role"] == "selected") & ranking["algorithm"].isin(trained)]
    best = selected.loc[selected.groupby("protocol")["score"].idxmin()]
    leaders = dict(zip(best["protocol"], best["algorithm"], strict=True))
    assert len(set(leaders.values())) > 1, "a study whose protocols have different leaders"
    for protocol, leader in leaders.items():
        page.select_option("#board-protocol", protocol)
        assert page.input_value("#board-reference") == leader, protocol
    chosen = next(iter(trained - set(leaders.values())))
    page.select_option("#board-reference", chosen)
    for protocol in leaders:
        page.select_option("#board-protocol", protocol)
        assert page.input_value("#board-reference") == chosen
    page.close()


@in_a_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "chart"), [("algorithms", "adaptation"), ("flux-atlas", "grids")]
)
def test_a_legend_tells_algorithms_apart_in_grey(
    written: dict[str, Path], browser: Browser, study: str, chart: str
) -> None:
    page = Opened(browser, written[study], 1280).page
    entries = page.locator(f"#chart-{chart} .role-legend-entry .mark-group.role-scope > g")
    shapes: dict[str, set[str]] = {}
    for rows in data_of(written[study])["charts"][chart]["datasets"].values():
        algorithms = {row["label"]: row["title"].partition(" ")[0] for row in rows}
    for entry in entries.all():
        symbol = entry.locator(".role-legend-symbol path").get_attribute("d")
        label = entry.locator(".role-legend-label text").text_content()
        shapes.setdefault(algorithms[str(label)], set()).add(str(symbol))
    assert len(shapes) == len(set(algorithms.values())) > 4
    assert all(len(found) == 1 for found in shapes.values())
    assert len(set.union(*shapes.values())) == len(shapes), "each algorithm has a shape of its own"
    page.close()


def test_lines_of_one_algorithm_have_different_dashes(written: dict[str, Path]) -> None:
    drawn = data_of(written["flux-atlas"])["charts"]["grids"]
    (rows,) = drawn["datasets"].values()
    scale = drawn["layer"][0]["encoding"]["strokeDash"]
    dotted, scale = scale["condition"], scale["scale"]
    assert dotted == {"test": "datum.kind == 'baseline'", "value": [1, 2]}
    dashes = dict(zip(scale["domain"], scale["range"], strict=True))
    lines: dict[str, list[Any]] = {}
    for label, marker in sorted({(row["label"], row["marker"]) for row in rows}):
        lines.setdefault(marker, []).append(dashes[label])
    assert max(map(len, lines.values())) >= 3
    for found in lines.values():
        assert all(one != other for one, other in combinations(found, 2)), found
        assert [1, 0] in found


def test_every_marker_of_the_figures_is_a_shape_of_its_own() -> None:
    markers = {known.marker for known in style.KNOWN.values()}
    assert len({outline(marker) for marker in markers}) == len(markers) == len(style.KNOWN)
    numbers = [float(n) for marker in markers for n in re.findall(r"-?[\d.]+", outline(marker))]
    assert max(map(abs, numbers)) < 1.5
    circle = MarkerStyle("o").get_path()
    assert outline("o").count("C") == (circle.codes == circle.CURVE4).sum() / 3


@pytest.mark.parametrize("study", STUDIES)
def test_every_chart_says_where_it_comes_from(written: dict[str, Path], study: str) -> None:
    files = manifests.read(REFERENCE / study / "tables")["files"]
    tables = Tables(REFERENCE / study / "tables")
    made = charts.every(tables, tables.protocols, 0.95)
    text = " ".join(written[study].read_text(encoding="utf-8").partition("<script")[0].split())
    details = re.findall(r'<details class="made">.*?</details>', text)
    assert len(details) == len(made) + 1
    shown = [chart.source.tables for chart in made]
    shown.insert(1, ("leaderboard.csv", "comparisons.csv"))
    for found, names in zip(details, shown, strict=True):
        assert "seed" in found and "task" in found and "Intervals: " in found
        folder = REFERENCE / study / "tables"
        assert f"metabench report --tables {folder} --out {study}.html</code>" in found
        summary = found.partition("</summary>")[0].rpartition("; ")[2]
        assert [Path(file).stem for file in summary.split(", ")] == [Path(n).stem for n in names]
        for file in summary.split(", "):
            assert (folder / file).is_file()
            assert f"{file}: SHA-256 <code>{files[file]}</code>" in found
    for chart in made:
        assert set(chart.source.tables) <= set(tables._read), chart.name
        assert ("%" in chart.caption) <= bool(chart.source.intervals), chart.name


def test_published_numbers_say_where_they_come_from(tmp_path: Path) -> None:
    literature = REFERENCE / "literature"
    page = report.write(REFERENCE / "maml-steps" / "tables", tmp_path / "page.html", literature)
    digest = manifests.read(literature)["files"]["literature.csv"]
    assert f"literature.csv: SHA-256 <code>{digest}</code>" in page.read_text(encoding="utf-8")


def test_the_title_of_an_axis_that_depends_on_a_choice_is_an_expression() -> None:
    assert chosen_title("across") == "=across"
    assert chosen_title("grid", {"a": "A b"}) == '={"a": "A b"}[grid]'
