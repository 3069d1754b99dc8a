"""Break the package one line at a time and require red: proof that the tests can fail.

    python scripts/mutate.py --quick                # the named breaks of tests/mutations.yml, each against its named test
    python scripts/mutate.py --budget 120 --seed 0  # a sample of generated breaks, each against the tests of its module
    python scripts/mutate.py --only layers/attention.py --budget 1000   # --only works with both

Everything happens in a temporary copy. Each break runs in a fork of one process that has imported the libraries already,
so it costs the tests' own time and no more (Linux and macOS).
"""

import argparse
import ast
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from breaks import Break, breaks

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")
sys.dont_write_bytecode = True  # a file changed twice in a second must not be read from its old bytecode

ROOT = Path(__file__).resolve().parent.parent
LISTED = ROOT / "tests" / "mutations.yml"
# Tests of modules that no test imports by name.
ALSO = {
    "sora_nb/layers/door.py": ["tests/test_models.py"],
    "sora_nb/video/picture.py": ["tests/test_video.py", "tests/test_video_use.py"],
}


def sample(found: list[Break], budget: int, seed: int) -> list[Break]:
    """The same ``budget`` breaks for the same seed, whatever else changes: ordered by a hash of each, first come."""

    def order(b: Break) -> str:
        return hashlib.sha256(f"{seed}{b.file}{b.old}{b.new}{b.line}".encode()).hexdigest()

    return sorted(sorted(found, key=order)[:budget], key=lambda b: (b.file, b.line))


def listed(only: str = "") -> list[tuple[Break, list[str]]]:
    """The named breaks of tests/mutations.yml, of files with ``only`` in their path, and their tests.

    Raises:
        SystemExit: an entry's old text is not in its file exactly once.
    """
    import yaml

    found = []
    for entry in yaml.safe_load(LISTED.read_text()) or []:
        if only not in entry["file"]:
            continue
        text = (ROOT / entry["file"]).read_text()
        if text.count(entry["old"]) != 1:
            raise SystemExit(
                f"tests/mutations.yml: {entry['old']!r} occurs {text.count(entry['old'])} times in {entry['file']}; it must "
                "occur once. Write it again as the line stands now."
            )
        old, new, tests = entry["old"], entry["new"], entry["test"]
        line = text[: text.index(old)].count("\n") + 1
        broken = Break(entry["file"], line, old, new, text.replace(old, new))
        found.append((broken, [tests] if isinstance(tests, str) else tests))
    return found


# ------------------------------------------------------------------------------------------------- running tests


def related(file: str) -> list[str]:
    """Test files that import a module, by its own name or through a package that hands its names on."""
    *parts, stem = Path(file.removesuffix("/__init__.py")).with_suffix("").parts
    package, names = ".".join(parts), public(ROOT / file)
    close, far = [], []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for source, name in imports(path):
            if f"{package}.{stem}" in (source, f"{source}.{name}"):
                close.append(path)
            elif (source == package and name in names) or f"{source}.{name}" == package:
                far.append(path)
    also = [ROOT / name for name in ALSO.get(file, [])]
    own = [path for path in close if path.stem.endswith(stem)]
    # A module without tests that bear its name may be tested through the package that hands its names on.
    chosen = close if own else close + (also or far)
    # A module's own tests first: they are quickest to go red.
    return [str(path.relative_to(ROOT)) for path in dict.fromkeys(own + chosen)]


def imports(path: Path) -> list[tuple[str, str]]:
    """What a file imports, as (module, name); the name is empty in ``import module``."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = [(alias.name, "") for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return whole + [
        (node.module or "", alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def public(path: Path) -> set[str]:
    """Names that a file defines at its top level."""
    body = ast.parse(path.read_text()).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {node.name for node in body if hasattr(node, "name")} | {
        t.id for t in targets if isinstance(t, ast.Name)
    }


def copy_tree(target: Path) -> Path:
    """Copy what tests need, without generated data and bytecode."""
    ignore = shutil.ignore_patterns("__pycache__", "cache", "_build", "*.ipynb")
    for name in ("sora_nb", "tests", "scripts", "data", "book", "notebooks"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, target / name)
    return target


def preload() -> None:
    """Import the libraries once. None of them may start a thread here, for the forks would lack it."""
    import importlib

    names = "pytest hypothesis numpy scipy.stats torch torchvision.transforms.v2 sklearn.neighbors sklearn.linear_model "
    names += "sklearn.datasets skimage.data av decord einops jaxtyping safetensors.torch matplotlib.pyplot tqdm IPython.display"
    for name in names.split():
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    import torch

    torch.set_num_threads(1)


def run_tests(tree: Path, tests: list[str], timeout: float) -> str:
    """Run tests of a copy in a forked child: "green", "red", or "slow" when they took longer than ``timeout`` seconds."""
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 70
        try:
            code = in_child(tree, tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "green" if os.waitstatus_to_exitcode(status) == 0 else "red"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "slow"


def in_child(tree: Path, tests: list[str]) -> int:
    """Make the copy the one that is imported, hush the output, and run pytest."""
    with open(tree / "last.log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(tree)
    rest = [p for p in sys.path if Path(p or ".").resolve() not in (ROOT, ROOT / "scripts")]
    sys.path[:] = [str(tree), *rest]
    os.environ["PYTHONPATH"] = str(tree)
    # No test needs a plugin here, and loading them takes longer than it.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest

    import sora_nb

    if Path(sora_nb.__file__).resolve().parent != (tree / "sora_nb").resolve():
        return 71
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", "--tb=line"]
    return int(pytest.main([*tests, *options]))


def try_break(tree: Path, broken: Break, tests: list[str], timeout: float) -> str:
    """Break the copy, run, mend the copy."""
    target = tree / broken.file
    original = target.read_text()
    target.write_text(broken.text)
    try:
        return run_tests(tree, tests, timeout)
    finally:
        target.write_text(original)


# ------------------------------------------------------------------------------------------------------ commands


def require_green(tree: Path, tests: list[str]) -> float:
    """Seconds that the unbroken tests take; without green there is nothing to prove."""
    began = time.monotonic()
    if run_tests(tree, tests, 900) != "green":
        raise SystemExit(f"The unbroken tests are not green:\n{(tree / 'last.log').read_text()[-3000:]}")
    return time.monotonic() - began


def quick(assume_green: bool, only: str = "", jobs: int = 2) -> int:
    """Run the named breaks; return how many survived. ``assume_green`` trusts that the same tests run elsewhere."""
    todo = listed(only)
    with tempfile.TemporaryDirectory() as folder, workers(jobs) as pool:
        trees = [copy_tree(Path(folder).resolve() / str(number)) for number in range(jobs)]
        if todo and not assume_green:
            require_green(trees[0], sorted({test for _, tests in todo for test in tests}))
        work = [pool.submit(some, tree, todo[number::jobs]) for number, tree in enumerate(trees)]
        return report([pair for future in work for pair in future.result()])


def some(tree: Path, todo: list[tuple[Break, list[str]]]) -> list[tuple[Break, str]]:
    """Try breaks one after the other in one copy, and say which took long."""
    results = []
    for broken, tests in todo:
        began = time.monotonic()
        results.append((broken, try_break(tree, broken, tests, 120)))
        if (seconds := time.monotonic() - began) > 10:
            print(f"{seconds:.0f} s for {broken} ({' '.join(tests)})", flush=True)
    return results


def workers(jobs: int) -> ProcessPoolExecutor:
    """Forks that may start processes of their own, as a Pool's daemons may not and the tests of loaders do."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork"))


def sampled(budget: int, seed: int, only: str, jobs: int) -> tuple[int, int]:
    """Run a sample of generated breaks; return how many were tried and how many survived."""
    files = [
        p
        for p in sorted((ROOT / "sora_nb").rglob("*.py"))
        if only in str(p) and related(str(p.relative_to(ROOT)))
    ]
    chosen = sample([b for path in files for b in breaks(path, ROOT)], budget, seed)
    groups = {file: [b for b in chosen if b.file == file] for file in dict.fromkeys(b.file for b in chosen)}
    print(f"{len(chosen)} breaks in {len(groups)} files, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, workers(jobs) as pool:
        work = [pool.submit(one_file, Path(folder).resolve(), *item) for item in groups.items()]
        results = [future.result() for future in work]
    done = [pair for group in results for pair in group]
    return len(done), report(done)


def one_file(folder: Path, file: str, found: list[Break]) -> list[tuple[Break, str]]:
    """Try the breaks of one file in a copy of its own."""
    tree, tests = copy_tree(folder / file.replace("/", "_")), related(file)
    seconds = require_green(tree, tests)
    results = [(b, try_break(tree, b, tests, 20 + 3 * seconds)) for b in found]
    alive = [b for b, result in results if result == "green"]
    print(f"{file}: {len(found) - len(alive)} of {len(found)} killed ({' '.join(tests)})", flush=True)
    shutil.rmtree(tree)
    return results


def report(results: list[tuple[Break, str]]) -> int:
    """Print survivors and the kill rate; return how many survived."""
    alive = [broken for broken, result in results if result == "green"]
    for broken in alive:
        print(f"SURVIVED {broken}")
    counts = Counter(result for _, result in results)
    killed = len(results) - len(alive)
    rate = f"{100 * killed / len(results):.1f} %" if results else "nothing to break"
    print(f"killed {killed} of {len(results)} ({rate}); {counts['slow']} of them by the time limit")
    return len(alive)


def main() -> int:
    """Read the command line; 1 if a named break survived or a sampled kill rate is under the wanted one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the named breaks of tests/mutations.yml")
    parser.add_argument(
        "--assume-green", action="store_true", help="with --quick: do not run the unbroken tests first"
    )
    parser.add_argument("--budget", type=int, default=120, help="how many generated breaks to try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a path, such as layers/ or video.py")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--at-least", type=float, default=90.0, help="kill rate in percent below which to fail"
    )
    args = parser.parse_args()
    if not hasattr(os, "fork"):
        raise SystemExit(
            "scripts/mutate.py forks, which this system cannot; run it under Linux, macOS or WSL."
        )
    preload()
    if args.quick:
        return min(1, quick(args.assume_green, args.only, args.jobs))
    tried, survivors = sampled(args.budget, args.seed, args.only, args.jobs)
    return int(100 * (tried - survivors) < args.at_least * tried)


if __name__ == "__main__":
    sys.exit(main())
