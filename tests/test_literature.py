"""Published numbers: the file, the verdicts, and the table that is made of committed results."""

import re

import numpy as np
import pytest
import yaml
from small import ROOT

from metabench import frames, literature
from metabench.artifacts import ArtifactError
from metabench.config import ConfigError

ROWS = ROOT / "docs" / "literature.yaml"
REFERENCE = ROOT / "results" / "reference"


def line(published, half, ours, lower, upper):
    ends = {"published_lower": published - half, "published_upper": published + half}
    return {"published": published, **ends, "ours": ours, "ours_lower": lower, "ours_upper": upper}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 0.1, 1.25, 1.05, 1.5), "reproduced"),  # the intervals overlap
        ((1.0, np.nan, 1.19, 1.1, 1.3), "reproduced"),  # within the margin of a number without an interval
        ((1.0, np.nan, 1.3, 0.9, 1.7), "reproduced"),  # our interval holds it
        ((1.0, np.nan, 1.3, 1.25, 1.35), "worse"),
        ((1.0, 0.1, 0.7, 0.65, 0.75), "better"),
        ((1.0, 0.1, np.inf, np.inf, np.inf), "worse"),
        ((1.0, np.nan, 1 / 1.19, 0.8, 0.85), "reproduced"),
    ],
)
def test_a_verdict_follows_the_rules_written_down_before(values, expected):
    assert literature.verdict(line(*values), 1.2) == expected


def test_every_published_number_has_its_source_and_its_place_in_a_study():
    rows = literature.load(ROWS).rows
    assert len(rows) >= 17
    assert all(row.link.startswith("https://") for row in rows)
    for row in rows:
        assert (ROOT / "config" / f"{row.ours.study}.yaml").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": [1, 5]}, "numbers must be one for each of steps, got 3 for 2"),
        ({"link": None}, "link must"),
        ({"numbers": [0.1, -1, 2]}, "numbers|greater"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, change, said):
    content = yaml.safe_load(ROWS.read_text())
    content["rows"][0] |= change
    (path := tmp_path / "rows.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=said) as error:
        literature.load(path)
    assert "\n" not in str(error.value)


def test_a_study_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="maml"):
        literature.table(literature.load(ROWS), tmp_path)


def test_the_committed_table_is_that_of_the_committed_studies(tmp_path):
    found = literature.table(literature.load(ROWS), REFERENCE)
    assert set(found.columns) == set(literature.COLUMNS)
    frames.write(found, tmp_path / "literature.csv")
    assert (tmp_path / "literature.csv").read_bytes() == (REFERENCE / "literature" / "literature.csv").read_bytes()


def test_the_page_prints_the_committed_table():
    found = literature.table(literature.load(ROWS), REFERENCE)
    page = (ROOT / "docs" / "literature.md").read_text()
    printed = re.search(r"<!-- literature -->\n(.*)\n<!-- /literature -->", page, re.DOTALL)
    assert printed and printed[1] == literature.markdown(found)
