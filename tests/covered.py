"""The measured coverage of intervals, in docs/statistics.md.

python tests/covered.py       copies the tables of results/reference/coverage to that page
"""

from pathlib import Path

import pandas as pd
from marked import renewed

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "statistics.md"
TABLES = ROOT / "results" / "reference" / "coverage"


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.fillna("-").values.tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def page() -> str:
    """Return docs/statistics.md with the tables as they must be now."""
    text = PAGE.read_text(encoding="utf-8")
    for path in sorted(TABLES.glob("*.csv")):
        text = renewed(text, f"coverage {path.stem}", markdown(pd.read_csv(path, dtype=str)))
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
