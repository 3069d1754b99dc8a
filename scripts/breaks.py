"""Broken forms of a Python file, one broken line each, for ``scripts/mutate.py``."""

import ast
import copy
from dataclasses import dataclass
from pathlib import Path

# How a figure looks is for eyes: what is not drawn is tested, sizes and colours are not.
APPEARANCE = {"plots.py"}
COMMUTATIVE = {"max", "min", "maximum", "minimum"}  # swapping their arguments changes nothing
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.MatMult: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Break:
    """One broken line: the whole new text of a file, and what is different."""

    file: str
    line: int
    old: str
    new: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.old!r} -> {self.new!r}"


def variants(node: ast.AST) -> list[ast.AST]:
    """The broken forms of one node of the syntax tree."""
    made = []

    def change(**fields):
        other = copy.deepcopy(node)
        for name, value in fields.items():
            setattr(other, name, value)
        made.append(other)

    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        change(ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        change(op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        made.append(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        change(value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        change(value=node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        change(value=node.value * 2 if node.value else 1.0)
    elif isinstance(node, ast.IfExp):
        change(body=node.orelse, orelse=node.body)
    elif (
        isinstance(node, ast.Call)
        and len(node.args) >= 2
        and not any(isinstance(a, ast.Starred) for a in node.args[:2])
        and ast.unparse(node.func).split(".")[-1] not in COMMUTATIVE
    ):
        change(args=[node.args[1], node.args[0], *node.args[2:]])
    elif isinstance(node, ast.Expr | ast.Raise | ast.Delete):
        made.append(ast.Pass())
    return made


def skipped(node: ast.AST, parent: ast.AST, name: str) -> bool:
    """Whether a break here could not matter: annotations, strings and messages, docstrings, decorators of data classes."""
    if name in ("annotation", "returns", "decorator_list", "type_params"):
        return True
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return True
    if isinstance(parent, ast.Raise) or isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(parent, ast.keyword) and parent.arg == "inplace":  # saves memory, changes no result
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(parent, ast.Call) and ast.unparse(parent.func).endswith(
        ("warn", "print", "warning", "info")
    )


def sites(tree: ast.AST, appearance: bool):
    """All nodes worth breaking."""
    unseen = ast.Constant | ast.UnaryOp | ast.BinOp | ast.Expr if appearance else ()
    for name, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not skipped(node, tree, name):
                if hasattr(node, "lineno") and not isinstance(node, unseen):
                    yield node
                yield from sites(node, appearance)


def breaks(path: Path, root: Path) -> list[Break]:
    """Every break of a file under ``root``; a line marked ``# no mutate`` has none, nor has one that reads the same afterwards."""
    source = path.read_text()
    data, lines = source.encode(), source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = []
    for node in sites(ast.parse(source), path.name in APPEARANCE):
        if b"# no mutate" in lines[node.lineno - 1]:
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = data[begin:end].decode()
        for variant in variants(node):
            new = ast.unparse(ast.fix_missing_locations(variant))
            if isinstance(node, ast.expr):
                new = f"({new})"
            text = (data[:begin] + new.encode() + data[end:]).decode()
            try:
                same = ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))
            except SyntaxError:
                continue  # inside an f-string, where parentheses and quotes follow other rules
            if not same:
                name = str(path.relative_to(root))
                found.append(
                    Break(name, node.lineno, " ".join(old.split())[:60], " ".join(new.split())[:60], text)
                )
    return found
