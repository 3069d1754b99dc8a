"""Verdicts are computed: a typed one is a correction of fact, with the assertion that shows it beside it."""

import ast
from pathlib import Path

import jupytext
import pytest

CHAPTERS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))
TYPED_AT_MOST = 19  # in all chapters together


def verdicts(cells: list[str]) -> list[tuple[str, str | None, bool]]:
    """Each recorded claim: its name, its verdict if that is typed, and whether its cell or the one before asserts."""
    found, before = [], False
    for source in cells:
        tree = ast.parse("\n".join(line for line in source.splitlines() if not line.startswith(("%", "!"))))
        asserts = any(
            isinstance(n, ast.Assert) or "assert_close" in getattr(n, "attr", "") for n in ast.walk(tree)
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ledger.claim":
                name, verdict = node.args[:2]
                typed = verdict.value if isinstance(verdict, ast.Constant) else None
                found.append((name.value, typed, asserts or before))
        before = asserts
    return found


def of_chapter(path: Path) -> list[tuple[str, str | None, bool]]:
    return verdicts([cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem[:2])
def test_a_typed_verdict_stands_beside_its_assertion(path):
    bare = [f"{name}: {typed}" for name, typed, asserts in of_chapter(path) if typed and not asserts]
    assert not bare, f"{path.name} types verdicts with no assertion beside them: {bare}"


def test_most_verdicts_are_computed(capsys):
    all_of_them = [item for path in CHAPTERS for item in of_chapter(path)]
    typed = [name for name, verdict, _ in all_of_them if verdict]
    with capsys.disabled():
        print(f"\n{len(all_of_them) - len(typed)} verdicts computed, {len(typed)} typed: {' '.join(typed)}")
    assert len(typed) <= TYPED_AT_MOST


def test_a_bare_typed_verdict_is_found():
    bare, check = "ledger.claim('A1', 'holds', f'{x}')", "assert x > 1"
    assert verdicts([bare]) == verdicts([check, "y = 2", bare]) == [("A1", "holds", False)]
    assert verdicts([check, bare]) == verdicts([f"{check}\n{bare}"]) == [("A1", "holds", True)]
    assert verdicts(["ledger.claim('A1', 'holds' if x > 1 else 'refuted', '')"]) == [("A1", None, False)]
