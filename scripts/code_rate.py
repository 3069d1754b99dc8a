"""What 64 numbers keep of a clip where network and components see the same many clips: chapter 10's receipt. Resumable.

    python scripts/code_rate.py [--clips 20000] [--seeds 3] [--epochs 10]

The training clips are drawn at 32 pixels and halved, never encoded: pixels without a codec between. Validation and test
clips are the chapter's. The network is trained on the components of its steps, which gives the same errors as pixels do
(`SoraAutoencoder.describe`); mirrored and reversed clips are added for it, and for a row of components too. Its rate is
the best on validation in a run of a quarter of the length, and never at the edge of those tried. Test clips are scored
once a run. Clips drawn and runs finished lie under build; a killed command goes on where it was.
"""

import argparse
import io
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import torch
from recorded import PART, ROOT, best_of, drawn, halved, interval, search
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from sora_nb import video
from sora_nb.data import motion
from sora_nb.evaluation.generation import psnr
from sora_nb.files import atomic
from sora_nb.ledger import write_receipt
from sora_nb.models import SoraAutoencoder
from sora_nb.settings import tier
from sora_nb.training import fit, parameters
from sora_nb.transforms import to_clip, to_frames

BUILD = ROOT / "build" / "code_rate"
RATES = [1e-3, 3e-3, 9e-3]
TUNING_SEED = 100  # none of the seeds that count
BATCH = 256
GRIDS = (
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    6.0,
    8.0,
    12.0,
)  # steps of rounding, as distances between clips of pixels
BITS = (75, 100, 150, 200, 300, 400)  # a clip, where curves are compared
QUALITIES = (51, 46, 40, 34, 28)  # of H.264


def versions(clips: torch.Tensor) -> list[torch.Tensor]:
    """The clips as they are, mirrored, reversed, and both."""
    return [clips, clips.flip(-1), clips.flip(1), clips.flip(1, -1)]


def as_float(clips: torch.Tensor) -> torch.Tensor:
    """Bytes to [0, 1]; float clips pass."""
    return clips if clips.is_floating_point() else clips.float() / 255


def principal(clips: torch.Tensor, count: int, rounds: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and leading principal directions of byte clips, by subspace iteration: (D), (D, count)."""
    mean = torch.stack([as_float(part).flatten(1).sum(0) for part in clips.split(PART)]).sum(0) / len(clips)
    basis = torch.randn(len(mean), count + 22, generator=torch.Generator().manual_seed(0))
    for _ in range(rounds):
        basis = torch.linalg.qr(basis)[0]
        moved = torch.zeros_like(basis)
        for part in clips.split(PART):
            x = as_float(part).flatten(1) - mean
            moved += x.T @ (x @ basis)
        previous, basis = basis, moved
    inner = previous.T @ moved  # the covariance among the directions
    vectors = torch.linalg.eigh((inner + inner.T) / 2)[1].flip(1)
    return mean, previous @ vectors[:, :count]


class Versions(Dataset):
    """Described clips, each time in one of their four versions."""

    def __init__(self, steps: torch.Tensor):
        self.steps = steps  # (4, N, steps, K)

    def __len__(self):
        return self.steps.shape[1]

    def __getitem__(self, i):
        return (self.steps[torch.randint(4, ()), i],)


def step(model: SoraAutoencoder, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error between described clips, which is that between clips up to what no weight changes."""
    loss = F.mse_loss(model.decode_steps(model.encode_steps(batch[0])), batch[0])
    return loss, -loss.detach()


@torch.no_grad()
def describe(model: SoraAutoencoder, clips: torch.Tensor) -> torch.Tensor:
    """Components of all clips' steps."""
    return torch.cat([model.describe(as_float(part)) for part in clips.split(PART)])


def fitted(clips: torch.Tensor) -> dict[str, torch.Tensor]:
    """All components of the model, and the linear way back, from the training clips."""
    path = BUILD / f"components-{len(clips)}.safetensors"
    if not path.exists():
        model = SoraAutoencoder(len(motion.CLASSES))
        model.fit_linear(as_float(clips))
        kept = {k: v.contiguous() for k, v in model.state_dict().items() if k.startswith(("by_", "linear."))}
        with atomic(path) as temporary:
            save_file(kept, temporary)
    return load_file(path)


def begun(components: dict, seed: int) -> SoraAutoencoder:
    """The model before training, which is principal component analysis."""
    torch.manual_seed(seed)
    model = SoraAutoencoder(len(motion.CLASSES))
    model.load_state_dict(components, strict=False)
    return model.eval()


def trained(data: dict, rate: float, seed: int, epochs: int) -> tuple[SoraAutoencoder, dict]:
    """A trained model and its history, from their files if there are any."""
    path = BUILD / f"run-{data['clips']}-{rate:g}-{seed}-{epochs}.safetensors"
    model = begun(data["components"], seed)
    if not path.exists():
        start = time.process_time()
        plan = dict(epochs=epochs, lr=rate, batch_size=BATCH, weight_decay=0.0, seed=seed, progress=False)
        history = fit(model, Versions(data["steps"]), TensorDataset(data["val steps"]), step=step, **plan)
        told = {"val loss": min(history.val_loss), "train loss": history.train_loss[-1]}
        told |= {"epoch": history.best_epoch, "seconds": round(time.process_time() - start, 1)}
        with atomic(path) as temporary:
            save_file(model.state_dict(), temporary, metadata={"told": json.dumps(told)})
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["told"])
    print(f"rate {rate:g}, seed {seed}, {epochs} epochs: {told}", flush=True)
    return model.eval(), told


class Code:
    """A code of clips: how to write one and how to read it; numbers are scaled so that 1 moves a clip by 1."""

    def __init__(self, write, read, scale):
        self.scale = scale
        self.write = lambda clips: torch.cat([write(as_float(part)) for part in clips.split(PART)]) * scale
        self.read = lambda code: read(code / scale)


@torch.no_grad()
def network_code(model: SoraAutoencoder, clips: torch.Tensor) -> Code:
    """The model's code, each number scaled by how far a little more of it moves the clip, root mean square."""
    code, base = model.encode(clips), None
    base, little, moves = model.decode_steps(code), 0.1, []
    for k in range(model.width):
        more = code.clone()
        more[..., k] += little
        moves.append(((model.decode_steps(more) - base) / little).square().flatten(1).sum(1).mean().sqrt())
    return Code(lambda x: model.encode(x)[:, 0], lambda z: model.decode(z[:, None]), torch.stack(moves))


def linear_code(mean: torch.Tensor, directions: torch.Tensor) -> Code:
    """The code of principal components; its numbers are distances already."""
    return Code(
        lambda x: (x.flatten(1) - mean) @ directions,
        lambda z: (z @ directions.T + mean).unflatten(1, (16, 3, 16, 16)),
        torch.ones(directions.shape[1]),
    )


def table_bits(known: torch.Tensor, new: torch.Tensor) -> float:
    """Bits a clip of rounded codes, at the lengths that an ideal coder gives for how often training clips have each."""
    bits = 0.0
    for column, wanted in zip(known.T.long(), new.T.long(), strict=True):
        low = min(column.min(), wanted.min())
        counts = torch.bincount(column - low, minlength=int(wanted.max() - low) + 1).float() + 1
        bits -= (counts / counts.sum()).log2()[wanted - low].mean().item()
    return bits


@torch.no_grad()
def curve(code: Code, train: torch.Tensor, test: torch.Tensor) -> dict:
    """Bits and each test clip's PSNR for every step of rounding."""
    known, new = code.write(train), code.write(test)
    bits = [table_bits((known / grid).round(), (new / grid).round()) for grid in GRIDS]
    heights = torch.stack([psnr(code.read((new / grid).round() * grid), test) for grid in GRIDS])
    return {"bits": bits, "psnr": heights}  # heights: (grids, clips)


def at_bits(line: dict, bits: float) -> torch.Tensor | None:
    """Each clip's PSNR where the curve costs so many bits, between its neighbours; nothing beyond its ends."""
    rates = np.log(line["bits"][::-1])  # from coarse to fine
    if not rates[0] <= np.log(bits) <= rates[-1]:
        return None
    at = float(np.interp(np.log(bits), rates, np.arange(len(rates))))
    below, share = int(min(at, len(rates) - 2)), at - int(min(at, len(rates) - 2))
    heights = line["psnr"].flip(0)
    return (1 - share) * heights[below] + share * heights[below + 1]


def picture_bits(data: bytes) -> int:
    """Bits of the coded pictures in an H.264 mp4: units of type 1 and 5, without headers and container."""
    bits = 0
    with av.open(io.BytesIO(data)) as file:
        for packet in file.demux(video=0):
            raw, at = bytes(packet), 0
            while at < len(raw):
                size = int.from_bytes(raw[at : at + 4], "big")
                bits += 8 * (4 + size) if raw[at + 4] & 31 in (1, 5) else 0
                at += 4 + size
    return bits


def h264(clips: torch.Tensor, quality: int) -> dict[str, float]:
    """Mean bits and PSNR of clips through libx264 at its slowest."""
    options, bits, scores = {"crf": str(quality), "preset": "veryslow", "g": "999"}, [], []
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            path = video.write_video(Path(folder) / "clip.mp4", to_frames(clip), options=options)
            bits.append(picture_bits(path.read_bytes()))
            scores.append(psnr(to_clip(video.read_video(path))[None], clip[None]).item())
    return {"quality": quality, "bits": float(np.mean(bits)), "psnr": float(np.mean(scores))}


def rulers(train: torch.Tensor, test: torch.Tensor) -> tuple[dict, dict]:
    """Codes of principal components, and what needs no code: name -> PSNR of each test clip."""
    every = torch.randint(4, (len(train),), generator=torch.Generator().manual_seed(0))
    mixed = train.clone()
    for number, version in enumerate(versions(train)):
        mixed[every == number] = version[every == number]
    mean, directions = principal(train, 128)
    mixed_mean, mixed_directions = principal(mixed, 64)
    codes = {
        "64 components": linear_code(mean, directions[:, :64]),
        "128 components": linear_code(mean, directions),
        "64 components, mirrored and reversed clips too": linear_code(mixed_mean, mixed_directions),
    }
    scores = {"mean over time, 768 numbers": psnr(test.mean(1, keepdim=True).expand_as(test), test)}
    scores["mean training clip"] = psnr(mean.view(1, *test.shape[1:]).expand_as(test), test)
    return codes, scores


def check_errors(model: SoraAutoencoder, clips: torch.Tensor) -> None:
    """The gap between the two errors is the same for a trained model and an untrained one."""
    gaps = []
    for one in (model, begun({k: v for k, v in model.state_dict().items() if k.startswith("by_")}, 0)):
        steps = one.describe(clips)
        in_steps = (one.decode_steps(one.encode_steps(steps)) - steps).square().sum()
        gaps.append((one.reconstruct(clips) - clips).square().sum() - in_steps)
    torch.testing.assert_close(*gaps, rtol=1e-3, atol=1e-2)


def measured(data: dict, models: list[SoraAutoencoder], train: torch.Tensor, test: torch.Tensor) -> dict:
    """Scores without rounding, curves, and differences on the same clips."""
    codes, scores = rulers(train, test)
    scores |= {name: psnr(code.read(code.write(test)), test) for name, code in codes.items()}
    codes |= {
        f"network, seed {seed}": network_code(model, data["val"][:200]) for seed, model in enumerate(models)
    }
    seeds = [psnr(model.reconstruct(test), test) for model in models]
    lines = {name: curve(code, train, test) for name, code in codes.items() if not name.endswith("clips too")}
    network = torch.stack(seeds).mean(0)
    return {
        "psnr": {name: score.mean().item() for name, score in scores.items()},
        "network": [score.mean().item() for score in seeds],
        "paired": {name: interval(network - score) for name, score in scores.items()},
        "wins": {name: (network > score).float().mean().item() for name, score in scores.items()},
        "curves": {name: [line["bits"], line["psnr"].mean(1).tolist()] for name, line in lines.items()},
        "equal bits": equal_bits(lines, len(models)),
    }


def equal_bits(lines: dict, seeds: int) -> dict:
    """Network (mean of seeds) minus components of either number, where both cost as many bits."""
    found: dict = {}
    for name in ("64 components", "128 components"):
        for bits in BITS:
            ours = [at_bits(lines[f"network, seed {seed}"], bits) for seed in range(seeds)]
            theirs = at_bits(lines[name], bits)
            if theirs is not None and all(one is not None for one in ours):
                found.setdefault(name, {})[bits] = interval(torch.stack(ours).mean(0) - theirs)
    return found


def main() -> None:
    """Draw, fit, tune, train the seeds, measure, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message="The clip has")
    torch.set_num_threads(1)
    BUILD.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    train = drawn(motion.MotionSpec(level=1), "train", asked.clips)
    val, test = (
        as_float(halved(motion.load(motion.MotionSpec(level=1), name).clips)) for name in ("val", "test")
    )
    components = fitted(train)
    model = begun(components, 0)
    steps = torch.stack([describe(model, clips) for clips in versions(train)])
    data = {"clips": asked.clips, "components": components, "steps": steps, "val": val}
    data["val steps"] = describe(model, val)
    print(f"prepared: {time.process_time() - begin:.0f} s", flush=True)
    short = max(2, asked.epochs // 4)
    losses = search(lambda rate: trained(data, rate, TUNING_SEED, short)[1]["val loss"], RATES)
    best = best_of(losses)
    runs = [trained(data, best, seed, asked.epochs) for seed in range(asked.seeds)]
    with torch.no_grad():
        check_errors(runs[0][0], val[:20])
        numbers = measured(data, [model for model, _ in runs], train, test)
    numbers |= {
        "clips": asked.clips, "epochs": asked.epochs, "updates": asked.epochs * (asked.clips // BATCH),
        "parameters": parameters(model), "rates": {f"{rate:g}": loss for rate, loss in losses.items()},
        "rate": best, "runs": [told for _, told in runs],
        "H.264": [h264(test[::20], quality) for quality in QUALITIES], "H.264 clips": len(test[::20]),
    }  # fmt: skip
    seconds = time.process_time() - begin
    path = write_receipt(
        "code_rate", seeds=list(range(asked.seeds)), seconds=seconds, tier=tier(), numbers=numbers
    )
    print(path, {name: numbers[name] for name in ("psnr", "network", "paired")})


if __name__ == "__main__":
    main()
