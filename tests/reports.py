"""Reports as tests read them: their data, and the page in a browser."""

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page
from small import ROOT

REFERENCE = ROOT / "results" / "reference"
STUDIES = ("flux", "algorithms", "flux-atlas")


def data_of(page: Path) -> dict[str, Any]:
    """Return what a page's script works with, its columns as rows."""
    text = page.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    data = json.loads(found)
    for key in ("board", "pairs"):
        data[key] = rows_of(data[key])
    for spec in data["charts"].values():
        spec["datasets"] = {name: rows_of(packed) for name, packed in spec["datasets"].items()}
    return data


def rows_of(packed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of columns, as the page's script does."""
    columns = [
        [found["values"][place] for place in found["at"]] if isinstance(found, dict) else found
        for found in packed.values()
    ]
    return [dict(zip(packed, row, strict=True)) for row in zip(*columns, strict=True)]


class Opened:
    """A page in a browser, with all that it said and asked for."""

    def __init__(self, browser: Browser, file: Path, width: int) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("console", self._record_message)
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("body[data-drawn=yes]", timeout=60_000)

    def _record_message(self, message: ConsoleMessage) -> None:
        self.messages.append(message.text)

    def rows(self) -> list[list[str]]:
        """Return the leaderboard as it is shown."""
        lines = self.page.locator("#board tbody tr").all()
        return [line.locator("td").all_inner_texts() for line in lines]
