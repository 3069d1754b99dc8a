"""What a file takes from the package, read off its source: for the page of names, and for the test that each has a user."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sora_nb"


def dotted(path: Path) -> str:
    """The name by which a file of the package is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def accesses(path: Path, tree: ast.AST) -> set[tuple[str, str]]:
    """What a file takes from the package: (module as it is written, name)."""
    here = dotted(path).split(".") if path.is_relative_to(PACKAGE) else []
    package = here if path.name == "__init__.py" else here[:-1]
    bound, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            bound |= {
                a.asname or "sora_nb": a.name if a.asname else "sora_nb" for a in node.names if ours(a.name)
            }
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            if ours(module):
                found |= {(module, alias.name) for alias in node.names}
                bound |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    return found | set(attributes(tree, bound))


def ours(module: str) -> bool:
    """Whether a dotted name is of this package."""
    return module.split(".")[0] == "sora_nb"


def attributes(tree: ast.AST, bound: dict[str, str]):
    """Names reached with a dot from what was imported: ``motion.load`` after ``from sora_nb.data import motion``."""

    def full(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return bound.get(node.id)
        inner = full(node.value) if isinstance(node, ast.Attribute) else None
        return inner and f"{inner}.{node.attr}"

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := full(node)):
            yield tuple(name.rsplit(".", 1))


def of_module(path: Path, module: str) -> bool:
    """Whether a name asked of ``module``, as it is written, may be one of this file of the package."""
    return f"{dotted(path)}.".startswith(f"{module}.")
