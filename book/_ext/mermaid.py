"""Diagrams drawn in the page by the vendored mermaid: the directive ``mermaid``, also as a plain fenced block.

A plain block is drawn by JupyterLab and by code hosts too. ``accTitle:`` and ``accDescr:`` lines inside the diagram
give screen readers its title and description.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Mermaid(SphinxDirective):
    """``mermaid`` with the diagram as its body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        if "accDescr" not in "\n".join(self.content):
            raise self.error("A diagram needs an accDescr line that says in words what it shows.")
        return [diagram("", "\n".join(self.content))]


class diagram(nodes.General, nodes.Element):
    """A mermaid source, kept as text until the browser draws it."""

    def __init__(self, rawsource: str = "", code: str = "", **attributes):
        super().__init__(rawsource, code=code, **attributes)


def visit_html(self, node: diagram) -> None:
    self.body.append(f'<pre class="mermaid">{self.encode(node["code"])}</pre>')
    raise nodes.SkipNode


def visit_other(self, node: diagram) -> None:
    raise nodes.SkipNode


def add_scripts(app, pagename, templatename, context, doctree) -> None:
    """Load the large script only where a diagram is."""
    if doctree is not None and next(doctree.findall(diagram), None) is not None:
        app.add_js_file("vendor/mermaid/mermaid.min.js", loading_method="defer")
        app.add_js_file("diagrams.js", loading_method="defer")


def setup(app) -> dict:
    app.add_node(diagram, html=(visit_html, None), latex=(visit_other, None), text=(visit_other, None))
    app.add_directive("mermaid", Mermaid)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
