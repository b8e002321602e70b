"""Texts of all pages for the search: from a file, a browser may not fetch what results quote."""

import json
from pathlib import Path

from docutils import nodes


def setup(app):
    """Give the page of the search the texts of all others."""
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)


def _load(app, name, template, context, doctree):
    if name == "search":
        app.add_js_file("texts.js", loading_method="defer")
        app.add_js_file("search.js", loading_method="defer")


def _write(app, error):
    if error is None:
        hidden = {name for name, said in app.env.metadata.items() if "nosearch" in said}
        texts = {f"{name}.html": _text(app, name) for name in app.env.found_docs - hidden}
        path = Path(app.outdir) / "_static" / "texts.js"
        path.write_text(f"const TEXTS = {json.dumps(texts, sort_keys=True)};\n", encoding="utf-8")


def _text(app, name):
    """Return the visible text of a page in one line."""
    doctree = app.env.get_doctree(name)
    for node in list(doctree.findall(nodes.Invisible)):
        node.parent.remove(node)
    return " ".join(doctree.astext().split())
