"""Run the protocol of chapter 13, and write its receipt. It goes on where it was killed.

    python scripts/five_designs.py [--jobs 2] [--seeds 3] [--parts level2 level1 more longer ablations]

The protocol is not written here: it is the cells of notebooks/13_five_designs.py that are tagged "protocol", so that the
page shows what was run; its numbers of clips and passes are in the cell tagged "sizes". Every finished run is two files
under build/five_designs: what validation said of it, and its weights. Test clips are drawn in the last step, after every
training. Change the protocol, and all runs are made anew; after a change of the package that matters to them, delete that
folder. Sizes are those of SORA_NB_TIER.
"""

import argparse
import ast
import hashlib
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share the cores

import jupytext
import torch
from recorded import kept

from sora_nb.files import atomic
from sora_nb.ledger import write_receipt
from sora_nb.settings import tier
from sora_nb.training import load_weights, parameters, save_weights

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "notebooks" / "13_five_designs.py"
RATES = (1e-3, 3e-3, 9e-3)
WIDER = 2  # how often a grid grows where its best rate lies on the edge
TUNING_SEED = 100  # none of the seeds that count
BESIDE = 3  # seeds of the runs beside the table
LONG = "mean pool, as long as the first"
MORE = 4  # times the training clips, for as many updates
LONGER = ("A", "A, one word a frame", "B", "C")  # also for twice the passes
SCORED = ("level2", "level1", "more level2", "worlds")  # kinds whose weights are kept for the last step


def protocol() -> SimpleNamespace:
    """The names that the chapter's protocol cells define."""
    tagged = {tag: [] for tag in ("protocol", "sizes")}
    names: dict = {"__name__": "protocol"}
    for cell in jupytext.read(CHAPTER).cells:
        for tag in set(tagged) & set(cell.metadata.get("tags", [])):
            exec(compile(cell.source, str(CHAPTER), "exec"), names)
            tagged[tag].append(cell.source)
    code = ast.dump(ast.parse("\n".join(tagged["protocol"])))  # of what runs: not of layout and comments
    return SimpleNamespace(**names, digest=hashlib.sha256(code.encode()).hexdigest()[:12])


# ------------------------------------------------------------------------------------------------ one run


def label(run: dict) -> str:
    """File name of a run."""
    told = f"{run['kind']} {run['name']} lr{run['lr']:g} {run['passes']} passes seed{run['seed']}"
    return told.replace(" ", "_")


def work(p: SimpleNamespace, data: dict, run: dict) -> tuple[torch.nn.Module, dict]:
    """Train what ``run`` describes; the model, and what training and validation clips say of it."""
    torch.set_num_threads(1)
    began = time.process_time()
    model, curve = p.train(run["design"], data, run["seed"], run["lr"], run["passes"], **run["options"])
    seconds = time.process_time() - began
    frames, labels = (part[:600] for part in data["train"].tensors)
    fitted = p.evaluation.accuracy(p.training.predict(model, p.eight(frames)), labels)
    found = {"validation": max(curve), "curve": curve, "train": fitted, "cpu_seconds": seconds}
    updates = run["passes"] * (len(data["train"]) // p.BATCH)
    return model, found | {"updates": updates, "parameters": parameters(model)}


def do(p: SimpleNamespace, data: dict, run: dict, folder: Path) -> dict:
    """Read a finished run, or make it: weights first, then the file that says it is whole."""
    path = folder / f"{label(run)}.json"
    if not path.exists():
        model, found = work(p, data, run)
        if run["kind"] in SCORED:
            save_weights(model, path.with_suffix(".safetensors"))
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(found))
        shown = (f"{found[key]:.3f}" for key in ("validation", "train", "cpu_seconds"))
        print(label(run), *shown, flush=True)
    return json.loads(path.read_text())


def stage(folder: Path, runs: list[dict], jobs: int, one: Callable[[dict], None] | None = None) -> list[dict]:
    """Do the runs that are missing, ``jobs`` at a time, each by ``one``, and return all results in order."""
    missing = [run for run in runs if not (folder / f"{label(run)}.json").exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(min(jobs, len(missing)), _start, (folder,)) as pool:
            for _ in pool.imap_unordered(one or _one, missing):
                pass
    return [json.loads((folder / f"{label(run)}.json").read_text()) for run in runs]


def _start(folder: Path) -> None:
    """Read the protocol once a process."""
    global P, FOLDER
    P, FOLDER = protocol(), folder


@cache
def data(level: int, times: int = 1) -> dict:
    """Training clips of a level (``times`` as many as the table's) and validation clips, written where they are missing."""
    p = protocol()
    p.sizes.train *= times
    return {split: p.files(level, split) for split in ("train", "val")}


def _one(run: dict) -> None:
    level = 1 if run["kind"] == "level1" else 2
    do(P, data(level, MORE if run["kind"].startswith("more") else 1), run, FOLDER)


# ------------------------------------------------------------------------------------------------ all runs


def plan(p, kind: str, names: dict, passes: int, rates: dict, seeds) -> list[dict]:
    """One run for each name, rate and seed; ``names`` says which design, and with what taken from it."""
    return [
        dict(kind=kind, name=name, design=design, options=options, seed=seed, lr=lr, passes=passes)
        for seed in seeds
        for name, (design, options) in names.items()
        for lr in rates[name]
    ]


def tune(p, folder: Path, names: dict, jobs: int, one: Callable[[dict], None] | None = None) -> dict:
    """Validation accuracy at every rate tried, {name: {rate: accuracy}}; grids grow until the best rate is inside."""
    table: dict = {name: {} for name in names}
    wanted = {name: list(RATES) for name in names}
    for _ in range(WIDER + 1):
        runs = plan(p, "tuning", names, p.sizes.tuning, wanted, [TUNING_SEED])
        for run, found in zip(runs, stage(folder, runs, jobs, one), strict=True):
            table[run["name"]][run["lr"]] = found["validation"]
        wanted = {name: beyond(tried) for name, tried in table.items()}
    return {name: dict(sorted(tried.items())) for name, tried in table.items()}


def best(tried: dict) -> float:
    """The rate with the highest validation accuracy; of equal ones the lowest."""
    return min(tried, key=lambda rate: (-tried[rate], rate))


def beyond(tried: dict) -> list[float]:
    """The next rate outside, if the best one is the outermost."""
    chosen = best(tried)
    at_edge = {min(tried): chosen / 3, max(tried): chosen * 3}
    return [float(f"{at_edge[chosen]:.1g}")] if chosen in at_edge else []


def grouped(runs: list[dict], results: list[dict]) -> dict:
    """Results by name, one list a number, in the order of the seeds."""
    table: dict = {}
    for run, found in zip(runs, results, strict=True):
        row = table.setdefault(run["name"], {})
        for key, value in found.items():
            row.setdefault(key, []).append(value)
    return table


def as_long(p, table: dict) -> int:
    """Passes of the mean pool that take as many seconds as those of the design that validation puts first."""
    first = max(table, key=lambda name: statistics.mean(table[name]["validation"]))
    spent = {name: statistics.median(table[name]["cpu_seconds"]) for name in (first, "mean pool")}
    return round(p.sizes.passes * spent[first] / spent["mean pool"])


# ------------------------------------------------------------------------------------------------ the last step


def scored(folder: Path, runs: list[dict], kind: str) -> tuple[list[dict], dict]:
    """What the fresh clips say of every finished model, of the first seed also under each condition; and of the rulers."""
    torch.set_num_threads(1)
    p, level = protocol(), int(kind[-1])
    p.sizes.train *= MORE if kind.startswith("more") else 1  # what the rulers are fitted on
    paths, tests = [folder / f"{label(run)}.test.json" for run in runs], None
    for run, path in zip(runs, paths, strict=True):
        if not path.exists():
            tests = tests or p.fresh_tests(level)
            model = p.CONTESTANTS[run["design"]](**run["options"])
            load_weights(model, folder / f"{label(run)}.safetensors")
            found = p.measure(model, tests if run["seed"] == 0 else {"fresh": tests["fresh"]})
            with atomic(path) as temporary:
                temporary.write_text(json.dumps(found))
            print(label(run), f"{found['overall']:.3f}", flush=True)
    rulers = kept(folder / f"rulers {kind}.json", lambda: p.rulers(level))
    return [json.loads(path.read_text()) for path in paths], rulers


def costs(p, rounds: int = 9) -> dict:
    """Time all models in turns, on one thread, and count what can be counted; medians over the rounds."""
    torch.set_num_threads(1)
    clips = torch.rand(64, 8, 3, 32, 32)
    built = {name: p.ready(make(), clips) for name, make in p.CONTESTANTS.items()}
    laps: dict = {name: [] for name in built}
    for turn in range(rounds + 1):
        for name, model in built.items():
            lap = p.clock(model, clips)
            laps[name] += [lap] if turn else []  # one to warm up
    table = {}
    for name, model in built.items():
        table[name] = {k: statistics.median(lap[k] for lap in laps[name]) for k in laps[name][0]}
        table[name] |= {"parameters": parameters(model), "macs": p.macs(model.eval(), clips)}
        table[name] |= {"kept_bytes": p.kept_bytes(model, clips)}
    return table


def main() -> None:
    """All stages, in the order in which they need each other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--seeds", type=int, help="seeds of the table; the tier's unless told")
    parser.add_argument("--parts", nargs="+", default=["level2", "level1", "more", "longer", "ablations"])
    options = parser.parse_args()
    p, began = protocol(), time.process_time()
    folder = ROOT / "build" / "five_designs" / f"{tier()}-{p.digest}"
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds or p.sizes.seeds)
    whole = {name: (name, {}) for name in p.CONTESTANTS}
    for part, needed in {"level2": (2,), "level1": (1,), "more": (2, MORE)}.items():
        if part in {"level2", *options.parts}:
            data(*needed)  # writes the files with all cores, which a process of a pool may not do
    numbers: dict = {"protocol": p.digest, "sizes": vars(p.sizes) | {"seeds": len(seeds)}}
    numbers |= {"tuning": tune(p, folder, whole, options.jobs)}
    numbers["rates"] = rates = {name: best(tried) for name, tried in numbers["tuning"].items()}
    single, finals = {name: [rate] for name, rate in rates.items()}, {}
    for part, share in (("quarter", 4), ("half", 2)):
        shorter = plan(p, "level2", whole, p.sizes.passes // share, single, list(seeds)[:BESIDE])
        numbers[part] = grouped(shorter, stage(folder, shorter, options.jobs))
    kinds = {
        "level2": (p.sizes.passes, seeds),
        "level1": (p.sizes.easy, seeds),
        "more level2": (p.sizes.passes // MORE, list(seeds)[:BESIDE]),
    }
    for kind, (passes, some) in kinds.items():
        if kind.split()[0] in options.parts:
            runs = plan(p, kind, whole, passes, single, some)
            finals[kind] = runs, stage(folder, runs, options.jobs)
    if "longer" in options.parts:
        names = {name: whole[name] for name in LONGER}
        some = plan(p, "level2", names, 2 * p.sizes.passes, single, list(seeds)[:BESIDE])
        numbers["twice"] = grouped(some, stage(folder, some, options.jobs))
    if "level2" in finals:  # a ruler that trains, also for as many seconds as the first
        runs, results = finals["level2"]
        longer = plan(p, "level2", {LONG: ("mean pool", {})}, as_long(p, grouped(runs, results)),
                      {LONG: single["mean pool"]}, list(seeds)[:BESIDE])  # fmt: skip
        finals["level2"] = runs + longer, results + stage(folder, longer, options.jobs)
    if "ablations" in options.parts:
        numbers["ablations"] = tune(p, folder, p.ABLATIONS, options.jobs)
        left = {name: [best(tried)] for name, tried in numbers["ablations"].items()}
        shorter = plan(p, "without", p.ABLATIONS, p.sizes.passes // 4, left, list(seeds)[:BESIDE])
        numbers["quarter"] |= grouped(shorter, stage(folder, shorter, options.jobs))
    numbers["costs"] = kept(folder / "costs.json", lambda: costs(p))
    last = [(folder, runs, kind) for kind, (runs, _) in finals.items()]  # only now are there test clips
    with multiprocessing.get_context("spawn").Pool(max(1, min(options.jobs, len(last)))) as pool:
        found = dict(zip(finals, pool.starmap(scored, last), strict=True))
    for kind, (runs, results) in finals.items():
        tested, numbers[f"rulers {kind}"] = found[kind]
        numbers[kind] = grouped(runs, [a | b for a, b in zip(results, tested, strict=True)])
    if "level2" in numbers:
        numbers["equal time"] = numbers["level2"].pop(LONG)
    name = "five_designs" if tier() == "T0" else f"five_designs_{tier()}"
    trained = sum(json.loads(path.read_text()).get("cpu_seconds", 0) for path in folder.glob("*_seed*.json"))
    spent = trained + time.process_time() - began
    print(write_receipt(name, seeds=list(seeds), seconds=spent, tier=tier(), numbers=numbers))


if __name__ == "__main__":
    main()
