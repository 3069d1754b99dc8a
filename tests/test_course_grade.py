"""From a secret to a gradebook, and what is handed in on the way: the whole path with nbgrader, on a small set."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys

import course_sample
import nbformat
import pytest
from browser import complaints
from nbgrader.api import Gradebook
from test_lab import STATE, until

from scripts.course import build, grade, grading, hostile, proxies, record, sandbox, sources, submission

NAME, SECRET = "00_small", "a long secret"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with the small set in it."""
    folder, before = tmp_path_factory.mktemp("sources"), sources.SOURCES
    (folder / f"{NAME}.py").write_text(course_sample.SMALL)
    sources.SOURCES = folder
    root = tmp_path_factory.mktemp("course")
    build.build(root, SECRET, [NAME])
    yield root
    sources.SOURCES = before


@pytest.fixture
def release(course):
    return submission.read(course / "release" / NAME / f"{NAME}.ipynb")


def copy(notebook):
    return nbformat.reads(nbformat.writes(notebook), as_version=4)


def solved(release, **code):
    """A notebook with every task solved, or as told; the release stays as it is."""
    release = copy(release)
    reference = sources.load(NAME, SECRET)
    for cell in reference.cells:
        if cell.role in ("solution", "answer"):
            text = "Because it is linear." if cell.role == "answer" else cell.source
            release = hostile.edited(release, cell.id, code.get(cell.id, text))
    return release


def points(notebook, release) -> dict[str, float]:
    """What the tests give a notebook, in this very process."""
    problems = sources.load(NAME, SECRET)
    tidy, remarks = submission.tidied(notebook, release)
    code, extras = submission.code(tidy)
    session = grading.Session(proxies.Local())
    results = grading.grade(problems.cells, problems.names(), code, session, extras)
    return {name: result.points for name, result in results.items() if name.endswith("-test")} | {
        "remarks": remarks
    }


def test_a_release_holds_no_solution_no_hidden_test_and_no_trace_of_the_secret(course):
    text = (course / "release" / NAME / f"{NAME}.ipynb").read_text()
    for word in ("HIDDEN", "ten times", "SOLUTION", "return 2", "linear", "INSTANCE", SECRET, "course_bug"):
        assert word not in text, word
    assert "YOUR CODE HERE" in text and "YOUR ANSWER HERE" in text and '\\"one\\"' in text
    source = (course / "source" / NAME / f"{NAME}.ipynb").read_text()
    assert "ten times" in source and "SOLUTION" in source and SECRET not in source
    key = (course / "keys" / f"{NAME}.html").read_text()
    assert "Because it is linear." in key and "ten times" not in key and "SOLUTION" not in key


def test_what_nbgrader_clears_is_what_the_proof_takes_for_untouched(course, release):
    ours = {c.id: c.released for c in sources.load(NAME, SECRET).cells if c.role == "solution"}
    theirs = {
        submission.grade_id(c): c.source
        for c in release.cells
        if c.cell_type == "code" and submission.editable(c)
    }
    assert ours == theirs


REAL = sources.SOURCES


@pytest.mark.parametrize("name", sources.names())
def test_every_set_is_released_without_its_solutions(name, monkeypatch):
    """Through nbgrader's steps but the one that enters the set into a gradebook: solutions are stubs, tests the visible part."""
    monkeypatch.setattr(sources, "SOURCES", REAL)
    problems = sources.load(name, SECRET)
    given, resources = copy(problems.notebook), {}
    for step in build.config("unused").GenerateAssignment.preprocessors:
        if step.__name__ != "SaveCells":
            given, resources = step()(given, resources)
    cells = {submission.grade_id(c): c.source.strip() for c in given.cells}
    for cell in problems.cells:
        if cell.role == "solution":
            assert cells[cell.id] == cell.released.strip()
        elif cell.role == "test":
            assert cells[cell.id] == sources.visible(cell.source).strip()
        elif cell.role == "answer":
            assert cells[cell.id] == "YOUR ANSWER HERE"
    marks = ("HIDDEN TESTS", "BEGIN SOLUTION", "# BUG", "course_bug", "INSTANCE.")
    assert not any(mark in nbformat.writes(given) for mark in marks)


def test_a_short_secret_and_a_folder_of_another_secret_are_refused(course, tmp_path):
    with pytest.raises(build.CourseError, match="fewer than 8"):
        build.build(tmp_path, "short", [NAME])
    with pytest.raises(build.CourseError, match="of another secret"):
        build.build(course, "another secret", [NAME])


@pytest.mark.parametrize("what", hostile.NOTEBOOKS)
def test_a_broken_notebook_gets_what_its_work_is_worth(what, release):
    change, loses = hostile.NOTEBOOKS[what]
    notebook = change(solved(release), "clock")
    got = points(notebook, release)
    assert got["clock-test"] == (0 if loses else 30) and got["double-test"] == 15
    assert got["remarks"] or what == "function renamed"


@pytest.mark.parametrize("what", hostile.FILES)
def test_a_file_that_is_no_notebook_is_said_to_be_none(what, tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_bytes(hostile.FILES[what])
    with pytest.raises(submission.Unreadable, match="not a Jupyter notebook"):
        submission.read(path)


def test_cells_that_the_student_adds_run_where_they_stand(release):
    notebook = solved(release, clock="def clock(x):\n    return factor() * x")
    place = [submission.grade_id(c) for c in notebook.cells].index("clock")
    helper = nbformat.v4.new_code_cell(f"def factor():\n    return {sources.load(NAME, SECRET).values['n']}")
    notebook.cells.insert(place + 1, helper)
    assert points(notebook, release) == {"clock-test": 30, "double-test": 15, "remarks": []}


def test_the_last_copy_that_was_changed_counts(release):
    notebook = solved(release, clock="def clock(x):\n    return 0")
    place = [submission.grade_id(c) for c in notebook.cells].index("clock")
    right = copy(notebook).cells[place]
    right.source = sources.load(NAME, SECRET).cells[2].source
    notebook.cells.append(right)
    assert points(notebook, release)["clock-test"] == 30


def test_prose_cannot_act_in_a_browser():
    for bad in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "java&#115;cript:",
    ):
        said = submission.harmless(f"so {bad}")
        assert "<s" not in said and "<i" not in said and "javascript:" not in said and "&#" not in said
    assert submission.harmless("if $a < b$ & c") == "if $a < b$ & c"


def hand_in(folder, students):
    """A folder of submissions."""
    for student, made in students.items():
        path = folder / student / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(made if isinstance(made, bytes) else nbformat.writes(made).encode())
    return folder


def table(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """A small class, graded: the folder of submissions, and how to grade it again."""
    if sys.platform != "linux":
        pytest.skip("the sandbox is Linux's")
    release = submission.read(course / "release" / NAME / f"{NAME}.ipynb")
    answer = "Because <script>document.title = 'mine'</script> of **sums**."
    folder = hand_in(
        tmp_path_factory.mktemp("submissions"),
        {
            "ann": solved(release),
            "bob": solved(release, clock="def clock(x):\n    return 1 + 0 * x", why=answer),
            "eve": b"no notebook",
        },
    )
    (folder / "=cmd").mkdir()
    arguments = [str(folder), "--course", str(course), "--jobs", "1"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert grade.main(arguments) == 0
    return arguments, said.getvalue()


def test_a_class_is_graded(course, graded):
    said = graded[1]
    assert "3 of 3 submissions graded; 2 answers wait" in said and "left out: '=cmd'" in said
    rows = {row["student"]: row for row in table(course / "grades.csv")}
    assert {s: float(row["points"]) for s, row in rows.items()} == {"ann": 45, "bob": 15, "eve": 0}
    assert "not a Jupyter notebook" in rows["eve"]["remarks"] and rows["ann"]["waits for marking"] == "1"
    assert {r["cell"]: float(r["points"]) for r in table(course / "tasks.csv") if r["student"] == "bob"} == {
        "clock-test": 0,
        "double-test": 15,
        "why": 0,
    }
    canvas = table(course / "canvas.csv")
    assert canvas[0]["Student"].strip() == "Points Possible" and canvas[0][NAME] == "50"
    assert [(row["SIS Login ID"], float(row[NAME])) for row in canvas[1:]] == [
        ("ann", 45),
        ("bob", 15),
        ("eve", 0),
    ]
    assert [(r["username"], float(r[NAME])) for r in table(course / "moodle.csv")] == [
        ("ann", 45),
        ("bob", 15),
        ("eve", 0),
    ]


def test_canvas_and_moodle_find_students_sets_and_points():
    """By the rules of the two importers, whose sources :mod:`record` names."""
    marks = [("ann", "01_a", 45.5, 80), ("ann", "02_b", 80, 84), ("bob", "02_b", 0, 84)]
    found = [{"student": s, "set": n, "points": p, "of": o} for s, n, p, o in marks]
    head, (possible, *lines) = record.canvas(found)
    assert "Student" in head[0] and "ID" in head[1] and "Section" in head[4] and head[5:] == ["01_a", "02_b"]
    assert re.search(r"SIS\s+User\s+ID", head[2]) and re.search(r"SIS\s+Login\s+ID", head[3])
    assert "Points Possible" in possible[0] and possible[5:] == ["80", "84"]
    # No number in "ID" and nothing in "SIS User ID", so that the login decides; a set not handed in stays empty.
    assert lines == [["ann", "", "", "ann", "", "45.5", "80"], ["bob", "", "", "bob", "", "", "0"]]
    head, lines = record.moodle(found)
    assert head == ["username", "01_a", "02_b"] and lines == [["ann", "45.5", "80"], ["bob", "-", "0"]]


def test_feedback_says_why_and_shows_no_hidden_test(course, graded):
    page = (course / "feedback" / "bob" / NAME / f"{NAME}.html").read_text()
    assert "HIDDEN" not in page and "10 *" not in page and "<script>document.title" not in page
    assert re.search(r"one\s*\(in the check above\)\s*The last call: clock\(1\) returned 1\s*</pre>", page)
    assert "Your work" in page and re.search(
        r'class="lost">\s*<a href="#clock-test">clock</a>: 0 of 30', page
    )
    assert "not a Jupyter notebook" in (course / "feedback" / "eve" / NAME / f"{NAME}.html").read_text()


@pytest.fixture(scope="module")
def server(course, graded, tmp_path_factory):
    """The server that `make formgrader` starts."""
    make = ["make", "--dry-run", "formgrader", f"VENV={sys.prefix}", f"COURSE={course}"]
    said = (
        subprocess.run(make, cwd=sources.ROOT, capture_output=True, text=True, check=True)
        .stdout.strip()
        .splitlines()[-1]
    )
    # The environment of this test may lie elsewhere than make thinks.
    command = shlex.split(said.partition("&&")[2].replace(f"{sources.ROOT}/{sys.prefix}", sys.prefix))
    state, log = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("log") / "server.log"
    places = {f"JUPYTER{name}": str(state / name) for name in STATE} | {"PYTHONPATH": str(sources.ROOT)}
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*command[1:], "--no-browser", "--ServerApp.port=0"],
            cwd=course,
            env=os.environ | places,
            stdout=file,
            stderr=file,
        )
    try:
        runtime = state / "_RUNTIME_DIR"
        opens = until(lambda: next(runtime.glob("jpserver-*-open.html"), None), process, log)
        yield json.loads(next(runtime.glob("jpserver-*.json")).read_text()) | {"opens": opens}
    finally:
        process.kill()
        process.wait()


def test_points_given_in_the_browser_arrive_in_the_tables(browser, course, server):
    page = browser.new_page()
    page.set_default_timeout(180_000)
    said = complaints(page)
    page.goto(server["opens"].as_uri())
    page.get_by_text("Manage Assignments").first.wait_for()
    page.goto(f"{server['url']}formgrader/gradebook/{NAME}/{NAME}")
    page.get_by_role("link", name="Submission #").first.wait_for()
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        number = book.find_submission_notebook(NAME, NAME, "bob").id
    page.goto(f"{server['url']}formgrader/submissions/{number}/?index=0")
    page.locator("strong", has_text="sums").wait_for()
    assert page.title() != "mine"
    box = page.locator("input#why")
    box.fill("3")
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/grade/" in answer.url):
        box.press("Tab")
    page.close()
    # nbgrader has its MathJax from the network, which a test must do without.
    assert [complaint for complaint in said if "mathjax" not in complaint.lower()] == []
    record.tables(course)
    assert {r["student"]: float(r["points"]) for r in table(course / "grades.csv")}["bob"] == 18


@pytest.fixture
def source(course):
    """The small set's source, put back afterwards, and the release with it."""
    path = sources.SOURCES / f"{NAME}.py"
    text = path.read_text()
    yield path
    path.write_text(text)
    build.build(course, SECRET, [NAME])


def test_what_has_not_changed_is_not_run_again_and_manual_points_stay(
    course, source, graded, capsys, monkeypatch
):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        mark = book.find_grade("why", NAME, NAME, "ann")
        mark.manual_score, mark.needs_manual_grade = 4, False
        book.db.commit()
    # A test is mended.
    source.write_text(source.read_text().replace("assert clock(1) == INSTANCE.n", "assert clock(0) == 0"))
    build.build(course, SECRET, [NAME])
    assert grade.main(graded[0]) == 0
    assert "0 unchanged, 3 to run" in capsys.readouterr().out
    before = {row["student"]: float(row["points"]) for row in table(course / "grades.csv")}
    assert before["ann"] == 49 and before["bob"] in (15, 18) and before["eve"] == 0
    monkeypatch.setattr(grade, "run", None)  # nothing more may be run
    assert grade.main(graded[0]) == 0
    assert "3 unchanged, 0 to run" in capsys.readouterr().out
    assert before == {row["student"]: float(row["points"]) for row in table(course / "grades.csv")}


def test_one_submission_that_stops_the_grader_does_not_stop_the_rest(monkeypatch, tmp_path):
    def run(work, limits):
        raise RuntimeError("stopped")

    work = [grade.Work(s, NAME, tmp_path / s, tmp_path) for s in ("ann", "bob")]
    monkeypatch.setattr(grade, "known", lambda item: {"points": 1} if item.student == "ann" else None)
    done = grade.run_all(work, 1, sandbox.Limits())
    assert done[work[0]] == {"points": 1} and isinstance(done[work[1]], Exception)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_check_submission_says_whether_a_file_will_grade(course, release, tmp_path, capsys):
    def check(notebook):
        path = tmp_path / f"{NAME}.ipynb"
        nbformat.write(notebook, path)
        status = submission.main([str(path)])
        return status, capsys.readouterr().out

    status, said = check(solved(release, clock="def clock(x):\n    return 0"))
    assert (
        status == 0
        and "clock-test (30 points): FAILS: one" in said
        and "double-test (15 points): passes" in said
    )
    assert "why (5 points): a person reads it" in said and "This file will grade" in said
    changed = hostile.edited(copy(release), "double-test", "assert True")
    status, said = check(changed)
    assert status == 1 and "'double-test' was changed" in said
    status, said = check(hostile.missing(copy(release), "clock"))
    assert status == 1 and "'clock' is missing" in said
    (tmp_path / "x.ipynb").write_text("{}")
    assert submission.main([str(tmp_path / "x.ipynb")]) == 1
