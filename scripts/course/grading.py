"""Grade one notebook: the course's cells run here, the student's over there, and each test gives its points or none."""

import traceback
from dataclasses import dataclass, field

import torch

from . import proxies, sources
from .sources import Cell


@dataclass
class Result:
    """What became of one cell.

    Attributes:
        points: what a test gave.
        message: why a test gave nothing, or the error of a student's cell; one sentence, "" if there is none.
        trace: lines of the student's code that led there.
        said: what the student's cell printed.
        fault: a mistake in the set itself, with its traceback; never for the student's eyes.
    """

    points: float = 0
    message: str = ""
    trace: str = ""
    said: str = ""
    fault: str = ""


@dataclass
class Session:
    """One notebook being graded: the tests' namespace, and the line to the student's process."""

    line: proxies.Line
    namespace: dict = field(default_factory=lambda: {"__name__": "grader"})
    theirs: list[str] = field(default_factory=list)

    def ready(self) -> None:
        """Begin a cell; if the other side had to be started again, get hold of what it defines."""
        self.line.cell()
        if self.line.start():
            self.hold(self.theirs)

    def hold(self, names: list[str]) -> None:
        """Put names of the student's into the tests' namespace."""
        for name in names:
            try:
                self.namespace[name] = self.line.fetch(name)
            except (proxies.StudentError, ValueError):
                self.namespace[name] = proxies.Missing(name)

    def given(self, cell: Cell) -> None:
        """Run a cell of the course on both sides."""
        before = dict(self.namespace)
        exec(compile(cell.source, f"<{cell.id}>", "exec"), self.namespace)
        new = {name: v for name, v in self.namespace.items() if name not in before or before[name] is not v}
        self.line.given |= {name: v for name, v in new.items() if callable(v)}
        self.line.run(cell.source, f"<given {cell.id}>")

    def solution(self, cell: Cell, code: str) -> Result:
        """Run the student's code of a cell, and hold what it should define."""
        result = Result()
        try:
            self.line.run(code, f"<cell {cell.id}>")
        except proxies.StudentError as error:
            result.message, result.trace = str(error), error.trace
        names = sources.defined(cell.source)
        self.theirs += names
        self.hold(names)
        return result

    def test(self, cell: Cell) -> Result:
        """Run a test; its names do not stay."""
        torch.manual_seed(0)
        try:
            exec(compile(cell.source, f"<{cell.id}>", "exec"), dict(self.namespace))
        except proxies.StudentError as error:
            return Result(message=str(error), trace=error.trace)
        except AssertionError as error:
            return Result(message=str(error).strip().split("\n")[0] or "a check failed")
        except (
            Exception
        ) as error:  # a test stumbled over something no test foresaw: None, a list for an array
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            return Result(
                message=f"a check could not use what your code returned ({reason})",
                fault=traceback.format_exc(),
            )
        return Result(points=cell.points)


def grade(problems: sources.ProblemSet, code: dict[str, str], session: Session) -> dict[str, Result]:
    """Run a whole notebook.

    Args:
        problems: the set.
        code: the student's code by grade id; a solution that is not there counts as empty.
        session: where it runs.

    Returns:
        A result for each solution and each test.
    """
    results = {}
    for cell in problems.cells:
        if cell.role in ("given", "solution", "test"):
            session.ready()
        if cell.role == "given":
            session.given(cell)
        elif cell.role == "solution":
            results[cell.id] = session.solution(cell, code.get(cell.id, ""))
        elif cell.role == "test":
            results[cell.id] = session.test(cell)
    return results
