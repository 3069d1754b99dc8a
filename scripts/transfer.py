"""What is a start worth on other data? Train chapter 14's ways from little to all labels, until scratch has learned its own clips.

    python scripts/transfer.py [--jobs 2] [--toy]

The start is design D's checkpoint, trained on the motion set; the data are walks through game worlds, tested in worlds that
no training clip shows. Each way has its own rate: the best on validation worlds with a seed that never counts, inside the
grid, which grows until it is. Every row makes the same number of updates; last weights count; test clips are scored once a run.
"""

import argparse
import multiprocessing
import os
import time
from functools import cache, partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from recorded import ROOT, best_of, search
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb import evaluation, recipe, training
from sora_nb.data import from_folder
from sora_nb.ledger import write_receipt
from sora_nb.models import SoraFusion
from sora_nb.settings import tier

UPDATES, BATCH, SEEDS, TUNING_SEED = 300, 16, range(3), 100
WAYS = {  # is there a start, and the body's rate as a share of the head's
    "frozen, linear head": (True, 0.0),
    "fine-tuned, one rate": (True, 1.0),
    "fine-tuned, body at a tenth": (True, 0.1),
    "from scratch": (False, 1.0),
}
EACH = (10,)  # labelled clips of a class; None for all


@cache
def data() -> dict[str, tuple[Tensor, Tensor]]:
    """Clips (N, 8, 3, 32, 32) in [0, 1] and labels of the three folders, on the device."""
    reading, where = recipe.load(ROOT / "data" / "checkpoints" / "D").reading, training.device()
    found = {}
    for name in ("train", "val", "test"):
        read = recipe.read_all(from_folder(ROOT / "data" / "worlds" / name), reading, name, progress=False)
        found[name] = (read.clips[:, 0].float().div(255).to(where), read.labels.to(where))
    return found


def few(each: int | None) -> tuple[Tensor, Tensor]:
    """Of each class so many training clips, evenly from the list, whose neighbours come from one world."""
    x, y = data()["train"]
    if each is None:
        return x, y
    rows = [(y == k).nonzero()[:, 0] for k in y.unique()]
    chosen = torch.cat([r[torch.linspace(0, len(r) - 1, each, device=r.device).long()] for r in rows])
    return x[chosen], y[chosen]


def built(started: bool) -> nn.Module:
    """D for the six classes, with the checkpoint's body or a random one."""
    model = SoraFusion(6)
    if started:
        body = recipe.load(ROOT / "data" / "checkpoints" / "D").model.state_dict()
        model.load_state_dict({k: v for k, v in body.items() if not k.startswith("head.")}, strict=False)
    return model.to(training.device())


def learned(way: str, each: int | None, lr: float, seed: int, updates: int) -> nn.Module:
    """A model after so many updates. A frozen body keeps the statistics of its batch norm."""
    torch.manual_seed(seed)
    started, share = WAYS[way]
    (x, y), model = few(each), built(started)
    body = [p for n, p in model.named_parameters() if not n.startswith("head.")]
    shares = (
        {share: body, 1.0: list(model.head.parameters())} if share != 1 else {1.0: list(model.parameters())}
    )
    for parameter in body if share == 0 else ():  # nothing goes back through a body that stays as it is
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW([{"params": p, "share": s, "lr": 0.0} for s, p in shares.items()])
    for step in range(updates):
        model.train(share > 0)
        chosen = torch.randint(len(y), (BATCH,)).to(y.device)
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * training.learning_rate(step, updates, lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def scores(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(100)])


def tuned(case: tuple, updates: int) -> dict[float, float]:
    """Loss on the validation worlds by rate."""
    torch.set_num_threads(1)
    x, y = data()["val"]
    return search(
        lambda lr: F.cross_entropy(scores(learned(*case, lr, TUNING_SEED, updates), x), y).item(),
        (1e-3, 4e-3, 1.6e-2),
    )


def run(job: tuple, updates: int) -> dict:
    """One run: how many of its own clips it learned, and of the test worlds' clips."""
    torch.set_num_threads(1)
    way, each, lr, seed = job
    model = learned(way, each, lr, seed, updates)
    own, test = few(each), data()["test"]
    return {name: evaluation.accuracy(scores(model, x), y) for name, (x, y) in (("own", own), ("test", test))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--toy", action="store_true", help="a few updates; print, do not write")
    options = parser.parse_args()
    updates, began = 3 if options.toy else UPDATES, time.perf_counter()
    cases = [(way, each) for each in EACH for way in WAYS]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        losses = pool.map(partial(tuned, updates=updates), cases, chunksize=1)
        rates = [best_of(tried) for tried in losses]
        jobs = [(*case, lr, seed) for case, lr in zip(cases, rates, strict=True) for seed in SEEDS]
        found = pool.map(partial(run, updates=updates), jobs, chunksize=1)
    rows: dict = {}
    for (way, each), lr, tried in zip(cases, rates, losses, strict=True):
        of = [result for job, result in zip(jobs, found, strict=True) if job[:2] == (way, each)]
        row = {"rate": lr, "validation loss": {f"{k:g}": v for k, v in tried.items()}, "updates": updates}
        row |= {name: [result[name] for result in of] for name in ("own", "test")}
        rows.setdefault("all" if each is None else str(each), {})[way] = row
        print(
            each,
            way,
            f"rate {lr:g}",
            *(f"{t:.2f}" for t in row["test"]),
            "own",
            *(f"{o:.2f}" for o in row["own"]),
        )
    if not options.toy:
        took = time.perf_counter() - began
        print(write_receipt("transfer", seeds=list(SEEDS), seconds=took, tier=tier(), numbers=rows))


if __name__ == "__main__":
    main()
