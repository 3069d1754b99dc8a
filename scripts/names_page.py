"""The page that lists every public name of the package: what it does, and which chapter derives and uses it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Names of the package

Every public name of `sora_nb`, what it does in one line, and the chapters that take it from there. *Derived* is the
chapter that builds it in the open and proves it equal to what you find here.
"""


def public(path: Path) -> list[tuple[str, str]]:
    """(name, docstring) of each public function and class of a module, in the order of the file."""
    tree = ast.parse(path.read_text())
    defined = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return [(node.name, ast.get_docstring(node) or "") for node in defined if not node.name.startswith("_")]


def sentence(docstring: str) -> str:
    """The first sentence of a docstring as Markdown: roles become code, and nothing else is markup."""
    first = re.split(r"(?<=[.:]) (?:Derived|Used|Explained|From) ", docstring.split("\n")[0])[0]
    plain = re.sub(r":\w+:`[~.]*([^`]+)`", r"``\1``", first).replace("``", "`")
    return re.sub(r"([$<|\[\]{}*_])(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\\\1", plain)


def used(code: str) -> set[str]:
    """What a chapter takes of the package: names it imports from it, and ``module.name`` of modules it imports."""
    tree = ast.parse(code)
    imports = [
        n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("sora_nb")
    ]
    taken = {alias.name: alias.asname or alias.name for n in imports for alias in n.names}
    called = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _root(n) in taken.values()}
    return set(taken) | called


def _root(node: ast.Attribute) -> str:
    """``training`` of ``training.fit``, "" where what is asked is no plain name."""
    return node.value.id if isinstance(node.value, ast.Name) else ""


def chapters(folder: Path) -> dict[str, set[str]]:
    """What each chapter takes of the package, by its number."""
    paths = sorted(folder.glob("[0-9][0-9]_*.py"))
    return {path.name[:2]: used(path.read_text()) for path in paths}


def page(package: Path = ROOT / "sora_nb", notebooks: Path = ROOT / "notebooks") -> str:
    """The page as Markdown: a section a module, a line a name."""
    taken, parts = chapters(notebooks), [HEAD]
    for path in sorted(package.rglob("*.py")):
        if names := public(path):
            module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            parts.append(f"## `{module}`\n")
        for name, docstring in names:
            derived = re.findall(r"[Dd]erived in chapter (\d\d)", docstring)
            others = [number for number, names in taken.items() if name in names and number not in derived]
            told = [
                f"{word} in {', '.join(f'{{chapter}}`{n} <{n}>`' for n in numbers)}."
                for word, numbers in (("Derived", derived), ("Used", others))
                if numbers
            ]
            parts.append(f"`{name}`\n: {sentence(docstring)} {' '.join(told)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page())
