"""Generated tables in the documentation, each between two marks."""

from pathlib import Path


def renewed(page: Path, mark: str, table: str) -> str:
    """Return a page with a table in the place that has the mark."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
