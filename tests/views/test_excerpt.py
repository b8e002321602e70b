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


def test_latex_has_rules_and_the_names_of_figures_and_numbers_at_the_right():
    table = TABLE.assign(score_lower=[-0.5, 1e-7], tuned=[True, False])
    assert excerpt(table, [], "", "latex").splitlines() == [
        r"\begin{tabular}{lrrrl}",
        r"\toprule",
        r"algorithm & score & seeds & score lower & tuned \\",
        r"\midrule",
        r"MAML & 0.123 & 10 & $-$0.5 & True \\",
        r"MAML++ &  & 12 & $1\times10^{-7}$ & False \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_has_no_letter_that_it_would_take_for_a_command():
    table = pd.DataFrame({"algorithm_b": ["my_own"], "cell": [r"x_y=1e-05 <{5%} ~ \ ^"]})
    assert excerpt(table, [], "", "latex").splitlines()[4] == (
        r"my\_own & x\_y=1e-05 $<$\{5\%\} \textasciitilde{} \textbackslash{} \textasciicircum{} \\"
    )


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
    assert answer.exit_code == 0 and "reptile" in answer.output.lower()
    assert "leaderboard" in CliRunner().invoke(main, ["table", "bord", *line[2:4]]).output
