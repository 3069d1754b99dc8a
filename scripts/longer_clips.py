"""What are the parts of chapter 09's system worth on clips longer than what its kernels see? Resumable.

    python scripts/longer_clips.py [--clips 2400] [--seeds 5] [--epochs 10]

Clips of level 2 with 32 frames of 16 pixels; one output of the larger branch sees 13 of them. The system and four
variants, each with one part taken away, are trained for as many updates, each at the rate that is best on validation in
a run of half the length, never at the edge of those tried. The last weights count; test clips and their reversals are
scored once a run. Clips are drawn at 32 pixels and halved, without a codec. What is finished lies under build; a killed
command goes on where it was.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from recorded import ROOT, best_of, drawn, kept, paired, search
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import evaluation
from sora_nb.data import motion
from sora_nb.ledger import write_receipt
from sora_nb.models import SoraFusion
from sora_nb.settings import tier
from sora_nb.training import fit, parameters, predict

BUILD = ROOT / "build" / "longer_clips"
SPEC = motion.MotionSpec(level=2, frames=32)
CHANNELS = (8, 16)
VARIANTS: dict[str, dict] = {
    "whole system": {},
    "no LSTM": {"lstm": False},
    "no fusion": {"fusion": False},
    "3³ only": {"branches": (3,)},
    "5³ only": {"branches": (5,)},
}
RATES = [2e-3, 4e-3, 8e-3]
TUNING_SEED = 100  # none of the seeds that count


def build(name: str, seed: int) -> SoraFusion:
    """One variant at random start."""
    torch.manual_seed(seed)
    return SoraFusion(len(motion.CLASSES), channels=CHANNELS, **VARIANTS[name])


def trained(data: dict, name: str, rate: float, seed: int, epochs: int) -> dict:
    """Train one variant once; a run for tuning never sees the test clips."""
    begun, model = time.process_time(), build(name, seed)
    plan = dict(epochs=epochs, lr=rate, seed=seed, progress=False)
    history = fit(model, TensorDataset(*data["train"]), **plan)
    seconds = round(time.process_time() - begun, 1)
    clips, labels = data["val"]
    logits = predict(model, clips)
    result = {"train loss": history.train_loss[-1], "val loss": F.cross_entropy(logits, labels).item()}
    result |= {"parameters": parameters(model), "seconds": seconds}
    if seed != TUNING_SEED:
        clips, labels = evaluation.with_reversals(*data["test"])
        logits = predict(model, clips)
        result |= evaluation.pair_scores(logits, labels)
        result["right"] = (logits.argmax(1) == labels).int().tolist()
    return result


def run_once(data: dict, name: str, rate: float, seed: int, epochs: int) -> dict:
    """A run from its file, or a new one."""
    path = BUILD / f"{name.replace(' ', '_')}-{len(data['train'][0])}-{rate:g}-{seed}-{epochs}.json"
    return kept(path, lambda: trained(data, name, rate, seed, epochs))


def prepared(clips: int) -> dict:
    """Drawn clips in [0, 1] and labels of each split; classes take turns."""
    counts = {"train": clips, "val": SPEC.val, "test": SPEC.test}
    return {
        split: (drawn(SPEC, split, n).float() / 255, torch.arange(n) % len(motion.CLASSES))
        for split, n in counts.items()
    }


def rulers(data: dict) -> dict:
    """What the rulers of chapter 03 score on the same clips and reversals, from eight of the frames."""
    symmetric = [0, 4, 9, 13, 18, 22, 27, 31]  # reversing the clip reverses this choice
    train, val, test = ((data[name][0][:, symmetric], data[name][1]) for name in motion.SPLITS)
    clips, labels = evaluation.with_reversals(*test)
    scores = evaluation.ruler_scores(train, val, (clips, labels))
    return {name: evaluation.pair_scores(logits, labels) for name, logits in scores.items()}


def over_seeds(ours: list[dict], theirs: list[dict]) -> dict[str, float]:
    """Mean difference of two rows seed by seed, and the half-width of its 95 % interval."""
    mean, half = evaluation.mean_interval([a["overall"] - b["overall"] for a, b in zip(ours, theirs)])
    return {"mean": float(mean), "half": float(half)}


def main() -> None:
    """Draw, tune each variant, run its seeds, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2400)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begun, data = time.process_time(), prepared(asked.clips)
    print(f"prepared: {time.process_time() - begun:.0f} s", flush=True)
    rates, rows = {}, {name: [] for name in VARIANTS}
    short = max(1, asked.epochs // 2)
    for name in VARIANTS:
        rates[name] = search(
            lambda rate, name=name: run_once(data, name, rate, TUNING_SEED, short)["val loss"], RATES
        )
    for seed in range(asked.seeds):
        for name, row in rows.items():
            row.append(run_once(data, name, best_of(rates[name]), seed, asked.epochs))
    whole = rows["whole system"]
    others = {name: row for name, row in rows.items() if name != "whole system"}
    numbers = {
        "level": SPEC.level, "frames": SPEC.frames, "clips": asked.clips, "channels": CHANNELS,
        "receptive field": build("whole system", 0).receptive_field,
        "updates": asked.epochs * (asked.clips // 32), "rates": rates,
        "rate": {name: best_of(losses) for name, losses in rates.items()},
        "runs": {name: [{k: v for k, v in run.items() if k != "right"} for run in row]
                 for name, row in rows.items()},
        "whole minus, over clips": {name: paired(whole, row, copies=2) for name, row in others.items()},
        "whole minus, over seeds": {name: over_seeds(whole, row) for name, row in others.items()},
        "rulers": rulers(data),
    }  # fmt: skip
    seconds = sum(run["seconds"] for row in rows.values() for run in row)
    print(
        write_receipt(
            "longer_clips", seeds=list(range(asked.seeds)), seconds=seconds, tier=tier(), numbers=numbers
        )
    )


if __name__ == "__main__":
    main()
