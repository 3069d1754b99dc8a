#!/usr/bin/env python3
"""Train the small causal design C of chapter 20 and of the book's page, and keep it in data/checkpoints.

    python scripts/live_model.py [--plan live|page]

One network, two plans. "live" learns from level 1 of the motion set, and is what chapter 20 makes small; "page" learns from
both levels and from clips drawn as a reader makes them in the page, and is what the page runs. Either sees clips over black,
too. Training clips are turned into each other (mirrored, laid on their side, played backwards, each with the class that then
holds) and walked through at varied speed with rests, as a hand does; the loss asks for the answer after every frame. Decided
beforehand: seed 0, the epoch with the lowest validation loss; the test clips are scored once, on the weights as they are
stored. Scores go to book/results/PLAN_model.json.
"""

import argparse
import os
import platform
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import sora_nb
from sora_nb import evaluation, ledger, training
from sora_nb.data import motion
from sora_nb.data.motion_render import coverage, digit_range, paint
from sora_nb.evaluation.report import fit_temperature
from sora_nb.models import SoraGRU
from sora_nb.recipe import Reading, Recipe
from sora_nb.transforms import to_clip

FOLDER, SEED, FRAMES, WALK, FIRST = ledger.ROOT / "data" / "checkpoints", 0, 16, 12, 2
OPTIONS = {"dim": 64, "center": "causal"}
# Levels over photographs, training clips over black of each level, and passes over the data.
PLANS = {
    "live": {"levels": (1,), "black": 1200, "epochs": 18, "data": "motion set, level 1"},
    "page": {
        "levels": (1, 2),
        "black": 600,
        "epochs": 12,
        "data": "motion set, levels 1 and 2, and clips by hand",
    },
}
BLACK = {"val": 300, "test": 600}  # clips over black
BY_HAND = {"train": 2400, "val": 600, "test": 600}
# Of each of the page's controls: least and greatest value, and the least and greatest change in one movement.
CONTROLS = {
    "x": (0.0, 1.0, 0.2, 0.9),
    "y": (0.0, 1.0, 0.2, 0.9),
    "side": (0.25, 0.95, 0.12, 0.7),
    "angle": (-180.0, 180.0, 30.0, 270.0),
    "opacity": (0.0, 1.0, 0.3, 1.0),
    "apart": (0.0, 0.8, 0.2, 0.8),
}
FALLS = {
    "left",
    "up",
    "shrink",
    "clockwise",
    "vanish",
    "merge",
}  # what each control's motion is when its value falls


def twins(pairs: dict[str, str]) -> Tensor:
    """The class that each class becomes when the classes of some pairs change places."""
    names = pairs | {b: a for a, b in pairs.items()}
    return torch.tensor([motion.CLASSES.index(names.get(name, name)) for name in motion.CLASSES])


MIRRORED = twins({"left": "right", "clockwise": "counter-clockwise"})
ON_ITS_SIDE = twins({"left": "up", "right": "down", "clockwise": "counter-clockwise"})
BACKWARDS = torch.arange(12) ^ 1


def drawn(level: int, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Clips over black, drawn without a codec: uint8 (N, T, H, W, 3) and their labels."""
    spec = motion.MotionSpec(level=level, background="black", **{split: count})
    clips = np.stack([motion.render(spec, split, i)[0] for i in range(count)])
    return torch.from_numpy(clips), torch.arange(count) % 12


def by_hand(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Clips as a reader makes them in the page: one control goes from one value to another, in a part of the clip."""
    clips = [
        hand_clip(np.random.default_rng([SEED, motion.SPLITS.index(split), i]), i % 12, split)
        for i in range(count)
    ]
    return torch.from_numpy(np.stack(clips)), torch.arange(count) % 12


def hand_clip(rng: np.random.Generator, label: int, split: str) -> np.ndarray:
    """One such clip, uint8 (T, H, W, 3): the digit's look and place, the way of the control and its easing are drawn."""
    control = list(CONTROLS)[label // 2]
    low, high, least, most = CONTROLS[control]
    way = rng.uniform(least, most)
    start = rng.uniform(low, high - way)
    begin, length, bend = rng.uniform(0, 0.6), rng.uniform(0.35, 1), rng.uniform(-0.5, 0.5)
    t = np.clip((np.linspace(0, 1, FRAMES) - begin * (1 - length)) / length, 0, 1)
    t = t + bend * t * (1 - t)  # faster at the beginning or at the end
    t = 1 - t if motion.CLASSES[label] in FALLS else t
    at = {"x": rng.uniform(0.35, 0.65), "y": rng.uniform(0.35, 0.65), "side": rng.uniform(0.4, 0.75)}
    at |= {"angle": rng.uniform(-60, 60), "opacity": rng.uniform(0.7, 1), "apart": 0.0}
    at = {name: np.full(FRAMES, value) for name, value in at.items()} | {control: start + way * t}
    if control in ("x", "y"):  # no hand is straight
        at["y" if control == "x" else "x"] += rng.uniform(-0.25, 0.25) * way * t
    apart = at.pop("apart") / 2
    image = int(rng.choice(list(digit_range(split))))
    ink = np.maximum(*(coverage(image, at | {"x": at["x"] + side * apart}, 32) for side in (-1, 1)))
    color = [1, rng.uniform(0.7, 1), rng.uniform(0.6, 1)]
    return np.rint(255 * paint(np.zeros((FRAMES, 32, 32, 3)), ink, color)).astype(np.uint8)


def clips_of(split: str, plan: str) -> dict[str, tuple[Tensor, Tensor]]:
    """The clips of a split by their kind."""
    found, levels = {}, PLANS[plan]["levels"]
    for level in (1, 2):
        if level in levels:
            photo = motion.load(motion.MotionSpec(level=level), split)
            found[f"level {level}"] = photo.clips, photo.labels
        if level in levels or split == "train":
            count = PLANS[plan]["black"] if split == "train" else BLACK[split]
            found[f"level {level}, black"] = drawn(level, split, count)
    return found | ({"by hand": by_hand(split, BY_HAND[split])} if plan == "page" else {})


def turned(clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the clips mirrored, half on their side, half backwards, each with the class that then holds."""
    for turn, known in (
        (lambda x: x.flip(-1), MIRRORED),
        (lambda x: x.transpose(-1, -2), ON_ITS_SIDE),
        (lambda x: x.flip(1), BACKWARDS),
    ):
        chosen = torch.rand(len(clips)) < 0.5
        clips = torch.where(chosen[:, None, None, None, None], turn(clips), clips)
        labels = torch.where(chosen, known[labels], labels)
    return clips, labels


def walked(clips: Tensor) -> Tensor:
    """Twelve frames of each clip, at 0.6 to 2 times its speed, with a little jitter and a rest where the walk ends early."""
    n = len(clips)
    start, speed = torch.rand(n, 1) * 7 - 3, 0.6 + 1.4 * torch.rand(n, 1)
    at = start + speed * (torch.arange(WALK) + 0.6 * (torch.rand(n, WALK) - 0.5))
    return clips[torch.arange(n)[:, None], at.round().long().clamp(0, FRAMES - 1)]


def scores(model: SoraGRU, clips: Tensor) -> Tensor:
    """Logits (B, T, classes) after every frame, as ``step`` gives them one by one."""
    seen = torch.arange(1, clips.shape[1] + 1)
    x = model.frames(clips - clips.cumsum(1) / seen.view(-1, 1, 1, 1))  # (B, T, 3, H, W) -> (B, T, D)
    x = model.norm(model.gru(x)[0]).cumsum(1) / seen.view(-1, 1)
    return model.head(x)


def step(model: SoraGRU, batch) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy over the frames from the third on; share of right answers after the last."""
    clips, labels = to_clip(batch[0]), batch[1]
    if model.training:
        clips, labels = turned(clips, labels)
        clips = walked(clips)
    logits = scores(model, clips)
    late = logits[:, FIRST:].flatten(0, 1)
    loss = F.cross_entropy(late, labels.repeat_interleave(logits.shape[1] - FIRST))
    return loss, (logits[:, -1].argmax(-1) == labels).float().mean()


def data(parts: dict[str, tuple[Tensor, Tensor]]) -> TensorDataset:
    """All parts of a split as one data set of clips, still bytes."""
    return TensorDataset(*(torch.cat(column) for column in zip(*parts.values(), strict=True)))


def judged(model: SoraGRU, clips: Tensor, labels: Tensor) -> dict:
    """Accuracy after 4, 8, 12 and 16 frames; with its interval after all."""
    with torch.no_grad():
        answers = torch.cat([scores(model, to_clip(part)).argmax(-1) for part in clips.split(100)])
    right = (answers == labels[:, None]).float().mean(0)  # (N, T) -> (T,)
    low, high = evaluation.wilson(round(right[-1].item() * len(labels)), len(labels))
    return {
        "clips": len(labels),
        "accuracy": round(right[-1].item(), 4),
        "interval": [round(low, 4), round(high, 4)],
        "accuracy after frames": {str(n): round(right[n - 1].item(), 4) for n in (4, 8, 12, 16)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", choices=PLANS, default="page")
    plan = parser.parse_args().plan
    epochs = PLANS[plan]["epochs"]
    began = time.process_time()
    torch.manual_seed(SEED)
    model = SoraGRU(len(motion.CLASSES), **OPTIONS)
    train, val = data(clips_of("train", plan)), data(clips_of("val", plan))
    print(f"{len(train)} training clips after {time.process_time() - began:.0f} s", flush=True)
    history = training.fit(model, train, val, epochs=epochs, seed=SEED, step=step)
    print("validation", [round(x, 3) for x in history.val_accuracy], f"{time.process_time() - began:.0f} s")
    model.half().float()  # the weights as they are stored
    logits = training.predict(model, to_clip(val.tensors[0]))
    sure = (logits / (temperature := fit_temperature(logits, val.tensors[1]))).softmax(1).amax(1)
    facts = {
        "data": PLANS[plan]["data"] + ", over photographs and over black",
        "training clips": len(train),
        "updates": epochs * (len(train) // 32),
        "epochs": epochs,
        "best epoch": history.best_epoch,
        "lr": 2e-3,
        "batch_size": 32,
        "seed": SEED,
        "parameters": training.parameters(model),
        "validation accuracy": round(evaluation.accuracy(logits, val.tensors[1]), 4),
        "test": {name: judged(model, *part) for name, part in clips_of("test", plan).items()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sora_nb": sora_nb.__version__,
        },
        "seconds": round(time.process_time() - began, 1),
    }
    made = Recipe(
        "C",
        OPTIONS,
        list(motion.CLASSES),
        Reading(FRAMES, 32),
        model,
        temperature,
        sure.quantile(0.05).item(),
        facts,
    )
    made.save(FOLDER / plan)
    ledger.write_receipt(f"{plan}_model", seeds=[SEED], seconds=facts["seconds"], tier="T0", numbers=facts)
    print(facts)


if __name__ == "__main__":
    main()
