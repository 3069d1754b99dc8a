"""Grade a folder of submissions: run each in a sandbox, record it with nbgrader, write gradebook tables and feedback.

    make grade SUBMISSIONS=folder        folder/STUDENT/NOTEBOOK.ipynb, as many notebooks a student as there are sets

What was graded before and has not changed, submission and tests, is not graded again. Manual points stay.
"""

import argparse
import ctypes
import dataclasses
import json
import resource
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from sora_nb import files

from . import grading, sandbox, sources, submission

KIT = Path(__file__).resolve().parent
# What a grade depends on besides submission and set.
MACHINERY = files.digest(
    *((KIT / f"{m}.py").read_bytes() for m in ("grading", "proxies", "student", "wire", "worker"))
)


@dataclass(frozen=True)
class Work:
    """One submission to be graded."""

    student: str
    name: str
    path: Path
    root: Path

    @property
    def source(self) -> Path:
        """The set with hidden tests."""
        return self.root / "source" / self.name / f"{self.name}.ipynb"

    @property
    def release(self) -> Path:
        """The set as students got it."""
        return self.root / "release" / self.name / f"{self.name}.ipynb"

    @property
    def result(self) -> Path:
        """Where its results go."""
        return self.root / "results" / self.name / f"{self.student}.json"

    @property
    def tidy(self) -> Path:
        """Where nbgrader finds it."""
        return self.root / "submitted" / self.student / self.name / f"{self.name}.ipynb"

    def digest(self) -> str:
        """Tells whether it has to be graded again."""
        big = self.path.stat().st_size > submission.LARGEST
        return files.digest(MACHINERY, self.source.read_bytes(), b"" if big else self.path.read_bytes())


def found(folder: Path, root: Path, names: list[str]) -> tuple[list[Work], list[str]]:
    """The submissions in a folder, and remarks on what is there besides."""
    work, remarks = {}, []
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.is_symlink() or not submission.STUDENT.match(place.name):
            remarks.append(
                f"left out: {place.name!r} is no folder named by a student's id (letters, digits, . _ @ -)."
            )
            continue
        for path in sorted(place.rglob("*.ipynb")):
            if ".ipynb_checkpoints" in path.parts or path.is_symlink():
                continue
            name = _set_of(path, names)
            if name is None:
                remarks.append(f"left out: {place.name}/{path.name} is of no problem set of this course.")
            elif (place.name, name) in work:
                remarks.append(
                    f"left out: {place.name}/{path.name} is a second notebook of '{name}'; the first one counts."
                )
            else:
                work[place.name, name] = Work(place.name, name, path, root)
    return list(work.values()), remarks


def _set_of(path: Path, names: list[str]) -> str | None:
    """Which set a file is of: by its name, or what the notebook says of itself."""
    for name in names:
        if path.stem == name:
            return name
    try:
        said = submission.read(path).metadata.get("course", {}).get("set")
    except (submission.Unreadable, AttributeError):
        said = None
    named = [name for name in names if path.stem.startswith((name, name[:2]))]
    return said if said in names else next(iter(named), None)


def run(work: Work, limits: sandbox.Limits) -> dict:
    """Run one submission, and write its results and the notebook that nbgrader takes."""
    began, problems, release = time.monotonic(), sources.built(work.source), submission.read(work.release)
    try:
        handed_in = submission.read(work.path)
        issue = handed_in.metadata.get("course", {})
        said = issue.get("issue") if isinstance(issue, dict) else None
        remarks = (
            [] if said in (None, problems.issue) else ["This is the problem set of another course or year."]
        )
    except submission.Unreadable as error:
        handed_in, remarks = release, [f"{error} It counts as empty."]
    tidy, more = submission.tidied(handed_in, release)
    code, extras = submission.code(tidy)
    with sandbox.Boxed(limits) as line:
        # What a student's code returns may keep a test busy for ever.
        limit = partial(grading.stopped_after, limits.notebook_seconds, signal.ITIMER_REAL, signal.SIGALRM)
        session = grading.Session(line, limit=limit)
        results = grading.grade(problems.cells, problems.names(), code, session, extras)
    report = {
        "student": work.student,
        "set": work.name,
        "digest": work.digest(),
        "remarks": remarks + more,
        "points": sum(result.points for result in results.values()),
        "cells": {name: dataclasses.asdict(result) for name, result in results.items()},
        "seconds": round(time.monotonic() - began, 1),
        "processor seconds": round(line.spent, 1),
        "processes": line.restarts,
    }
    _write(tidy, work)
    work.result.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(work.result) as part:
        part.write_text(json.dumps(report))
    return report


def _write(tidy, work: Work) -> None:
    if work.tidy.parent.exists():
        shutil.rmtree(work.tidy.parent)
    submission.write(tidy, work.tidy)


def _limited(memory: int) -> None:
    """A grading process: what a student's code returns must not fill the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the grader that started it


def known(work: Work) -> dict | None:
    """The results of an earlier run, if nothing has changed since."""
    try:
        report = json.loads(work.result.read_text())
        return report if report["digest"] == work.digest() and work.tidy.exists() else None
    except (OSError, ValueError, KeyError):
        return None


def run_all(work: list[Work], jobs: int, limits: sandbox.Limits) -> dict[Work, dict | Exception]:
    """Run what has changed, some at a time; one that fails does not stop the rest."""
    done: dict[Work, dict | Exception] = {item: report for item in work if (report := known(item))}
    rest = [item for item in work if item not in done]
    print(f"{len(done)} unchanged, {len(rest)} to run", flush=True)
    for attempt in (
        jobs,
        1,
    ):  # a process that dies takes its neighbours' work along: these are tried again, one by one
        left, rest = rest, []
        with ProcessPoolExecutor(attempt, get_context("spawn"), _limited, (16 << 30,)) as pool:
            waiting = {pool.submit(run, item, limits): item for item in left}
            for future in as_completed(waiting):
                item = waiting[future]
                try:
                    done[item] = future.result()
                    print(f"  {item.student} {item.name}: {done[item]['points']:g}", flush=True)
                except BrokenProcessPool as error:
                    rest.append(item)
                    done[item] = error
                except Exception as error:
                    done[item] = error
                    print(f"  {item.student} {item.name}: NOT GRADED: {error}", file=sys.stderr, flush=True)
    return done


def main(arguments: list[str]) -> int:
    """Grade what the command line names."""
    from . import build, record  # nbgrader, which the grading processes do without

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submissions", type=Path, help="a folder with a folder for each student")
    parser.add_argument("--course", type=Path, default=build.COURSE, help="the course's folder")
    parser.add_argument("--jobs", type=int, default=2, help="submissions that run at a time")
    parser.add_argument("--seconds", type=float, default=20, help="processor seconds of a cell")
    asked = parser.parse_args(arguments)
    root = asked.course.resolve()
    names = sorted(path.parent.name for path in root.glob("source/*/*.ipynb"))
    if not asked.submissions.is_dir() or not names:
        print(
            f"There is no folder {asked.submissions} of submissions, or no course in {root}: run 'make assignments SECRET=...' first.",
            file=sys.stderr,
        )
        return 1
    sandbox.warn()
    work, remarks = found(asked.submissions, root, names)
    print(*remarks, sep="\n", end="\n" if remarks else "")
    done = run_all(work, asked.jobs, sandbox.Limits(cell_seconds=asked.seconds))
    failed = record.record(root, {item: report for item, report in done.items() if isinstance(report, dict)})
    failed += [item for item, report in done.items() if not isinstance(report, dict)]
    print(record.summary(root, len(work), failed))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
