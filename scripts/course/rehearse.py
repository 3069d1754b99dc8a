"""Synthetic students hand in: does each get what the tables say, through the real grader, and what does it cost?

python -m scripts.course.rehearse FOLDER             a class of 60 and problem set 1: right, wrong, broken, hostile
python -m scripts.course.rehearse FOLDER 03 04       of these sets: the reference, the untouched release, two wrong solutions
"""

import csv
import itertools
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import nbformat

from . import build, grade, hostile, prove, sources, submission

NAME, SECRET, CELL, COUNT = "01_video_as_data", "a secret of the rehearsal", "clock", 60
Notebook = nbformat.NotebookNode


def solved(problems: sources.ProblemSet, release: Notebook, code: dict[str, str]) -> Notebook:
    """A release with the reference's solutions in it, but for those in ``code``."""
    made = nbformat.from_dict({**release, "cells": [nbformat.from_dict(c) for c in release.cells]})
    for cell in problems.cells:
        if cell.role == "solution":
            made = hostile.edited(made, cell.id, code.get(cell.id, cell.source))
    return made


def points(whole: prove.Base, code: dict[str, str]) -> float:
    """What a notebook with these solutions must get; tasks that they do not touch keep their points."""
    tasks = whole.problems.tasks()
    touched = {cell.split("-")[0] for cell in code}
    results = whole.attempt(code, touched)
    return sum(tasks.values()) - sum(tasks[t] for t in touched) + sum(r.points for r in results.values())


def a_class(root: Path, count: int = COUNT) -> dict[str, tuple[Notebook | bytes, float]]:
    """Submissions to set 1 by student, and the points that tests must give each."""
    problems = sources.load(NAME, SECRET)
    release = submission.read(root / "release" / NAME / f"{NAME}.ipynb")
    whole, full = prove.base(problems), sum(problems.tasks().values())
    cell = next(c for c in problems.cells if c.id == f"{CELL}-test")
    found = {"untouched": (release, 0.0), "perfect": (solved(problems, release, {}), full)}
    for what, text in hostile.FILES.items():
        found[f"file-{what}"] = (text, 0.0)
    for what, (change, loses) in hostile.NOTEBOOKS.items():
        found[f"notebook-{what}"] = (
            change(solved(problems, release, {}), CELL),
            full - cell.points * loses,
        )
    for what in hostile.CODE:
        attack = hostile.code(what, "frame_on_screen", str(sources.ROOT))
        found[f"attack-{what}"] = (solved(problems, release, {CELL: attack}), full - cell.points)
    tries = prove.attempts(problems, sources.table(NAME))
    several = itertools.cycle([t for t in tries if not t[0]][::5] + [t for t in tries if t[0]][::3])
    number = 0
    while len(found) < count:  # a student with a solution or two of the table
        code = {t[1]: t[3] for t in itertools.islice(several, 1 + number % 2)}
        found[f"table-{number}"] = (solved(problems, release, code), points(whole, code))
        number += 1
    return dict(itertools.islice(found.items(), count))


def of_a_set(root: Path, name: str) -> dict[str, tuple[Notebook, float]]:
    """The reference, the untouched release, and half of the tasks wrong, then the other half."""
    problems = sources.load(name, SECRET)
    release = submission.read(root / "release" / name / f"{name}.ipynb")
    whole, tasks = prove.base(problems), list(problems.tasks())
    wrong = {t[1].split("-")[0]: t for t in prove.attempts(problems, sources.table(name)) if not t[0]}
    found = {
        "reference": (solved(problems, release, {}), sum(problems.tasks().values())),
        "untouched": (release, 0.0),
    }
    for student, some in (("wrong-1", tasks[::2]), ("wrong-2", tasks[1::2])):
        code = {wrong[task][1]: wrong[task][3] for task in some}
        found[student] = (solved(problems, release, code), points(whole, code))
    return found


def hand_in(folder: Path, name: str, made: dict) -> dict[tuple[str, str], float]:
    """Write submissions; returns the expected points by student and set."""
    expected = {}
    for what, (notebook, due) in made.items():
        student = "".join(c if c.isalnum() else "-" for c in what)
        path = folder / student / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())
        expected[student, name] = due
    return expected


def compare(root: Path, expected: dict[tuple[str, str], float]) -> bool:
    """Print what the gradebook has otherwise; whether there is anything."""
    with open(root / "grades.csv", newline="", encoding="utf-8") as file:
        got = {(row["student"], row["set"]): float(row["by tests"]) for row in csv.DictReader(file)}
    wrong = {who: due for who, due in expected.items() if got.get(who) != due}
    for who, due in wrong.items():
        print(f"{' '.join(who)}: expected {due:g}, got {got.get(who)}")
    print(f"{len(expected) - len(wrong)} of {len(expected)} as expected")
    return bool(wrong)


def cost(root: Path, wall: float, before: float) -> str:
    """What grading took: of the grader's own processes, which had worked for so many seconds before, and of the students'."""
    own, pool = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    grader = sum(r.ru_utime + r.ru_stime for r in (own, pool)) - before
    reports = [json.loads(path.read_text()) for path in root.glob("results/*/*.json")]
    theirs = [report["processor seconds"] for report in reports]
    return (
        f"{wall:.0f} s; processor seconds: {grader:.0f} of the grader, {sum(theirs):.0f} of the students' processes (median "
        f"{statistics.median(theirs):.1f}, most {max(theirs):.1f}); largest process of the grader "
        f"{max(own.ru_maxrss, pool.ru_maxrss) / 2**20:.2f} GiB"
    )


def main(arguments: list[str]) -> int:
    """Build, hand in, grade, compare."""
    folder, sets = Path(arguments[0]).resolve(), [n for n in sources.names() if n[:2] in arguments[1:]]
    root, handed_in, names = folder / "course", folder / "submissions", sets or [NAME]
    build.build(root, SECRET, names)
    expected = {}
    for name in names:
        expected |= hand_in(handed_in, name, of_a_set(root, name) if sets else a_class(root))
    os.environ["COURSE_CANARY"] = "to be seen by no student"
    began, before = time.monotonic(), time.process_time()
    failed = grade.main([str(handed_in), "--course", str(root), "--seconds", "20" if sets else "10"])
    print(cost(root, time.monotonic() - began, before))
    return bool(compare(root, expected) or failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
