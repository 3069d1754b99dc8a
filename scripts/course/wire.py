"""Values between the grader and a student's process: JSON and raw arrays, never a pickle.

What is no plain value stays where it is and goes as a handle: a function, a module, any other object.
"""

import json
import math
import os
import struct
import types
from fractions import Fraction

import numpy as np
import torch

GENERATORS = (types.GeneratorType, map, filter, zip, type({}.keys()), type({}.values()), type({}.items()))

LARGEST = 256 << 20  # bytes of a message


class WireError(ValueError):
    """A message that no honest side writes."""


def encode(value, keep) -> tuple[object, list[bytes]]:
    """Turn a value into something for JSON, and the buffers it refers to.

    Args:
        value: the value.
        keep: called with an object that is no plain value; returns the JSON that stands for it.
    """
    buffers: list[bytes] = []

    def put(data: bytes) -> int:
        buffers.append(data)
        return len(buffers) - 1

    def walk(v):
        if v is None or isinstance(v, bool):
            return v
        if isinstance(v, torch.Tensor):
            plain = v.detach().cpu().contiguous().reshape(-1)
            data = plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
            return {
                "tensor": put(data),
                "dtype": str(v.dtype)[6:],
                "shape": list(v.shape),
                "grad": v.requires_grad,
            }
        if isinstance(v, np.ndarray | np.generic) and v.dtype.kind in "biufcU":
            key = "array" if isinstance(v, np.ndarray) else "scalar"
            return {key: put(np.ascontiguousarray(v).tobytes()), "dtype": v.dtype.str, "shape": list(v.shape)}
        if isinstance(v, int | float | str):
            kind = next(kind for kind in (int, float, str) if isinstance(v, kind))
            return kind(v) if kind is not float or math.isfinite(v) else {"float": repr(float(v))}
        if isinstance(v, Fraction):
            return {"fraction": [v.numerator, v.denominator]}
        if isinstance(v, dict):
            return {"dict": [[walk(key), walk(item)] for key, item in v.items()]}
        if isinstance(v, range):
            return {"range": [v.start, v.stop, v.step]}
        if isinstance(v, slice):
            return {"slice": [walk(v.start), walk(v.stop), walk(v.step)]}
        if isinstance(v, set | frozenset):
            return {"set": [walk(item) for item in v]}
        if isinstance(v, tuple):
            return {"tuple": [walk(item) for item in v]}
        if isinstance(v, list) or isinstance(v, GENERATORS):
            return {"list": [walk(item) for item in v]}
        if isinstance(v, torch.dtype):
            return {"torch": str(v)[6:]}
        if isinstance(v, torch.Generator):
            return {"generator": walk(v.get_state())}
        if isinstance(v, np.random.Generator):
            return {"rng": walk(v.bit_generator.state)}
        return keep(v)

    return walk(value), buffers


def decode(message, buffers: list[bytes], find):
    """Undo :func:`encode`; ``find`` turns what ``keep`` had written into an object.

    Raises:
        WireError: the message is not one that :func:`encode` writes.
    """

    def walk(v):
        if not isinstance(v, dict):
            if isinstance(v, list):
                raise WireError("a bare list")
            return v
        key = next(iter(v), None)
        if key not in _READERS:
            return find(v)
        return _READERS[key](v, buffers, walk)

    try:
        return walk(message)
    except (
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RuntimeError,
        RecursionError,
        ZeroDivisionError,
    ) as error:
        raise WireError(f"a message that cannot be read ({type(error).__name__})") from None


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise WireError(f"{name} is no type of number")
    return dtype


def _tensor(v, buffers, walk):
    dtype = _dtype(v["dtype"])
    data = bytearray(buffers[v["tensor"]])
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(v["shape"]).requires_grad_(bool(v["grad"]))


def _array(v, buffers, walk):
    key = "array" if "array" in v else "scalar"
    dtype = np.dtype(v["dtype"])
    if dtype.kind not in "biufcU":
        raise WireError(f"an array of {dtype}")
    array = np.frombuffer(bytearray(buffers[v[key]]), dtype).reshape(v["shape"])
    return array if key == "array" else array[()]


def _generator(v, buffers, walk):
    generator = torch.Generator()
    generator.set_state(walk(v["generator"]))
    return generator


def _rng(v, buffers, walk):
    state = walk(v["rng"])
    rng = np.random.Generator(
        getattr(np.random, {"PCG64": "PCG64", "MT19937": "MT19937"}[state["bit_generator"]])()
    )
    rng.bit_generator.state = state
    return rng


def _each(kind, key):
    return lambda v, buffers, walk: kind(walk(item) for item in v[key])


_READERS = {
    "tensor": _tensor,
    "array": _array,
    "scalar": _array,
    "float": lambda v, b, w: float(v["float"]),
    "fraction": lambda v, b, w: Fraction(*map(int, v["fraction"])),
    "dict": lambda v, b, w: {w(key): w(item) for key, item in v["dict"]},
    "range": lambda v, b, w: range(*v["range"]),
    "slice": lambda v, b, w: slice(*map(w, v["slice"])),
    "set": _each(set, "set"),
    "tuple": _each(tuple, "tuple"),
    "list": _each(list, "list"),
    "torch": lambda v, b, w: _dtype(v["torch"]),
    "generator": _generator,
    "rng": _rng,
}


def tensors(value):
    """Every tensor in a nest of tuples, lists and dictionaries, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)


def with_tensors(value, new):
    """The same nest with its tensors taken, in order, from the iterator ``new``."""
    if isinstance(value, torch.Tensor):
        return next(new)
    if isinstance(value, tuple | list):
        return type(value)(with_tensors(item, new) for item in value)
    if isinstance(value, dict):
        return {key: with_tensors(item, new) for key, item in value.items()}
    return value


def packed(message: dict, buffers: list[bytes]) -> bytes:
    """A message as it goes over a line: two lengths, JSON, buffers."""
    head = json.dumps(message | {"lengths": [len(b) for b in buffers]}).encode()
    return struct.pack("<QQ", len(head), sum(map(len, buffers))) + head + b"".join(buffers)


def send(descriptor: int, message: dict, buffers: list[bytes]) -> None:
    """Write a whole message."""
    data = memoryview(packed(message, buffers))
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int, wait=None) -> tuple[dict, list[bytes]]:
    """Read a whole message.

    Args:
        descriptor: where from.
        wait: called before each read; may raise to give up.

    Raises:
        EOFError: the other side is gone.
        WireError: what came is no message, or too long.
    """

    def exactly(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            if wait:
                wait()
            part = os.read(descriptor, min(1 << 20, count - len(data)))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    head, rest = struct.unpack("<QQ", exactly(16))
    if head + rest > LARGEST:
        raise WireError(f"a message of {head + rest} bytes")
    try:
        message = json.loads(exactly(head))
        lengths = [int(length) for length in message.pop("lengths")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WireError("a message that cannot be read") from None
    data, buffers = exactly(rest), []
    for length in lengths:
        buffers.append(data[:length])
        data = data[length:]
    return message, buffers
