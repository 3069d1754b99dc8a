"""What a test holds in its hand: functions and objects of a student that live in another process.

A test calls them as if they were here. Arguments and results cross over as plain values; tensors that ask for a
gradient get one, through a node of autograd whose backward pass runs over there.
"""

import builtins

import numpy as np
import torch

from . import student as over_there
from . import wire


class StudentError(Exception):
    """The student's code raised, ended or took too long. Its message is a sentence for the student."""

    trace = ""


class Line:
    """Asks a student's process. ``send(message, buffers)`` returns ``(reply, buffers)``; see :class:`Local`.

    Attributes:
        given: names that the course's own cells defined on both sides; a function among them may be an argument.
        said: what the student's code has printed.
        call: the last call of a function of the student's: its name, arguments, and the result if it returned.
    """

    def __init__(self, send):
        self.send, self.said, self.call = send, "", ()
        self.given: dict[str, object] = {}

    def cell(self) -> None:
        """A new cell begins; make sure that the other side lives."""

    def ask(self, do: str, buffers=(), **message):
        """One question; raises what the student's code raised."""
        reply, out = self.send({"do": do, **message}, list(buffers))
        if "error" in reply:
            raise _raised(reply)
        return reply, out

    def run(self, source: str, name: str) -> None:
        """Execute a cell."""
        self.ask("run", source=source, name=name)

    def fetch(self, name: str):
        """A name's value: plain values as they are, others as a :class:`Handle`, an undefined one as :class:`Missing`."""
        reply, out = self.ask("fetch", name=name)
        value = Missing(name) if "missing" in reply else self.read(reply["value"], out)
        if isinstance(value, Handle):
            value._what = name
        return value

    def read(self, value, buffers):
        """Decode a value of a reply."""
        return wire.decode(
            value, buffers, lambda message: Handle(self, int(message["handle"]), str(message["what"]))
        )

    def write(self, value):
        """Encode an argument."""
        return wire.encode(value, self._name)

    def _name(self, value) -> dict:
        if isinstance(value, Handle):
            return {"handle": value._number}
        for name, known in self.given.items():
            if known is value:
                return {"given": name}
        raise TypeError(
            f"A test cannot pass {type(value).__name__} to a student's function: pass arrays or plain values."
        )


def described(call: tuple) -> str:
    """A :attr:`Line.call` in words; see :func:`kind`."""
    if not call:
        return ""
    name, args, kwargs, *result = call
    given = [kind(v) for v in args] + [f"{key}={kind(v)}" for key, v in kwargs.items()]
    return f"{name}({', '.join(given)})" + "".join(f" returned {kind(v)}" for v in result)


def kind(value, depth: int = 0) -> str:
    """A value in a few words: arrays by type and shape, numbers as they are, nests by their first members."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float | np.generic):
        return str(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= 20 else repr(value[:17] + "...")
    if isinstance(value, Handle):
        return f"your {value._what}"
    if isinstance(value, tuple | list) and depth < 2:
        inside = ", ".join([kind(v, depth + 1) for v in value[:3]] + ["..."] * (len(value) > 3))
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    return f"a {type(value).__name__}" + (
        f" of {len(value)}" if isinstance(value, list | dict | tuple) else ""
    )


class Missing:
    """Stands for a name that the student's cells do not define."""

    def __init__(self, name: str):
        self._name = name

    def _complain(self, *args, **kwargs):
        raise StudentError(
            f"'{self._name}' is not defined: the cell that should define it did not run to its end."
        )

    __call__ = __getattr__ = __getitem__ = __iter__ = __len__ = __float__ = __int__ = __bool__ = __eq__ = (
        _complain
    )


class Handle:
    """A function or another object of the student's."""

    def __init__(self, line: Line, number: int, what: str):
        self._line, self._number, self._what = line, number, what

    def __repr__(self):
        return f"<the student's {self._what}>"

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        reply, out = self._line.ask("attribute", handle=self._number, name=name)
        return self._line.read(reply["value"], out)

    def __call__(self, *args, **kwargs):
        wants = torch.is_grad_enabled()
        self._line.call = (self._what, args, kwargs)
        arguments, buffers = self._line.write((args, kwargs))
        reply, out = self._line.ask("call", buffers, handle=self._number, arguments=arguments, grad=wants)
        result = self._line.read(reply["value"], out)
        self._line.call += (result,)
        if "graph" not in reply:
            return result
        inputs = [t for t in wire.tensors((args, kwargs)) if t.requires_grad]
        outputs = [t for t in wire.tensors(result) if t.requires_grad]
        anchor = torch.zeros(
            (), requires_grad=True
        )  # so that parameters over there get gradients without an input here
        through = _Bridge.apply(
            self._line, reply["graph"], len(outputs), anchor, *(t.detach() for t in outputs), *inputs
        )
        bridged = iter(through)
        return wire.with_tensors(
            result, iter([next(bridged) if t.requires_grad else t for t in wire.tensors(result)])
        )


class _Bridge(torch.autograd.Function):
    """The node of autograd whose backward pass runs in the student's process."""

    @staticmethod
    def forward(ctx, line, graph, count, anchor, *tensors):
        ctx.line, ctx.graph, ctx.count, ctx.inputs = line, graph, count, tensors[count:]
        return tuple(t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx, *gradients):
        message, buffers = ctx.line.write(list(gradients))
        reply, out = ctx.line.ask("backward", buffers, graph=ctx.graph, gradients=message)
        back = ctx.line.read(reply["value"], out)
        if not isinstance(back, list) or len(back) != len(ctx.inputs):
            raise StudentError("the gradient did not come back")
        return (None, None, None, None, *[None] * ctx.count, *back)


class Local(Line):
    """A student in this very process, for the proof: messages are encoded and decoded all the same."""

    def __init__(self, namespace: dict | None = None):
        self.student = over_there.Student(namespace)
        super().__init__(self._send)

    def _send(self, message, buffers):
        reply, out, said = over_there.captured(self.student, message, buffers)
        self.said += said
        return reply, out


def _raised(reply: dict) -> StudentError:
    """An exception of ours that is also of the kind that the student's code raised."""
    error = reply["error"]
    kind = getattr(builtins, str(error["kind"]), Exception)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = Exception  # SystemExit and its like must not end the grader
    made = StudentError
    if kind is not Exception and kind is not StudentError:
        try:
            made = type("StudentError", (StudentError, kind), {"__str__": lambda self: self.args[0]})
        except TypeError:  # a kind that cannot be mixed in
            made = StudentError
    raised = made(f"your code raised {error['name']}: {error['text']}")
    raised.trace = str(reply.get("trace", ""))
    return raised
