"""What students hand in, brought into the shape of the release, whatever it was: nbgrader then meets nothing unusual.

python -m scripts.course.submission FILE     (make check-submission FILE=...): will this file grade?
"""

import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import nbformat

from sora_nb import files

from . import grading, sandbox, sources

LARGEST = 20 << 20  # bytes; a notebook without outputs has some tens of thousands
STUDENT = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}$", re.ASCII)


class Unreadable(ValueError):
    """A file that is no notebook. Its message says why, in a sentence for the student."""


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook of any version.

    Raises:
        Unreadable: it is none.
    """
    if path.is_symlink() or not path.is_file():
        raise Unreadable("The submission is not a file.")
    if path.stat().st_size > LARGEST:
        raise Unreadable(f"The file is larger than {LARGEST >> 20} MB: clear all outputs and save it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbformat prints a page about cells that are there twice
            notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        notebook.cells = [_plain(cell) for cell in notebook.cells]
    except Exception as error:  # nbformat raises whatever its walk through the JSON meets
        raise Unreadable(f"The file is not a Jupyter notebook ({type(error).__name__}).") from None
    return notebook


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as part:
        nbformat.write(notebook, part)


def _plain(cell) -> nbformat.NotebookNode:
    """A cell of its kind without outputs."""
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    new = make.get(cell.cell_type, nbformat.v4.new_raw_cell)(
        "".join(cell.source), metadata=dict(cell.metadata)
    )
    known = cell.get("id")
    new.id = known if isinstance(known, str) and re.match(r"[\w-]{1,64}$", known, re.ASCII) else new.id
    return new


def grade_id(cell: nbformat.NotebookNode) -> str:
    """nbgrader's id of a cell, "" if it has none."""
    marks = cell.metadata.get("nbgrader")
    found = marks.get("grade_id") if isinstance(marks, dict) else None
    return found if isinstance(found, str) else ""


def editable(cell: nbformat.NotebookNode) -> bool:
    """Is it the student's to write?"""
    return bool(grade_id(cell)) and cell.metadata["nbgrader"].get("solution", False)


def code(notebook: nbformat.NotebookNode) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The student's cells by grade id, and the code cells that the student has added, by the id of the cell before them."""
    own, extras, last = {}, {}, ""
    for cell in notebook.cells:
        if found := grade_id(cell):
            last = found
            own |= {found: cell.source} if editable(cell) else {}
        elif cell.cell_type == "code" and cell.source.strip():
            extras.setdefault(last, []).append(cell.source)
    return own, extras


def tidied(
    submission: nbformat.NotebookNode, release: nbformat.NotebookNode
) -> tuple[nbformat.NotebookNode, list[str]]:
    """The release with the student's work in it, and remarks on what had to be put right.

    Of several copies of a cell the last one counts that differs from the release. A cell that is missing is as in the
    release. Tests are always the release's. Cells that the student has added stay behind the cell that they followed.
    """
    known = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
    copies: dict[str, list[str]] = {}
    extras: dict[str, list[str]] = {}
    last = next(iter(known), "")
    for cell in submission.cells:
        found = grade_id(cell)
        if found in known:
            last = found
            copies.setdefault(found, []).append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            extras.setdefault(last, []).append(cell.source)
    tidy = nbformat.from_dict({**release, "cells": []})
    for cell in release.cells:
        cell, found = nbformat.from_dict(cell), grade_id(cell)
        if editable(cell):
            changed = [text for text in copies.get(found, []) if text != cell.source]
            cell.source = (changed or [cell.source])[-1]
            if cell.cell_type == "markdown":
                cell.source = harmless(cell.source)
        tidy.cells.append(cell)
        tidy.cells += [_added(text, found, i) for i, text in enumerate(extras.get(found, []))]
    return tidy, _remarks(copies, known, submission)


def harmless(answer: str) -> str:
    """Prose that a browser takes for prose: no tag and no entity begins in it, whatever a template does with it.

    nbgrader's pages show answers as they are, to the teacher and with the teacher's rights.
    """
    return re.sub(r"(?i)(javascript|vbscript|data)(?=\s*:)", r"\1 ", re.sub(r"[<&](?=\S)", r"\g<0> ", answer))


def _added(text: str, after: str, number: int) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(text)
    cell.id = re.sub(r"[^\w-]", "-", f"added-{after}-{number}")[:64]
    return cell


def _remarks(copies: dict, known: dict, submission) -> list[str]:
    said = []
    for name, cell in known.items():
        found = copies.get(name, [])
        if not found:
            said.append(
                f"The cell '{name}' was missing"
                + (" and counts as empty." if editable(cell) else "; it was put back.")
            )
        elif len(found) > 1:
            said.append(
                f"The cell '{name}' was there {len(found)} times; the last copy that you changed counts."
            )
        elif not editable(cell) and found[0].strip() != cell.source.strip():
            said.append(f"The cell '{name}' had been changed; the course's own was used.")
    order = [name for name in map(grade_id, submission.cells) if name in known]
    if list(dict.fromkeys(order)) != [name for name in known if name in order]:
        said.append("Cells were in another order than in the release; they were run in the release's.")
    kernel = submission.metadata.get("kernelspec")
    name = kernel.get("name") if isinstance(kernel, dict) else None
    if name not in (None, "python3"):
        said.append(f"The notebook asked for the kernel {str(name)[:40]!r}; it was run with Python 3.")
    return said


def check(path: Path, limits: sandbox.Limits | None = None) -> tuple[list[str], list[str]]:
    """Look at a submission as the grader will, with the visible tests only.

    Returns:
        (what keeps the file from being graded as it is, what the tests say).
    """
    notebook = read(path)
    course = notebook.metadata.get("course", {})
    name = course.get("set", path.stem) if isinstance(course, dict) else path.stem
    if name not in sources.names():
        raise Unreadable(f"This is no notebook of a problem set: it says it is {str(name)[:60]!r}.")
    reference = sources.load(name, "any")
    wanted, found = [cell.id for cell in reference.cells if cell.id], Counter(map(grade_id, notebook.cells))
    problems = [
        f"The cell '{i}' is missing: copy it from the notebook you were given."
        for i in wanted
        if not found[i]
    ]
    problems += [
        f"The cell '{i}' is there {found[i]} times: delete all but one." for i in wanted if found[i] > 1
    ]
    problems += _edited(notebook)
    if problems:
        return problems, []
    own, extras = code(notebook)
    roles = {cell.id: cell for cell in reference.cells if cell.id}
    sheet = [
        sources.Cell(i, roles[i].role, c.source, roles[i].points)
        for c in notebook.cells
        if (i := grade_id(c)) in roles
    ]
    with sandbox.Boxed(limits or sandbox.Limits()) as line:
        results = grading.grade(sheet, reference.names(), own, grading.Session(line), extras)
    said = []
    for cell in reference.cells:
        if cell.role == "test":
            verdict = "passes" if results[cell.id].points else f"FAILS: {results[cell.id].message}"
            said.append(f"{cell.id} ({cell.points:g} points): {verdict}")
        elif cell.role == "answer":
            empty = not own.get(cell.id, "").strip() or "YOUR ANSWER HERE" in own[cell.id]
            said.append(f"{cell.id} ({cell.points:g} points): {'EMPTY' if empty else 'a person reads it'}")
    return [], said


def _edited(notebook: nbformat.NotebookNode) -> list[str]:
    from nbgrader.utils import (
        compute_checksum,
    )  # here: what runs in every grading process need not load nbgrader

    said = []
    for cell in notebook.cells:
        if grade_id(cell) and not editable(cell):
            marks = cell.metadata["nbgrader"]
            try:
                same = marks.get("checksum") == compute_checksum(cell)
            except (KeyError, ValueError, TypeError):
                same = False
            said += (
                [] if same else [f"The cell '{grade_id(cell)}' was changed; only cells for your work may be."]
            )
    return said


def main(arguments: list[str]) -> int:
    """Say whether a file will grade."""
    if len(arguments) != 1:
        print("make check-submission FILE=your_notebook.ipynb", file=sys.stderr)
        return 2
    try:
        problems, said = check(Path(arguments[0]))
    except Unreadable as error:
        problems, said = [str(error)], []
    print(*problems, *said, sep="\n")
    if problems:
        print("\nMend this before you hand the file in.")
    else:
        print(
            "\nThis file will grade. When it is graded, further tests run on other shapes, seeds and types of number."
        )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
