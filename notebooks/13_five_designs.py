# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# %% [markdown]
# # Five designs, one table
#
# **Claim.** (in work)

# %% tags=["hide-input", "protocol"]
import base64
import math
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from sora_nb import evaluation, training, video
from sora_nb.data import motion
from sora_nb.layers.door import centered
from sora_nb.models import (
    MeanPool,
    SoraAutoencoder,
    SoraContrastive,
    SoraFusion,
    SoraGRU,
    SoraTransformer,
)
from sora_nb.objectives import contrast_step, view
from sora_nb.settings import settings
from sora_nb.transforms import to_clip

# %% tags=["sizes"]
sizes = settings(
    T0=dict(train=2400, tuning=6, passes=12, seeds=3, fresh=5040, disturbed=600),
    T1=dict(train=24_000, tuning=20, passes=40, seeds=5),
)

# %% tags=["protocol"]
BATCH = 64
EIGHT = (0, 2, 4, 6, 9, 11, 13, 15)  # eight of sixteen frames; reversal keeps the choice


def files(level, split):
    """Frames (N, 16, 32, 32, 3) in bytes, and labels, of a split of the motion set."""
    data = motion.load(motion.MotionSpec(level=level, train=sizes.train), split)
    return TensorDataset(data.clips, data.labels)


def eight(frames):
    """Bytes (B, 16, H, W, 3) -> clips as a model takes them, (B, 8, 3, H, W) in [0, 1]."""
    return to_clip(frames[:, list(EIGHT)])


def augment(clips):
    """Gain and offset a clip, a shift of up to two pixels a batch: no label changes."""
    gain, offset = 2 * torch.rand(2, len(clips), 1, 1, 1, 1, device=clips.device) - 1
    clips = (clips * (1 + 0.2 * gain) + 0.1 * offset).clamp(0, 1)
    padded = F.pad(clips.flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    top, left = torch.randint(5, (2,)).tolist()
    side = clips.shape[-1]
    return padded[..., top : top + side, left : left + side].unflatten(0, clips.shape[:2])


# %% tags=["protocol"]
def label_step(model, batch):
    """Cross-entropy in training. In validation the share of errors, which chooses the epoch."""
    clips = eight(batch[0])
    clips = augment(clips) if model.training else clips
    words = isinstance(model, SoraTransformer)  # a codebook adds its own loss
    logits, extra = model(clips, losses=True) if words else (model(clips), 0.0)
    hits = (logits.argmax(1) == batch[1]).float().mean()
    return (F.cross_entropy(logits, batch[1]) + extra if model.training else 1 - hits), hits


def reconstruct_step(model, batch):
    """Mean squared error of the autoencoder."""
    clips = centered(augment(eight(batch[0])))
    loss = F.mse_loss(model.reconstruct(clips), clips)
    return loss, -loss


# %% tags=["protocol"]
class CenteredCode(SoraAutoencoder):
    """E behind the centring that all others have: it encodes what is left of a clip without its mean."""

    def encode(self, clips):
        return super().encode(centered(clips))


class Published(nn.Module):
    """VideoMAE's network (tubelets, joint attention), as small as A, fed pixels of spread 1 as it was published."""

    fixed = 8

    def __init__(self, width=60, depth=3):
        super().__init__()
        size = dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth)
        clip = dict(image_size=32, num_frames=8, patch_size=8, tubelet_size=4)
        self.network = VideoMAEForVideoClassification(
            VideoMAEConfig(**size, **clip, num_attention_heads=4, num_labels=12)
        )

    def forward(self, clips):
        return self.network(centered(clips) / 0.225).logits


# %% tags=["protocol"]
CHAPTER_7 = dict(depth=1, position="sinusoidal")
SHORT = dict(tubelet=(4, 2, 2), **CHAPTER_7)  # 32 tokens a clip
ONE = dict(tubelet=(1, 8, 8), feature_dim=128, **CHAPTER_7)  # the article's: one token a frame
CODE = dict(size=32, group=8, hop=2)  # one vector of 64 numbers for the eight frames
CONTESTANTS = {
    "mean pool": lambda **o: MeanPool(12, center=True, **o),
    "A": lambda **o: SoraTransformer(12, **SHORT | o),
    "A, 256 words": lambda **o: SoraTransformer(12, words=256, **SHORT, **o),
    "A, one word a frame": lambda **o: SoraTransformer(12, words=256, **ONE, **o),
    "B": lambda **o: SoraContrastive(12, **o),
    "C": lambda **o: SoraGRU(12, **o),
    "D": lambda **o: SoraFusion(12, **o),
    "E": lambda **o: CenteredCode(12, **CODE, **o),
    "E, probe": lambda **o: CenteredCode(12, **CODE, **o),
    "VideoMAE": lambda **o: Published(**o),
}
ABLATIONS = {  # the whole, and what is taken from it; tuned again
    "A, no position": ("A", dict(position="none")),
    "A, not centred": ("A", dict(center=False)),
    "B, labels only": ("B", dict(contrast=False)),
    "D, no LSTM": ("D", dict(lstm=False)),
    "D, one branch": ("D", dict(branches=(3,))),
}


# %% tags=["protocol"]
def train(name, data, seed, lr, passes, contrast=True, **options):
    """Train one contestant for ``passes`` passes in all; of those with labels keep what validation likes best."""
    torch.manual_seed(seed)
    model, (frames, _) = CONTESTANTS[name](**options), data["train"].tensors
    if isinstance(model, SoraAutoencoder):
        start_linear(model, data)

    def fit(passes, step, lr=lr, val=None):
        plan = dict(epochs=passes, lr=lr, batch_size=BATCH, seed=seed, step=step, progress=False)
        return training.fit(model, data["train"], val, **plan)

    if name == "E, probe":  # all passes without labels, then nothing but the head
        fit(passes, reconstruct_step)
        return model, read_out(model, data)
    unlabelled = name == "E" or (name == "B" and contrast)
    first = passes // 2 if unlabelled else max(1, passes // 4) if "word" in name else 0
    if unlabelled:  # half of the passes without labels, as chapters 10 and 11 do it
        fit(
            first,
            contrast_step(view=lambda frames: view(to_clip(frames)))
            if name == "B"
            else reconstruct_step,
            lr=3e-3,
        )
    elif first:  # words name features, so there must be features first
        fit(first, label_step)
        model.start_words(eight(frames[:600]))
    return model, fit(passes - first, label_step, val=data["val"]).val_accuracy


# %% tags=["protocol"]
def start_linear(model, data):
    """Principal components of the centred training clips; they have no seed, so they are computed once."""
    if "linear" not in data:
        model.fit_linear(centered(eight(data["train"].tensors[0])))
        own = ("by_", "linear")
        data["linear"] = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(own)}
    model.load_state_dict(data["linear"], strict=False)


def read_out(model, data):
    """Write a logistic regression on the frozen code into the head; validation chooses its penalty."""
    parts = [(data[split].tensors[0], data[split].tensors[1]) for split in ("train", "val")]
    (z, y), (z_val, y_val) = ((embeddings(model, eight(x)).double(), y) for x, y in parts)
    center, scale = z.mean(0), z.std(0)
    fits = [
        LogisticRegression(C=c, max_iter=2000).fit((z - center) / scale, y)
        for c in (0.001, 0.01, 0.1, 1.0)
    ]
    scores = [fit.score((z_val - center) / scale, y_val) for fit in fits]
    best = fits[max(range(len(fits)), key=scores.__getitem__)]
    weight = torch.from_numpy(best.coef_) / scale
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(torch.from_numpy(best.intercept_) - weight @ center)
    return [max(scores)]


@torch.no_grad()
def embeddings(model, clips):
    """Representations (N, D) of clips, on the CPU."""
    where = next(model.parameters()).device
    return torch.cat([model.eval().embed(part.to(where)).cpu() for part in clips.split(100)])


# %% tags=["hide-input", "protocol"]
def again(frames, chosen):
    """Other frames, in another order or repeated."""
    return to_clip(frames[:, list(chosen)])


def dropped(clips):
    """One frame in four, but never the first, is lost: its predecessor stays on the screen."""
    lost = torch.rand(clips.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.25
    shown = torch.arange(clips.shape[1]).where(~lost, 0).cummax(1).values  # (N, T)
    return clips.gather(1, shown[..., None, None, None].expand_as(clips))


def noisy(clips):
    """Independent noise on every pixel, a tenth of the range."""
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return (clips + 0.1 * noise).clamp(0, 1)


def recompressed(frames, crf="40"):
    """Through an ordinary H.264 file, at a poor quality."""
    out = torch.empty_like(frames)
    with tempfile.TemporaryDirectory() as folder:
        for i, clip in enumerate(frames):
            path = video.write_video(Path(folder) / "clip.mp4", clip.numpy(), options={"crf": crf})
            out[i] = torch.from_numpy(video.read_video(path))
    return eight(out)


CONDITIONS = {
    "clean": eight,
    "a quarter of the frames lost": lambda frames: dropped(eight(frames)),
    "half speed": lambda frames: again(frames, range(4, 12)),
    "double speed": lambda frames: again(frames, (0, 0, 0, 5, 10, 15, 15, 15)),
    "all sixteen frames": to_clip,
    "noise": lambda frames: noisy(eight(frames)),
    "recompressed": recompressed,
    "colours inverted": lambda frames: 1 - eight(frames),
}


# %% tags=["protocol"]
def fresh(level, clips, background="photo"):
    """Clips of a draw that no training and no choice has seen: frames in bytes, and labels. Never encoded."""
    spec = motion.MotionSpec(level=level, test=clips, seed=13, background=background)
    drawn = [motion.render(spec, "test", i) for i in range(clips)]
    labels = torch.tensor([known["label"] for _, known in drawn])
    return torch.from_numpy(np.stack([frames for frames, _ in drawn])), labels


def fresh_tests(level):
    """Everything that is opened in the last step; on level 2 also some clips under each condition."""
    frames, labels = fresh(level, sizes.fresh)
    tests = {"fresh": (eight(frames), labels)}
    if level == 2:
        some, n = frames[: sizes.disturbed], sizes.disturbed
        tests |= {name: (change(some), labels[:n]) for name, change in CONDITIONS.items()}
        black, their = fresh(level, n, "black")
        tests["black background"] = (eight(black), their)
    return tests


def measure(model, tests):
    """What the last step says of one model; ``hits`` are the clips it gets right, a bit each."""
    clips, labels = tests["fresh"]
    logits = training.predict(model, clips)
    hits = (logits.argmax(1) == labels).numpy()
    found = evaluation.pair_scores(logits, labels)
    found["hits"] = base64.b64encode(np.packbits(hits).tobytes()).decode()
    found["under"] = {}
    for name, (clips, labels) in tests.items():
        if name != "fresh" and clips.shape[1] <= getattr(model, "fixed", 16):
            found["under"][name] = evaluation.accuracy(training.predict(model, clips), labels)
    if hasattr(model, "embed"):
        some = slice(sizes.disturbed)
        z = embeddings(model, tests["fresh"][0][some])
        found["recall"] = recall_at_1(z, tests["fresh"][1][some])
    return found


def recall_at_1(z, labels):
    """How often the nearest other clip, by cosine, moves alike."""
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T).fill_diagonal_(-2)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


def rulers(level):
    """Chapter 3's rulers, scored on the fresh clips and their reversals."""
    train, val = (
        (eight(part.tensors[0]), part.tensors[1])
        for part in map(partial(files, level), ("train", "val"))
    )
    frames, labels = fresh(level, sizes.fresh)
    test = evaluation.with_reversals(eight(frames), labels)
    found = evaluation.ruler_scores(train, val, test)
    return {name: evaluation.pair_scores(logits, test[1]) for name, logits in found.items()}


# %% tags=["hide-input", "protocol"]
def macs(model, clips):
    """Multiply–adds for one clip. The counter cannot see into fused operations: an LSTM's are added, attention is taken apart."""
    extra, hooks = [], []

    def count(lstm, inputs, _):
        weights = sum(w.numel() for name, w in lstm.named_parameters() if "weight" in name)
        extra.append(math.prod(inputs[0].shape[:2]) * weights)

    for module in model.cpu().modules():  # on a GPU a GRU is fused too
        if isinstance(module, nn.LSTM):
            hooks.append(module.register_forward_hook(count))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(clips[:1].cpu())
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2 + sum(extra)


def kept_bytes(model, clips):
    """Bytes a clip that training keeps for the backward pass, parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()  # views share one
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()(clips.clone())  # a storage of their own
    return sum(kept.values()) / len(clips)


def ready(model, clips):
    """A model as it is after training, for what its weights do not decide: a codebook is in use."""
    if getattr(model, "quantizer", None) is not None:
        model.start_words(clips)
    return model


def clock(model, clips):
    """Milliseconds a clip: one alone, in a batch, and in a training step with AdamW; processor time."""
    labels = torch.zeros(len(clips), dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def step():
        F.cross_entropy(model(clips), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    with torch.no_grad():
        model.eval()
        took = {"ms_alone": stopwatch(lambda: model(clips[:1]))}
        took["ms_batch"] = stopwatch(lambda: model(clips)) / len(clips)
    model.train()
    return took | {"ms_training": stopwatch(step) / len(clips)}


def stopwatch(work):
    """Milliseconds of processor time: what another program does meanwhile is not counted."""
    began = time.process_time()
    work()
    return 1e3 * (time.process_time() - began)
