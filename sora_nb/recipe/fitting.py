"""Train a recipe on video files. Derived in chapter 14."""

import math
import platform
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sora_nb
from sora_nb import training
from sora_nb.data.listing import VideoList
from sora_nb.data.splits import PARTS, Source, split_by_source
from sora_nb.evaluation.report import fit_temperature
from sora_nb.layers.door import centered
from sora_nb.objectives import contrast_step
from sora_nb.objectives.views import shift_and_zoom, view
from sora_nb.recipe.model import Recipe, build
from sora_nb.recipe.reading import Clips, Read, Reading, Videos, listed, read_all

SHARES = (0.7, 0.15, 0.15)
KEPT = 0.95  # share of validation clips whose confidence reaches the threshold
FRAMES, SIZES = {"B": 16, "E": 16}, {"E": 16, "frozen": 112}  # 8 frames of 32 pixels for the others


def train(
    videos: Videos,
    design: str = "C",
    *,
    val: Videos | None = None,
    test: Videos | None = None,
    source: Source | None = None,
    start: Recipe | None = None,
    frozen: bool = False,
    frames: int | None = None,
    size: int | None = None,
    stride: int | None = None,
    epochs: int = 20,
    lr: float = 2e-3,
    batch_size: int = 32,
    seed: int = 0,
    shift: float = 0.15,
    flip: bool = False,
    progress: bool = True,
    **options,
) -> Recipe:
    """Train a design on video files, a part of which stays apart for the report.

    The files are dealt out by source: 70 % to train on, 15 % to choose the epoch, the temperature and the threshold by, 15 %
    for the report; ``val`` and ``test``, where they are given, stand for the last two. A training or validation file that
    cannot be read is left out, logged and listed in ``facts``; a test file that cannot be read counts as a wrong answer.
    All clips are read once and kept in memory. Derived in chapter 14.

    Args:
        videos: a folder with one subfolder a class, a list file (see `from_list`), or a `VideoList`.
        val, test: the same, where they are given and not to be taken from ``videos``.
        design: "mean", "frozen" (a network pretrained on photographs; neither knows order), or "A" to "E". B is first trained
            by contrast, E also to reconstruct its clips.
        source: names the film that a file was cut from, given its path; without it each file is a film of its own.
        start: begin from this recipe's model, with a new head; design, options and reading are then its own.
        frozen: with ``start``, keep that model as it is and fit the head alone, by logistic regression, as "frozen" does.
        frames, size, stride: see `Reading`; 8 frames of 32 pixels (B: 16 frames, E: 16 of 16
            pixels, frozen: 8 of 112).
        epochs, lr, batch_size, seed: see ``training.fit``.
        shift: random shift and zoom of training clips, the same in all frames of a clip.
        flip: mirror half of the training clips. Only where no class names a side.
        progress: show bars.
        options: arguments of the design's class, such as ``depth=3``.

    Raises:
        ValueError: an unknown design or option, one class, or a class with too few sources to be in all three parts.
        VideoReadError: no file of a part can be read.
    """
    videos = listed(videos)
    if len(videos.classes) < 2:
        raise ValueError(
            f"There is one class, {videos.classes[0]!r}; training needs two or more to tell apart."
        )
    reading = Reading(frames or FRAMES.get(design, 8), size or SIZES.get(design, 32), stride)
    if start and (frames or size or stride or options):
        raise ValueError(
            "A recipe to start from brings its reading and its options; leave out frames, size, stride and options."
        )
    if start:
        design, options, reading = start.design, start.options, start.reading
    training.seed_everything(seed)
    model = build(design, len(videos.classes), reading, options)
    parts = zip(_parts(videos, val, test, source, seed), PARTS, strict=True)
    train, val, test = (read_all(part, reading, name, 1, progress) for part, name in parts)
    recipe = Recipe(design, options, list(videos.classes), reading, model)
    plan = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed}
    if design == "frozen" and not start:
        model.frames.load_pretrained()
    if start:
        body = {k: v for k, v in start.model.state_dict().items() if not k.startswith("head.")}
        model.load_state_dict(body, strict=False)
    if design == "frozen" or (start and frozen):
        plan = _fit_head(recipe, train, val)
    else:
        step = partial(_learn, shift=shift, flip=flip)
        plan |= _fit(recipe, train, val, step, fresh=start is None, progress=progress, **plan)
    _settle(recipe, val)
    recipe.report = recipe.judge(test, source)
    recipe.facts = _facts(recipe, train, val, test) | plan
    return recipe


def _parts(
    videos: VideoList, val: Videos | None, test: Videos | None, source: Source | None, seed: int
) -> list[VideoList]:
    """The three lists, those that were not given taken from the first."""
    given = [part if part is None else listed(part, videos.classes) for part in (val, test)]
    if None not in given:
        return [videos, *given]
    shares = [share for share, part in zip(SHARES, [None, *given]) if part is None]
    taken = split_by_source(videos, source, [share / sum(shares) for share in shares], seed)
    return [taken.pop(0), *(part or taken.pop(0) for part in given)]


def _fit(recipe: Recipe, train: Read, val: Read, step, fresh: bool, **plan) -> dict:
    """Run the loop of chapter 03, after what B and E do first; return what was done."""
    model, frames = recipe.model, recipe.reading.frames
    data = [Clips(read.clips[:, 0], read.labels) for read in (train, val)]
    updates = len(training.batches(len(train.labels), plan["batch_size"], 0, 0)) * plan["epochs"]
    done = {"updates": updates}
    if recipe.design == "B" and fresh:
        views = partial(view, frames=max(2, frames // 2), shortest=math.ceil(0.7 * frames))
        training.fit(model, data[0], step=contrast_step(view=views), **plan)
        done["updates of contrast"] = updates
    if recipe.design == "E":
        floats = data[0].clips.float() / 255
        if fresh:
            model.fit_linear(floats)
        floats = centered(floats) if model.center else floats
        spread = (floats - floats.mean((0, 1))).square().mean().item()
        step = partial(step, reconstruct=1 / spread)
    history = training.fit(model, *data, step=step, **plan)
    return done | {"best epoch": history.best_epoch, "training loss": round(history.train_loss[-1], 4)}


def _learn(
    model: nn.Module, batch: Sequence[Tensor], shift: float, flip: bool, reconstruct: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy on clips that are shifted, zoomed and mirrored in training, and, for E, the error of the copy."""
    clips, labels = batch
    if model.training:
        clips = shift_and_zoom(clips, shift, shift) if shift else clips
        mirrored = torch.rand(len(clips)).to(clips.device) < 0.5 * flip
        clips = torch.where(mirrored.view(-1, 1, 1, 1, 1), clips.flip(-1), clips)
    if not reconstruct:
        return training.classify(model, (clips, labels))
    code = model.encode(clips)
    logits = model.head(code.mean(1))
    wanted = centered(clips) if model.center else clips
    loss = F.cross_entropy(logits, labels) + reconstruct * F.mse_loss(model.decode(code), wanted)
    return loss, (logits.argmax(-1) == labels).float().mean()


def _fit_head(recipe: Recipe, train: Read, val: Read, strengths=(1e-3, 1e-2, 1e-1, 1.0, 10.0)) -> dict:
    """Logistic regression on the frozen model's embeddings; its strength is chosen on the validation part."""
    from sklearn.linear_model import LogisticRegression

    x, x_val = (recipe.embeddings(read.clips[:, 0]).double() for read in (train, val))
    center, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    fits = [LogisticRegression(C=c, max_iter=2000).fit((x - center) / scale, train.labels) for c in strengths]
    losses = [-np.log(f.predict_proba((x_val - center) / scale)[range(len(x_val)), val.labels] + 1e-12).mean()
              for f in fits]  # fmt: skip
    best = fits[int(np.argmin(losses))]
    weight, bias = (torch.as_tensor(v) for v in (best.coef_, best.intercept_))
    if len(weight) == 1:  # of two classes scikit-learn scores the second alone
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        recipe.model.head.weight.copy_(weight / scale)
        recipe.model.head.bias.copy_(bias - (weight / scale) @ center)
    return {"updates": 0, "head": f"logistic regression, C = {best.C}"}


def _settle(recipe: Recipe, val: Read) -> None:
    """Temperature and threshold, from the validation part."""
    recipe.model.eval()
    logits = recipe.logits(val.clips[:, 0])
    recipe.temperature = fit_temperature(logits, val.labels)
    sure = (logits / recipe.temperature).softmax(1).amax(1)
    recipe.threshold = sure.quantile(1 - KEPT, interpolation="lower").item()


def _facts(recipe: Recipe, train: Read, val: Read, test: Read) -> dict:
    low, high = recipe.report.interval
    return {
        "files": dict(zip(PARTS, (len(read.files) for read in (train, val, test)))),
        "left out": [reason for read in (train, val) for reason in read.failed.values()],
        "test accuracy": round(recipe.report.accuracy, 4),
        "test interval": [round(low, 4), round(high, 4)],
        "validation accuracy": round(recipe.judge(val).accuracy, 4),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sora_nb": sora_nb.__version__,
        },
    }
