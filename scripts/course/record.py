"""From results to a gradebook: nbgrader's autograde and feedback for each submission, then tables."""

import csv
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from sqlalchemy.exc import SAWarning

from sora_nb import files

from . import build

# nbgrader's own models of the gradebook are what it warns of.
warnings.filterwarnings("ignore", category=SAWarning)


def record(root: Path, done: dict) -> list:
    """Enter each run into the gradebook and write its feedback; returns what nbgrader could not do."""
    nbgrader, failed = build.api(root), []
    for item, report in done.items():
        page = root / "feedback" / item.student / item.name / f"{item.name}.html"
        mark = root / "results" / item.name / f"{item.student}.recorded"
        if not (page.exists() and mark.exists() and mark.read_text() == report["digest"]):
            graded = nbgrader.autograde(item.name, item.student, force=True, create=True)
            if not graded["success"]:
                print(f"  {item.student} {item.name}: nbgrader: {(graded.get('log') or '')[-500:]}")
                failed.append(item)
                continue
            mark.write_text(report["digest"])
        # Always: points given by hand may have changed.
        if not nbgrader.generate_feedback(item.name, item.student, force=True)["success"]:
            failed.append(item)
    tables(root)
    return failed


def rows(root: Path) -> list[dict]:
    """One row for each student and set: points, and whether something waits to be marked by hand."""
    found = []
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as book:
        for assignment in book.assignments:
            for student in book.students:
                try:
                    handed_in = book.find_submission(assignment.name, student.id)
                except MissingEntry:
                    continue
                grades = [grade for notebook in handed_in.notebooks for grade in notebook.grades]
                result = root / "results" / assignment.name / f"{student.id}.json"
                remarks = json.loads(result.read_text())["remarks"] if result.exists() else []
                found.append(
                    {
                        "student": student.id,
                        "set": assignment.name,
                        "points": handed_in.score,
                        "of": assignment.max_score,
                        "by tests": sum(g.auto_score or 0 for g in grades),
                        "by hand": sum(g.manual_score or 0 for g in grades),
                        "waits for marking": sum(g.needs_manual_grade for g in grades),
                        "remarks": " ".join(remarks),
                    }
                )
    return sorted(found, key=lambda row: (row["student"], row["set"]))


def tables(root: Path) -> None:
    """Write ``grades.csv``, ``tasks.csv`` (every cell), and the forms that Canvas and Moodle import."""
    found = rows(root)
    if found:
        _write(root / "grades.csv", found[0], [row.values() for row in found])
    _write(root / "canvas.csv", *canvas(found))
    _write(root / "moodle.csv", *moodle(found))
    _write(root / "tasks.csv", ["student", "set", "cell", "points", "of", "waits"], _cells(root))


def canvas(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and lines as Canvas's gradebook exports and imports them; the student's id is the login.

    Canvas looks for these words in the first five columns, takes a line with "Points Possible" for the sets' points, and finds
    an assignment by its title: instructure/canvas-lms, lib/gradebook_importer.rb.
    """
    names, students = _wide(found)
    most = {row["set"]: f"{row['of']:g}" for row in found}
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *names]
    possible = ["    Points Possible", "", "", "", "", *(most[name] for name in names)]
    lines = [[s, "", "", s, "", *(points.get(name, "") for name in names)] for s, points in students.items()]
    return head, [possible, *lines]


def moodle(found: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Head and lines for Moodle's import, in which the teacher says what each column is.

    "-" is Moodle's word for no grade, in old columns and in new ones: moodle/moodle, grade/import/csv/classes/load_data.php.
    """
    names, students = _wide(found)
    lines = [[s, *(points.get(name, "-") for name in names)] for s, points in students.items()]
    return ["username", *names], lines


def _wide(found: list[dict]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Names of the sets, and by student the points by set, as text without needless digits."""
    students: dict[str, dict[str, str]] = {}
    for row in found:
        students.setdefault(row["student"], {})[row["set"]] = f"{row['points']:g}"
    return sorted({row["set"] for row in found}), students


def _cells(root: Path) -> list[list]:
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as book:
        return [
            [one.student.id, one.assignment.name, g.name, g.score, g.max_score, int(g.needs_manual_grade)]
            for assignment in book.assignments
            for one in book.assignment_submissions(assignment.name)
            for notebook in one.notebooks
            for g in notebook.grades
        ]


def _write(path: Path, head: Iterable[str], lines: Iterable[Iterable]) -> None:
    with files.atomic(path) as part, open(part, "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerow(head)
        csv.writer(out).writerows(lines)


def summary(root: Path, count: int, failed: list) -> str:
    """What to look at next."""
    waiting = sum(row["waits for marking"] for row in rows(root))
    said = [
        f"{count - len(failed)} of {count} submissions graded; {waiting} answers wait to be marked by hand."
    ]
    said += [f"NOT graded: {item.student}, {item.name}" for item in failed]
    return "\n".join(
        [*said, f"{root}: grades.csv, tasks.csv, canvas.csv, moodle.csv, feedback/STUDENT/SET/*.html"]
    )
