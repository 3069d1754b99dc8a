"""Marking by hand as a teacher meets it: `make formgrader` in a real browser, and the points in the tables."""

import csv
import json
import os
import shlex
import subprocess
import sys

import course_sample
import pytest
from browser import complaints
from test_lab import STATE, until

from scripts.course import build, grade, record, sources, submission

NAME = "00_small"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course in which one student has answered, tests done, the answer still to be marked."""
    folder, before = tmp_path_factory.mktemp("sources"), sources.SOURCES
    (folder / f"{NAME}.py").write_text(course_sample.SMALL)
    sources.SOURCES = folder
    root = tmp_path_factory.mktemp("course")
    build.build(root, "a long secret", [NAME])
    sources.SOURCES = before
    tidy = submission.read(root / "release" / NAME / f"{NAME}.ipynb")
    answer = next(cell for cell in tidy.cells if submission.grade_id(cell) == "why")
    answer.source = submission.harmless("Because <script>document.title = 'mine'</script> of **sums**.")
    work = grade.Work("ann", NAME, root / "unused", root)
    build.write(tidy, work.tidy)
    results = {
        name: {"points": p, "message": "", "trace": "", "said": ""}
        for name, p in (("clock-test", 30), ("double-test", 0))
    }
    report = {"digest": "x", "remarks": ["A remark."], "cells": results}
    work.result.parent.mkdir(parents=True)
    work.result.write_text(json.dumps(report))
    assert record.record(root, {work: report}) == []
    return root


@pytest.fixture(scope="module")
def server(course, tmp_path_factory):
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
        found = until(lambda: next((state / "_RUNTIME_DIR").glob("jpserver-*.json"), None), process, log)
        yield json.loads(until(lambda: found.read_text(), process, log))
    finally:
        process.kill()
        process.wait()


def points(course) -> dict[str, float]:
    with open(course / "tasks.csv", newline="", encoding="utf-8") as file:
        return {row["cell"]: float(row["points"]) for row in csv.DictReader(file)}


def test_points_given_in_the_browser_arrive_in_the_tables(browser, course, server):
    assert points(course) == {"clock-test": 30, "double-test": 0, "why": 0}
    page = browser.new_page()
    page.set_default_timeout(180_000)
    said = complaints(page)
    page.goto(f"{server['url']}formgrader/gradebook/{NAME}/{NAME}?token={server['token']}")
    page.get_by_role("link", name="Submission #1").click()
    page.get_by_text("A remark.").wait_for()
    assert page.locator("strong", has_text="sums").count() == 1 and page.title() != "mine"
    box = page.locator("input#why")
    box.fill("4")
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/grade/" in answer.url):
        box.press("Tab")
    page.close()
    assert said == []
    record.tables(course)
    assert points(course) == {"clock-test": 30, "double-test": 0, "why": 4}
    with open(course / "grades.csv", newline="", encoding="utf-8") as file:
        assert [(r["student"], float(r["points"]), r["waits for marking"]) for r in csv.DictReader(file)] == [
            ("ann", 34, "0")
        ]
