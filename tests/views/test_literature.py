"""Published numbers: the file, the verdicts, and the table built from committed results."""

import re

import numpy as np
import pytest
import small
import yaml
from click.testing import CliRunner
from small import ROOT, tiny

from metabench.analysis import frames
from metabench.cli import main
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.study import config
from metabench.study.config import ConfigError
from metabench.study.jobs import Study
from metabench.views import literature, literature_markdown

ROWS = literature.ROWS
REFERENCE = ROOT / "results" / "reference"
COMMITTED = REFERENCE / "literature"


def line(published, half, ours, lower, upper):
    ends = {"published_lower": published - half, "published_upper": published + half}
    return {"published": published, **ends, "ours": ours, "ours_lower": lower, "ours_upper": upper}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 0.1, 1.25, 1.05, 1.5), "reproduced"),  # the intervals overlap
        # Within the margin of a number without an interval.
        ((1.0, np.nan, 1.19, 1.1, 1.3), "reproduced"),
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
    known = literature.load()
    assert len(known.rows) >= 20
    assert all(row.link.startswith("https://") for row in known.rows)
    for row in known.rows:
        study = Study(config.load(ROOT / "config" / f"{row.ours.study}.yaml"))
        assert row in literature.covered(known, study).rows


def test_a_study_covers_the_numbers_whose_cell_protocol_and_update_it_has():
    known = literature.load()
    content = yaml.safe_load((ROOT / "config" / "maml.yaml").read_text())
    whole = literature.covered(known, small.study(content))
    assert len(whole.rows) == 11 and not whole.variations and whole.margin == known.margin
    content["cells"] = [cell for cell in content["cells"] if cell["algorithm"] != "meta_sgd"]
    assert {row.method for row in whole.rows} - {
        row.method for row in literature.covered(known, small.study(content)).rows
    } == {"Meta-SGD"}
    for protocol in content["protocols"].values():
        protocol["updates"] = 1
    assert {row.steps for row in literature.covered(known, small.study(content)).rows} == {(1,)}
    del content["protocols"]["fresh-10"]
    assert {row.tested for row in literature.covered(known, small.study(content)).rows} == {5}
    assert not literature.covered(known, small.study(tiny())).rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [1, 5]}, "numbers must be one for each of steps, got 3 for 2"),
        ({"link": None}, "link must"),
        ({"numbers": [0.1, -1, 2]}, "numbers|greater"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, change, message):
    content = yaml.safe_load(ROWS.read_text())
    content["rows"][0] |= change
    (path := tmp_path / "rows.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message) as error:
        literature.load(path)
    assert "\n" not in str(error.value)


def test_the_variance_of_the_noise_in_a_sources_labels_is_added_to_our_mean():
    known = literature.load()
    row = known.rows[0]
    noisy = row.model_copy(update={"label_noise": 0.5})
    found = literature.table(known.model_copy(update={"rows": (row, noisy)}), REFERENCE)
    plain, shifted = found[: len(row.steps)], found[len(row.steps) :]
    for name, added in {
        "ours": 0.25,
        "ours_lower": 0.25,
        "ours_upper": 0.25,
        "ours_median": 0,
    }.items():
        np.testing.assert_array_equal(shifted[name], plain[name] + added)


def test_a_study_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="maml"):
        literature.table(literature.load(ROWS), tmp_path)


def test_the_committed_tables_are_those_of_the_committed_studies(tmp_path):
    answer = CliRunner().invoke(
        main, ["literature", "--studies", str(REFERENCE), "--out", str(tmp_path)]
    )
    assert answer.exit_code == 0, answer.output
    found = frames.read(tmp_path, literature.NAME)
    assert list(found.columns) == list(literature.COLUMNS)
    assert list(frames.read(tmp_path, "variations.csv").columns) == list(
        literature.VARIATION_COLUMNS
    )
    header, committed = manifests.read(tmp_path), manifests.read(COMMITTED)
    assert set(header["files"]) == {
        literature.NAME,
        "variations.csv",
        "literature.svg",
        "literature.png",
    }
    assert header["tables"] == committed["tables"]
    assert header["files"] == committed["files"]


def test_the_pages_print_the_committed_tables():
    known = literature.load()
    found, varied = literature.table(known, REFERENCE), literature.variations(known, REFERENCE)
    assert printed("docs/literature.md", "literature") == literature_markdown.table(found)
    assert printed("docs/literature.md", "variations") == literature_markdown.variations(varied)
    assert printed("docs/literature.md", "summary") == literature_markdown.summary(found)


def test_the_readme_counts_the_verdicts():
    verdicts = literature.table(literature.load(), REFERENCE)["verdict"].value_counts()
    compared = verdicts.sum() - verdicts["not comparable"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Of {compared} published numbers that can be compared" in readme
    reproduced, better, worse = verdicts[["reproduced", "better", "worse"]]
    assert (
        f"{reproduced} are reproduced, {better} of ours are better and {worse} are worse" in readme
    )


def test_no_interval_is_so_wide_that_it_reproduces_anything():
    found = literature.table(literature.load(), REFERENCE)
    reproduced = found[found["verdict"] == "reproduced"]
    assert len(reproduced) and (reproduced["ours_upper"] < 3 * reproduced["ours_lower"]).all()


@pytest.mark.parametrize(
    ("variation", "case", "update", "published", "half", "by_text", "by_code"),
    [
        ("inner step, A, 10 / 5", "0.001, its code's", 5, 0.38, np.nan, "worse", "reproduced"),
        ("inner step, A, 10 / 5", "0.001, its code's", 10, 0.35, np.nan, "worse", "reproduced"),
        (
            "PARL's settings, C",
            "the same with annealed weights, as in PARL's code",
            3,
            0.34,
            0.01,
            "worse",
            "worse",
        ),
        (
            "PARL's settings, C",
            "MAML as in PARL's code, 3 x 40, inner step 0.001",
            3,
            0.93,
            0.02,
            "better",
            "better",
        ),
        (
            "five shots of the tuned network, A, 3 x 91",
            "hidden biases begin at 0",
            14,
            0.177,
            0.009,
            "worse",
            "worse",
        ),
    ],
)
def test_what_judging_by_the_code_of_a_source_would_change(
    variation, case, update, published, half, by_text, by_code
):
    known = literature.load()
    stated = literature.table(known, REFERENCE).query("published == @published")
    assert set(stated["verdict"]) == {by_text}
    varied = literature.variations(known, REFERENCE)
    row = varied.query("variation == @variation and case == @case and update == @update").iloc[0]
    assert np.isnan(row["ours_upper"]) or row["ours_upper"] < 3 * row["ours_lower"]
    ours = line(published, half, *row[["ours", "ours_lower", "ours_upper"]])
    assert literature.verdict(ours, 1.2) == by_code


def printed(page, name):
    found = re.search(
        rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", (ROOT / page).read_text(), re.DOTALL
    )
    assert found, (page, name)
    return found[1]


def test_the_summary_counts_every_number_once():
    found = literature.table(literature.load(), REFERENCE)
    rows = [line.split(" | ")[2:] for line in literature_markdown.summary(found).splitlines()[2:]]
    assert sum(int(count.rstrip(" |")) for row in rows for count in row) == len(found)


def test_a_mean_without_an_interval_is_printed_without_one():
    found = literature.table(literature.load(), REFERENCE)
    without = found["ours_lower"].isna()
    rows = literature_markdown.table(found).splitlines()[2:]
    printed = [row.split(" | ")[6] for row in rows]
    assert without.any() and not any("nan" in ours for ours in printed)
    assert ["[" not in ours for ours in printed] == list(without)


def test_the_programs_of_the_page_print_what_the_page_says(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "literature.md").read_text(encoding="utf-8")
    for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(program, {})
        printed = capsys.readouterr().out.splitlines()
        assert printed == [line[2:] for line in program.splitlines() if line.startswith("# ")]
    assert "[0.223, 0.983] with five shots and within [0.082, 0.216] with ten" in page
