"""Grade one notebook: the course's cells run here, the student's over there, and each test gives its points or none."""

import contextlib
import signal
import traceback
from collections.abc import Callable, Iterator
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
        where: which part of a test gave nothing.
        call: the last call of the student's code before that, and what came of it, in kinds and shapes.
    """

    points: float = 0
    message: str = ""
    trace: str = ""
    said: str = ""
    fault: str = ""
    where: str = ""
    call: str = ""


ABOVE, FURTHER = "in the check above", "in a further check, on other numbers, which is not shown"


class Stopped(BaseException):
    """Something does not end. No ``Exception``, which the code that is to be stopped might catch."""


@contextlib.contextmanager
def stopped_after(seconds: float, timer: int, kind: int) -> Iterator[None]:
    """Raise :class:`Stopped` in what runs inside, in the main thread, and once more every second if it goes on.

    A call into C that never returns cannot be stopped so.

    Args:
        seconds: how long it may take.
        timer: what they are: ``signal.ITIMER_PROF`` for seconds of this process's work, ``ITIMER_REAL`` for the clock's.
        kind: the timer's signal, ``signal.SIGPROF`` or ``SIGALRM``.
    """

    def stop(*_):
        raise Stopped(f"it did not end within {seconds:g} s")

    before = signal.signal(kind, stop)
    signal.setitimer(timer, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(kind, before)


@dataclass
class Session:
    """One notebook being graded: the tests' namespace, the line to the student's process, and what stops endless cells."""

    line: proxies.Line
    namespace: dict = field(default_factory=lambda: {"__name__": "grader"})
    limit: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

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
            with self.limit():
                self.line.run(code, f"<cell {name}>")
        except proxies.StudentError as error:
            return Result(message=str(error), trace=error.trace)
        except Stopped as error:
            return Result(message=str(error))
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
        self.line.call = ()
        result = self._tested(cell, namespace)
        if not result.points:
            result.call = proxies.described(self.line.call)
        return result

    def _tested(self, cell: Cell, namespace: dict) -> Result:
        try:
            with self.limit():
                exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)
        except proxies.StudentError as error:
            return Result(message=str(error), trace=error.trace, where=where(cell, error))
        except Stopped as error:
            return Result(message=f"a check of what your code returned was stopped: {error}")
        except AssertionError as error:
            message = str(error).strip().split("\n")[0] or "a check failed"
            return Result(message=message, where=where(cell, error))
        except (
            Exception
        ) as error:  # a test stumbled over something no test foresaw: None, a list for an array
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            message = f"a check could not use what your code returned ({reason})"
            return Result(message=message, fault=traceback.format_exc(), where=where(cell, error))
        return Result(points=cell.points)


def where(cell: Cell, error: BaseException) -> str:
    """In which part of a test an error came up: in the lines that a student has, or behind them."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == f"<{cell.id}>"]
    before = "\n".join(cell.source.splitlines()[: lines[0]]) if lines else ""
    hidden = "BEGIN HIDDEN TESTS" in before and "END HIDDEN TESTS" not in before
    return FURTHER if hidden else ABOVE


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
