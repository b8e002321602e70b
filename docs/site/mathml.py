"""Formulas as MathML, which browsers draw without a script or a network."""

from html import escape

from latex2mathml.converter import convert


def setup(app):
    """Have the HTML of the site write formulas so."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"


def _inline(writer, node):
    writer.body.append(convert(node.astext()))
    _done(node)


def _block(writer, node):
    drawn = convert(node.astext(), display="block")
    writer.body.append(f'<div class="math" aria-label="{escape(node.astext())}">{drawn}</div>')
    _done(node)


def _done(node):
    from docutils.nodes import SkipNode

    raise SkipNode
