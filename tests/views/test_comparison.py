"""The page that compares two studies, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import in_a_browser, launched
from playwright.sync_api import Browser
from reports import REFERENCE, Opened

from metabench.analysis import paired
from metabench.records import manifests
from metabench.views import comparison

SIDES = (REFERENCE / "flux", REFERENCE / "algorithms")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "page.html"
    comparison.write(paired.compare(*SIDES), *SIDES, out)
    return out


@in_a_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_it_overflows_nowhere_and_its_names_and_marks_are_whole(
    page: Path, browser: Browser, width: int
) -> None:
    opened = Opened(browser, page, width)
    measured = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = opened.page.evaluate(measured)
    assert needed <= there and opened.messages == []
    chart = opened.page.locator("#chart svg.marks").bounding_box()
    marks = opened.page.locator("#chart .mark-text.role-mark text, #chart .mark-symbol path").all()
    assert chart and chart["x"] + chart["width"] <= width and len(marks) > 4
    for mark in marks:
        box = mark.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert "…" not in opened.page.locator("#chart").inner_text()
    opened.page.close()


def test_it_says_what_it_is_made_of_with_three_digits(page: Path) -> None:
    text = page.read_text().split("<script>")[0]
    for side in SIDES:
        assert manifests.read(side / "tables")["content"] in text
    assert f"metabench compare {SIDES[0]} {SIDES[1]}" in text
    assert "95 % t intervals" in text and "10 × 1000" in text
    body = text.split("<tbody>")[1]
    assert "[0" not in body.replace("[0.", "") and "0.0 " not in body
    cells = [part.split("<")[0] for part in body.split('<td class="number">')[1:]]
    assert max(len(cell) for cell in cells) < 40
