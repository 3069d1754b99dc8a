"""Run the protocol of chapter 13 over all designs and seeds, and write its receipt. Resumable.

    python scripts/five_designs.py [--jobs 2]

The protocol is not written here: it is the cells of notebooks/13_five_designs.py that are tagged "protocol", so that the
page shows what was run. Every finished run is one file under build/five_designs; a killed command goes on where it was.
Change the protocol, and the runs are made anew; after a change of the package that matters to them, delete that folder.
Sizes are those of SORA_NB_TIER.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share the cores

import jupytext
import torch

from sora_nb.files import atomic
from sora_nb.ledger import write_receipt
from sora_nb.settings import tier
from sora_nb.training import parameters

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "notebooks" / "13_five_designs.py"
RATES = (1e-3, 3e-3, 9e-3)
TUNING_SEED = 100  # none of the seeds that count


def protocol() -> SimpleNamespace:
    """The names that the chapter's protocol cells define."""
    cells = [c for c in jupytext.read(CHAPTER).cells if "protocol" in c.metadata.get("tags", [])]
    names: dict = {"__name__": "protocol"}
    for cell in cells:
        exec(compile(cell.source, str(CHAPTER), "exec"), names)
    source = "\n".join(cell.source for cell in cells)
    return SimpleNamespace(**names, digest=hashlib.sha256(source.encode()).hexdigest()[:12])


# ------------------------------------------------------------------------------------------------ one run


def work(p: SimpleNamespace, data: dict, tests: dict, run: dict) -> dict:
    """Train and measure what ``run`` describes."""
    torch.set_num_threads(1)
    epochs = p.sizes.live if run["kind"] == "live" else p.sizes.epochs
    model, history = p.train_design(run["design"], data, run["seed"], run["lr"], epochs, **run["options"])
    found = {"parameters": parameters(model), "validation": history.val_accuracy[history.best_epoch]}
    if run["kind"] == "tuning":
        return found  # the test split stays shut
    return found | p.measure(model, data, tests)


def place(folder: Path, name: str) -> Path:
    """Where a run of this name is kept."""
    return folder / f"{name.replace(' ', '_')}.json"


def cached(folder: Path, name: str, make) -> dict:
    """Read a finished run, or do it and write it whole."""
    path = place(folder, name)
    if not path.exists():
        began = time.process_time()
        result = make()
        result["cpu_seconds"] = time.process_time() - began
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(result))
        shown = {key: round(float(value), 3) for key, value in result.items() if isinstance(value, float)}
        print(name, shown, flush=True)
    return json.loads(path.read_text())


def stage(folder: Path, runs: list[dict], jobs: int) -> list[dict]:
    """Do the runs that are missing, ``jobs`` at a time, and return all results in order."""
    missing = [run for run in runs if not place(folder, label(run)).exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(min(jobs, len(missing)), _start, (folder,)) as pool:
            for _ in pool.imap_unordered(_one, missing):
                pass
    return [json.loads(place(folder, label(run)).read_text()) for run in runs]


def label(run: dict) -> str:
    """File name of a run."""
    return f"{run['kind']} {run['name']} lr{run['lr']:g} seed{run['seed']}"


def _start(folder: Path) -> None:
    """Load the data once a process."""
    global P, DATA, TESTS, FOLDER
    P, FOLDER = protocol(), folder
    DATA = {split: P.level2(split) for split in ("train", "val")}
    TESTS = P.disturbances()


def _one(run: dict) -> None:
    cached(FOLDER, label(run), lambda: work(P, DATA, TESTS, run))


# ------------------------------------------------------------------------------------------------ costs


def costs(p, data: dict, rounds: int = 15) -> dict:
    """Time all models in turns, on one thread, and count what can be counted; medians over the rounds."""
    torch.set_num_threads(1)
    clips = data["train"].tensors[0][:32].to(p.training.device())
    built = {name: make() for name, make in p.DESIGNS.items()}
    built = {name: model.to(clips.device) for name, model in built.items()}
    laps: dict = {name: [] for name in built}
    for turn in range(rounds + 2):
        for name, model in built.items():
            lap = p.clock(model, clips)
            if turn > 1:  # two to warm up
                laps[name].append(lap)
    table = {}
    for name, model in built.items():
        middle = {k: statistics.median(lap[k] for lap in laps[name]) for k in laps[name][0]}
        table[name] = {
            "parameters": parameters(model),
            "kept_bytes": p.kept_bytes(model, clips),
            "macs": p.macs(model.eval(), clips),
            "ms_batch_1": 1e3 * middle["batch 1"],
            "ms_batch_32": 1e3 * middle["batch 32"] / 32,
            "ms_training": 1e3 * middle["training step"] / 32,
        }
    return table


# ------------------------------------------------------------------------------------------------ all of it


def plan(p, kind: str, rates: dict | None = None) -> list[dict]:
    """The runs of a stage."""

    def run(design, seed, lr, name=None, options=None):
        named = {"kind": kind, "design": design, "name": name or design, "seed": seed}
        return named | {"lr": lr, "options": options or {}}

    if kind == "tuning":
        return [run(d, TUNING_SEED, lr) for d in p.DESIGNS for lr in RATES]
    if kind == "live":  # what the page trains itself, to hold it against
        return [run(d, 0, rates[d]) for d in p.DESIGNS]
    if kind == "designs":
        return [run(d, s, rates[d]) for s in range(p.sizes.seeds) for d in p.DESIGNS]
    return [run(d, s, rates[d], name, options=o) for s in range(3) for name, (d, o) in p.ABLATIONS.items()]


def tuned(p, folder: Path, jobs: int) -> dict:
    """Validation accuracy of every design at every rate: {design: {rate: accuracy}}."""
    runs, table = plan(p, "tuning"), {d: {} for d in p.DESIGNS}
    for run, result in zip(runs, stage(folder, runs, jobs), strict=True):
        table[run["design"]][run["lr"]] = result["validation"]
    return table


def by_seed(results: list[dict], full: bool) -> dict:
    """One list per number, in the order of the seeds."""
    keys = ("overall", "pair", "within", "validation", *(("train", "recall") if full else ()))
    table: dict = {key: [result[key] for result in results] for key in keys}
    if full:
        table["under"] = {name: [r["under"][name] for r in results] for name in results[0]["under"]}
    return table


def main() -> None:
    """All stages, in the order in which they need each other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    jobs = parser.parse_args().jobs
    p = protocol()
    folder = ROOT / "build" / "five_designs" / f"{tier()}-{p.digest}"
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict = {"tuning": tuned(p, folder, jobs)}
    numbers["rates"] = rates = {d: max(tried, key=tried.get) for d, tried in numbers["tuning"].items()}
    for kind in ("live", "designs", "ablations"):
        runs, named = plan(p, kind, rates), {}
        for run, result in zip(runs, stage(folder, runs, jobs), strict=True):
            named.setdefault(run["name"], []).append(result)
        numbers[kind] = {name: by_seed(results, kind == "designs") for name, results in named.items()}
    data = {split: p.level2(split) for split in ("train", "val")}
    numbers["costs"] = cached(folder, "costs", lambda: {"models": costs(p, data)})["models"]
    numbers["rulers"] = cached(folder, "rulers", lambda: {"rulers": p.rulers()})["rulers"]
    name = "five_designs" if tier() == "T0" else f"five_designs_{tier()}"
    spent = sum(json.loads(path.read_text())["cpu_seconds"] for path in folder.glob("*.json"))
    seeds = list(range(p.sizes.seeds))
    print(write_receipt(name, seeds=seeds, seconds=spent, tier=tier(), numbers=numbers))


if __name__ == "__main__":
    main()
