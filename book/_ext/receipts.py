"""The directive ``receipts``: every recorded run of book/results as a table, with a link to the file itself."""

import json
import shutil
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

NOT_A_RECEIPT = {"chapter_times.json"}


def flatten(value, name: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, text) for each number of a nested value; a list of plain values stays on one line."""
    if isinstance(value, dict):
        return [
            row for key, item in value.items() for row in flatten(item, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [row for index, item in enumerate(value) for row in flatten(item, f"{name}[{index}]")]
    items = value if isinstance(value, list) else [value]
    return [(name, ", ".join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in items))]


def table(rows: list[tuple[str, str]]) -> str:
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows
    )
    return f'<div class="table-wrapper"><table class="table receipt">{body}</table></div>'


class Receipts(SphinxDirective):
    """One section for each receipt; a sentence where there is none."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir, "results")
        paths = sorted(path for path in folder.glob("*.json") if path.name not in NOT_A_RECEIPT)
        if not paths:
            return [nodes.paragraph("", "No run has been recorded yet.")]
        return [section for path in paths for section in self.receipt(path)]

    def receipt(self, path: Path) -> list[nodes.Node]:
        self.env.note_dependency(str(path))
        receipt = json.loads(path.read_text())
        numbers = receipt.pop("numbers", {})
        link = f'<p>The file itself: <a href="results/{path.name}" download>{escape(path.name)}</a></p>'
        section = nodes.section("", nodes.title("", path.stem), ids=[f"receipt-{path.stem}"], names=[])
        section += nodes.raw("", table(flatten(numbers)) + table(flatten(receipt)) + link, format="html")
        return [section]


def outdated(app, env, added, changed, removed) -> list[str]:
    """Read the results page again in every build: a new receipt is in no list of dependencies."""
    return ["results"] if "results" in env.all_docs else []


def copy_receipts(app, error) -> None:
    """Put the files beside the page that links them; Sphinx copies only what its own markup names."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir, "results")
        target.mkdir(exist_ok=True)
        for path in Path(app.srcdir, "results").glob("*.json"):
            shutil.copy(path, target)


def setup(app) -> dict:
    app.add_directive("receipts", Receipts)
    app.connect("build-finished", copy_receipts)
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
