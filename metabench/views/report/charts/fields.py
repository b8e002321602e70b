"""Fields of a map, each with its number."""

from __future__ import annotations

from typing import Any

import altair as alt

UNCERTAIN = "#e4e4e4"
"""Colour of a field whose interval includes equality."""

EVEN = 0.179
"""The relative luminance on which black and white have the same contrast, by WCAG 2."""


def ink(colour: str, coloured: str) -> Any:
    """Return the colour of numbers on fields: black or white, whichever is easier to read.

    Args:
        colour: Expression of the colour of a field.
        coloured: Expression of whether a field has this colour; others are light.
    """
    return alt.condition(
        f"{coloured} && luminance({colour}) < {EVEN}", alt.value("white"), alt.value("black")
    )


def comparisons(base: alt.Chart, shown: str, domain: list[int], text: alt.Text) -> alt.LayerChart:
    """Return fields that compare two contenders: blue if the first is better, grey if uncertain.

    Args:
        base: Chart of rows that say in `certain` whether their interval excludes equality.
        shown: Name of the value that a colour shows.
        domain: Value of the darkest blue, and of the darkest orange.
        text: The number on a field.
    """
    colour = alt.Color(f"{shown}:Q").scale(scheme="blueorange", domain=domain).legend(None)
    field = base.mark_rect(stroke="white").encode(
        color=alt.condition("datum.certain", colour, alt.value(UNCERTAIN))
    )
    numbers = base.mark_text(fontSize=10).encode(
        text=text, color=ink(f"scale('color', datum.{shown})", "datum.certain")
    )
    return field + numbers
