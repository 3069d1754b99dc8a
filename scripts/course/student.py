"""Where a student's code runs: a namespace that takes messages. The grader's tests never come here, only their arguments.

This module and ``wire`` are all of the course kit that a sandbox can see.
"""

import builtins
import contextlib
import io
import itertools
import linecache
import re
import traceback

import torch

from . import wire

_MAGIC = re.compile(r"^(\s*)([%!?]).*$", re.M)
KEPT_GRAPHS = 64


class Student:
    """The names that a student's cells define, and what a grader may ask about them."""

    def __init__(self, namespace: dict | None = None):
        self.namespace = namespace if namespace is not None else {"__name__": "__main__"}
        self.objects: dict[int, object] = {}
        self.graphs: dict[int, tuple[list, list]] = {}
        self.numbers = itertools.count()

    def answer(self, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes]]:
        """Do what a message asks; whatever the student's code raises becomes part of the reply."""
        try:
            return getattr(self, "do_" + message["do"])(message, buffers)
        except (
            BaseException
        ) as error:  # SystemExit and KeyboardInterrupt too: this process answers until it is killed
            return {"error": _described(error), "trace": _trace(error)}, []

    def do_run(self, message, buffers):
        source, name = _MAGIC.sub(r"\1pass", message["source"]), message["name"]
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), self.namespace)
        return {}, []

    def do_fetch(self, message, buffers):
        if message["name"] not in self.namespace:
            return {"missing": True}, []
        value, out = wire.encode(self.namespace[message["name"]], self._keep)
        return {"value": value}, out

    def do_attribute(self, message, buffers):
        value, out = wire.encode(getattr(self.objects[message["handle"]], message["name"]), self._keep)
        return {"value": value}, out

    def do_call(self, message, buffers):
        args, kwargs = wire.decode(message["arguments"], buffers, self._find)
        inputs = [t for t in wire.tensors((args, kwargs)) if t.requires_grad]
        with torch.set_grad_enabled(message["grad"]):
            result = self.objects[message["handle"]](*args, **kwargs)
        result = list(result) if isinstance(result, wire.GENERATORS) else result
        value, out = wire.encode(result, self._keep)
        outputs = [t for t in wire.tensors(result) if t.requires_grad]
        if not (outputs and message["grad"]):
            return {"value": value}, out
        number = next(self.numbers)
        self.graphs[number] = (outputs, inputs)
        for old in list(self.graphs)[:-KEPT_GRAPHS]:
            del self.graphs[old]
        return {"value": value, "graph": number}, out

    def do_backward(self, message, buffers):
        outputs, inputs = self.graphs[message["graph"]]
        gradients = wire.decode(message["gradients"], buffers, self._find)
        for leaf in inputs:
            leaf.grad = None
        torch.autograd.backward(outputs, gradients, retain_graph=True)
        value, out = wire.encode([leaf.grad for leaf in inputs], self._keep)
        return {"value": value}, out

    def _keep(self, value) -> dict:
        number = next(self.numbers)
        self.objects[number] = value
        return {"handle": number, "what": type(value).__name__}

    def _find(self, message):
        if "given" in message:
            return self.namespace[message["given"]]
        return self.objects[message["handle"]]


def captured(student: Student, message: dict, buffers: list[bytes]) -> tuple[dict, list[bytes], str]:
    """Answer a message in this very process, and return what was printed meanwhile."""
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        reply, out = student.answer(message, buffers)
    return reply, out, said.getvalue()


def _described(error: BaseException) -> dict:
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        text = str(error)
    except BaseException:
        text = ""
    kind = next((kind for kind in kinds if hasattr(builtins, kind)), "Exception")
    return {"name": type(error).__name__, "kind": kind, "text": text[:2000]}


def _trace(error: BaseException) -> str:
    """The lines of the student's own cells that led to an error."""
    try:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__, limit=200) if f.filename.startswith("<cell")
        ]
        return "".join(traceback.format_list(frames[-8:]))[:8000]
    except BaseException:
        return ""
