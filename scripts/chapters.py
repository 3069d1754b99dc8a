"""Keep chapters and their executed pairs in step: sync, execute, refresh, check.

    python scripts/chapters.py sync                       # write each .ipynb from its .py, keeping outputs
    python scripts/chapters.py execute --out build/chapters   # run every stale chapter into an ignored folder
    python scripts/chapters.py refresh 02 03              # run chapters into their committed pairs
    python scripts/chapters.py check                      # say what is out of step; exit 1 if anything is

The source of a chapter is ``notebooks/NN_slug.py`` (Jupytext percent format); ``NN_slug.ipynb`` is made from it.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Kernels inherit these. Two processes of two spinning threads each are five times slower on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from sora_nb.files import atomic

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
TIMES = ROOT / "book" / "results" / "chapter_times.json"
OUTPUT_BUDGET = 3_000_000  # bytes of stored outputs a notebook
CELL_TIMEOUT = 1800  # seconds by the clock on the wall: on a busy machine a cell waits for its neighbours
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
FOLDED = {
    "hide-input",
    "hide-cell",
}  # tags: the book folds these cells, and JupyterLab does by `source_hidden`
# What JupyterLab writes when it saves a pair; any other would change with the first save there.
FRONT = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---
"""
# The last thing that a kernel runs: processor seconds of itself and of the programs it started. Wall seconds would measure
# whatever else the machine does.
CLOCK = "import os; print(sum(os.times()[:4]))"
PROGRESS = re.compile(r"\d+%\|.*\|.*\[.*\]|\d+it \[")


def sources(wanted: list[str] = ()) -> list[Path]:
    """Chapter sources in reading order; ``wanted`` holds numbers ("03") or stems, and an unknown one is an error."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    for name in wanted:
        if not any(path.stem == name or path.stem.startswith(f"{name}_") for path in found):
            raise SystemExit(
                f"No chapter {name!r} in {NOTEBOOKS.name}/; it holds: {[path.stem for path in found]}."
            )
    return [p for p in found if not wanted or p.stem in wanted or p.stem.split("_")[0] in wanted]


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read a percent script; cells get ids made of their place and text, so that a refresh changes nothing else.

    What the book folds, JupyterLab folds too: the sources say it once, by a tag.
    """
    notebook = jupytext.read(path, fmt="py:percent", config=None)
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["kernelspec"] = jupytext.reads(FRONT, fmt="py:percent").metadata.kernelspec
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells):
        cell.id = f"{place:03d}-{hashlib.sha256(cell.source.encode()).hexdigest()[:8]}"
        if FOLDED & set(cell.metadata.get("tags", ())):
            cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
    return notebook


def lay_front(path: Path) -> None:
    """Give a source the front matter of every source, instead of its own if it has one."""
    text = path.read_text()
    own = re.match(r"# ---\n(?:#.*\n)*?# ---\n", text)
    laid = FRONT + (text[own.end() :] if own else f"\n{text}")
    if laid != text:
        path.write_text(laid)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write atomically: a killed run leaves the old file, never half a new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        nbformat.write(notebook, temporary)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run without meaning anything: progress bars, widget ids, addresses, folders."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [tidy(output) for output in cell.outputs if not is_progress(output)]
    return notebook


def is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a live progress bar, which a stored page can only show frozen."""
    if output.output_type == "stream":
        text = output.text.replace("\r", "\n").split("\n")
        return output.name == "stderr" and all(
            PROGRESS.search(line) or not line.strip("\x1b[A ") for line in text
        )
    return WIDGET in output.get("data", {})


def tidy(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Replace memory addresses and this checkout's folder in the text of an output."""

    def text(value: str) -> str:
        return re.sub(r" at 0x[0-9a-f]{6,}", " at 0x…", value).replace(f"{ROOT}/", "")

    if output.output_type == "stream":
        output.text = text(output.text)
    elif "text/plain" in output.get("data", {}):
        output.data["text/plain"] = text(output.data["text/plain"])
    return output


def fingerprint(path: Path) -> str:
    """Hash of all that a chapter's outputs depend on: its text, the package, the lock, the data, its receipts, the tier."""
    text = path.read_text()
    files = [*(ROOT / "sora_nb").rglob("*.py"), ROOT / "requirements.lock"]
    files += [
        p for p in (ROOT / "data").rglob("*") if p.is_file() and p.suffix != ".md" and "cache" not in p.parts
    ]
    files += [TIMES.with_name(f"{name}.json") for name in re.findall(r"read_receipt\(\s*[\"']([\w-]+)", text)]
    digest = hashlib.sha256(f"{text}{os.environ.get('SORA_NB_TIER', 'T0')}{sys.version}".encode())
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes() if file.exists() else b"missing")
    return digest.hexdigest()


def execute(path: Path) -> tuple[nbformat.NotebookNode, float]:
    """Run one chapter from its source in a fresh kernel; return the executed notebook and the processor seconds it took.

    Raises:
        ChapterFailed: a cell raised, ran out of time, or took the kernel with it.
    """
    notebook = read_source(path)
    notebook.cells.append(nbformat.v4.new_code_cell(CLOCK))
    place = {"cell": -1}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        startup_timeout=180,
        kernel_name="python3",
        extra_arguments=[
            "--log-level=40"
        ],  # else each kernel warns that it talks to this machine unencrypted
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        on_cell_start=lambda cell, cell_index: place.update(cell=cell_index),
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as error:
        notebook.cells.pop()
        raise ChapterFailed(path, notebook, place["cell"], error) from None
    return notebook, float(notebook.cells.pop().outputs[0].text)


class ChapterFailed(Exception):
    """A cell failed. The text names the chapter and the cell, and shows its source and its traceback."""

    def __init__(self, path: Path, notebook: nbformat.NotebookNode, index: int, error: Exception):
        cell = notebook.cells[max(0, index)]
        traces = [o.traceback for o in cell.get("outputs", []) if o.output_type == "error"]
        trace = ANSI.sub("", "\n".join(traces[0])) if traces else f"{type(error).__name__}: {error}"
        number = sum(c.cell_type == "code" for c in notebook.cells[: index + 1])
        self.notebook = notebook
        where = f"code cell {number} failed" if index >= 0 else "the kernel did not start"
        super().__init__(f"{path.name}: {where}.\n\n{cell.source}\n\n{trace}")


def stale(path: Path, out: Path) -> bool:
    """Whether ``out`` lacks this chapter, or holds it run from other sources."""
    target = out / f"{path.stem}.ipynb"
    if not target.exists():
        return True
    return json.loads(target.read_text())["metadata"].get("sora_nb", {}).get("fingerprint") != fingerprint(
        path
    )


def run_all(paths: list[Path], save, jobs: int) -> int:
    """Execute chapters, ``jobs`` at a time; ``save(path, notebook, seconds)`` each that passes; return how many failed."""

    def one(path: Path) -> bool:
        print(f"{path.stem}: running", flush=True)
        try:
            notebook, seconds = execute(path)
        except ChapterFailed as failure:
            failed = ROOT / "build" / "failed" / f"{path.stem}.ipynb"
            write(failure.notebook, failed)
            print(
                f"\n{failure}\n\nThe run so far is in {failed.relative_to(ROOT)}.\n",
                file=sys.stderr,
                flush=True,
            )
            return False
        save(path, clean(notebook), seconds)
        print(f"{path.stem}: done in {seconds:.1f} processor seconds", flush=True)
        return True

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(one, paths)).count(False)


def command_execute(out: Path, jobs: int, wanted: list[str]) -> int:
    """Run stale chapters into ``out``; those that pass are kept even when another fails."""
    todo = {path: fingerprint(path) for path in sources(wanted) if stale(path, out)}

    def save(path: Path, notebook: nbformat.NotebookNode, seconds: float) -> None:
        notebook.metadata["sora_nb"] = {"fingerprint": todo[path], "seconds": round(seconds, 1)}
        write(notebook, out / f"{path.stem}.ipynb")

    known = {path.stem for path in sources()}
    for old in out.glob("[0-9][0-9]_*.ipynb"):
        if old.stem not in known:
            old.unlink()
    print(f"{len(sources(wanted)) - len(todo)} chapters up to date, {len(todo)} to run", flush=True)
    return run_all(list(todo), save, jobs)


def command_refresh(wanted: list[str]) -> int:
    """Run chapters one at a time into their committed pairs; record the processor seconds each takes."""

    def save(path: Path, notebook: nbformat.NotebookNode, seconds: float) -> None:
        write(notebook, path.with_suffix(".ipynb"))
        times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        tier = os.environ.get("SORA_NB_TIER", "T0")
        times[path.stem] = {"processor_seconds": round(seconds, 1), "tier": tier}
        times = {name: times[name] for name in sorted(times) if (NOTEBOOKS / f"{name}.py").exists()}
        TIMES.parent.mkdir(parents=True, exist_ok=True)
        TIMES.write_text(json.dumps(times, indent=1) + "\n")

    for path in sources(wanted):
        lay_front(path)
    return run_all(sources(wanted), save, jobs=1)


def command_sync() -> int:
    """Write each pair's .ipynb from its .py; outputs stay with the cells whose source did not change."""
    for path in sources():
        lay_front(path)
        notebook, target = read_source(path), path.with_suffix(".ipynb")
        if target.exists():
            ids = [cell.id for cell in notebook.cells]
            notebook = combine_inputs_with_outputs(
                notebook, nbformat.read(target, as_version=4), fmt="py:percent"
            )
            for cell, name in zip(notebook.cells, ids):
                cell.id = name
            notebook = clean(notebook)
        write(notebook, target)
        print(f"{target.name}: written")
    return 0


def problems(
    source: nbformat.NotebookNode, pair: nbformat.NotebookNode, budget: int = OUTPUT_BUDGET
) -> list[str]:
    """What is wrong with an executed pair: cells out of step, unexecuted, failed, or outputs too large."""
    found = []
    ours, theirs = ([(c.cell_type, c.source, meta(c)) for c in nb.cells] for nb in (source, pair))
    if len(ours) != len(theirs):
        found.append(f"the .py has {len(ours)} cells and the .ipynb {len(theirs)}")
    for place, (a, b) in enumerate(zip(ours, theirs), 1):
        if a != b:
            found.append(f"cell {place} differs between .py and .ipynb: {a[1][:60]!r} against {b[1][:60]!r}")
            break
    for place, cell in enumerate((c for c in pair.cells if c.cell_type == "code"), 1):
        if cell.execution_count is None and cell.source.strip():
            found.append(f"code cell {place} was never executed: {cell.source[:60]!r}")
        elif cell.execution_count is not None and cell.execution_count != place:
            found.append(f"code cell {place} was executed out of order (as number {cell.execution_count})")
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"code cell {place} stores an error")
    size = sum(len(json.dumps(cell.get("outputs", []))) for cell in pair.cells)
    if size > budget:
        found.append(f"stored outputs take {size / 1e6:.1f} MB; the budget is {budget / 1e6:.1f} MB")
    return found


def meta(cell: nbformat.NotebookNode) -> dict:
    """The metadata that both halves of a pair hold; editors add the rest."""
    return {
        k: v
        for k, v in cell.metadata.items()
        if k not in ("execution", "collapsed", "scrolled", "editable", "trusted")
    }


def check(path: Path) -> list[str]:
    """``problems`` of the chapter at ``path``; a missing pair is one too."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return [f"has no {target.name}: run 'make refresh'"]
    front = (
        []
        if path.read_text().startswith(FRONT)
        else ["its front matter is not JupyterLab's: run 'make sync'"]
    )
    return front + problems(read_source(path), nbformat.read(target, as_version=4))


def command_check() -> int:
    """Print what is wrong with every pair; return how many things."""
    found = [f"{path.name}: {problem}" for path in sources() for problem in check(path)]
    stems = {path.stem for path in sources()}
    found += [
        f"{p.name}: has no .py source" for p in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb") if p.stem not in stems
    ]
    print("\n".join(found) or f"{len(sources())} pairs in step")
    return len(found)


def main() -> int:
    """Read the command line and run one command; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("sync", "check"):
        commands.add_parser(name)
    runner = commands.add_parser("execute")
    runner.add_argument("--out", type=Path, default=ROOT / "build" / "chapters")
    runner.add_argument("--jobs", type=int, default=2)
    for each in (runner, commands.add_parser("refresh")):
        each.add_argument("chapters", nargs="*", help="numbers such as 03; all when none is given")
    args = parser.parse_args()
    if args.command == "execute":
        return min(1, command_execute(args.out.resolve(), args.jobs, args.chapters))
    if args.command == "refresh":
        return min(1, command_refresh(args.chapters))
    return min(1, {"sync": command_sync, "check": command_check}[args.command]())


if __name__ == "__main__":
    sys.exit(main())
