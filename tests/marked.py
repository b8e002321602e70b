"""Generated tables in the documentation, each between two marks."""


def renewed(page: str, mark: str, table: str) -> str:
    """Return the text of a page with a table in the place that has the mark."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"
