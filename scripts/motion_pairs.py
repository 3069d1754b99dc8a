"""Do views of one clip save labels, and do pairs of clips with one motion? Train chapter 11's table. Resumable.

    python scripts/motion_pairs.py [--level 1] [--clips 2400] [--seeds 3] [--epochs 8]

Three starts of one encoder: random; pretrained on two views of a clip; pretrained on views of two takes of one motion
(another digit, colour and photograph). Both pretrainings draw from the clips of both takes, for as many updates. Each
start is then read by a linear probe and trained as a whole on 24 to 600 labelled clips, for as many updates each. Every
rate is the best on validation, never at the edge of those tried; the last weights count; test clips are scored once a run.
Clips are drawn at 32 pixels and halved, without a codec; validation and test clips are the chapter's. What is finished
lies under build; a killed command goes on where it was.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from recorded import ROOT, best_of, drawn, halved, kept, paired, search
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from sora_nb import evaluation
from sora_nb.data import motion
from sora_nb.files import atomic
from sora_nb.layers.frames import FrameCNN
from sora_nb.ledger import write_receipt
from sora_nb.models import SoraContrastive
from sora_nb.objectives import contrast_step, view
from sora_nb.settings import tier
from sora_nb.training import fit, parameters, predict

BUILD = ROOT / "build" / "motion_pairs"
EIGHT = [0, 2, 4, 6, 9, 11, 13, 15]  # reversing a clip reverses this choice: chapter 3
STARTS = ("random", "two views of a clip", "motion pairs")
AMOUNTS = (24, 60, 120, 240, 600)
RATES = [1e-3, 3e-3, 9e-3]
TUNING_SEED = 100  # none of the seeds that count
TUNED_AT = 120  # labels
UPDATES = 400  # with labels: more than pretraining makes
BATCH = 24  # of labelled clips; 600 of them make 25 updates a pass
PRETRAINING_BATCH = 64


class Takes(Dataset):
    """Two takes of each motion; without ``pairs`` one of the two, at random."""

    def __init__(self, takes: list[torch.Tensor], pairs: bool):
        self.takes, self.pairs = takes, pairs

    def __len__(self):
        return len(self.takes[0])

    def __getitem__(self, i):
        if self.pairs:
            return self.takes[0][i], self.takes[1][i]
        return (self.takes[int(torch.randint(2, ()))][i],)


def encoder(seed: int) -> SoraContrastive:
    """Article B's encoder at random start."""
    torch.manual_seed(seed)
    return SoraContrastive(len(motion.CLASSES), frames=FrameCNN(128, (16, 32)))


def pretrained(data: dict, start: str, rate: float, seed: int, epochs: int) -> tuple[SoraContrastive, dict]:
    """A pretrained encoder and what happened, from their files if there are any."""
    path = BUILD / f"{data['name']}-{start.replace(' ', '_')}-{rate:g}-{seed}-{epochs}.safetensors"
    model, pairs = encoder(seed), start == "motion pairs"
    if not path.exists():
        begun, inner = time.process_time(), contrast_step(pairs=pairs)

        def step(model, batch):
            return inner(model, [part.float() / 255 for part in batch])

        plan = dict(
            epochs=epochs, lr=rate, batch_size=PRETRAINING_BATCH, seed=seed, step=step, progress=False
        )
        losses = fit(model, Takes(data["takes"], pairs), **plan).train_loss
        told = {"losses": losses, "seconds": round(time.process_time() - begun, 1)}
        with atomic(path) as temporary:
            save_file(model.state_dict(), temporary)
        with atomic(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(told))
        print(path.stem, told, flush=True)
    model.load_state_dict(load_file(path))
    told = json.loads(path.with_suffix(".json").read_text())
    return model.eval(), told


def features(model: SoraContrastive, data: dict) -> dict[str, torch.Tensor]:
    """The frozen representation of each split."""
    with torch.no_grad():
        return {
            name: torch.cat([model.embed(part) for part in clips.split(200)])
            for name, (clips, _) in data["splits"].items()
        }


def balanced(labels: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Which n training clips carry a label: as many of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = range(len(motion.CLASSES))
    return torch.cat([order[labels[order] == c][: n // len(motion.CLASSES)] for c in classes])


def probe(found: dict, data: dict, n: int, seed: int, judge: str = "test") -> float:
    """Accuracy of a linear probe with n labels; its strength is chosen on validation clips."""
    labels = {name: y for name, (_, y) in data["splits"].items()}
    chosen = balanced(labels["train"], n, seed)
    known = found["train"][chosen], labels["train"][chosen]
    return evaluation.linear_probe(*known, found["val"], labels["val"], found[judge], labels[judge])


def supervised(model: SoraContrastive, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on one view of each labelled clip."""
    scores = model(view(batch[0].float() / 255))
    return F.cross_entropy(scores, batch[1]), (scores.argmax(1) == batch[1]).float().mean()


def with_labels(model: SoraContrastive, data: dict, n: int, rate: float, seed: int) -> dict:
    """Train the whole model, in place, on n labelled clips."""
    clips, labels = data["takes"][0], data["splits"]["train"][1]
    chosen, begun = balanced(labels, n, seed), time.process_time()
    plan = dict(epochs=UPDATES // (n // BATCH), lr=rate, batch_size=BATCH, seed=seed, progress=False)
    history = fit(model, TensorDataset(clips[chosen], labels[chosen]), step=supervised, **plan)
    x, y = data["splits"]["val"]
    return {
        "train loss": history.train_loss[-1],
        "val error": 1 - evaluation.accuracy(predict(model, x), y),
        "seconds": round(time.process_time() - begun, 1),
    }


def place(name: str) -> Path:
    """File of one finished result."""
    return BUILD / f"{name.replace(' ', '_')}.json"


def tune_pretraining(data: dict, start: str, epochs: int) -> dict[float, float]:
    """Validation error of a probe with many labels, by rate of a shorter pretraining."""

    def error(rate):
        model, _ = pretrained(data, start, rate, TUNING_SEED, epochs)
        name = f"{data['name']}-tuning-{start}-{rate:g}-{epochs}"
        made = lambda: {"error": 1 - probe(features(model, data), data, AMOUNTS[-1], TUNING_SEED, "val")}  # noqa: E731
        return kept(place(name), made)["error"]

    return search(error, RATES)


def tune_labels(data: dict, start: str, begin) -> dict[float, float]:
    """Validation error after training on labelled clips, by rate."""

    def error(rate):
        name = f"{data['name']}-{start}-tuning-{TUNED_AT}-{rate:g}"
        return kept(place(name), lambda: with_labels(begin(), data, TUNED_AT, rate, TUNING_SEED))["val error"]

    return search(error, RATES)


def score(model: SoraContrastive, data: dict) -> dict:
    """What the test clips say."""
    clips, labels = data["splits"]["test"]
    logits = predict(model, clips)
    right = (logits.argmax(1) == labels).int().tolist()
    return evaluation.pair_scores(logits, labels) | {"right": right}


def one_seed(data: dict, start: str, begin, rate: float, seed: int) -> dict[str, dict]:
    """Probe and whole training for every number of labels, from one start."""
    stem, found, rows = f"{data['name']}-{start}-{seed}", features(begin(), data), {}
    for n in AMOUNTS:

        def whole(n=n):
            model = begin()
            return with_labels(model, data, n, rate, seed) | score(model, data)

        rows[n] = {
            "probe": kept(place(f"{stem}-probe-{n}"), lambda n=n: {"overall": probe(found, data, n, seed)}),
            "trained": kept(place(f"{stem}-{rate:g}-{n}"), whole),
        }
    return rows


def prepared(level: int, clips: int) -> dict:
    """Both takes as bytes; of the labelled splits the eight frames that a probe sees, in [0, 1]."""
    takes = [drawn(motion.MotionSpec(level=level, take=take), "train", clips) for take in (0, 1)]
    splits = {}
    for name in motion.SPLITS:
        split = motion.load(motion.MotionSpec(level=level), name)
        small = takes[0][: len(split)] if name == "train" else halved(split.clips)
        splits[name] = small[:, EIGHT].float() / 255, split.labels
    return {"name": f"level{level}-{clips}", "takes": takes, "splits": splits}


def run(data: dict, asked: argparse.Namespace) -> dict:
    """Tune and train everything; the numbers of the receipt."""
    tuning: dict = {"pretraining": {}, "labels": {}}
    rows: dict = {start: [] for start in STARTS}
    losses: dict = {}
    for start in STARTS[1:]:
        tuning["pretraining"][start] = tune_pretraining(data, start, max(2, asked.epochs // 4))
    best = {start: best_of(found) for start, found in tuning["pretraining"].items()}

    def begin(start: str, seed: int) -> SoraContrastive:
        if start == "random":
            return encoder(seed)
        model, told = pretrained(data, start, best[start], seed, asked.epochs)
        losses.setdefault(start, {})[seed] = told["losses"]
        return model

    for seed in range(asked.seeds):
        for start in STARTS:
            if start not in tuning["labels"]:  # the first seed's encoder, other labelled clips and orders
                tuning["labels"][start] = tune_labels(data, start, lambda start=start: begin(start, 0))
            found = tuning["labels"][start]
            make = lambda start=start, seed=seed: begin(start, seed)  # noqa: E731
            rows[start].append(one_seed(data, start, make, best_of(found), seed))
    scratch = {n: [row[n]["trained"] for row in rows["random"]] for n in AMOUNTS}
    gaps = {
        start: {n: paired([row[n]["trained"] for row in rows[start]], scratch[n]) for n in AMOUNTS}
        for start in STARTS[1:]
    }
    return {"tuning": tuning, "pretraining losses": losses, "rows": rows, "trained minus scratch": gaps}


def main() -> None:
    """Draw, pretrain, train with labels, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--clips", type=int, default=2400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    BUILD.mkdir(parents=True, exist_ok=True)
    begun = time.process_time()
    data = prepared(asked.level, asked.clips)
    print(f"prepared: {time.process_time() - begun:.0f} s", flush=True)
    numbers = run(data, asked)
    for runs in numbers["rows"].values():
        for row in runs:
            for cell in row.values():
                cell["trained"].pop("right")
    numbers |= {
        "level": asked.level, "clips": asked.clips, "epochs": asked.epochs,
        "pretraining updates": asked.epochs * (asked.clips // PRETRAINING_BATCH), "updates": UPDATES,
        "loss of a collapse": math.log(2 * PRETRAINING_BATCH - 1), "parameters": parameters(encoder(0)),
    }  # fmt: skip
    seconds = time.process_time() - begun
    print(
        write_receipt(
            "motion_pairs", seeds=list(range(asked.seeds)), seconds=seconds, tier=tier(), numbers=numbers
        )
    )


if __name__ == "__main__":
    main()
