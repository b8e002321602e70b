"""Part of a table as text for a paper."""

import pandas as pd
import pytest
from click.testing import CliRunner
from small import ROOT

from metabench.cli import main
from metabench.study.messages import ConfigError
from metabench.views.excerpt import FORMATS, excerpt

TABLE = pd.DataFrame(
    {"algorithm": ["maml", "maml_plus_plus"], "score": [0.123456, None], "seeds": [10, 12]}
)


def test_text_has_three_digits_and_nothing_for_what_is_missing():
    assert excerpt(TABLE, ["algorithm", "score"], "", "text").splitlines() == [
        "     algorithm score",
        "          maml 0.123",
        "maml_plus_plus      ",
    ]


def test_csv_has_all_digits_and_the_columns_in_the_order_asked_for():
    found = excerpt(TABLE, ["seeds", "score"], "seeds == 10", "csv")
    assert found == "seeds,score\n10,0.123456\n"


def test_markdown_is_a_table():
    assert excerpt(TABLE, ["algorithm", "seeds"], "", "markdown").splitlines()[1:] == [
        "| --- | --- |",
        "| maml | 10 |",
        "| maml_plus_plus | 12 |",
    ]


def test_latex_has_rules_and_no_letter_that_it_would_take_for_a_command():
    found = excerpt(TABLE, ["algorithm"], "", "latex")
    assert "\\toprule" in found and "\\bottomrule" in found
    assert "maml\\_plus\\_plus" in found


def test_counts_are_whole_and_large_numbers_short():
    counts = pd.DataFrame({"iterations": [112500.0, None], "mean": [6.18e12, 37.0]})
    assert excerpt(counts, [], "", "markdown").splitlines()[2:] == [
        "| 112500 | 6.18e+12 |",
        "|  | 37 |",
    ]


@pytest.mark.parametrize(
    ("columns", "where", "message"),
    [
        (["skore"], "", "skore is not a column of this table; choose from algorithm, score, seeds"),
        ([], "seeds ==", "--where must be a condition on columns: "),
        ([], "speed == 1", "--where must be a condition on columns: name 'speed' is not defined"),
        ([], "seeds == @pd", "without @"),
    ],
)
def test_a_mistake_is_one_line(columns, where, message):
    with pytest.raises(ConfigError) as error:
        excerpt(TABLE, columns, where, "text")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_a_choice_of_the_command(form):
    tables = ROOT / "results" / "reference" / "flux" / "tables"
    line = ["table", "cells", "--tables", str(tables), "--columns", "algorithm", "--format", form]
    answer = CliRunner().invoke(main, line)
    assert answer.exit_code == 0 and "reptile" in answer.output
    assert "leaderboard" in CliRunner().invoke(main, ["table", "bord", *line[2:4]]).output
