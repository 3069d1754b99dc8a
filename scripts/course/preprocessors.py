"""What nbgrader does otherwise for this course, as preprocessors of its own kind.

Two of them. :class:`Release` gives bugs out where nbgrader would give an empty cell. :class:`Recorded` stands where
nbgrader runs the notebook: in nbgrader one kernel holds the student's code and the hidden tests, so the first can read and
disarm the second; here the notebook has been run before, in two processes (``grading``), and only what came out is put in.
"""

import json
from pathlib import Path

import nbformat
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor


class Release(ClearSolutions):
    """Clear solutions as nbgrader does, and put this year's bug into the cells that offer one."""

    def preprocess_cell(self, cell, resources, cell_index):
        """See nbgrader."""
        bug = cell.metadata.pop("course_bug", None)
        if bug is None:
            return super().preprocess_cell(cell, resources, cell_index)
        cell.source = bug
        return cell, resources


class Recorded(NbGraderPreprocessor):
    """Put the results of a finished run into the cells, where nbgrader looks for them."""

    def preprocess(self, nb, resources):
        """See nbgrader."""
        here = resources["nbgrader"]
        root = Path(here["db_url"].removeprefix("sqlite:///")).parent
        run = json.loads((root / "results" / here["assignment"] / f"{here['student']}.json").read_text())
        for cell in nb.cells:
            marks = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and marks.get("grade_id") in run["cells"]:
                cell.outputs = outputs(run["cells"][marks["grade_id"]], marks.get("grade", False))
        if run["remarks"]:
            text = "**Remarks of the grader**\n\n" + "\n".join(f"- {remark}" for remark in run["remarks"])
            nb.cells.insert(0, nbformat.v4.new_markdown_cell(text, id="course-remarks"))
        return nb, resources


def reasons(result: dict) -> list[str]:
    """Where to look: which part of the test, and what was called with what."""
    said = [f"({result['where']})"] if result["where"] else []
    return said + ([f"The last call: {result['call']}"] if result["call"] else [])


def outputs(result: dict, test: bool) -> list:
    """A cell's outputs as Jupyter writes them; nbgrader takes an error in a test for no points."""
    found = []
    if result["said"] and not test:  # what was printed during a test shows what the test passed
        found.append(nbformat.v4.new_output("stream", name="stdout", text=result["said"]))
    if result["message"] or (test and not result["points"]):
        message = result["message"] or "a check failed"
        lines = [line for line in (result["trace"].rstrip(), message, *reasons(result)) if line]
        error = "CheckFailed" if test else "Error"
        found.append(nbformat.v4.new_output("error", ename=error, evalue=message, traceback=lines))
    return found
