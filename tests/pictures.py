"""Take the pictures of the report in docs/images again, from the committed tables of a study.

python tests/pictures.py
"""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import launched
from PIL import Image
from playwright.sync_api import Page
from reports import REFERENCE, Opened
from small import ROOT

from metabench.views import report

IMAGES = ROOT / "docs" / "images"

STUDY = "flux"

HEIGHT = 1500
"""Pixels of the pictures of the whole page, from its top."""

SECTIONS = {
    "report-leaderboard": "leaderboard",
    "report-matrix": "matrix",
    "report-slider": "showcase",
}
"""The section of each picture of one."""


def main() -> None:
    """Take each picture."""
    with TemporaryDirectory() as folder, launched() as browser:
        file = report.write(REFERENCE / STUDY / "tables", Path(folder) / "report.html")
        wide = Opened(browser, file, 1280).page
        top(wide, "report")
        top(Opened(browser, file, 400).page, "report-narrow")
        slider = wide.locator("#showcase input[type=range]")
        slider.fill("1")
        slider.blur()
        wide.wait_for_timeout(500)  # the chart is drawn
        for name, section in SECTIONS.items():
            keep(wide.locator(f"#{section}").screenshot(), name)


def top(page: Page, name: str) -> None:
    """Take the top of a page."""
    page.set_viewport_size({"width": page.viewport_size["width"], "height": HEIGHT})
    keep(page.screenshot(), name)


def keep(png: bytes, name: str) -> None:
    """Write a picture with a palette, a third of the size."""
    with Image.open(BytesIO(png)) as picture:
        picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(
            IMAGES / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    main()
