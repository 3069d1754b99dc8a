"""Train the generator of chapter 18 and score it: an autoencoder, a judge, a flow transformer on latents.

    SORA_NB_TIER=T1 python scripts/making_video.py      # one GPU: 24,000 clips, 5,000 updates of 256, two seeds
    python scripts/making_video.py                      # T0: the same networks in ten minutes on one core

T1 writes data/checkpoints/flow (seed 0, what the chapter samples from) and book/results/making_video.json; T0 writes
book/results/making_video_small.json, and the checkpoint only where no T1 run has been recorded. Both leave a sheet of made clips
in book/_static. Everything is decided beforehand; guidance scales and steps are curves, none is chosen on the test clips. A killed
run goes on with the part that was not finished.
"""

import os
import time
from functools import partial
from multiprocessing import Pool

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sora_nb import checkpoints, evaluation, ledger, training
from sora_nb.data import motion
from sora_nb.evaluation.generation import frechet_distance, psnr
from sora_nb.ledger import ROOT
from sora_nb.models.flow import FlowTransformer, LatentVideo
from sora_nb.models.fusion import SoraFusion
from sora_nb.objectives.flow import flow_loss, guided, integrate
from sora_nb.settings import settings, tier

SIZES = settings(
    T0=dict(train=2400, test=600, batch=64, code=1000, judge=600, flow=1800, rate=2e-3, seeds=1, each=12),
    T1=dict(train=24_000, test=2400, batch=256, code=2000, judge=800, flow=5000, seeds=2, each=100),
)
STEPS_MADE = 16
SCALES, STEPS, SCALE = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0), (1, 2, 4, 8, 16, 32), 2.0
FOLDER, WORK = ROOT / "data" / "checkpoints" / "flow", ROOT / "build" / "making"
HERE = training.device()
NONE = len(motion.CLASSES)  # the label "not told"


def build() -> tuple[LatentVideo, SoraFusion, FlowTransformer]:
    """The three networks, untrained."""
    return LatentVideo(width=32), SoraFusion(NONE, dim=32), FlowTransformer(NONE, hidden=192)


def draw(job: tuple[str, int]) -> np.ndarray:
    """One clip of level 1 without a codec."""
    split, index = job
    spec = motion.MotionSpec(level=1, train=SIZES.train, test=SIZES.test)
    return motion.render(spec, split, index)[0]


def clips(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes (N, T, 3, H, W) and labels: the files of the set at T0, drawn without a codec at T1."""
    if tier() == "T0":
        made = motion.load(motion.MotionSpec(level=1), split, progress=False)
        frames, labels = made.clips, made.labels
    else:
        count = getattr(SIZES, split)
        with Pool() as pool:
            frames = np.stack(pool.map(draw, [(split, i) for i in range(count)], chunksize=50))
        frames, labels = torch.from_numpy(frames), torch.arange(count) % NONE
    return frames.movedim(-1, 2).contiguous().to(HERE), labels.to(HERE)


def optimize(model: nn.Module, loss, updates: int, peak: float, seed: int, average: float = 0.0) -> dict:
    """AdamW, warm-up, cosine; with a running average of the weights if asked. Mean loss of each tenth."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01, betas=(0.9, 0.95))
    slow = {k: v.detach().clone() for k, v in model.state_dict().items()}
    losses, began = torch.zeros(updates, device=HERE), time.process_time()
    for step in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate(step, updates, peak, warmup=0.05)
        with torch.autocast("cuda", torch.bfloat16, enabled=HERE.type == "cuda"):
            value = loss(model.train())
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses[step] = value.detach()
        if average:
            keep = min(average, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(slow.values()), list(model.state_dict().values()), 1 - keep)
    if average:
        model.load_state_dict(slow)
    model.eval()
    tenths = [round(part.mean().item(), 4) for part in losses.chunk(10)]
    return {"updates": updates, "peak rate": peak, "loss by tenth": tenths, "seconds": round(time.process_time() - began, 1)}  # fmt: skip


def some(x: torch.Tensor, size: int) -> torch.Tensor:
    """Random rows of a tensor, by index."""
    return torch.randint(0, len(x), (size,), device=x.device)


def backwards_too(frames: torch.Tensor, labels: torch.Tensor, i: torch.Tensor):
    """A batch as floats, each clip played backwards half the time, with its twin's label: in distribution, exactly."""
    turn = torch.rand(len(i), device=i.device) < 0.5
    batch = frames[i].float() / 255
    return torch.where(turn[:, None, None, None, None], batch.flip(1), batch), labels[i] ^ turn.long()


def train_code(code: LatentVideo, frames: torch.Tensor, labels: torch.Tensor) -> dict:
    """Principal components first, then the networks; a little noise on the latents makes the decoder forgiving."""
    code.fit_linear(frames[:2400].float() / 255)

    def loss(model):
        x = backwards_too(frames, labels, some(frames, 32))[0]
        z = model.encode(x)
        return F.mse_loss(model.decode(z + 0.1 * torch.randn_like(z)), x)

    facts = optimize(code, loss, SIZES.code, 2e-3, 0)
    code.standardize(frames[:2400].float() / 255)
    return facts


@torch.no_grad()
def in_parts(function, x: torch.Tensor, size: int = 200) -> torch.Tensor:
    """A function of clips, some at a time; bytes become floats."""
    parts = (p.float() / 255 if p.dtype == torch.uint8 else p for p in x.split(size))
    return torch.cat([function(part) for part in parts])


def rebuilt(code: LatentVideo, x: torch.Tensor) -> torch.Tensor:
    """Clips through the autoencoder and back."""
    return code.decode(code.encode(x)).clamp(0, 1)


def train_judge(judge: SoraFusion, code: LatentVideo, frames: torch.Tensor, labels: torch.Tensor) -> dict:
    """A classifier of clips, half of them real and half rebuilt, that sees every second frame."""

    def loss(model):
        x, y = backwards_too(frames, labels, some(frames, 32))
        with torch.no_grad():
            x[:16] = rebuilt(code, x[:16])
        return F.cross_entropy(model(x[:, ::2]), y)

    return optimize(judge, loss, SIZES.judge, 3e-3, 0)


def train_flow(flow: FlowTransformer, code: LatentVideo, frames, labels, seed: int) -> dict:
    """Latents of all clips and their reversals, once; the class is hidden one time in six, the first frame half the time."""
    both = torch.cat((frames, frames.flip(1)))
    z = in_parts(code.encode, both)
    first = in_parts(lambda x: code.first(x[:, 0]), both[:, :1])
    y = torch.cat((labels, labels ^ 1))

    def loss(model):
        i = some(z, SIZES.batch)
        told = torch.rand(len(i), device=HERE) > 1 / 6
        given = torch.rand(len(i), device=HERE) < 0.5
        shown = torch.where(told, y[i], NONE)
        return flow_loss(lambda x, t: model(x, t, shown, first[i], given), z[i])

    return optimize(flow, loss, SIZES.flow, SIZES.rate, seed, average=0.99)


def field(flow: FlowTransformer, labels, first=None, scale: float = SCALE):
    """The guided field of a class (and a first frame, which both sides know)."""
    hidden = torch.full_like(labels, NONE)
    return guided(lambda x, t: flow(x, t, labels, first), lambda x, t: flow(x, t, hidden, first), scale)


@torch.no_grad()
def make(flow, code, labels, first=None, scale=SCALE, steps=STEPS_MADE, heun=False, seed=0) -> torch.Tensor:
    """Clips from noise; the noise depends on the seed alone."""
    noise = torch.randn(len(labels), 4, 8, 8, 8, generator=torch.Generator().manual_seed(seed)).to(HERE)
    made = []
    for i in torch.arange(len(labels), device=HERE).split(1200 if HERE.type == "cuda" else 120):
        bound = field(flow, labels[i], None if first is None else first[i], scale)
        made.append(code.decode(integrate(bound, noise[i], steps, heun=heun)).clamp(0, 1))
    return torch.cat(made)


class Scorer:
    """What the judge says of clips, and how far their features lie from those of test clips."""

    def __init__(self, judge, code, frames, labels):
        self.judge, self.labels = judge, labels
        self.real = in_parts(lambda x: judge.embed(rebuilt(code, x)[:, ::2]), frames)

    def __call__(self, made: torch.Tensor, labels: torch.Tensor) -> dict:
        logits = in_parts(lambda x: self.judge(x[:, ::2]), made)
        scores = evaluation.pair_scores(logits.cpu(), labels.cpu())
        made_features = in_parts(lambda x: self.judge.embed(x[:, ::2]), made)
        scores["frechet"] = frechet_distance(made_features.cpu(), self.real.cpu())
        return {k: round(v, 4) for k, v in scores.items()} | {"clips": len(made)}


def vectors(x: torch.Tensor) -> torch.Tensor:
    """Clips as 4 × 3 × 8 × 8 numbers, to compare them by pixels."""
    small = F.adaptive_avg_pool2d(x[:, 1::4].flatten(0, 1), 8)
    return small.unflatten(0, (len(x), -1)).flatten(1)


def copies(made, frames, test) -> dict:
    """Pixel distances to the nearest training clip (or its reversal): of made clips, and of test clips as the control."""
    known = in_parts(vectors, torch.cat((frames, frames.flip(1))))
    result = {}
    for name, x in (("made", made), ("test", in_parts(lambda x: x, test))):
        away = torch.cdist(in_parts(vectors, x), known).amin(1)
        result[name] = [
            round(q, 4) for q in away.quantile(torch.tensor([0.05, 0.5, 0.95], device=HERE)).tolist()
        ]
    return result


@torch.no_grad()
def edit(
    flow, code, x: torch.Tensor, old: torch.Tensor, new: torch.Tensor, scale=SCALE, steps=32
) -> torch.Tensor:
    """Walk a clip back to noise as its own class, and forward as another."""
    noise = integrate(field(flow, old, scale=1.0), code.encode(x), steps, start=1.0, end=0.0)
    return code.decode(integrate(field(flow, new, scale=scale), noise, steps)).clamp(0, 1)


@torch.no_grad()
def score(flow, code, scorer, frames, test, labels) -> dict:
    """All that the receipt says of one trained flow."""
    wanted = torch.arange(NONE, device=HERE).repeat(SIZES.each)
    few = wanted[: len(wanted) if HERE.type == "cuda" else 72]
    made = {s: make(flow, code, wanted, scale=s) for s in SCALES}
    out = {"by guidance": {str(s): scorer(m, wanted) for s, m in made.items()}}
    out["by steps"] = {str(n): scorer(make(flow, code, few, steps=n), few) for n in STEPS}
    out["by steps, Heun"] = {
        str(n): scorer(make(flow, code, few, steps=n // 2, heun=True), few) for n in STEPS[1:]
    }  # n evaluations, as in the row above
    out["copies"] = copies(made[SCALE], frames, test)
    n = len(wanted) if HERE.type == "cuda" else 144
    x, y = test[:n].float() / 255, labels[:n]
    begun = make(flow, code, y, first=code.first(x[:, 0]).detach())
    out["first frame"] = scorer(begun, y) | {
        "kept, dB": round(psnr(begun[:, 0], x[:, 0]).mean().item(), 2),
        "not told, dB": round(psnr(make(flow, code, y)[:, 0], x[:, 0]).mean().item(), 2),
        "autoencoder, dB": round(
            psnr(in_parts(lambda c: rebuilt(code, c), x)[:, 0], x[:, 0]).mean().item(), 2
        ),
    }
    turned = {
        "edited": edit(flow, code, x, y, y ^ 1),
        "walked back and forth": edit(flow, code, x, y, y, 1.0),
    }
    turned["made anew"] = make(flow, code, y ^ 1)
    out["editing"] = {}
    for name, z in turned.items():
        still = psnr(z.mean(1), x.mean(1)).mean().item()
        out["editing"][name] = scorer(z, y ^ 1) | {"mean picture, dB": round(still, 2)}
    return out


def kept(name: str, model: nn.Module, make_it) -> dict:
    """Train a part, or take it from the last run of this tier."""
    path = WORK / f"{tier()}-{name}"
    if not path.with_suffix(".pt").exists():
        facts = make_it()
        WORK.mkdir(parents=True, exist_ok=True)
        torch.save({"facts": facts, "weights": model.state_dict()}, path.with_suffix(".pt"))
        print(name, facts, flush=True)
    stored = torch.load(path.with_suffix(".pt"), weights_only=True, map_location=HERE)
    model.load_state_dict(stored["weights"])
    model.half().float().eval()  # as the checkpoint will be stored
    return stored["facts"]


def sheet(made: list[torch.Tensor], name: str) -> None:
    """Made clips as a picture: every second frame, the two classes of a pair side by side."""
    from PIL import Image

    strips = [clip[::2].permute(2, 0, 3, 1).flatten(1, 2) for clip in made]  # (H, T·W, 3)
    grid = torch.cat([torch.cat(strips[i : i + 2], 1) for i in range(0, len(strips), 2)], 0)
    picture = Image.fromarray((grid.cpu().numpy() * 255).round().astype("uint8"))
    picture.save(ROOT / "book" / "_static" / f"{name}.png", optimize=True)


def main() -> None:
    began = time.process_time()
    run = "making_video_small" if tier() == "T0" else "making_video"
    training.seed_everything(0)
    (frames, labels), (test, test_labels) = clips("train"), clips("test")
    code, judge, _ = (model.to(HERE) for model in build())
    facts = {"clips": len(frames), "code": kept("code", code, lambda: train_code(code, frames, labels))}
    back = in_parts(lambda x: rebuilt(code, x), test)
    real = in_parts(lambda x: x, test)
    facts["code"]["test dB"] = round(psnr(back, real).mean().item(), 2)
    facts["judge"] = kept("judge", judge, lambda: train_judge(judge, code, frames, labels))
    for name, x in (("real", real), ("rebuilt", back)):
        logits = in_parts(lambda c: judge(c[:, ::2]), x)
        facts["judge"][name] = evaluation.pair_scores(logits.cpu(), test_labels.cpu())
    print(facts, flush=True)
    scorer = Scorer(judge, code, test, test_labels)
    facts["flow"] = {}
    for seed in range(SIZES.seeds):
        training.seed_everything(seed)
        flow = build()[2].to(HERE)
        trained = kept(f"flow-{seed}", flow, partial(train_flow, flow, code, frames, labels, seed))
        facts["flow"][str(seed)] = trained | score(flow, code, scorer, frames, test, test_labels)
        if seed == 0:
            parts = {"code": code, "judge": judge, "flow": flow}
            facts["parameters"] = {part: training.parameters(network) for part, network in parts.items()}
            if tier() != "T0" or not (ledger.RESULTS / "making_video.json").exists():
                for part, network in parts.items():
                    checkpoints.save_weights(network.half(), FOLDER / f"{part}.safetensors")
                    network.float()
            sheet(list(make(flow, code, torch.arange(NONE, device=HERE))), run)
        print(seed, facts["flow"][str(seed)], flush=True)
    seconds = time.process_time() - began
    seeds = list(range(SIZES.seeds))
    print(ledger.write_receipt(run, seeds=seeds, seconds=seconds, tier=tier(), numbers=facts))


if __name__ == "__main__":
    main()
