"""The process that a student's code runs in: lowers its own limits, then answers messages until its line is cut.

Started inside the sandbox as ``python -m kit.worker``, with this folder's ``wire``, ``student`` and ``worker`` as the package
``kit``; the limits come as JSON in the first argument.
"""

import builtins
import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import struct
import sys
import tempfile
import types

SHOWN = 20_000  # bytes of a cell's output that are kept


def limit(limits: dict) -> None:
    """Give up what a student's code must not have: memory, processor seconds, files, processes, and being root."""
    for name in ("AS", "CPU", "FSIZE", "NOFILE", "CORE", "NPROC"):
        if name in limits:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limits[name], limits[name]))
    if limits.get("uid") is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(*[limits["uid"]] * 3)
        os.setresuid(*[limits["uid"]] * 3)


# By machine: audit architecture, system calls that start a process or a program, clone (which also starts threads).
CALLS = {
    "x86_64": (0xC000003E, (57, 58, 59, 322), 56),
    "aarch64": (0xC00000B7, (221, 281), 220),
}
CLONE3, CLONE_THREAD = 435, 0x10000


def forbid_processes() -> bool:
    """Make starting a process or a program an error from here on, with a seccomp filter; threads may still start.

    A limit on the number of processes would let each of them have the memory of one. False where the machine is not known.
    """
    if platform.machine() not in CALLS or sys.platform != "linux":
        return False
    architecture, denied, clone = CALLS[platform.machine()]
    load, equal, at_least, has, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # the other numbering of the same calls
    program += [
        (equal, 0, 1, CLONE3),
        (give, 0, 0, unknown),
    ]  # then the C library takes clone, whose flags can be read
    for call in denied:
        program += [(equal, 0, 1, call), (give, 0, 0, refuse)]
    program += [(equal, 1, 0, clone), (give, 0, 0, allow), (load, 0, 0, 16)]
    program += [(has, 0, 1, CLONE_THREAD), (give, 0, 0, allow), (give, 0, 0, refuse)]
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    held = ctypes.create_string_buffer(code, len(code))
    handle = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, handle, 0, 0) == 0


def redirect() -> tuple[int, int, int]:
    """Keep the line to the grader on private descriptors; what is printed goes to a file without a name."""
    line_in, line_out = os.dup(0), os.dup(1)
    said = tempfile.TemporaryFile()
    fcntl.fcntl(said.fileno(), fcntl.F_SETFL, os.O_APPEND | fcntl.fcntl(said.fileno(), fcntl.F_GETFL))
    keep, null = os.dup(said.fileno()), os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (keep, 1), (keep, 2)):
        os.dup2(source, target)
    return line_in, line_out, keep


def printed(keep: int) -> str:
    """What has been printed since the last time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # too much of it, or a stream that the student has closed
            pass
    try:
        text = os.pread(keep, SHOWN, 0).decode("utf-8", "replace")
        os.ftruncate(keep, 0)
    except OSError:
        text = ""
    return text


def main() -> None:
    """Answer until the grader closes the line."""
    limits = json.loads(sys.argv[1])
    limit(limits)
    forbid_processes()
    from . import wire  # as nobody, and with the grader listening to complaints
    from .student import Student

    line_in, line_out, keep = redirect()
    program = types.ModuleType("__main__")  # the student's code is the program here
    program.__builtins__ = builtins
    student, sys.modules["__main__"] = Student(program.__dict__), program
    wire.send(line_out, {"ready": True}, [])
    while True:
        message, buffers = wire.receive(line_in)
        reply, out = student.answer(message, buffers)
        reply["said"] = printed(keep)
        wire.send(line_out, reply, out)


if __name__ == "__main__":
    main()
