"""A small problem set for the tests of the course kit: two tasks for tests, one answer for a person."""

import json

import jupytext

from scripts.course import sources


def cell(kind: str, name: str, source: str, points: float = 0) -> str:
    """One cell of a source, with nbgrader's metadata."""
    marks = {"grade_id": name, "schema_version": 3, "task": False}
    marks |= {"grade": kind in ("test", "answer"), "solution": kind in ("solution", "answer")}
    marks |= {"locked": kind in ("given", "test")} | ({"points": points} if points else {})
    lines = source if kind != "answer" else "\n".join(f"# {line}" for line in source.splitlines())
    return f"# %% {'[markdown] ' * (kind == 'answer')}nbgrader={json.dumps(marks)}\n{lines}\n"


def solution(name: str, body: str) -> str:
    """The cell of a function of one argument."""
    text = f"def {name}(x):\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"
    return cell("solution", name, text)


SMALL = "\n".join(
    [
        '# %% tags=["instance"]\nn = draw.randrange(2, 9)\n\n# %% [markdown]\n# # A small set\n',
        cell("given", "imports", "import torch"),
        solution("clock", "return INSTANCE.n * x"),
        cell(
            "test",
            "clock-test",
            'assert clock(1) == INSTANCE.n, "one"\n### BEGIN HIDDEN TESTS\n'
            'assert clock(10) == 10 * INSTANCE.n, "ten times as many are ten times as much"\n### END HIDDEN TESTS',
            30,
        ),
        solution("double", "return 2 * x"),
        cell(
            "test",
            "double-test",
            "x = torch.ones(3, requires_grad=True)\ndouble(x).sum().backward()\n"
            'assert x.grad is not None and torch.equal(x.grad, torch.full((3,), 2.0)), "its gradient is 2"',
            15,
        ),
        cell("answer", "why", "### BEGIN SOLUTION\nBecause it is linear.\n### END SOLUTION", 5),
    ]
)


def read(text: str, name: str = "00_small", secret: str = "a long secret") -> sources.ProblemSet:
    """A set from the text of its source."""
    return sources.build(jupytext.reads(text, fmt="py:percent"), name, secret)
