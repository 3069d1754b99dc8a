"""Prove that a problem set grades rightly: references, untouched releases, wrong and right solutions, several secrets.

python -m scripts.course.prove 01            one set
python -m scripts.course.prove 01 clock      one of its tasks
"""

import ast
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial

from . import grading, proxies, sandbox, sources

SECRETS = ("one", "two", "three")
# Of work for a cell, or a test; one that needs more is stopped here as in the grader.
SECONDS = sandbox.Limits().cell_seconds


@dataclass
class Proof:
    """What a proof found.

    Attributes:
        faults: sentences, one for each thing that is not as it should be; none means proved.
        wrong: wrong solutions tried and caught, over all secrets.
        right: right solutions tried and failed.
        seconds: processor seconds of one whole run of the reference, the slowest.
    """

    faults: list[str] = field(default_factory=list)
    wrong: list[int] = field(default_factory=lambda: [0, 0])
    right: list[int] = field(default_factory=lambda: [0, 0])
    seconds: float = 0.0


@dataclass(frozen=True)
class Base:
    """A set of one secret, its given cells already run."""

    problems: sources.ProblemSet
    session: grading.Session

    def attempt(self, code: dict[str, str], tasks, before=()) -> dict[str, grading.Result]:
        """Results of some tasks of a notebook.

        Args:
            code: solutions by grade id; the reference's serves where there is none.
            tasks: which tasks to run.
            before: solutions, (cell, code), that were run in the same process before.
        """
        line = proxies.Local(dict(self.session.line.student.namespace))
        line.given = dict(self.session.line.given)
        session, results = grading.Session(line, dict(self.session.namespace), self.session.limit), {}
        for cell, text in before:
            session.run(text, cell.id)
        for cell in self.problems.cells:
            if cell.role == "solution" and cell.task in tasks:
                session.run(code.get(cell.id, cell.source), cell.id)
            elif cell.role == "test" and cell.task in tasks:
                results[cell.id] = session.test(cell, self.problems.names().get(cell.task, []))
        return results


def local(seconds: float) -> grading.Session:
    """A session in this very process; what takes longer than this many seconds of work is stopped."""
    limit = partial(grading.stopped_after, seconds, signal.ITIMER_PROF, signal.SIGPROF)
    return grading.Session(proxies.Local(), limit=limit)


def base(problems: sources.ProblemSet, seconds: float = SECONDS) -> Base:
    """Run the given cells once."""
    session = local(seconds)
    for cell in problems.cells:
        if cell.role == "given":
            session.given(cell)
    return Base(problems, session)


def attempts(problems: sources.ProblemSet, table: dict) -> list[tuple[bool, str, str, str]]:
    """Every solution to try: (is it right, cell, what it is, code); each bug of a cell is a wrong one."""
    cells = {cell.id: cell for cell in problems.cells}
    found = [(False, cell.id, f"bug '{name}'", code) for cell in problems.cells for name, code in cell.bugs]
    for kind in ("wrong", "right"):
        for entry in table[kind]:
            if entry["cell"] not in cells:
                raise sources.SourceError(
                    f"The table names the cell '{entry['cell']}', which {problems.name} does not have."
                )
            found.append(
                (
                    kind == "right",
                    entry["cell"],
                    entry["say"],
                    sources.edited(cells[entry["cell"]], entry, problems.values),
                )
            )
    return found


def prove(name: str, secrets=SECRETS, only: str = "", seconds: float = SECONDS) -> Proof:
    """Try everything; see the module. A solution that does not end is stopped, and loses its points as in the grader."""
    proof, table = Proof(), sources.table(name)
    for place, secret in enumerate(secrets):
        problems = sources.load(name, secret)
        proof.faults += [] if place else structure(problems, table)
        start = time.process_time()
        code = {cell.id: cell.source for cell in problems.cells}
        reference = grading.grade(problems.cells, problems.names(), code, local(seconds))
        proof.seconds = max(proof.seconds, time.process_time() - start)
        whole = base(problems, seconds)
        released = {c.id: c.released for c in problems.cells if c.role == "solution"}
        untouched = whole.attempt(released, problems.tasks())
        for cell in problems.cells:
            if cell.role == "test":
                _extremes(proof, secret, cell, reference[cell.id], untouched[cell.id])
        slow = table.get("slow", [])
        tries = attempts(problems, table)
        for number, (right, cell, say, code) in enumerate(tries):
            task = cell.split("-")[0]
            if only in ("", task) and (task not in slow or number % len(secrets) == place):
                _try(proof, whole, (right, cell, f"{say} ({secret})", code))
        # Names that are overwritten and modules that are patched are the same for every secret.
        for task in problems.tasks() if not (proof.faults or place) else ():
            codes = [(cell, code) for _, cell, _, code in tries if cell.split("-")[0] == task]
            _others(proof, whole, task, codes, [t for t in problems.tasks() if t not in (task, *slow)])
    return proof


def structure(problems: sources.ProblemSet, table: dict) -> list[str]:
    """What can be seen without running: enough solutions in the table, tasks that do not lean on one another, points."""
    faults, cells = [], problems.cells
    for task in problems.tasks():
        solutions = [c for c in cells if c.role == "solution" and c.task == task]
        count = {k: sum(e["cell"].split("-")[0] == task for e in table[k]) for k in ("wrong", "right")}
        count["wrong"] += sum(len(c.bugs) for c in solutions)
        faults += [f"{task}: {count['wrong']} wrong solutions, 6 are wanted"] if count["wrong"] < 6 else []
        faults += [f"{task}: {count['right']} right solutions, 2 are wanted"] if count["right"] < 2 else []
        for cell in solutions:
            tests = [t.id for t in cells if t.role == "test" and _used(t) & set(sources.defined(cell.source))]
            shared = len(tests) > 1 and cell.id not in table.get("shared", [])
            faults += [f"a slip in '{cell.id}' is charged twice, by {tests}"] if shared else []
        own = set(problems.names().get(task, []))
        for other in cells:
            if other.role in ("given", "solution", "test") and other.task != task:
                used = _used(other) & own
                faults += (
                    [f"'{other.id}' uses {sorted(used)}, which belong to the task '{task}'"] if used else []
                )
    total = sum(cell.points for cell in cells)
    faults += [] if 50 <= total <= 100 else [f"{total} points, 50 to 100 are wanted"]
    ids = [cell.id for cell in cells if cell.id]
    return faults + [f"the grade id '{i}' is there twice" for i in sorted(set(ids)) if ids.count(i) > 1]


def _used(cell: sources.Cell) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}


def _extremes(proof: Proof, secret: str, cell, reference, untouched) -> None:
    if reference.points != cell.points:
        proof.faults.append(
            f"{secret}: the reference fails '{cell.id}': {reference.message}\n{reference.fault}{reference.trace}"
        )
    if untouched.points:
        proof.faults.append(f"{secret}: the untouched release passes '{cell.id}'")


def _try(proof: Proof, whole: Base, solution: tuple) -> None:
    right, cell, say, code = solution
    results = whole.attempt({cell: code}, [cell.split("-")[0]])
    lost = {i: results[i] for i in _tests(whole, results) if not results[i].points}
    tally = proof.right if right else proof.wrong
    tally[0] += 1
    tally[1] += bool(lost)
    if right and lost:
        reasons = "; ".join(f"{i}: {r.message} {r.fault}{r.trace}" for i, r in lost.items())
        proof.faults.append(f"right, but refused: '{cell}', {say}: {reasons}")
    if not right and not lost:
        proof.faults.append(f"wrong, but passed: '{cell}', {say}")


def _others(proof: Proof, whole: Base, task: str, codes: list, others: list[str]) -> None:
    """Run every solution of a task, wrong or right, one after another; then the other tasks must have all their points."""
    cells = {cell.id: cell for cell in whole.problems.cells}
    results = whole.attempt({}, others, [(cells[cell], code) for cell, code in codes])
    lost = [i for i in _tests(whole, results) if not results[i].points]
    proof.faults += [f"solutions of '{task}' cost other tasks points: {lost}"] if lost else []


def _tests(whole: Base, results: dict) -> list[str]:
    return [cell.id for cell in whole.problems.cells if cell.id in results]


def main(arguments: list[str]) -> int:
    """Print what a proof finds."""
    found = [name for name in sources.names() if not arguments or name.startswith(arguments[0])]
    status = 0
    for name in found:
        start = time.process_time()
        proof = prove(name, only=arguments[1] if len(arguments) > 1 else "")
        print(*proof.faults, sep="\n", end="\n" if proof.faults else "")
        print(
            f"{name}: wrong solutions caught {proof.wrong[1]} of {proof.wrong[0]}, right ones refused {proof.right[1]} of "
            f"{proof.right[0]}, {len(SECRETS)} secrets; the reference takes {proof.seconds:.1f} s, "
            f"the proof {time.process_time() - start:.0f} s"
        )
        status |= bool(proof.faults)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
