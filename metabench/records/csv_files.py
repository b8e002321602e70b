"""CSV files that other programs wrote: read, or refused with what is wrong and in which row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NONE = ["", "NA"]
"""What stands for no value: R writes NA."""

NUMBER = "float64"


def read(path: Path, types: Mapping[str, str]) -> Any:
    """Read a CSV file as a table of pyarrow.

    Args:
        path: The file.
        types: Types of columns by name: `NUMBER`, or another of pyarrow. Columns that are not named
            have any.

    Raises:
        ValueError: In one line: the file is not text in UTF-8, has no commas, or has a row with
            other fields than the first line names.
    """
    from pyarrow.csv import ConvertOptions, read_csv

    header = next(_lines(path), "").rstrip()
    if "," not in header:
        raise ValueError(
            f"a CSV file must have commas between its columns, and decimals with a point; "
            f"its first line is {header!r:.80}"
        )
    options = ConvertOptions(column_types=types, null_values=NONE, strings_can_be_null=True)
    try:
        return read_csv(path, convert_options=options)
    except ValueError as error:
        raise ValueError(_wrong_row(path, types) or str(error)) from None


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file; raise ValueError at the first that is not text in UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = "\0"
            if "\0" in text:  # as UTF-16 has without a mark of its byte order
                raise ValueError(f"a CSV file must be text in UTF-8, and line {number} is not")
            yield text


def _wrong_row(path: Path, types: Mapping[str, str]) -> str | None:
    """Return what is wrong with the first row that cannot be read, if it is known."""
    table = csv.reader(_lines(path))
    header, row = next(table), 0
    for row, fields in enumerate(filter(None, table), start=1):
        if len(fields) != len(header):
            return (
                f"every row must have {len(header)} fields, as many as the first line, "
                f"got {len(fields)} in row {row}; decimals need a point"
            )
        for name, text in zip(header, fields, strict=True):
            if types.get(name) == NUMBER and text not in NONE and not _is_number(text):
                return (
                    f"{name} must be a number, got {text!r:.40} in row {row}; decimals need a point"
                )
    return None if row else "it must have rows, and has only its first line"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
