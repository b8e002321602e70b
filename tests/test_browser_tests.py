"""Tests that need a browser: skipped where there is none, but not in continuous integration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT

NEEDS_A_BROWSER = """
from browser import in_a_browser, launched

@in_a_browser
def test_a_page():
    with launched():
        pass
"""


@pytest.mark.parametrize(
    ("variables", "outcome"),
    [({}, "1 skipped"), ({"METABENCH_REQUIRE_BROWSER": "1"}, "1 failed")],
)
def test_without_a_browser_a_test_is_skipped_or_fails_where_one_is_required(
    variables: dict[str, str], outcome: str, tmp_path: Path
) -> None:
    (tmp_path / "test_page.py").write_text(NEEDS_A_BROWSER)
    kept = {k: v for k, v in os.environ.items() if k != "METABENCH_REQUIRE_BROWSER"}
    without = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT / "tests")}
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "test_page.py"],
        cwd=tmp_path,
        env=kept | without | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in answer.stdout and "no Chromium is installed here" in answer.stdout


def test_continuous_integration_requires_the_browser_and_runs_what_a_person_runs() -> None:
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert last == "METABENCH_REQUIRE_BROWSER=1 make test"
    assert "make test " in (ROOT / "README.md").read_text()


def test_links_to_other_sites_are_tried_by_a_target_of_its_own() -> None:
    line = ["make", "--dry-run", "--no-print-directory", "docs-links"]
    shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-b linkcheck" in shown
    assert "linkcheck" not in (ROOT / ".ci" / "run").read_text()
