"""Train one small recipe of each design on the motion set, for chapters to start from.

    python scripts/checkpoints.py [--only A C] [--again]

Each is kept in data/checkpoints/DESIGN, and its scores in book/results/checkpoints.json. A design that is there already is
left as it is, so a broken run goes on where it was. Everything is decided beforehand: level 2, seed 0, the default splits,
the epoch with the lowest validation loss; the test clips are scored once, on the weights as they are stored.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from sora_nb import ledger, recipe, training
from sora_nb.data import motion
from sora_nb.data.listing import VideoList
from sora_nb.ledger import ROOT

FOLDER, SEED = ROOT / "data" / "checkpoints", 0
SMALL = {"dim": 128, "components": (96, 128)}  # so that E, too, fits in a megabyte
PLANS = {
    "A": {"epochs": 8},
    "B": {"epochs": 4},
    "C": {"epochs": 8},
    "D": {"epochs": 18},
    "E": {"epochs": 20, **SMALL},
}


def lists() -> dict[str, VideoList]:
    """The splits of level 2 as lists of files."""
    splits = {name: motion.load(motion.MotionSpec(level=2), name) for name in motion.SPLITS}
    return {
        name: VideoList(list(zip(split.files, split.labels.tolist(), strict=True)), list(motion.CLASSES))
        for name, split in splits.items()
    }


def make(design: str, videos: dict[str, VideoList]) -> dict:
    """Train, round to half precision, score, save; return what the receipt says of it."""
    began = time.process_time()
    made = recipe.train(
        videos["train"], design, val=videos["val"], test=videos["test"], seed=SEED, **PLANS[design]
    )
    made.model.half().float()
    scores = {name: made.evaluate(videos[name], progress=False) for name in ("val", "test")}
    low, high = scores["test"].interval
    made.facts |= {
        "data": "motion set, level 2, default splits",
        "parameters": training.parameters(made.model),
        "validation accuracy": round(scores["val"].accuracy, 4),
        "test accuracy": round(scores["test"].accuracy, 4),
        "test interval": [round(low, 4), round(high, 4)],
        "seconds": round(time.process_time() - began, 1),
    }
    made.save(FOLDER / design)
    return made.facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", choices=PLANS, default=list(PLANS), help="designs; all by default"
    )
    parser.add_argument("--again", action="store_true", help="train anew what is there already")
    options = parser.parse_args()
    videos = None
    for design in options.only:
        if options.again or not (FOLDER / design / "recipe.json").exists():
            videos = videos or lists()
            facts = make(design, videos)
            print(design, facts["validation accuracy"], facts["test accuracy"], facts["seconds"], flush=True)
    facts = {d: recipe.load(FOLDER / d).facts for d in PLANS if (FOLDER / d / "recipe.json").exists()}
    seconds = sum(fact["seconds"] for fact in facts.values())
    ledger.write_receipt("checkpoints", seeds=[SEED], seconds=seconds, tier="T0", numbers=facts)


if __name__ == "__main__":
    main()
