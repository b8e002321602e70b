"""The documentation site: it builds without a warning, and a browser shows it offline."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import in_a_browser, launched
from playwright.sync_api import Page
from small import ROOT

PAGES = (
    "index",
    "algorithms",
    "tables",
    "command-line",
    "generated/gallery",
    "generated/gallery/flux",
    "generated/api",
)

HARMLESS = "[PST]: "
"""How the theme begins what it says of itself, for instance where it scrolled."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made from a copy of what it is made from."""
    folder = tmp_path_factory.mktemp("site")
    line = ["-W", "--keep-going", "-q", "-d", folder / "doctrees", ROOT / "docs", folder / "html"]
    command = [Path(sys.executable).with_name("sphinx-build"), *line]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_page_of_the_documentation_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    outside = {path for path in pages if path.parts[0] in ("_build", "site", "generated")}
    for page in pages - outside:
        assert (site / page.with_suffix(".html")).is_file(), page


@pytest.mark.slow
def test_the_site_says_what_the_code_says(site: Path) -> None:
    columns = (site / "tables.html").read_text()
    assert "breaks_above" in columns and "chosen_score" in columns
    names = (site / "generated" / "api.html").read_text()
    assert "metabench." in names and "mean_over_tasks" in names
    assert not re.search("PydanticUndefined|&lt;function|FieldInfo", names)
    assert "check-algorithm" in (site / "command-line.html").read_text()
    assert "inner_step_size" in (site / "generated" / "hyperparameters.html").read_text()
    formulas = (site / "algorithms.html").read_text()
    assert formulas.count("<math") >= 10 and "$$" not in formulas


@pytest.mark.slow
def test_the_gallery_shows_each_study_and_no_two_headings_of_a_study_are_equal(site: Path) -> None:
    contents = (site / "generated" / "gallery.html").read_text()
    studies = list((site / "generated" / "gallery").glob("*.html"))
    assert studies
    for study in studies:
        assert re.search(rf'<a [^>]*href="gallery/{study.name}"><img', contents), study.name
        headings = re.findall(r"<h[1-3]>(.*?)<a", study.read_text())
        assert len(headings) > 3 and len(set(headings)) == len(headings), study.name


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Page]:
    with launched() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


@in_a_browser
@pytest.mark.slow
def test_pages_are_silent_and_ask_nobody(site: Path, page: Page) -> None:
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("h1").first.is_visible()
        measured = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        needed, there = page.evaluate(measured)
        assert needed <= there, name
    assert [text for text in messages if not text.startswith(HARMLESS)] == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


@in_a_browser
@pytest.mark.slow
def test_the_search_finds_without_a_server(site: Path, page: Page) -> None:
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{(site / 'search.html').as_uri()}?q=inner+step+size")
    page.get_by_text("Search finished").wait_for()
    results = page.locator("#search-results li")
    titles = [result.inner_text() for result in results.locator("a").all()]
    assert {"Hyperparameters", "Study files", "Algorithms and baselines"} <= set(titles[:6])
    studies = {path.stem for path in (site / "generated" / "gallery").glob("*.html")}
    assert not studies & set(titles), "captions of figures are not what one searches for"
    quoted = results.filter(has_text="Hyperparameters").first.locator(".context").inner_text()
    assert "inner_step" in quoted
    assert errors == []
