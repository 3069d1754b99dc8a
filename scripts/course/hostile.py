"""Submissions that break, cheat or attack, in one table: what the code does, and what it must come to.

``CODE`` stands in one solution cell; the tests of that cell are lost, all others must keep their points. A function in it
that returns normally returns what it got hold of. ``FILES`` changes a whole notebook.
"""

import nbformat

from . import submission

# Name: (code, what the grader says of it: a part of a message, of the cell or of its test).
CODE = {
    "endless loop": ("while True:\n    pass", "was stopped"),
    "endless loop in C": ("sum(iter(int, 1))", "was stopped"),
    "sleep": ("import time\ntime.sleep(10_000)", "was stopped"),
    "loop when called": ("def {name}(*args):\n    while True:\n        pass", "was stopped"),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "PermissionError"),
    "a program started": ("import subprocess\nsubprocess.run(['ls', '/'])", "PermissionError"),
    "processes of torch": (
        "import torch\ntorch.multiprocessing.spawn(print, nprocs=4)",
        "raised",
    ),
    "20 GB": ("import numpy as np\nx = np.ones(20 << 30, dtype='u1')", "MemoryError"),
    "20 GB of tensors": ("import torch\nx = torch.ones(20 << 30, dtype=torch.uint8)", "raised RuntimeError"),
    "1 GB of output": ("for _ in range(10**6):\n    print('x' * 1000)", "File too large"),
    "1 GB in a file": ("open('/tmp/big', 'wb').write(b'0' * (1 << 30))", "File too large"),
    "many files": (
        "for i in range(10_000):\n    open(f'/tmp/{i}', 'wb').write(b'0' * (1 << 20))",
        "No space left",
    ),
    "os._exit": ("import os\nos._exit(0)", "ended the process"),
    "sys.exit": ("import sys\nsys.exit(0)", "SystemExit"),
    "crash": ("import ctypes\nctypes.string_at(0)", "ended the process"),
    "exit when called": ("import os\ndef {name}(*args):\n    os._exit(0)", "ended the process"),
    "a thread that exits later": (
        "import os, threading\nthreading.Timer(0.3, os._exit, [0]).start()\nimport time\ntime.sleep(5)",
        "ended the process",
    ),
    "kill everybody": ("import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(1, signal.SIGKILL)", ""),
    "checks disarmed": (
        "import builtins, sys, torch, numpy\n"
        "torch.allclose = torch.equal = torch.testing.assert_close = lambda *a, **k: True\n"
        "numpy.allclose = lambda *a, **k: True\nbuiltins.AssertionError = BaseException\nbuiltins.abs = lambda x: 0\n"
        "sys.settrace(lambda *a: None)\nclass Any(float):\n    __eq__ = __le__ = __ge__ = lambda self, other: True\n"
        "def {name}(*args):\n    return Any(77)",
        "",
    ),
    "an object that is everything": (
        "class Any:\n    __eq__ = __le__ = __ge__ = __getattr__ = __call__ = __getitem__ = lambda self, *a, **k: self\n"
        "def {name}(*args):\n    return Any()",
        "",
    ),
    "junk on the line": (
        "import os\nfor fd in range(3, 40):\n    try:\n        os.write(fd, b'\\x10' * 64)\n    except OSError:\n        pass\n"
        "def {name}(*args):\n    return 0",
        "",
    ),
    "a nest without end": ("def {name}(*args):\n    x = []\n    x.append(x)\n    return x", "RecursionError"),
    "an answer of 1 GB": (
        "def {name}(*args):\n    import numpy\n    return numpy.ones(1 << 27)",
        "",
    ),
    "hidden tests sought on disk": (
        "import os, pathlib\nfound = []\nfor root in ('/', {root!r}, os.path.expanduser('~')):\n"
        "    for folder, inside, names in os.walk(root):\n"
        "        inside[:] = [i for i in inside if i not in ('proc', 'sys', 'usr', 'lib', 'share', 'include', 'bin')]\n"
        "        found += [n for n in names if n.endswith('.ipynb') or n == 'gradebook.db' or '01_video_as' in n]\n"
        "found = [n for n in found if 'site-packages' not in n]\n"
        "raise RuntimeError('found ' + str(found[:5]) if found else 'nothing there')",
        "nothing there",
    ),
    "hidden tests sought in memory": (
        "import gc, sys\ntexts = [o for o in gc.get_objects() if isinstance(o, dict)]\n"
        "hits = [k for d in texts for k, v in list(d.items()) if isinstance(v, str) and 'HIDDEN' + ' TESTS' in v]\n"
        "frame, seen = sys._getframe(), []\nwhile frame:\n    seen += [str(v) for v in frame.f_locals.values()]\n    frame = frame.f_back\n"
        "hits += [s for s in seen if 'BEGIN ' + 'HIDDEN' in s]\n"
        "raise RuntimeError('found ' + str(hits)[:200] if hits else 'nothing there')",
        "nothing there",
    ),
    "other processes": (
        "import os\nothers = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "raise RuntimeError('nothing there' if len(others) <= 3 else str(others))",
        "nothing there",
    ),
    "the environment": (
        "import os\nraise RuntimeError('nothing there' if 'COURSE_CANARY' not in os.environ else 'found')",
        "nothing there",
    ),
    "writing outside": (
        "import os\nopened = []\n"
        "for path in ('/x', '/usr/x', '/kit/kit/wire.py', {root!r} + '/sora_nb/x.py', '/etc/x', '/dev/x', '/var/x'):\n"
        "    try:\n        opened.append(open(path, 'w').name)\n    except OSError:\n        pass\n"
        "raise RuntimeError(str(opened) if opened else 'nothing there')",
        "nothing there",
    ),
    "the network": (
        "import socket\nreached = []\nfor host, port in (('127.0.0.1', {port}), ('1.1.1.1', 53), ('localhost', {port})):\n"
        "    try:\n        socket.create_connection((host, port), 2)\n        reached.append(host)\n    except OSError:\n        pass\n"
        "raise RuntimeError(str(reached) if reached else 'nothing there')",
        "nothing there",
    ),
    "becoming root": (
        "import os\ntry:\n    os.setuid(0)\n    who = os.getuid()\nexcept OSError:\n    who = 1\n"
        "raise RuntimeError('nothing there' if who else 'root')",
        "nothing there",
    ),
}


def code(what: str, name: str = "solve", root: str = "/", port: int = 9) -> str:
    """The code of an attack, for a cell that should define ``name``."""
    text = CODE[what][0]
    return text.replace("{name}", name).replace("{root!r}", repr(root)).replace("{port}", str(port))


def _without(notebook, keep):
    notebook.cells = [cell for cell in notebook.cells if keep(submission.grade_id(cell))]
    return notebook


def missing(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """The student has deleted a cell."""
    return _without(notebook, lambda found: found != cell)


def tests_deleted(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """A wrong solution, and all tests deleted."""
    notebook = edited(notebook, cell, "def frame_on_screen(*args):\n    return 0")
    return _without(notebook, lambda found: not found.endswith("-test"))


def tests_edited(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """A wrong solution, and tests that assert nothing."""
    notebook = edited(notebook, cell, "def frame_on_screen(*args):\n    return 0")
    for other in notebook.cells:
        if submission.grade_id(other).endswith("-test"):
            other.source = "assert True"
    return notebook


def renamed(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """The function has another name."""
    source = next(c.source for c in notebook.cells if submission.grade_id(c) == cell)
    return edited(notebook, cell, source.replace("def ", "def my_"))


def doubled(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """Every cell is there twice."""
    notebook.cells = [nbformat.from_dict(c) for c in notebook.cells for _ in range(2)]
    return notebook


def reordered(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """Cells stand in the opposite order."""
    notebook.cells = notebook.cells[::-1]
    return notebook


def other_kernel(notebook: nbformat.NotebookNode, cell: str) -> nbformat.NotebookNode:
    """The notebook asks for R."""
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    return notebook


def edited(notebook: nbformat.NotebookNode, cell: str, source: str) -> nbformat.NotebookNode:
    """One cell has other code."""
    for other in notebook.cells:
        if submission.grade_id(other) == cell:
            other.source = source
    return notebook


# Name: (what is done to a perfect notebook, whether the cell loses its points).
NOTEBOOKS = {
    "a cell missing": (missing, True),
    "tests deleted": (tests_deleted, True),
    "tests edited": (tests_edited, True),
    "function renamed": (renamed, True),
    "cells doubled": (doubled, False),
    "cells reordered": (reordered, False),
    "another kernel": (other_kernel, False),
}
FILES = {
    "not JSON": b"\x00\xff{ this is no notebook",
    "an empty file": b"",
    "JSON of another kind": b'{"cells": 3, "metadata": [], "nbformat": "four"}',
    "JSON without end": b'{"a":' * 100_000,
}
