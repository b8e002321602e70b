"""Links that lead out of the folder of the documentation, which a site does not have."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
PAGES = {"../config/README.md": "study-files.md", "../results/README.md": "tables.md"}
"""Files outside that are pages of the site."""

INCLUDED = {"study-files": DOCS.parent / "config", "tables": DOCS.parent / "results"}
"""Pages that are a file of another folder, from which their links start."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")


def lead(app, name, source):
    """Lead the links of a page to a page of the site or to a file that it offers, or to none."""
    source[0] = LINK.sub(lambda link: _led(name, link), source[0])


def included(folder, text):
    """Return the text of a file of another folder with its links as seen from the documentation."""

    def seen(link):
        path = (folder / link["path"]).resolve()
        return f"[{link['text']}]({_from_docs(path)}{link['anchor'] or ''})"

    return LINK.sub(seen, text)


def _from_docs(path):
    return (
        str(path.relative_to(DOCS))
        if path.is_relative_to(DOCS)
        else f"../{path.relative_to(DOCS.parent)}"
    )


def _led(name, link):
    path, anchor, text = link["path"], link["anchor"] or "", link["text"]
    here = (DOCS / name).parent
    outside = not (here / path).resolve().is_relative_to(DOCS)
    if not outside:
        return link[0]
    seen = _from_docs((here / path).resolve())
    up = "../" * (len(Path(name).parts) - 1)
    if seen in PAGES:
        return f"[{text}]({up}{PAGES[seen]}{anchor})"
    if (here / path).is_file():
        return f"{{download}}`{text.strip('`')} <{path}>`"
    return text if text.startswith("`") else f"`{text}`"
