"""The designs of chapter 13 on the worlds, under its protocol: the receipt that chapter 14 reads. Resumable.

    python scripts/worlds.py --out build/worlds --times 4     # needs the engine; 2,880 clips to train on
    python scripts/worlds_designs.py [--jobs 2]

Contestants, augmentation, training and selection are the cells of notebooks/13_five_designs.py that are tagged "protocol";
here stand only the other clips and sizes. The test worlds are read in the last step, after every training.
"""

import argparse
import json
import time
from functools import cache, partial
from pathlib import Path

import five_designs
import torch
from five_designs import ROOT, TUNING_SEED, best, grouped, label, plan, protocol, stage, tune
from recorded import kept
from torch.utils.data import TensorDataset

from sora_nb import evaluation, recipe, training
from sora_nb.data import from_folder
from sora_nb.files import file_digest
from sora_nb.ledger import write_receipt

NAMES = ("mean pool", "A", "A, 256 words", "B", "C", "D", "E")
PASSES, TUNING = 20, 5  # 900 and 225 updates; half of chapter 13's are 888, its tuning makes 222
SEEDS = 3
FOLDER = ROOT / "build" / "worlds"


def protocol_here():
    """Chapter 13's protocol with the sizes of this script."""
    p = protocol()
    p.sizes.tuning = TUNING
    return p


@cache
def clips(split: str) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Frames (N, 16, 32, 32, 3) in bytes, labels, and the map of each clip."""
    read = recipe.read_all(from_folder(FOLDER / split), recipe.Reading(16, 32), split, progress=False)
    assert not read.failed
    return read.clips[:, 0].movedim(2, -1), read.labels, [path.stem.split("_")[0] for path in read.files]


@cache
def data() -> dict:
    """Training and validation clips; no test clip is read here."""
    return {split: TensorDataset(*clips(split)[:2]) for split in ("train", "val")}


def one(run: dict) -> None:
    """Do one run in a process of the pool."""
    five_designs.do(five_designs.P, data(), run, five_designs.FOLDER)


def test(p) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """The test clips and each played backwards with its twin's label, as a model takes them; their maps."""
    frames, labels, maps = clips("test")
    return *evaluation.with_reversals(p.eight(frames), labels), maps * 2


def measure(p, run: dict, folder: Path) -> dict:
    """What the test worlds say of a finished run, all together and map by map."""
    model = p.CONTESTANTS[run["design"]](**run["options"])
    training.load_weights(model, folder / f"{label(run)}.safetensors")
    x, y, maps = test(p)
    logits = training.predict(model, x)
    hits = (logits.argmax(1) == y).float()
    found = {name: hits[[m == name for m in maps]].mean().item() for name in sorted(set(maps))}
    filmed = hits[: len(hits) // 2].mean().item()  # the clips as they are, without their reversals
    return evaluation.pair_scores(logits, y) | {"filmed": filmed, "maps": found}


def rulers(p) -> dict:
    """Chapter 3's rulers on the same clips and reversals."""
    train, val = ((p.eight(frames), y) for frames, y in (data()[s].tensors for s in ("train", "val")))
    x, y, _ = test(p)
    scores = evaluation.ruler_scores(train, val, (x, y))
    return {name: evaluation.pair_scores(logits, y) for name, logits in scores.items()}


def main() -> None:
    """Tune, train, then open the test worlds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    jobs, began, p = parser.parse_args().jobs, time.process_time(), protocol_here()
    folder = ROOT / "build" / "worlds_designs" / p.digest
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: (name, {}) for name in NAMES}
    numbers: dict = {"protocol": p.digest, "worlds": file_digest(FOLDER / "manifest.json")}
    numbers["tuning seed"], numbers["tuning"] = TUNING_SEED, tune(p, folder, whole, jobs, one)
    numbers["rates"] = {name: best(tried) for name, tried in numbers["tuning"].items()}
    rates = {name: [rate] for name, rate in numbers["rates"].items()}
    runs = plan(p, "worlds", whole, PASSES, rates, range(SEEDS))
    results = stage(folder, runs, jobs, one)
    scored = [kept(folder / f"{label(run)}.test.json", partial(measure, p, run, folder)) for run in runs]
    numbers["designs"] = grouped(runs, [a | b for a, b in zip(results, scored, strict=True)])
    numbers["rulers"] = kept(folder / "rulers.json", partial(rulers, p))
    numbers["clips"] = {split: len(clips(split)[1]) for split in ("train", "val", "test")}
    for row in numbers["designs"].values():
        del row["curve"]
    trained = sum(json.loads(path.read_text()).get("cpu_seconds", 0) for path in folder.glob("*_seed*.json"))
    spent = trained + time.process_time() - began
    print(
        write_receipt("worlds_designs", seeds=list(range(SEEDS)), seconds=spent, tier="T0", numbers=numbers)
    )


if __name__ == "__main__":
    main()
