"""The page that lists every public name of the package: what it does, and which chapter derives and uses it."""

import ast
import re
from pathlib import Path

from uses import PACKAGE, ROOT, accesses, dotted, of_module

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


def chapters(folder: Path) -> dict[str, set[tuple[str, str]]]:
    """What each chapter takes of the package, by its number: (module as it is written, name)."""
    paths = sorted(folder.glob("[0-9][0-9]_*.py"))
    return {path.name[:2]: accesses(path, ast.parse(path.read_text())) for path in paths}


def users(name: str, path: Path, taken: dict[str, set[tuple[str, str]]]) -> list[str]:
    """The chapters that take this name from this file of the package."""
    asked = {number: [m for m, n in names if n == name] for number, names in taken.items()}
    return [number for number, modules in asked.items() if any(of_module(path, m) for m in modules)]


def page() -> str:
    """The page as Markdown: a section a module, a line a name."""
    taken, parts = chapters(ROOT / "notebooks"), [HEAD]
    for path in sorted(PACKAGE.rglob("*.py")):
        if names := public(path):
            parts.append(f"## `{dotted(path)}`\n")
        for name, docstring in names:
            derived = re.findall(r"[Dd]erived in chapter (\d\d)", docstring)
            others = [number for number in users(name, path, taken) if number not in derived]
            told = [
                f"{word} in {', '.join(f'{{chapter}}`{n} <{n}>`' for n in numbers)}."
                for word, numbers in (("Derived", derived), ("Used", others))
                if numbers
            ]
            parts.append(f"`{name}`\n: {sentence(docstring)} {' '.join(told)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page())
