"""What is pretraining by masking worth? Train chapter 12's table: many models of one objective at once.

    python scripts/masked_learning.py                                 (T0: one seed, some processor minutes)
    SORA_NB_TIER=T1 python scripts/masked_learning.py --seconds 240   (a GPU: three seeds, all masks)
    python scripts/masked_learning.py --masks                         (50, 75 and 90 % hidden, six times the updates)

One encoder, several objectives, the same clips, updates, batch size and rates tried. Of each objective, all seeds and rates
are trained side by side, their weights stacked (torch.func); the rate with the best linear probe on validation clips counts,
seed by seed. Each start is then judged four ways with few and with many labels; rates of attentive probes and of training
as a whole are chosen on validation clips too, last weights count, test clips are scored once a run. Clips are drawn at 32
pixels and halved, without a codec; labelled clips are the chapter's files at T0 and drawn at T1. Objectives whose turn comes
after --seconds are left out of the receipt, and named there.
"""

import argparse
import copy
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from recorded import drawn, halved, interval
from side_by_side import HERE, Many, train
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb import evaluation, training
from sora_nb.data import motion
from sora_nb.layers.transformer import Decoder
from sora_nb.ledger import write_receipt
from sora_nb.models import SoraContrastive
from sora_nb.models.masked import LatentPredictor, MaskedAutoencoder, TubeletEncoder
from sora_nb.objectives import effective_rank, nt_xent, view
from sora_nb.objectives.masked import seen_and_hidden, take, tube_mask
from sora_nb.settings import settings, tier

SIZES = settings(
    T0=dict(
        pool=22_400, seeds=1, rates=(3e-3,), updates=250, batch=64, tuning=100, small=32,
        ratios=(0.75,), strengths=(1e-3, 1e-2, 1e-1, 1.0), labeled=2400, held=600,
    ),
    T1=dict(
        seeds=3, rates=(1e-3, 3e-3), updates=2400, batch=128, tuning=400, small=64, ratios=(0.75, 0.9, 0.5)
    ),
)  # fmt: skip
CLASSES, GRID, EIGHT = len(motion.CLASSES), (2, 8, 8), [0, 2, 4, 6, 9, 11, 13, 15]
SIGNS = ("effective rank", "between clips")  # of a frozen encoder, without labels


# ------------------------------------------------------------------------------------------------- data


def prepared() -> dict:
    """The pool as bytes (N, 16, 3, 16, 16); of each labelled split its 8 frames in [0, 1], and its labels."""
    spec = motion.MotionSpec(level=1)
    if tier() == "T0":  # two takes of some motions: other digits, colours and photographs
        first = min(SIZES.pool, 20_000)
        pool = [drawn(spec, "train", first)]
        pool += (
            [drawn(motion.MotionSpec(level=1, take=1), "train", SIZES.pool - first)]
            if SIZES.pool > first
            else []
        )
        splits = {name: motion.load(spec, name, progress=False) for name in motion.SPLITS}
        known = {n: (halved(s.clips[: SIZES.labeled]), s.labels[: SIZES.labeled]) for n, s in splits.items()}
    else:
        draw = lambda split, count: drawn(spec, split, count, workers=16)  # noqa: E731
        pool = [draw("train", SIZES.pool)]
        found = {
            "train": pool[0][: SIZES.labeled],
            "val": draw("val", SIZES.held),
            "test": draw("test", SIZES.held),
        }
        known = {n: (clips, torch.arange(len(clips)) % CLASSES) for n, clips in found.items()}
    splits = {n: ((x[:, EIGHT].float() / 255).to(HERE), y.to(HERE)) for n, (x, y) in known.items()}
    return {"pool": torch.cat(pool).to(HERE), "raw": known["train"][0].to(HERE), "splits": splits}


def balanced(labels: Tensor, n: int, seed: int) -> Tensor:
    """Which n training clips carry a label: as many of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    mine = labels.cpu()
    return torch.cat([order[mine[order] == c][: n // CLASSES] for c in range(CLASSES)]).to(HERE)


# ------------------------------------------------------------------------------------------------- objectives


def encoder(seed: int) -> TubeletEncoder:
    """The encoder at random start: the same for every objective of a seed."""
    torch.manual_seed(seed)
    return TubeletEncoder(64, 2, 4, GRID, (4, 2, 2))


def reader(seed: int, begun: TubeletEncoder | None = None) -> SoraContrastive:
    """A classifier, or a contrastive model, on an encoder."""
    begun = begun or encoder(seed)
    torch.manual_seed(seed + 1000)
    return SoraContrastive(CLASSES, encoder=begun)


def with_rates(models: list[nn.Module]) -> Many:
    """Each seed's model once for each rate: model of seed s and rate r is s · rates + r."""
    return Many([model for model in models for _ in SIZES.rates])


def rates() -> list[float]:
    return list(SIZES.rates) * SIZES.seeds


def each(clips: Tensor) -> Tensor:
    """Of (seeds, …), each seed's part for all of its rates."""
    return clips.repeat_interleave(len(SIZES.rates), 0)


def views(clips: Tensor, size: int, index: Tensor) -> Tensor:
    """One random view (seeds, size, 8, 3, 16, 16) of each of the clips at ``index`` (seeds, size)."""
    return each(view(clips[index.flatten()].float() / 255).unflatten(0, (SIZES.seeds, size)))


def pretrain(data: dict, name: str) -> tuple[Many, dict]:
    """Train one objective: its models, and what happened."""
    pool, size = data["pool"], SIZES.batch
    any_clips = lambda: torch.randint(len(pool), (SIZES.seeds, size), device=HERE)  # noqa: E731
    torch.manual_seed(1)
    if name == "random":
        return with_rates([reader(s) for s in range(SIZES.seeds)]), {}
    if name == "contrastive":
        many = with_rates([reader(s) for s in range(SIZES.seeds)])

        def inputs():
            index = any_clips()
            return views(pool, size, index), views(pool, size, index)

        return many, {"losses": train(many, rates(), SIZES.updates, compare, inputs)}
    kind, ratio = name.split()
    build = MaskedAutoencoder if kind == "MAE" else LatentPredictor
    many = with_rates([build(CLASSES, encoder=encoder(s)) for s in range(SIZES.seeds)])
    inputs = lambda: (views(pool, size, any_clips()), tube_mask(size, GRID, int(ratio) / 100, HERE))  # noqa: E731
    after = None if kind == "MAE" else lambda: trail(many)
    losses = train(
        many, rates(), SIZES.updates, lambda model, *x: model.loss(*x), inputs, alike=(1,), after=after
    )
    torch.manual_seed(2)
    clips, mask = (
        data["splits"]["val"][0],
        tube_mask(len(data["splits"]["val"][0]), GRID, int(ratio) / 100, HERE),
    )
    told = {"losses": losses}
    if kind == "MAE":
        with torch.no_grad():
            model = many.unstack(0)
            target = take(model.targets(clips), seen_and_hidden(mask)[1])
            told["loss of the mean"] = target.square().mean().item()
            told["val loss"] = [many.unstack(i).loss(clips, mask).item() for i in range(len(rates()))]
    return many, told


def compare(model: SoraContrastive, first: Tensor, second: Tensor) -> Tensor:
    return nt_xent(model.project(first), model.project(second))


def classify(model: nn.Module, clips: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(clips), labels)


@torch.no_grad()
def trail(many: Many) -> None:
    """`LatentPredictor.follow` of stacked weights."""
    for name, weight in many.weights.items():
        if name.startswith("slow."):
            weight.lerp_(many.weights["encoder." + name[5:]], 1 - many.kind.momentum)


# ------------------------------------------------------------------------------------------------- four judges


class Attentive(nn.Module):
    """One trained query reads the frozen tokens, and a linear layer reads its answer."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.ask, self.head = Decoder(64, 1, 4, 1), nn.Linear(64, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.ask(tokens)[:, 0])


@torch.no_grad()
def tokens_of(model: nn.Module, clips: Tensor) -> Tensor:
    """Frozen tokens (clips, N, D) of the model's encoder."""
    center = clips - clips.mean(1, keepdim=True)
    return torch.cat([model.encoder(part) for part in center.split(200)])


def linear(x: Tensor, y: Tensor, val: Tensor, y_val: Tensor, steps: int = 400) -> tuple[Tensor, Tensor]:
    """Logistic regressions on standardised features, one a strength, side by side: accuracy on validation, and a scorer.

    The penalty is scikit-learn's: mean cross-entropy + |w|² / (2 C n). Full batches, Adam, cosine.
    """
    mean, std = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    strengths = torch.tensor(SIZES.strengths, device=x.device)
    weight = torch.zeros(len(strengths), x.shape[1], CLASSES, device=x.device, requires_grad=True)
    bias = torch.zeros(len(strengths), 1, CLASSES, device=x.device, requires_grad=True)
    optimizer, z = torch.optim.Adam([weight, bias], lr=0.1), (x - mean) / std
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = training.learning_rate(i, steps, 0.1, 0.05)
        scores = z @ weight + bias  # (strengths, n, classes)
        loss = F.cross_entropy(scores.flatten(0, 1), y.repeat(len(strengths))) * len(strengths)
        loss = loss + (weight.square().sum((1, 2)) / (2 * strengths * len(x))).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (((val - mean) / std @ weight + bias).argmax(2) == y_val).float().mean(1)
        best = int(right.argmax())
        return right[best].item(), lambda new: (new - mean) / std @ weight[best] + bias[best]


def right(scores: Tensor, labels: Tensor) -> list[int]:
    return (scores.argmax(1) == labels).int().tolist()


@torch.no_grad()
def chosen_by_validation(many: Many, splits: dict, read) -> tuple[list[nn.Module], list[list[float]]]:
    """Each seed's model with the best validation accuracy, and the accuracies by seed and rate."""
    x, y = splits["val"]
    models = [many.unstack(i) for i in range(len(rates()))]
    found = [[(read(model, x).argmax(1) == y).float().mean().item() for model in models]]
    table = torch.tensor(found).view(SIZES.seeds, -1)
    best = table.argmax(1)
    return [models[s * len(SIZES.rates) + int(r)] for s, r in enumerate(best)], table.tolist()


def choose(data: dict, many: Many, name: str) -> tuple[list[TubeletEncoder], dict]:
    """Each seed's encoder at the rate with the best linear probe on validation clips, with all labels."""
    (x, y), (v, w) = data["splits"]["train"], data["splits"]["val"]
    models, table = [many.unstack(i) for i in range(len(rates()))], []
    for i, model in enumerate(models):
        if name == "random" and i % len(SIZES.rates):  # no rate: the same model again
            table.append(-1.0)
            continue
        table.append(linear(tokens_of(model, x).mean(1), y, tokens_of(model, v).mean(1), w)[0])
    rows = torch.tensor(table).view(SIZES.seeds, -1)
    best = [s * len(SIZES.rates) + int(r) for s, r in enumerate(rows.argmax(1))]
    return [models[i].encoder for i in best], {"val by rate": rows.tolist(), "chosen": best}


def judged(data: dict, encoders: list[TubeletEncoder]) -> list[dict]:
    """Frozen encoders under linear probe, k-NN and attentive probe: one dict a seed."""
    rows: list[dict] = [{} for _ in encoders]
    frozen = [{n: tokens_of(reader(0, e), x) for n, (x, _) in data["splits"].items()} for e in encoders]
    y = {n: labels for n, (_, labels) in data["splits"].items()}
    for seed, row in enumerate(rows):
        z = {n: t.mean(1) for n, t in frozen[seed].items()}
        row["effective rank"] = effective_rank(z["val"].cpu())
        row["between clips"] = F.layer_norm(frozen[seed]["val"], [64]).var(0).mean().item()
        votes = evaluation.knn_scores(z["train"], y["train"], z["test"], CLASSES)
        row["k-NN, 2400"] = right(votes, y["test"])
        for n in (240, SIZES.labeled):
            own = balanced(y["train"], n, seed)
            _, read = linear(z["train"][own], y["train"][own], z["val"], y["val"])
            row[f"linear, {n}"] = right(read(z["test"]), y["test"])
    for n in (240, SIZES.labeled):
        many = with_rates([Attentive(s) for s in range(SIZES.seeds)])
        own = [balanced(y["train"], n, s) for s in range(SIZES.seeds)]

        def inputs(own=own, n=n):
            index = [i[torch.randint(n, (SIZES.small,), device=HERE)] for i in own]
            x = torch.stack([f["train"][i] for f, i in zip(frozen, index, strict=True)])
            return each(x), each(torch.stack([y["train"][i] for i in index]))

        torch.manual_seed(3)
        train(many, rates(), SIZES.tuning, classify, inputs)
        with torch.no_grad():
            for seed, row in enumerate(rows):
                models = [many.unstack(seed * len(SIZES.rates) + r) for r in range(len(SIZES.rates))]
                val = [(m(frozen[seed]["val"]).argmax(1) == y["val"]).float().mean().item() for m in models]
                best = max(range(len(val)), key=val.__getitem__)
                row[f"attentive, {n}"] = right(models[best](frozen[seed]["test"]), y["test"])
    return rows


def tuned(data: dict, encoders: list[TubeletEncoder] | None, n: int, updates: int) -> list[dict]:
    """Everything trained on n labelled clips, from encoders or from random starts: one dict a seed."""
    y, size = data["splits"]["train"][1], SIZES.small
    begun = encoders or [None] * SIZES.seeds
    many = with_rates([reader(s, copy.deepcopy(e).cpu() if e else None) for s, e in enumerate(begun)])
    own = torch.stack([balanced(y, n, s) for s in range(SIZES.seeds)])

    def inputs():
        index = own.gather(1, torch.randint(n, (SIZES.seeds, size), device=HERE))
        return views(data["raw"], size, index), each(y[index])

    torch.manual_seed(4)
    losses = train(many, rates(), updates, classify, inputs)
    models, table = chosen_by_validation(many, data["splits"], lambda model, x: model(x))
    x, labels = data["splits"]["test"]
    with torch.no_grad():
        return [
            {"right": right(model(x), labels), "val by rate": table[s], "losses": losses[-1]}
            for s, model in enumerate(models)
        ]


# ------------------------------------------------------------------------------------------------- the receipt


def mean(bits: list[int]) -> float:
    return sum(bits) / len(bits)


def gap(ours: list[list[int]], theirs: list[list[int]]) -> dict[str, float]:
    """Difference of accuracies on the same clips and seeds, with a 95 % interval over clips."""
    ours, theirs = (torch.tensor(x).float().mean(0) for x in (ours, theirs))
    return interval(ours - theirs)


def start_row(data: dict, name: str) -> tuple[dict, dict]:
    """Everything about one start: what is written, and which test clips each judge got right, a list a seed."""
    many, told = pretrain(data, name)
    encoders, which = choose(data, many, name)
    rows = judged(data, encoders)
    judges = {k: [row[k] for row in rows] for k in rows[0] if k not in SIGNS}
    for n in (240, SIZES.labeled):
        judges[f"trained, {n}"] = [row["right"] for row in tuned(data, encoders, n, SIZES.tuning)]
    told |= which | {k: [row[k] for row in rows] for k in SIGNS}
    return told | {k: [mean(bits) for bits in rows] for k, rows in judges.items()}, judges


def run(data: dict, seconds: float, only: list[str] | None = None) -> dict:
    """All starts in order of importance, until the time is up; or those asked for."""
    begun, told, bits, late = time.monotonic(), {}, {}, []
    first = int(100 * SIZES.ratios[0])
    starts = ["random", f"MAE {first}", f"JEPA {first}", "contrastive"]
    starts += [f"{kind} {int(100 * ratio)}" for ratio in SIZES.ratios[1:] for kind in ("MAE", "JEPA")]
    for place, name in enumerate(only or starts):
        if not only and place >= 4 and time.monotonic() - begun > seconds:
            late.append(name)
            continue
        told[name], bits[name] = start_row(data, name)
        print(f"{time.monotonic() - begun:5.0f} s", name, shown(told[name]), flush=True)
        if name == "contrastive":  # as many updates with labels as pretraining and tuning made together
            total, name = SIZES.updates + SIZES.tuning, "supervised, all updates"
            runs = {n: tuned(data, None, n, total) for n in (240, SIZES.labeled)}
            bits[name] = {f"trained, {n}": [row["right"] for row in rows] for n, rows in runs.items()}
            told[name] = {k: [mean(b) for b in rows] for k, rows in bits[name].items()}
            told[name] |= {"val by rate": {n: [r["val by rate"] for r in rows] for n, rows in runs.items()}}
            print(f"{time.monotonic() - begun:5.0f} s", name, shown(told[name]), flush=True)
    against = {
        name: {k: gap(rows, bits["random"][k]) for k, rows in judges.items() if k in bits["random"]}
        for name, judges in bits.items()
        if name != "random"
    }
    return {"starts": told, "minus random": against, "left out": late}


def shown(row: dict) -> dict:
    return {k: [round(x, 3) for x in v] for k, v in row.items() if "," in k}


def main() -> None:
    """Draw, pretrain, judge, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further objective after this")
    parser.add_argument("--masks", action="store_true", help="three shares hidden, six times the updates")
    asked = parser.parse_args()
    receipt, only = "masked_learning", None
    if asked.masks:
        receipt, only = "masked_shares", ["random", "MAE 75", "MAE 90", "MAE 50"]
        SIZES.updates, SIZES.tuning = 6 * SIZES.updates, 3 * SIZES.tuning
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    begun = time.process_time() if HERE.type == "cpu" else time.monotonic()
    data = prepared()
    print("prepared", {k: len(v) for k, v in data.items()}, flush=True)
    numbers = run(data, asked.seconds, only) | {
        "clips": SIZES.pool, "updates": SIZES.updates, "batch": SIZES.batch, "rates": list(SIZES.rates),
        "tuning updates": SIZES.tuning, "tuning batch": SIZES.small, "labeled": SIZES.labeled,
        "parameters": training.parameters(encoder(0)),
    }  # fmt: skip
    seconds = (time.process_time() if HERE.type == "cpu" else time.monotonic()) - begun
    told = dict(seeds=list(range(SIZES.seeds)), seconds=seconds, tier=tier(), numbers=numbers)
    print(write_receipt(receipt, **told))


if __name__ == "__main__":
    main()
