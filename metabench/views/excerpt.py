"""Part of a table as text for a paper: selected columns and rows, in one of four formats."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from metabench.study.messages import ConfigError

FORMATS = ("text", "csv", "markdown", "latex")

DIGITS = 3

ALGORITHMS = ("algorithm", "algorithm_a", "algorithm_b")
"""Columns of names of algorithms and baselines."""

SIGNS = {
    **{sign: f"${sign}$" for sign in "<>"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
"""What LaTeX has for letters that a backslash in front does not print."""


def excerpt(table: pd.DataFrame, columns: Sequence[str], where: str, form: str) -> str:
    """Return part of a table.

    Args:
        table: The table.
        columns: The selected columns, in this order; all if empty.
        where: Which rows, as a `pandas.DataFrame.query`; "" for all.
        form: One of `FORMATS`. Numbers have three digits, except in CSV, which has all. LaTeX has
            the names that figures have.

    Raises:
        ConfigError: A column does not exist, or the condition is invalid.
    """
    if unknown := [name for name in columns if name not in table]:
        raise ConfigError(
            f"{', '.join(unknown)} is not a column of this table; choose from {', '.join(table)}"
        )
    found = table
    if "@" in where:
        raise ConfigError("--where must be a condition on columns, without @")
    if where:
        try:
            found = found.query(where)
        except Exception as error:  # pandas lets those of its parser and of its engine through
            raise ConfigError(f"--where must be a condition on columns: {error}") from None
    found = found[list(columns or table)]
    if form == "csv":
        return str(found.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    texts = found.map(_cell_text)
    if form == "latex":
        return _latex(texts, set(found.select_dtypes("number")))
    if form == "markdown":
        lines = [list(texts), ["---"] * len(texts.columns), *texts.to_numpy().tolist()]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{texts.to_string(index=False)}\n"


def _cell_text(value: Any) -> str:
    """Format a value: non-integers with three digits, a missing value as empty."""
    if pd.isna(value):
        return ""
    if not isinstance(value, float):
        return str(value)
    whole = value.is_integer() and abs(value) < 1e9
    return str(int(value)) if whole else f"{value:.{DIGITS}g}"


def _latex(texts: pd.DataFrame, numbers: Collection[str]) -> str:
    """Return a table with the names that figures have, and its numbers at the right."""
    from metabench.views.drawing.style import KNOWN  # brings matplotlib, which other formats spare

    named = {name: style.line for name, style in KNOWN.items()}
    safe = texts.replace(dict.fromkeys(set(ALGORITHMS) & set(texts), named)).map(_safe)
    for column in numbers:
        safe[column] = safe[column].map(_number_in_latex)
    kinds = "".join("r" if column in numbers else "l" for column in safe)
    words = safe.rename(columns=lambda name: _safe(name.replace("_", " ")))
    return str(words.style.hide().to_latex(hrules=True, column_format=kinds))


def _number_in_latex(text: str) -> str:
    r"""Format a number in LaTeX.

    Example:
        >>> _number_in_latex("-1e-07")
        '$-1\\times10^{-7}$'
    """
    power = re.fullmatch(r"(.*)e([+-]\d+)", text)
    if power:
        return rf"${power[1]}\times10^{{{int(power[2])}}}$"
    return text.replace("-", "$-$")


def _safe(text: str) -> str:
    """Format a text in LaTeX."""
    return re.sub(r"[&%_#${}<>~^\\]", lambda found: SIGNS.get(found[0], f"\\{found[0]}"), text)
