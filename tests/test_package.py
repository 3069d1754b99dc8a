"""The package's shape: the import arrow, sizes, docstrings, and that nothing is in it which nobody uses."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sora_nb"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]

ARROW = [
    "video",
    "transforms",
    "data",
    "layers",
    "objectives",
    "models",
    "features",
    "training",
    "evaluation",
]
# Beside the arrow: anything may import these, which import nothing of the package but each other.
SIDE = {"settings", "ledger", "files"}
PLACE = {name: place for place, name in enumerate(ARROW)} | {
    "plots": ARROW.index("evaluation"),
    "schematics": ARROW.index("evaluation"),
}


def imported(path: Path, tree: ast.AST) -> set[str]:
    """Top-level parts of sora_nb that a module imports, absolutely or relatively."""
    package = list(path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("sora_nb.")}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module or "").split(".")] if node.module else base
            if full[:1] == ["sora_nb"]:
                found |= {full[1]} if len(full) > 1 else {alias.name for alias in node.names}
    return found


def against_the_arrow(path: Path, tree: ast.AST) -> list[str]:
    """Imports from the right of where a module stands."""
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":
        return []
    allowed = {name for name in PLACE if here not in SIDE and PLACE[name] <= PLACE[here]} | SIDE | {here}
    names = imported(path, tree) & (set(PLACE) | SIDE)
    return [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(names - allowed)]


def test_every_module_has_its_place_on_the_arrow():
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert tops - {"__init__"} <= set(PLACE) | SIDE, "name the module's place in tests/test_repository.py"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_follow_the_arrow(path):
    assert against_the_arrow(path, ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "from sora_nb.training import fit",
        "from ..training import fit",
        "import sora_nb.models.gru",
        "from .. import plots",
    ],
)
def test_an_import_against_the_arrow_is_found(line):
    assert len(against_the_arrow(PACKAGE / "layers" / "made_up.py", ast.parse(line))) == 1


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    tree, strings = ast.parse(source), set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            strings |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in strings
        for number, line in lines
    )


def test_the_package_stays_small():
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}, "no file over 400 lines"
    assert sum(code_lines(path.read_text()) for path in MODULES) < 3000, (
        "lines of code, without blanks and docstrings"
    )
    assert code_lines('"""Doc.\n\nMore."""\n\n# why\nx = 1\n') == 1


def test_the_package_imports_without_its_slow_dependencies():
    """torchvision (which loads torch's compiler) and scikit-learn would add six seconds to the start of every chapter."""
    modules = ", ".join(
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for path in MODULES
    )
    code = f"import sys, {modules}; print(sorted({{'torchvision', 'sklearn', 'torch._dynamo'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def undocumented(tree: ast.AST) -> list[str]:
    """Public functions and classes without a docstring, or whose docstring (or class's, or module's) names no chapter."""
    found = []

    def visit(node: ast.AST, chapter: bool):
        for child in ast.iter_child_nodes(node):
            if isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ) and not child.name.startswith("_"):
                doc = ast.get_docstring(child) or ""
                named = chapter or bool(re.search(r"\b[Cc]hapters? \d", doc))
                trivial = isinstance(node, ast.ClassDef) and (child.name == "forward" or has_decorator(child))
                if not trivial and (not doc or not named):
                    found.append(
                        f"{child.name} (line {child.lineno}): {'names no chapter' if doc else 'has no docstring'}"
                    )
                if isinstance(child, ast.ClassDef):
                    visit(child, named)

    visit(tree, bool(re.search(r"\b[Cc]hapters? \d", ast.get_docstring(tree) or "")))
    return found


def has_decorator(node: ast.FunctionDef) -> bool:
    """Whether a method is a property or its setter, which its class describes."""
    return any(
        ast.unparse(d) == "property" or ast.unparse(d).endswith(".setter") for d in node.decorator_list
    )


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_every_public_name_says_what_it_does_and_which_chapter_derives_it(path):
    assert undocumented(ast.parse(path.read_text())) == []


def test_a_missing_docstring_or_chapter_is_found():
    bad = 'def f():\n  pass\ndef g():\n  "Does g."\ndef h():\n  "Does h. Derived in chapter 03."\ndef _p(): pass'
    assert len(undocumented(ast.parse(bad))) == 2
    assert undocumented(ast.parse(f'"""Derived in chapter 05."""\n{bad}')) == ["f (line 2): has no docstring"]
