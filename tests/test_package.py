"""The package's shape: the import arrow, sizes, docstrings, and that nothing is in it which nobody uses."""

import ast
import functools
import importlib
import re
import subprocess
import sys
import types
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sora_nb"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
PYTHON = [
    path
    for name in ("sora_nb", "scripts", "tests", "book/_ext")
    for path in sorted((ROOT / name).rglob("*.py"))
]


def dotted(path: Path) -> str:
    """The name by which a file of the package is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# ------------------------------------------------------------------------------------------------------------- arrow

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
    "recipe",
]
# Beside the arrow: anything may import these, which import nothing of the package but each other.
SIDE = {"settings", "ledger", "files"}
PLACE = {name: place for place, name in enumerate(ARROW)} | {
    "checkpoints": ARROW.index("training"),
    "processes": ARROW.index("features"),
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
    assert tops - {"__init__"} <= set(PLACE) | SIDE, "name the module's place in tests/test_package.py"


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


# ------------------------------------------------------------------------------------------------------------ sizes

STATEMENTS = 5200  # for the whole book, 23 chapters; a quarter more is a reason to take something out


def is_string(node: ast.AST) -> bool:
    """Whether a statement is a string that stands alone, as docstrings do."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def statements(tree: ast.AST) -> int:
    """How many statements a module holds, docstrings not counted. Dense formatting gains nothing by it."""
    return sum(isinstance(node, ast.stmt) and not is_string(node) for node in ast.walk(tree))


def function_lines(tree: ast.AST) -> list[int]:
    """Lines of each function and method, docstrings not counted."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    strings = [node.body[0] if is_string(node.body[0]) else None for node in functions]
    return [lines(node) - (lines(string) if string else 0) for node, string in zip(functions, strings)]


def lines(node: ast.stmt) -> int:
    """Lines that a statement takes."""
    return node.end_lineno - node.lineno + 1


def test_the_package_stays_small():
    total = sum(statements(ast.parse(path.read_text())) for path in MODULES)
    print(f"sora_nb has {total:,} statements; the ceiling is {STATEMENTS:,}")
    assert total <= STATEMENTS
    middle = median(n for path in MODULES for n in function_lines(ast.parse(path.read_text())))
    print(f"the median function has {middle:g} lines")
    assert middle < 15


def test_no_file_is_long():
    found = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PYTHON}
    assert {name: n for name, n in found.items() if n > 400} == {}


def test_statements_are_counted_and_docstrings_and_layout_are_not():
    dense = '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): return 1; pass\nx = [1, 2]\n'
    loose = 'class A:\n    def f(self):\n        """Doc.\n\n        More.\n        """\n        return 1\n        pass\nx = [\n    1,\n    2,\n]'
    assert statements(ast.parse(dense)) == statements(ast.parse(loose)) == 5
    assert function_lines(ast.parse(loose)) == [3]


# --------------------------------------------------------------------------------------------------------- importing


def test_the_package_imports_without_its_slow_dependencies():
    """torchvision (which loads torch's compiler) and scikit-learn would add six seconds to the start of every chapter."""
    modules = ", ".join(map(dotted, MODULES))
    code = f"import sys, {modules}; print(sorted({{'torchvision', 'sklearn', 'torch._dynamo'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def shadowed(modules: list[str]) -> list[str]:
    """Modules that `import a.b.c as x` does not give, because a package has something else of that name."""
    found = []
    for name in modules:
        importlib.import_module(name)
        top, *rest = name.split(".")
        if functools.reduce(getattr, rest, sys.modules[top]) is not sys.modules[name]:
            found.append(name)
    return found


def test_every_module_can_be_imported_by_its_dotted_name():
    import sora_nb.layers.attention as module

    assert isinstance(module, types.ModuleType) and callable(module.attention)
    assert shadowed([dotted(path) for path in MODULES]) == []


def test_a_shadowed_module_is_found(tmp_path, monkeypatch):
    (tmp_path / "shadows").mkdir()
    (tmp_path / "shadows" / "__init__.py").write_text("from shadows.gate import gate\n")
    (tmp_path / "shadows" / "gate.py").write_text("def gate(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert shadowed(["shadows", "shadows.gate"]) == ["shadows.gate"]


# -------------------------------------------------------------------------------------------------------- docstrings


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


SECTIONS = ["Args", "Attributes", "Returns", "Yields", "Raises", "Warns"]
CHAPTER = re.compile(r"(?:Derived|Explained|Introduced|Used) (?:in|from) chapters? \d\d")
# To be laid out like the others.
UNSTYLED = ("models/", "layers/", "video/", "objectives/", "training", "features", "data/folders")
STYLED = [path for path in MODULES if not str(path.relative_to(PACKAGE)).startswith(UNSTYLED)]


def style(doc: str) -> list[str]:
    """How a docstring differs from the rest: Google's sections in one order, and before them, last, the chapter."""
    parts = re.split(r"^([A-Z][a-z]+):$", doc, flags=re.M)
    prose, *parts = (re.sub(r"\s+", " ", part).strip() for part in parts)
    sections, found = parts[::2], []
    places = [SECTIONS.index(name) if name in SECTIONS else -1 for name in sections]
    if -1 in places or places != sorted(set(places)):
        found.append(f"sections {sections}; expected some of {SECTIONS}, in this order")
    if any(map(CHAPTER.search, parts[1::2])):
        found.append("the sentence that names the chapter stands after a section")
    if (said := CHAPTER.search(prose)) and re.search(r"[.] \S", prose[said.end() :]):
        found.append("the sentence that names the chapter is not the last of the prose")
    return found


@pytest.mark.parametrize("path", STYLED, ids=str)
def test_docstrings_have_one_style(path):
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            found += [
                (getattr(node, "name", "module"), fault) for fault in style(ast.get_docstring(node) or "")
            ]
    assert found == []


def test_another_style_is_found():
    good = "Do it.\n\nWhy. Derived in\nchapter 03.\n\nArgs:\n    x: one.\n\nReturns:\n    two.\n\nRaises:\n    Three: x."
    assert style(good) == [] == style("Do it. Used from chapter 01 on.")
    assert len(style(good.replace("Args", "Returns", 1))) == len(style(good.replace("Raises", "Throws"))) == 1
    assert len(style(f"{good}\n\nDerived in chapter 03.")) == len(style("Derived in chapter 03. Do it.")) == 1
