"""The box that a student's process runs in, and the line that the grader has to it.

With bubblewrap the process sees no network, no home, no other submission, no gradebook and none of this repository but
the package: its file system is put together from what Python needs, read-only, and a small ``/tmp``. Without it only
resource limits hold, and :func:`warn` says so.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import proxies, wire
from .sources import ROOT

KIT = Path(__file__).resolve().parent
NOBODY = 61_000  # whom a student's code runs as where the grader is root
GIB = 1 << 30

WARNING = """
*********************************************************************************************************************
* NO SANDBOX. {reason}
* Students' code runs with YOUR rights: it can read the hidden tests, other submissions and your files, and write them.
* Only memory, processor seconds and output are limited. Grade here only what you would run yourself.
*********************************************************************************************************************
"""


@dataclass(frozen=True)
class Limits:
    """What one student may use.

    Attributes:
        cell_seconds: processor seconds of one cell, or one test.
        idle_seconds: how long it may do nothing.
        notebook_seconds: how long a whole notebook may keep the grader waiting.
        memory: bytes of address space (torch maps about 4 GiB before it does anything).
        processor_seconds: of one process.
        file_bytes: of one file, the output included.
        processes: threads, which count as processes.
        restarts: how often a process that died is started again.
    """

    cell_seconds: float = 20
    idle_seconds: float = 15
    notebook_seconds: float = 1200
    memory: int = 8 * GIB
    processor_seconds: int = 240
    file_bytes: int = 32 << 20
    processes: int = 64
    restarts: int = 10

    def message(self) -> str:
        """For the worker's first argument."""
        limits = {"AS": self.memory, "CPU": self.processor_seconds, "FSIZE": self.file_bytes, "NOFILE": 256}
        # Without a box nobody could not even read Python where that lies in a home.
        uid = NOBODY if kind()[0] == "bubblewrap" else None
        return json.dumps(limits | {"CORE": 0, "NPROC": self.processes, "uid": uid})


def bubblewrap(tool: str) -> list[str]:
    """The command line of the box, up to the command in it."""
    root = os.geteuid() == 0
    box = [tool, "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid", "--unshare-net"]
    box += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "box", "--clearenv"]
    # Root keeps the right to become nobody, which the worker does first; anybody else gets a user namespace.
    box += (
        ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if root
        else ["--unshare-user"]
    )
    for folder in ("/usr", "/lib", "/lib64", "/bin", "/sbin"):
        if os.path.islink(folder):
            box += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            box += ["--ro-bind", folder, folder]
    box += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):
        box += ["--perms", "1777", "--size", str(256 << 20), "--tmpfs", folder]
    binds = {path: path for path in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")}
    binds |= {path: os.path.realpath(path) for path in _needed()}
    binds |= {f"/kit/kit/{m}.py": str(KIT / f"{m}.py") for m in ("__init__", "wire", "student", "worker")}
    parents = {str(folder) for path in binds for folder in Path(path).parents} - {"/", "/tmp"}
    for folder in sorted(parents - set(binds)):
        box += ["--perms", "0755", "--dir", folder]  # made by itself, it would be closed to all but root
    for path, source in binds.items():
        box += ["--ro-bind-try" if path.startswith("/etc") else "--ro-bind", source, path]
    box += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in (_environment() | {"HOME": "/tmp", "PYTHONPATH": f"/kit:{ROOT}"}).items():
        box += ["--setenv", name, value]
    return box


def _needed() -> list[str]:
    """Folders that Python and the package lie in, outside of /usr; the venv under each name that it goes by."""
    executable = Path(sys.executable)
    wanted = [sys.base_prefix, sys.prefix, str(executable.parent.parent)]
    data = [str(ROOT / "sora_nb"), *(str(p) for p in [ROOT / "data"] if p.is_dir())]
    if cache_folder := os.environ.get("SORA_NB_CACHE"):
        data += [cache_folder] if os.path.isdir(cache_folder) else []
    if sys.pycache_prefix:  # without compiled modules a start takes twice as long
        data += [path for folder in wanted if os.path.isdir(path := f"{sys.pycache_prefix}{folder}")]
    return [path for path in wanted if not path.startswith("/usr")] + data


def _environment() -> dict[str, str]:
    kept = {k: os.environ[k] for k in ("SORA_NB_CACHE", "LANG", "PYTHONPYCACHEPREFIX") if k in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "agg"}
    return (
        kept
        | threads
        | {"PATH": "/usr/bin:/bin", "USER": "student", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    )


@cache
def kind() -> tuple[str, str]:
    """Which box there is, ``bubblewrap`` or ``limits``, and if only limits, why."""
    tool = shutil.which("bwrap")
    if not tool:
        return "limits", "bubblewrap is not installed (Debian: apt-get install bubblewrap)."
    tried = subprocess.run(
        [*bubblewrap(tool), "/bin/true"], capture_output=True, text=True, check=False, timeout=60
    )
    if tried.returncode:
        return "limits", f"bubblewrap does not work here: {tried.stderr.strip()[:200]}"
    return "bubblewrap", ""


def warn() -> None:
    """Say loudly where nothing but limits protects the grader."""
    if kind()[0] == "limits":
        print(WARNING.format(reason=kind()[1]), file=sys.stderr)


def command(limits: Limits) -> tuple[list[str], dict | None]:
    """What starts a student's process, and its environment."""
    run = [sys.executable, "-m", "kit.worker", limits.message()]
    if kind()[0] == "bubblewrap":
        return [*bubblewrap(shutil.which("bwrap")), *run], {}
    run[2] = "scripts.course.worker"
    return run, os.environ | _environment() | {"PYTHONPATH": str(ROOT)}


class TooLong(proxies.StudentError):
    """The student's code was stopped."""


class Boxed(proxies.Line):
    """A student in a box of its own. A dead process is started again, without the cell that it died of."""

    def __init__(self, limits: Limits):
        super().__init__(self._exchange)
        self.limits, self.restarts = limits, 0
        self.left, self.until, self.idle, self.began = limits.notebook_seconds, 0.0, 0.0, None
        # Processor seconds: of this process when last looked at, of those before it.
        self.seen, self.spent = 0.0, 0.0
        self.history: list[tuple[str, str]] = []
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def cell(self) -> None:
        """A new cell begins, with all its seconds; a process that has died is started again, in vain only so often."""
        if not self.process and self.restarts <= self.limits.restarts:
            self._start()
        self._fresh()

    def _fresh(self) -> None:
        self.idle = 0.0
        self.began = worked(self.process.pid) if self.process else None

    def run(self, source: str, name: str) -> None:
        """Execute a cell, and remember it if it ends."""
        super().run(source, name)
        self.history.append((source, name))

    def close(self) -> None:
        """End the process and all that it has started."""
        if self.process:
            self.spent += max(self.seen, worked(self.process.pid))
            self.process.kill()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def _start(self) -> None:
        """Start the process, and run again what ended well."""
        line, environment = command(self.limits)
        self.process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/tmp" if environment else None,
        )
        self.until, self.began, self.seen = time.monotonic() + 120, None, 0.0
        try:
            wire.receive(self.process.stdout.fileno(), self._wait)
        except (EOFError, TooLong, wire.WireError):
            self.process.kill()
            said = self.process.communicate()[1].decode("utf-8", "replace")
            self.process = None
            raise RuntimeError(f"The student's process did not start: {said[-500:]}") from None
        self.restarts += 1
        before, self.history = self.history, []
        for source, name in before:
            self._fresh()
            with contextlib.suppress(proxies.StudentError):
                self.run(source, name)

    def _exchange(self, message, buffers):
        """Send a message and wait for its answer, within the cell's and the notebook's time."""
        if self.left <= 0:
            raise TooLong(f"the notebook took more than {self.limits.notebook_seconds:g} s")
        if not self.process:
            raise TooLong("your code ended the process or was stopped in this cell")
        began = time.monotonic()
        self.until = began + self.left
        try:
            self._put(wire.packed(message, buffers))
            reply, out = wire.receive(self.process.stdout.fileno(), self._wait)
        except (EOFError, BrokenPipeError):
            self.close()
            raise TooLong(
                "your code ended the process (exit, a crash, or more memory or time than there is)"
            ) from None
        except wire.WireError as error:
            self.close()
            raise TooLong(f"your code sent back {error}") from None
        except BaseException:  # an answer that comes late must not be taken for the next one's
            self.close()
            raise
        finally:
            self.left -= time.monotonic() - began
        self.said = (self.said + str(reply.pop("said", "")))[:20_000]
        return reply, out

    def _put(self, data: bytes) -> None:
        os.set_blocking(self.process.stdin.fileno(), False)
        view = memoryview(data)
        while view:
            self._wait(writing=True)
            try:
                view = view[os.write(self.process.stdin.fileno(), view) :]
            except BlockingIOError:
                continue

    def _wait(self, writing: bool = False) -> None:
        """Until there is something to read or room to write; a busy machine costs the student nothing."""
        ends = [self.process.stdin.fileno()] if writing else [self.process.stdout.fileno()]
        while time.monotonic() < self.until:
            ready = select.select([], ends, [], 0.5) if writing else select.select(ends, [], [], 0.5)
            if any(ready):
                return
            now = worked(self.process.pid)  # some files to read: not for an answer that is there at once
            self.idle += 0.0 if now > self.seen or waiting(self.process.pid) else 0.5
            self.seen = now
            if self.began is None:
                continue
            if now - self.began > self.limits.cell_seconds:
                raise TooLong(
                    f"your code was stopped after {self.limits.cell_seconds:g} s of work in one cell"
                )
            if self.idle > self.limits.idle_seconds:
                raise TooLong(f"your code was stopped: it did nothing for {self.limits.idle_seconds:g} s")
        raise TooLong(
            f"your code was stopped: the notebook took more than {self.limits.notebook_seconds:g} s"
        )


def family(pid: int) -> list[list[str]]:
    """The fields of ``/proc/PID/stat`` behind the name, of a process and its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [fields, *(line for child in children for line in family(int(child)))]


def worked(pid: int) -> float:
    """Processor seconds of a process and its children."""
    return sum(int(fields[11]) + int(fields[12]) for fields in family(pid)) / os.sysconf("SC_CLK_TCK")


def waiting(pid: int) -> bool:
    """Does one of them wait for a processor or for a disk? Taken for true where that cannot be read."""
    found = family(pid)
    return not found or any(fields[0] in "RD" for fields in found)
