"""Hostile submissions: each attack of the table loses its own points and nothing else, in the real sandbox."""

import os
import shutil
import socket
import sys

import course_sample
import pytest

from scripts.course import grading, hostile, sandbox, sources

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
ATTACKS = [what for what in hostile.CODE if what != "sleep"]  # which has a test of its own
LIMITS = sandbox.Limits(cell_seconds=2, restarts=100)


@pytest.fixture(scope="module", autouse=True)
def bubblewrap():
    if not shutil.which("bwrap"):
        pytest.fail("No sandbox to test: install the package bubblewrap.")
    if sandbox.kind()[0] != "bubblewrap":
        pytest.skip(sandbox.kind()[1])  # a kernel that forbids user namespaces


@pytest.fixture(scope="module")
def graded():
    """One notebook in which every attack has a task of its own, with an honest task behind each."""
    parts, code = [course_sample.cell("given", "imports", "import torch")], {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        for number, what in enumerate(ATTACKS):
            for name, wanted in ((f"bad{number}", "x + 4"), (f"good{number}", "x + 1")):
                parts.append(course_sample.solution(name, f"return {wanted}"))
                test = f"assert torch.allclose(torch.tensor(float({name}(3))), torch.tensor({3.0 if name[0] == 'b' else 4.0}))"
                parts.append(course_sample.cell("test", f"{name}-test", test, 1))
            code[f"bad{number}"] = hostile.code(
                what, f"bad{number}", str(sources.ROOT), server.getsockname()[1]
            )
            code[f"good{number}"] = f"def good{number}(x):\n    return x + 1"
        problems = course_sample.read("\n".join(parts))
        os.environ["COURSE_CANARY"] = "to be seen by no student"
        with sandbox.Boxed(LIMITS) as line:
            results = grading.grade(problems.cells, problems.names(), code, grading.Session(line))
            del os.environ["COURSE_CANARY"]
            return results, line


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=ATTACKS)
def test_an_attack_costs_its_own_points_and_no_others(graded, number):
    results, _ = graded
    bad, good = results[f"bad{number}-test"], results[f"good{number}-test"]
    assert bad.points == 0 and good.points == 1, (bad, good)
    assert hostile.CODE[ATTACKS[number]][1] in f"{results[f'bad{number}'].message} {bad.message}"
    assert len(results[f"bad{number}"].said) <= 20_000


def test_only_attacks_on_the_process_need_a_new_one(graded):
    assert 5 < graded[1].restarts < 16


def test_sleep_is_stopped():
    with sandbox.Boxed(sandbox.Limits(idle_seconds=1)) as line:
        line.cell()
        with pytest.raises(sandbox.TooLong, match="did nothing for 1 s"):
            line.run("import time; time.sleep(60)", "<cell>")


def test_without_bubblewrap_it_grades_with_a_loud_warning(monkeypatch, capsys):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.kind.cache_clear()
    try:
        sandbox.warn()
        assert "NO SANDBOX. bubblewrap is not installed" in capsys.readouterr().err
        problems = course_sample.read(course_sample.SMALL)
        code = {
            "clock": "import numpy\nx = numpy.ones(20 << 30)",
            "double": "def double(x):\n    return x + x",
        }
        with sandbox.Boxed(sandbox.Limits(cell_seconds=20)) as line:  # nothing here is endless
            results = grading.grade(problems.cells, problems.names(), code, grading.Session(line))
    finally:
        sandbox.kind.cache_clear()
    assert results["double-test"].points == 15 and "MemoryError" in results["clock"].message
