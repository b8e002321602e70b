"""The documentation site: the pages of this folder, and what code says of itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

import excerpts
import generated
import links
import mathml

from metabench import __version__

project = "metabench"
author = "The metabench authors"
release = version = __version__
html_show_copyright = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build", "site", "generated/part-*"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# A page may begin at the second level where it is part of another.
suppress_warnings = ["myst.header"]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings give shapes and units, which say more
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "metabench"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "navbar_align": "left",
    "search_bar_text": "Search",
}
html_context = {"default_mode": "auto"}  # the theme warns in the console if it has none
html_sidebars = {"index": []}
html_copy_source = False
html_show_sourcelink = False


def setup(app):
    """Write the generated pages, and mend what the site cannot show as it is."""
    generated.write(Path(__file__).parent / "generated")
    app.connect("source-read", links.lead)
    app.connect("autodoc-process-signature", generated.signature)
    excerpts.setup(app)
    mathml.setup(app)
