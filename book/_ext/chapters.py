"""Which chapters exist, their numbers, and the role that links to one or, while it is unwritten, names it.

``{chapter}`07``` reads "chapter 07" and links there once notebooks/07_*.ipynb is in the book;
``{chapter}`the GRU <08>``` does the same with words of your own. A chapter's number is the number in its file name,
whichever chapters are missing, so that figures and sections keep theirs.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import ReferenceRole
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector

CHAPTER = re.compile(r"notebooks/(\d\d)_\w+")


def find(srcdir) -> dict[str, str]:
    """Return the staged chapters: two-digit number to document name."""
    return {
        path.name[:2]: f"notebooks/{path.stem}"
        for path in sorted(Path(srcdir, "notebooks").glob("[0-9][0-9]_*.ipynb"))
    }


def link(app, docname: str, number: str, text: str, anchor: str = "") -> nodes.Node:
    """Return a link from a page to a chapter, or plain text while the chapter does not exist."""
    target = app.config.sora_chapters.get(number)
    if target is None:
        return nodes.inline("", text, classes=["chapter-to-come"])
    uri = app.builder.get_relative_uri(docname, target) + (f"#{anchor}" if anchor else "")
    return nodes.reference("", text, refuri=uri, internal=True)


class Chapter(ReferenceRole):
    """The role ``chapter``."""

    def run(self):
        if not re.fullmatch(r"\d\d", self.target):
            message = self.inliner.reporter.error(
                f"chapter takes a two-digit number, not {self.target!r}", line=self.lineno
            )
            return [nodes.problematic("", self.rawtext)], [message]
        text = self.title if self.has_explicit_title else f"chapter {self.target}"
        return [link(self.env.app, self.env.docname, self.target, text)], []


class Edition(ReferenceRole):
    """The role ``edition``: names the chapters this build holds, so that no page promises more than there is."""

    def run(self):
        numbers = sorted(int(number) for number in self.env.app.config.sora_chapters)
        runs: list[list[int]] = []
        for number in numbers:
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        parts = [f"{run[0]:02d} to {run[-1]:02d}" if len(run) > 1 else f"{run[0]:02d}" for run in runs]
        return [nodes.inline("", ", ".join(parts) or "none yet")], []


def renumber(env) -> None:
    """Give each chapter and its sections the number of the file name instead of a running count, and other pages none."""
    for docname, sections in env.toc_secnumbers.items():
        match = CHAPTER.fullmatch(docname)
        number = int(match[1]) if match else None
        env.toc_secnumbers[docname] = {
            key: (number, *value[1:]) if value else value for key, value in sections.items() if match
        }
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [number, *node["secnumber"][1:]] if match else None


def number_by_file(app) -> None:
    """Let the numbering run as it is, then correct it before figures are numbered after it."""
    count = Collector.assign_section_numbers

    def assign_section_numbers(self, env):
        changed = count(self, env)
        renumber(env)
        return changed

    Collector.assign_section_numbers = assign_section_numbers


def setup(app) -> dict:
    app.add_config_value("sora_chapters", {}, "env")
    app.connect("config-inited", lambda app, config: config.__setattr__("sora_chapters", find(app.srcdir)))
    app.connect("builder-inited", number_by_file)
    app.add_role("chapter", Chapter())
    app.add_role("edition", Edition())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
