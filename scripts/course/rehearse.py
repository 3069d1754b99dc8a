"""A class of sixty synthetic students hands in problem set 1: does each get what the table says, and what does it cost?

python -m scripts.course.rehearse FOLDER [COUNT]     (make rehearsal)
"""

import csv
import itertools
import os
import resource
import sys
import time
from pathlib import Path

import nbformat

from . import build, grade, hostile, prove, sources, submission

NAME, SECRET, CELL = "01_video_as_data", "a secret of the rehearsal", "clock"


def students(root: Path, count: int) -> dict[str, tuple[object, float]]:
    """Submissions by student: a notebook or bytes, and the points that tests must give it."""
    problems = sources.load(NAME, SECRET)
    release = submission.read(root / "release" / NAME / f"{NAME}.ipynb")
    whole = prove.base(problems)
    full = sum(problems.tasks().values())
    cell = next(c for c in problems.cells if c.id == f"{CELL}-test")
    reference = {c.id: c.source for c in problems.cells if c.role == "solution"}

    def notebook(code):
        made = nbformat.from_dict({**release, "cells": [nbformat.from_dict(c) for c in release.cells]})
        for name, source in (reference | code).items():
            made = hostile.edited(made, name, source)
        return made

    def points(code):
        return sum(result.points for result in whole.attempt(code, problems.tasks()).values())

    found = {"untouched": (release, 0.0), "perfect": (notebook({}), full)}
    for what, text in hostile.FILES.items():
        found[f"file-{what}"] = (text, 0.0)
    for what, (change, loses) in hostile.NOTEBOOKS.items():
        found[f"notebook-{what}"] = (change(notebook({}), CELL), full - cell.points * loses)
    for what in hostile.CODE:
        attack = hostile.code(what, "frame_on_screen", str(sources.ROOT))
        found[f"attack-{what}"] = (notebook({CELL: attack}), full - cell.points)
    tries = prove.attempts(problems, sources.table(NAME))
    several = itertools.cycle([t for t in tries if not t[0]][::5] + [t for t in tries if t[0]][::3])
    number = 0
    while len(found) < count:  # a student with a solution or two of the table
        code = {t[1]: t[3] for t in itertools.islice(several, 1 + number % 2)}
        found[f"table-{number}"] = (notebook(code), points(code))
        number += 1
    return dict(itertools.islice(found.items(), count))


def main(arguments: list[str]) -> int:
    """Build, hand in, grade, compare."""
    folder = Path(arguments[0]).resolve()
    root, handed_in = folder / "course", folder / "submissions"
    build.build(root, SECRET, [NAME])
    expected = {}
    for what, (made, points) in students(root, int(arguments[1]) if len(arguments) > 1 else 60).items():
        student = "".join(c if c.isalnum() else "-" for c in what)
        path = handed_in / student / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made if isinstance(made, bytes) else nbformat.writes(made).encode())
        expected[student] = points
    os.environ["COURSE_CANARY"] = "to be seen by no student"
    wall, own = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    grade.main([str(handed_in), "--course", str(root), "--seconds", "10"])
    wall, children = time.monotonic() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(root / "grades.csv", newline="", encoding="utf-8") as file:
        got = {row["student"]: float(row["by tests"]) for row in csv.DictReader(file)}
    wrong = {s: (p, got.get(s)) for s, p in expected.items() if got.get(s) != p}
    for student, (points, there) in wrong.items():
        print(f"{student}: expected {points:g}, got {there}")
    seconds = (
        resource.getrusage(resource.RUSAGE_SELF).ru_utime
        - own.ru_utime
        + children.ru_utime
        + children.ru_stime
    )
    print(
        f"{len(expected) - len(wrong)} of {len(expected)} as expected; {wall:.0f} s, {seconds:.0f} processor seconds; largest "
        f"process {max(own.ru_maxrss, children.ru_maxrss) / 2**20:.2f} GiB"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
