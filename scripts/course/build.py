"""Build a course: student releases, instructor copies and answer keys of every problem set, from one secret.

make assignments SECRET=...        into notebooks/assignments/course (COURSE=folder for another)
"""

import argparse
import logging
import os
import sys
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader import preprocessors as theirs
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import ClearHiddenTests, GetGrades
from nbgrader.server_extensions import formgrader
from traitlets.config import Config

from sora_nb import files

from . import sources, submission
from .preprocessors import Recorded, Release

# nbgrader's page of feedback, and ours, which changes it.
TEMPLATES = (
    Path(formgrader.__file__).parent / "templates",
    Path(__file__).resolve().parent / "templates",
)
COURSE = sources.SOURCES / "course"
CONFIG = '''"""For nbgrader's own programs, which are started in this folder: formgrader, db, export."""

from scripts.course import build

c = get_config()  # noqa: F821
c.merge(build.config({root!r}))
'''


class CourseError(ValueError):
    """The course's folder and what is asked of it do not fit."""


def config(root: str | Path) -> Config:
    """nbgrader's settings for a course in the folder ``root``."""
    c = Config()
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.course_id = "video-representations"
    c.CourseDirectory.db_url = f"sqlite:///{Path(root) / 'gradebook.db'}"
    swap = {theirs.ClearSolutions: Release}
    c.GenerateAssignment.preprocessors = [
        swap.get(kind, kind)
        for kind in (
            theirs.LockCells,
            theirs.ClearSolutions,
            theirs.ClearOutput,
            theirs.CheckCellMetadata,
            theirs.ComputeChecksums,
            theirs.SaveCells,
            theirs.ClearHiddenTests,
            theirs.ComputeChecksums,
            theirs.CheckCellMetadata,
        )
    ]
    c.Autograde.autograde_preprocessors = [Recorded, theirs.SaveAutoGrades, theirs.AssignLatePenalties]
    # nbgrader's own list shows hidden tests to the student.
    c.GenerateFeedback.preprocessors = [GetGrades, ClearHiddenTests, CSSHTMLHeaderPreprocessor]
    c.HTMLExporter.sanitize_html = True  # answers are text of students, shown in the teacher's browser
    return c


def api(root: Path) -> NbGraderAPI:
    """nbgrader, as this course sets it."""
    beside = str(Path(sys.executable).parent)
    if beside not in os.environ["PATH"].split(os.pathsep):  # nbgrader starts alembic by its name
        os.environ["PATH"] = beside + os.pathsep + os.environ["PATH"]
    settings = config(root)
    # Here and not in config(), from which nbgrader's own pages for marking are made too.
    settings.HTMLExporter.template_name, settings.HTMLExporter.template_file = "feedback", "course.html.j2"
    settings.HTMLExporter.extra_template_basedirs = [str(folder) for folder in TEMPLATES]
    nbgrader = NbGraderAPI(CourseDirectory(config=settings), config=settings)
    nbgrader.log_level = logging.ERROR
    return nbgrader


def build(root: Path, secret: str, names: list[str]) -> None:
    """Write sources, releases and keys of problem sets.

    Raises:
        CourseError: the secret is short, or the folder holds a course of another secret.
    """
    if len(secret) < 8:
        raise CourseError("The secret has fewer than 8 characters; give one: make assignments SECRET=...")
    root.mkdir(parents=True, exist_ok=True)
    (root / "nbgrader_config.py").write_text(CONFIG.format(root=str(root)))
    nbgrader = api(root)
    for name in names:
        problems = sources.load(name, secret)
        source = root / "source" / name / f"{name}.ipynb"
        if source.exists() and sources.built(source).issue != problems.issue:
            raise CourseError(
                f"{root} holds '{name}' of another secret: give that secret, or another folder (COURSE=...)."
            )
        submission.write(problems.notebook, source)
        done = nbgrader.generate_assignment(name)
        if not done["success"]:
            raise CourseError(f"nbgrader cannot make '{name}':\n{(done.get('log') or '')[-3000:]}")
        key(problems, root / "keys" / f"{name}.html")
        print(f"{name}: release/{name}/{name}.ipynb, keys/{name}.html, source/{name}/{name}.ipynb")


def key(problems: sources.ProblemSet, path: Path) -> None:
    """Write the answer key for students: solutions, model answers and visible tests."""
    notebook = nbformat.from_dict(problems.notebook)
    notebook.cells = [nbformat.from_dict(cell) for cell in notebook.cells]
    for cell, known in zip(notebook.cells, problems.cells, strict=True):
        if known.role == "test":
            cell.source = sources.visible(cell.source)
        elif known.role in ("solution", "answer"):
            cell.source = sources.unmarked(cell.source)
    exporter = HTMLExporter(sanitize_html=True)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": f"Answer key: {problems.name}"}})
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--secret", default="", help="any text of 8 characters or more; keep it to yourself")
    parser.add_argument("--course", type=Path, default=COURSE, help="the course's folder")
    parser.add_argument("names", nargs="*", help="problem sets; all by default")
    asked = parser.parse_args(arguments)
    try:
        build(asked.course.resolve(), asked.secret, asked.names or sources.names())
    except (CourseError, sources.SourceError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
