"""What visual words cost and buy on level 2: train chapter 07's rows and write their receipt. Resumable.

    python scripts/visual_words.py [--seeds 3] [--epochs 6]

Every row reads the same frozen grids, of an order-blind model's frame network, over clips and their reversals, for as
many updates. A row's learning rate is the one with the least validation loss in a run of half the length, and never at
the edge of those tried; the last weights count; the test clips are scored once a run. Every finished run is one file
under build/visual_words; a killed command goes on where it was.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from recorded import ROOT, best_of, kept, paired, search
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import evaluation
from sora_nb.data import motion
from sora_nb.files import atomic
from sora_nb.layers import perplexity
from sora_nb.layers.door import centered
from sora_nb.layers.frames import FrameCNN, FrameGrid
from sora_nb.ledger import write_receipt
from sora_nb.models import MeanPool, SoraTransformer
from sora_nb.settings import tier
from sora_nb.training import fit, parameters, predict

BUILD = ROOT / "build" / "visual_words"
EIGHT = [0, 2, 4, 6, 9, 11, 13, 15]  # reversing the clip reverses this choice: chapter 3
RATES = [1e-3, 2e-3, 4e-3]
TUNING_SEED = 100  # none of the seeds that count
FRAME_EPOCHS = 4
BATCH = 16  # clips an update, each with its reversal
ROWS = {
    "tubelets, no words": dict(tubelet=(4, 2, 2)),
    "tubelets, 256 words": dict(tubelet=(4, 2, 2), words=256),
    "one token a frame, no words": dict(tubelet=(1, 8, 8)),
    "one token a frame, 256 words": dict(tubelet=(1, 8, 8), words=256),
}


class Grids(nn.Module):
    """A trained frame network without its last layer, for clips whose mean has been taken away."""

    def __init__(self, frames: FrameCNN):
        super().__init__()
        self.network = frames

    def forward(self, clips):
        """Return the grids of features."""
        return FrameGrid.forward(self.network, centered(clips))


class Kept(nn.Module):
    """Stands where the frame network was: the grids are there already."""

    in_channels = 32

    def forward(self, grids):
        """Return what came in."""
        return grids


def kept_grids() -> dict:
    """Train the order-blind frame network once, and keep its grids of every split."""
    path = BUILD / f"grids-{FRAME_EPOCHS}.pt"
    splits = {name: motion.load(motion.MotionSpec(level=2), name) for name in motion.SPLITS}
    if not path.exists():
        data = {name: (split.float()[:, EIGHT].contiguous(), split.labels) for name, split in splits.items()}
        torch.manual_seed(0)
        blind = MeanPool(len(motion.CLASSES), frames=FrameCNN(128, (16, 32), grid=8), center=True)
        fit(blind, TensorDataset(*data["train"]), epochs=FRAME_EPOCHS, progress=False)
        grids = {name: predict(Grids(blind.frames), clips).half() for name, (clips, _) in data.items()}
        with atomic(path) as temporary:
            torch.save(grids, temporary)
    grids = torch.load(path, weights_only=True)
    return {name: (grids[name].float(), split.labels) for name, split in splits.items()}


def step(model, batch):
    """Cross-entropy, over clips and reversals in training, plus the codebook's commitment loss."""
    x, labels = evaluation.with_reversals(*batch) if model.training else batch
    scores, loss = model(x, losses=True)
    return F.cross_entropy(scores, labels) + loss, (scores.argmax(1) == labels).float().mean()


@torch.no_grad()
def retrieval(model, train, test) -> dict[str, float]:
    """Share of test clips whose nearest training clip has their class, by representation and by words."""
    (x, y), (x_test, y_test) = train, test
    z, z_test = (
        torch.cat([F.normalize(model.embed(part)) for part in clips.split(100)]) for clips in (x, x_test)
    )
    found = {"representation": hit(z_test @ z.T, y, y_test)}
    if model.quantizer:
        words, words_test = (model.words(clips).flatten(1) for clips in (x, x_test))  # (n, tubelets)
        equal = torch.stack([(w == words).float().mean(1) for w in words_test])
        bag, bag_test = (bags(w, model.quantizer.codebook.shape[1]) for w in (words, words_test))
        rare = (len(bag) / (1 + (bag > 0).sum(0))).log()
        found["words in place"] = hit(equal, y, y_test)
        found["bag of words"] = hit(F.normalize(bag_test * rare) @ F.normalize(bag * rare).T, y, y_test)
        found["perplexity"] = perplexity(words_test, model.quantizer.codebook.shape[1])
    return found


def hit(similarity, labels, wanted) -> float:
    """Share of rows whose most similar column carries the wanted label."""
    return (labels[similarity.argmax(1)] == wanted).float().mean().item()


def bags(words, size):
    """How often each word occurs in each clip."""
    return F.one_hot(words, size).sum(1).float()


def train_and_score(data: dict, options: dict, rate: float, seed: int, epochs: int) -> dict:
    """Train one row once; words are switched on after a third of the epochs."""
    begun = time.process_time()
    torch.manual_seed(seed)
    model = SoraTransformer(
        len(motion.CLASSES), frames=Kept(), frame_dim=32, center=False, depth=1, **options
    )
    (x, y), (x_val, y_val), (x_test, y_test) = (data[name] for name in motion.SPLITS)

    def begin(model, epoch):
        if epoch == epochs // 3 and model.quantizer:
            model.start_words(x[:300])

    schedule = dict(epochs=epochs, lr=rate, batch_size=BATCH, seed=seed, progress=False)
    history = fit(model, TensorDataset(x, y), step=step, before_epoch=begin, **schedule)
    trained = time.process_time() - begun
    result = {
        "val loss": F.cross_entropy(predict(model, x_val), y_val).item(),
        "train loss": history.train_loss[-1],
        "updates": epochs * (len(x) // BATCH),
        "parameters": parameters(model),
        "seconds": round(trained, 1),
    }
    return result | (score(model, data) if seed != TUNING_SEED else {})


def score(model, data: dict) -> dict:
    """What the test clips say, and some training clips."""
    (x, y), test = data["train"], data["test"]
    clips, labels = evaluation.with_reversals(*test)
    scores = predict(model, clips)
    return {
        "train accuracy": evaluation.accuracy(predict(model, x[:600]), y[:600]),
        "test": evaluation.pair_scores(scores, labels),
        "within each": evaluation.within_each(scores, labels),
        "right": (scores.argmax(1) == labels).int().tolist(),
        "retrieval": retrieval(model, (x, y), test),
    }


def run_once(data: dict, row: str, rate: float, seed: int, epochs: int) -> dict:
    """A run from its file, or a new one; one for tuning never sees the test clips."""
    path = BUILD / f"{row.replace(' ', '_')}-{rate:g}-{seed}-{epochs}.json"
    return kept(path, lambda: train_and_score(data, ROWS[row], rate, seed, epochs))


def tune(data: dict, row: str, epochs: int) -> dict[float, float]:
    """Validation loss by rate, the best one inside."""
    return search(lambda rate: run_once(data, row, rate, TUNING_SEED, epochs)["val loss"], RATES)


def rulers() -> dict:
    """What the rulers of chapter 03 score on the same clips and reversals."""
    splits = [motion.load(motion.MotionSpec(level=2), name) for name in motion.SPLITS]
    train, val, test = ((split.float()[:, EIGHT], split.labels) for split in splits)
    clips, labels = evaluation.with_reversals(*test)
    scores = evaluation.ruler_scores(train, val, (clips, labels))
    return {name: evaluation.pair_scores(logits, labels) for name, logits in scores.items()}


def main() -> None:
    """Tune each row, run its seeds, score the rulers, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    BUILD.mkdir(parents=True, exist_ok=True)
    data = kept_grids()
    tuning = {row: tune(data, row, asked.epochs // 2) for row in ROWS}
    best = {row: best_of(losses) for row, losses in tuning.items()}
    runs: dict = {row: [] for row in ROWS}
    for seed in range(asked.seeds):
        for row, done in runs.items():
            done.append(run_once(data, row, best[row], seed, asked.epochs))
    pairs = {"no words or 256, tubelets": (0, 1), "tubelets or one token a frame, no words": (0, 2),
             "tubelets or one token a frame, 256 words": (1, 3)}  # fmt: skip
    each = list(runs.values())
    numbers = {
        "rates": {
            row: {f"{rate:g}": loss for rate, loss in losses.items()} for row, losses in tuning.items()
        },
        "rate": best,
        "runs": {
            row: [{k: v for k, v in run.items() if k != "right"} for run in of] for row, of in runs.items()
        },
        "paired": {name: paired(each[a], each[b], copies=2) for name, (a, b) in pairs.items()},
        "rulers": rulers(),
    }
    seconds = sum(run["seconds"] for of in each for run in of)
    print(
        write_receipt(
            "visual_words", seeds=list(range(asked.seeds)), seconds=seconds, tier=tier(), numbers=numbers
        )
    )


if __name__ == "__main__":
    main()
