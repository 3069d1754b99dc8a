"""Problem sets: from one source to what a student gets, what the grader runs and what the key shows.

A source is a Jupytext script with nbgrader's cell metadata (``notebooks/assignments/NN_name.py``). Three things are
added to nbgrader's format, all of them resolved here, before nbgrader sees the notebook:

- the cell tagged ``instance`` draws this year's numbers; ``INSTANCE.name`` elsewhere stands for them;
- a comment ``# BUG name: line`` offers a wrong line for the one below it, and the secret picks one of those of a cell;
- the part of a grade id before the first hyphen names the task.
"""

import ast
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "notebooks" / "assignments"

_FIELD = re.compile(r"\bINSTANCE\.(\w+)")
_BUG = re.compile(r"^[ ]*# BUG (\w+):[ ]?(.*)$")
_HIDDEN = re.compile(r"^[ ]*### (BEGIN|END) HIDDEN TESTS[ ]*$\n?", re.M)
_SOLUTION = re.compile(r"^[ ]*### (BEGIN|END) SOLUTION[ ]*$\n?", re.M)


class SourceError(ValueError):
    """A problem set is not in the format that its authors agreed on."""


@dataclass(frozen=True)
class Cell:
    """One cell of a set, with this year's numbers in it.

    Attributes:
        id: nbgrader's grade id, "" for a cell without one.
        role: ``text``, ``given`` (code that everybody has), ``solution`` (code that the student writes), ``test``, ``answer``
            (prose that a person marks).
        source: what the grader runs: in a solution the reference's code, in a test visible and hidden tests.
        points: points of a test or an answer, 0 elsewhere.
        released: what the student gets in the place of a solution: a stub, or the code with this year's bug in it.
        bugs: the code with each bug that the cell's ``# BUG`` lines offer, by name.
    """

    id: str
    role: str
    source: str
    points: float = 0
    released: str = ""
    bugs: tuple[tuple[str, str], ...] = ()

    @property
    def task(self) -> str:
        """The task that the cell belongs to."""
        return self.id.split("-")[0]


@dataclass(frozen=True)
class ProblemSet:
    """A problem set as one course gives it out.

    Attributes:
        name: name of its source without the ending.
        issue: eight characters that tell the sets of one secret from those of another; the secret cannot be had from them.
        notebook: what nbgrader takes for its source: numbers filled in, solutions and hidden tests still there.
        cells: the same, cell by cell.
        values: this year's numbers by name.
    """

    name: str
    issue: str
    notebook: nbformat.NotebookNode
    cells: tuple[Cell, ...]
    values: dict

    def tasks(self) -> dict[str, float]:
        """The autograded points of each task."""
        points: dict[str, float] = {}
        for cell in self.cells:
            if cell.role == "test":
                points[cell.task] = points.get(cell.task, 0) + cell.points
        return points

    def names(self) -> dict[str, list[str]]:
        """What the student's cells of each task define."""
        found: dict[str, list[str]] = {}
        for cell in self.cells:
            if cell.role == "solution":
                found.setdefault(cell.task, []).extend(defined(cell.source))
        return found


def names() -> list[str]:
    """Names of all problem sets, in order."""
    return sorted(path.stem for path in SOURCES.glob("[0-9][0-9]_*.py"))


def load(name: str, secret: str) -> ProblemSet:
    """Read a set's source and fill in what the secret decides.

    Raises:
        SourceError: there is no such set, or it breaks the format.
    """
    path = SOURCES / f"{name}.py"
    if not path.exists():
        raise SourceError(f"There is no problem set '{name}'; there are {', '.join(names())}.")
    return build(jupytext.read(path), name, secret)


def build(notebook: nbformat.NotebookNode, name: str, secret: str) -> ProblemSet:
    """Fill in a set's numbers and bugs; see :func:`load`."""
    values = _instance(notebook, name, secret)
    notebook.cells = [cell for cell in notebook.cells if not _tagged(cell)]
    cells = []
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name[:2]}-{number:02d}"  # the same in every build
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "nbgrader"})
        cell.source = filled(cell.source, values, cell.cell_type == "code")
        cells.append(_cell(cell, name, secret))
    issue = hashlib.sha256(f"issue|{name}|{secret}".encode()).hexdigest()[:8]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
            "course": {"set": name, "issue": issue},
        }
    )
    return ProblemSet(name, issue, notebook, tuple(cells), values)


def built(path: Path) -> ProblemSet:
    """Read a set that was built before, from the notebook of :func:`build`; the secret is not needed."""
    notebook = nbformat.read(path, as_version=4)
    course = notebook.metadata["course"]
    cells = tuple(_cell(cell, course["set"], "") for cell in notebook.cells)
    return ProblemSet(course["set"], course["issue"], notebook, cells, {})


def table(name: str) -> dict[str, list[dict]]:
    """The set's wrong and right solutions, ``notebooks/assignments/NN_name.yml``."""
    return yaml.safe_load((SOURCES / f"{name}.yml").read_text())


def edited(cell: Cell, entry: dict, values: dict) -> str:
    """The solution that an entry of the table describes: new code, or an edit of the reference's.

    Raises:
        SourceError: the text to be edited is not in the reference exactly once.
    """
    if "code" in entry:
        return filled(entry["code"], values)
    if cell.source.count(entry["old"]) != 1:
        raise SourceError(
            f"'{cell.id}' holds {entry['old']!r} {cell.source.count(entry['old'])} times, "
            f"but the entry '{entry['say']}' of the table needs it once."
        )
    return cell.source.replace(entry["old"], filled(entry["new"], values))


def defined(code: str) -> list[str]:
    """Names that a cell defines at its top level: functions, classes and assigned variables."""
    found = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return found


def visible(test: str) -> str:
    """A test cell without its hidden part."""
    kept, hidden = [], False
    for line in test.splitlines():
        mark = _HIDDEN.match(line)
        hidden = mark[1] == "BEGIN" if mark else hidden
        if not mark and not hidden:
            kept.append(line)
    return "\n".join(kept).rstrip()


def unmarked(text: str) -> str:
    """A solution without nbgrader's marks around it."""
    return _SOLUTION.sub("", text)


def _tagged(cell: nbformat.NotebookNode) -> bool:
    return "instance" in cell.metadata.get("tags", [])


def _random(secret: str, *parts: str) -> random.Random:
    return random.Random(hashlib.sha256("|".join((secret, *parts)).encode()).digest())


def _instance(notebook: nbformat.NotebookNode, name: str, secret: str) -> dict:
    """Run the cell tagged ``instance``; what it assigns are the set's numbers."""
    values: dict = {"draw": _random(secret, name), "__builtins__": __builtins__}
    for cell in filter(_tagged, notebook.cells):
        exec(compile(cell.source, f"<instance of {name}>", "exec"), values)
    return {key: value for key, value in values.items() if key not in ("draw", "__builtins__")}


def filled(text: str, values: dict, code: bool = True) -> str:
    """A text with this year's numbers in the place of ``INSTANCE.name``, in code as Python writes them."""

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise SourceError(f"INSTANCE.{match[1]} is used, but the cell tagged 'instance' does not set it.")
        return repr(values[match[1]]) if code else str(values[match[1]])

    return _FIELD.sub(value, text)


def _cell(cell: nbformat.NotebookNode, name: str, secret: str) -> Cell:
    """Read one cell; a cell with bugs is changed in place to what the reference holds, its bug kept in the metadata."""
    marks = cell.metadata.get("nbgrader")
    if marks is None:
        if cell.cell_type == "code":
            raise SourceError(f"{name}: a code cell has no grade id: {cell.source[:60]!r}.")
        return Cell("", "text", cell.source)
    points = marks.get("points", 0)
    if cell.cell_type == "markdown":
        return Cell(marks["grade_id"], "answer" if marks["grade"] else "text", cell.source, points)
    if marks["grade"]:
        return Cell(marks["grade_id"], "test", cell.source, points)
    if not marks["solution"]:
        return Cell(marks["grade_id"], "given", cell.source)
    bugs = _bugs(cell.source)
    if "course_bug" in cell.metadata:  # a built notebook
        return Cell(marks["grade_id"], "solution", cell.source, released=cell.metadata["course_bug"])
    if bool(bugs) == ("### BEGIN SOLUTION" in cell.source):
        raise SourceError(
            f"{name}: '{marks['grade_id']}' needs BEGIN and END SOLUTION, or BUG lines, and not both."
        )
    if not bugs:
        return Cell(marks["grade_id"], "solution", unmarked(cell.source), released=_stub(cell.source))
    cell.source = "\n".join(line for line in cell.source.splitlines() if not _BUG.match(line))
    cell.metadata["course_bug"] = bugs[_random(secret, name, marks["grade_id"]).choice(sorted(bugs))]
    return Cell(
        marks["grade_id"], "solution", cell.source, 0, cell.metadata["course_bug"], tuple(bugs.items())
    )


def _stub(source: str) -> str:
    """What nbgrader leaves of a solution."""
    stub = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()\n"
    pattern = r"^( *)### BEGIN SOLUTION *\n(?:.*\n)*? *### END SOLUTION *(?:\n|$)"
    return re.sub(pattern, stub, source, flags=re.M).rstrip("\n")


def _bugs(source: str) -> dict[str, str]:
    """Each bug's code by the bug's name: the line below the comment gives way to the one in it."""
    lines, found = source.splitlines(), {}
    for number, line in enumerate(lines):
        if mark := _BUG.match(line):
            below = number + 1
            while _BUG.match(lines[below]):
                below += 1
            indent = re.match(" *", lines[below])[0]
            wrong = [*lines[:below], *([indent + mark[2]] if mark[2] else []), *lines[below + 1 :]]
            found[mark[1]] = "\n".join(text for text in wrong if not _BUG.match(text))
    return found
