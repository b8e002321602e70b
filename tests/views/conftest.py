"""The reports of three reference studies, and a browser that opens them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import launched
from playwright.sync_api import Browser
from reports import REFERENCE, STUDIES

from metabench.views import report


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of three studies."""
    folder = tmp_path_factory.mktemp("reports")
    return {
        study: report.write(REFERENCE / study / "tables", folder / f"{study}.html")
        for study in STUDIES
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found
