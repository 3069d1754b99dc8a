"""Grade one notebook: the course's cells run here, the student's over there, and each test gives its points or none."""

import traceback
from dataclasses import dataclass, field

import torch

from . import proxies, wire
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

    def given(self, cell: Cell) -> None:
        """Run a cell of the course on both sides."""
        before = dict(self.namespace)
        exec(compile(cell.source, f"<{cell.id}>", "exec"), self.namespace)
        new = {name: v for name, v in self.namespace.items() if name not in before or before[name] is not v}
        self.line.given |= {name: v for name, v in new.items() if callable(v)}
        self.line.run(cell.source, f"<given {cell.id}>")

    def run(self, code: str, name: str) -> Result:
        """Run a cell of the student's."""
        try:
            self.line.run(code, f"<cell {name}>")
        except proxies.StudentError as error:
            return Result(message=str(error), trace=error.trace)
        return Result()

    def test(self, cell: Cell, names: list[str]) -> Result:
        """Run a test on what the student's code calls by these names; the names do not stay."""
        namespace = dict(self.namespace)
        for name in names:
            try:
                namespace[name] = self.line.fetch(name)
            except (proxies.StudentError, wire.WireError):
                namespace[name] = proxies.Missing(name)
        torch.manual_seed(0)
        try:
            exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)
        except proxies.StudentError as error:
            return Result(message=str(error), trace=error.trace)
        except AssertionError as error:
            return Result(message=str(error).strip().split("\n")[0] or "a check failed")
        except (
            Exception
        ) as error:  # a test stumbled over something no test foresaw: None, a list for an array
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            message = f"a check could not use what your code returned ({reason})"
            return Result(message=message, fault=traceback.format_exc())
        return Result(points=cell.points)


def grade(
    cells, names: dict[str, list[str]], code: dict[str, str], session: Session, extras=None
) -> dict[str, Result]:
    """Run a whole notebook.

    Args:
        cells: the set's cells, in order.
        names: what the solutions of each task define; see :meth:`sources.ProblemSet.names`.
        code: the student's code by grade id; a solution that is not there counts as empty.
        session: where it runs.
        extras: cells that the student has added, by the grade id of the cell that they follow.

    Returns:
        A result for each solution and each test.
    """
    results, line = {}, session.line
    for cell in cells:
        if cell.role not in ("given", "solution", "test"):
            continue
        line.cell()
        if cell.role == "given":
            session.given(cell)
        elif cell.role == "solution":
            results[cell.id] = session.run(code.get(cell.id, ""), cell.id)
        else:
            results[cell.id] = session.test(cell, names.get(cell.task, []))
        for number, text in enumerate((extras or {}).get(cell.id, [])):
            line.cell()
            session.run(text, f"added-{number} after {cell.id}")
        if cell.id in results:
            results[cell.id].said = line.said
        line.said = ""
    return results
