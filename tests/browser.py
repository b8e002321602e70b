"""A real browser for testing pages, if there is one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

REQUIRED = "METABENCH_REQUIRE_BROWSER" in os.environ
"""Whether a test that needs the browser fails without one, as in continuous integration."""

in_a_browser = pytest.mark.skipif(
    CHROMIUM is None and not REQUIRED,
    reason="no Chromium is installed here (Debian: apt-get install chromium)",
)


@contextmanager
def launched() -> Iterator[Browser]:
    """Yield the browser while the body runs."""
    assert CHROMIUM, "no Chromium is installed here, and METABENCH_REQUIRE_BROWSER is set"
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()
