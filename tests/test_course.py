"""The problem sets: each grades rightly, and the proof of it can fail."""

import signal

import pytest

from scripts.course import grading, prove, proxies, sources

SETS = sources.names()


@pytest.mark.parametrize("name", SETS)
def test_a_set_grades_rightly(name):
    """References get all points, untouched releases none, wrong solutions lose their task's, right ones nothing."""
    proof = prove.prove(name)
    assert proof.faults == []
    assert proof.wrong[0] == proof.wrong[1] >= 18 * len(sources.load(name, "x").tasks())
    assert proof.right[0] >= 6 * len(sources.load(name, "x").tasks()) and proof.right[1] == 0
    assert proof.seconds < 90


def small(test: str, reference: str = "return x + 1", more: str = "") -> sources.ProblemSet:
    """A set of one task."""
    import jupytext

    def head(grade, name, solution, points=""):
        return (
            f'# %% nbgrader={{"grade": {grade}, "grade_id": "{name}", "locked": true, "schema_version": 3, '
            f'"solution": {solution}, "task": false{points}}}\n'
        )

    text = '# %% tags=["instance"]\nn = draw.randrange(10**6)\n\n'
    text += (
        head("false", "add", "true")
        + f"def add(x):\n    ### BEGIN SOLUTION\n    {reference}\n    ### END SOLUTION\n\n"
    )
    text += head("true", "add-test", "false", ', "points": 50') + test + "\n\n" + more
    return sources.build(jupytext.reads(text, fmt="py:percent"), "00_small", "secret")


def run(problems, code):
    session = grading.Session(proxies.Local())
    return grading.grade(problems.cells, problems.names(), {"add": code}, session)["add-test"]


def test_a_wrong_solution_that_passes_and_a_right_one_that_fails_are_reported(monkeypatch):
    table = {
        "wrong": [{"cell": "add", "say": "adds two", "old": "x + 1", "new": "x + 2"}],
        "right": [{"cell": "add", "say": "with a float", "old": "x + 1", "new": "x + 1.0"}],
    }
    monkeypatch.setattr(sources, "table", lambda name: table)
    for test, says in (
        ("assert add(0) > 0", "wrong, but passed: 'add', adds two"),
        ("assert isinstance(add(0), int) and add(0) == 1", "right, but refused: 'add', with a float"),
        ("assert True", "the untouched release passes 'add-test'"),
        ("assert add(0) == 7", "the reference fails 'add-test'"),
    ):
        monkeypatch.setattr(sources, "load", lambda name, secret, test=test: small(test))
        faults = prove.prove("00_small").faults
        assert any(says in fault for fault in faults), (test, faults)
    assert any("1 wrong solutions, 6 are wanted" in fault for fault in faults)


def test_a_lost_point_says_where_and_what_was_called():
    """A check that students have, or a further one; the call in kinds and shapes, with no number of an array in it."""
    test = (
        "import torch\nassert add(torch.zeros(2)).shape == (2,), 'shape'\n### BEGIN HIDDEN TESTS\n"
        "assert add(torch.full((3, 1), 7.5))[0] == 8.5, 'value'\n### END HIDDEN TESTS"
    )
    result = run(small(test), "def add(x):\n    return x.double() + 2")
    assert (result.message, result.where) == ("value", grading.FURTHER)
    assert result.call == "add(float32 (3, 1)) returned float64 (3, 1)"
    result = run(small(test), "def add(x):\n    return [1, 'a' * 99, (x, None), 3.0]")
    assert result.where == grading.ABOVE
    assert result.call == "add(float32 (2,)) returned [1, 'aaaaaaaaaaaaaaaaa...', (float32 (2,), None), ...]"
    result = run(small(test), "def add(x):\n    return 1 / 0 if x[0].any() else x")
    assert (result.where, result.call) == (grading.FURTHER, "add(float32 (3, 1))")


@pytest.fixture
def patience():
    """Ends what nothing else ends, so that a broken limit is a red test."""

    def stop(*_):
        raise KeyboardInterrupt("nothing has stopped it")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5, 0.5)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize(
    "endless",
    (
        "while True:\n        pass",
        "while True:\n        try:\n            while True:\n                pass\n        except Exception:\n            pass",
    ),
    ids=("a loop", "a loop that catches exceptions"),
)
def test_a_solution_that_does_not_end_is_stopped(monkeypatch, patience, endless):
    """A wrong one loses its points, as in the grader; a right one is reported; what comes after is tried all the same."""
    table = {
        "wrong": [
            {"cell": "add", "say": "for ever", "old": "return x + 1", "new": endless},
            {"cell": "add", "say": "adds two", "old": "x + 1", "new": "x + 2"},
        ],
        "right": [{"cell": "add", "say": "slowly", "old": "return x + 1", "new": endless}],
    }
    monkeypatch.setattr(sources, "table", lambda name: table)
    monkeypatch.setattr(sources, "load", lambda name, secret: small("assert add(0) == 1"))
    proof = prove.prove("00_small", secrets=("one",), seconds=0.2)
    assert proof.wrong == [2, 2] and proof.right == [1, 1]
    assert any("'add', slowly" in fault and "it did not end within 0.2 s" in fault for fault in proof.faults)


def test_tasks_that_lean_on_one_another_are_reported():
    more = (
        '# %% nbgrader={"grade": true, "grade_id": "other-test", "locked": true, "schema_version": 3, '
        '"solution": false, "task": false, "points": 10}\nassert add(1) == 2\n'
    )
    faults = prove.structure(small("assert add(0) == 1", more=more), {"wrong": [], "right": []})
    assert "'other-test' uses ['add'], which belong to the task 'add'" in faults


def test_a_slip_that_two_checks_charge_is_reported():
    more = (
        '# %% nbgrader={"grade": true, "grade_id": "add-again-test", "locked": true, "schema_version": 3, '
        '"solution": false, "task": false, "points": 10}\nassert add(1) == 2\n'
    )
    problems, said = (
        small("assert add(0) == 1", more=more),
        "a slip in 'add' is charged twice, by ['add-test', 'add-again-test']",
    )
    assert said in prove.structure(problems, {"wrong": [], "right": []})
    assert said not in prove.structure(problems, {"wrong": [], "right": [], "shared": ["add"]})


def test_the_final_projects_table_is_judged_by_the_clips_that_there_are():
    """A ruler or a design that is missing costs the points of the log, and not those of the table too."""
    problems = sources.load("07_final_project", "one")
    cells = {cell.id: cell for cell in problems.cells}
    head, _, tail = cells["results-table"].source.partition("TABLE = ")
    for old, new, names, pairs in (
        (
            'runs["side by side"] = answers_of("side by side", 0, train, clips)',
            "pass",
            ("pairs", "single"),
            [("pairs", "single")],
        ),
        (
            'for d in ("pairs", "single") for s',
            'for d in ("pairs",) for s',
            ("pairs", "side by side"),
            [("pairs", "side by side")],
        ),
        ("for s in range(5)", "for s in range(2)", ("pairs", "single", "side by side"), None),
    ):
        log = cells["results-log"].source
        assert log.count(old) == 1
        table = head.replace("range(5)", "range(2)") if pairs is None else head
        table += f"TABLE = {{name: interval(scores_of(name)) for name in {names}}}\n"
        loop = tail[tail.index("AHEAD = []") :]
        before, _, after = loop.partition("for a, b in ")
        listed, _, after = after.partition(":\n")
        table += f"{before}for a, b in {pairs or listed}:\n{after}"
        results = prove.base(problems).attempt(
            {"results-log": log.replace(old, new), "results-table": table}, ["results"]
        )
        assert results["results-log-test"].points == 0
        assert results["results-table-test"].points == 10, results["results-table-test"]


def test_the_secret_decides_the_numbers_and_nothing_else_does():
    first, again, other = (sources.load("01_video_as_data", s) for s in ("one", "one", "two"))
    assert first.values == again.values and [c.source for c in first.cells] == [c.source for c in again.cells]
    assert first.values != other.values and first.issue != other.issue
    assert all("INSTANCE" not in cell.source and "# BUG" not in cell.source for cell in first.cells)
    bugs = {
        c.released for s in "abcdefgh" for c in sources.load("01_video_as_data", s).cells if c.id == "crop"
    }
    assert len(bugs) > 2


def test_values_and_gradients_cross_the_line_and_errors_keep_their_kind():
    test = (
        "import torch\nx = torch.ones(3, dtype=torch.float64, requires_grad=True)\n"
        "y = add({'x': [x, 2]})\nassert y[1] == {(1, 'a')}, 'a nest'\n(y[0] * torch.arange(3)).sum().backward()\n"
        "assert torch.equal(x.grad, torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64)), 'its gradient'\n"
        "try:\n    add(None)\nexcept TypeError as error:\n    assert 'NoneType' in str(error)\nelse:\n    assert False, 'no error'"
    )
    good = "def add(x):\n    return x['x'][0] ** 2, {(1, 'a')}"
    assert run(small(test), good).points == 50
    assert run(small(test), good.replace("** 2", "** 3")).message == "its gradient"
    assert (
        "raised NotImplementedError"
        in run(small(test), "def add(x):\n    raise NotImplementedError('not yet')").message
    )


def test_what_the_student_returns_is_a_plain_value_when_the_test_compares_it():
    """An object that is equal to everything does not cross; nor does a patched torch on the other side matter."""
    equal = "class Yes(int):\n    def __eq__(self, other):\n        return True\n    def __hash__(self):\n        return 0\n\n"
    assert run(small("assert add(0) == 1"), equal + "def add(x):\n    return Yes(7)").points == 0
    other = "class Yes:\n    def __eq__(self, other):\n        return True\n\ndef add(x):\n    return Yes()"
    assert run(small("assert add(0) == 1"), other).points == 0
