"""One house style for every figure: transparent, mid-grey text, a colour-blind-safe palette, so light and dark both work."""

import base64
import html
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import HTML
from jaxtyping import Num
from matplotlib.axes import Axes
from torch import Tensor

from sora_nb.evaluation import mean_interval
from sora_nb.transforms import to_frames
from sora_nb.video import write_video

# Okabe and Ito's palette without black and yellow, which vanish on a dark or a light page, and with a lighter blue.
BLUE, ORANGE, GREEN, PINK, SKY, RED = COLORS = (
    "#2387C9",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)
GRAY = "#7f7f7f"  # near 4:1 against the page, light or dark


def use_style() -> None:
    """Set the book's matplotlib style for this notebook. Introduced in chapter 01."""
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "figure.figsize": (7, 2.8),
            "figure.dpi": 100,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "legend.frameon": False,
            "image.interpolation": "nearest",
            "image.cmap": "cividis",
            "grid.alpha": 0.4,
        }
        | {f"{name}color": GRAY for name in ("text.", "axes.label", "xtick.", "ytick.", "axes.edge", "grid.")}
        | {"axes.titlecolor": GRAY, "legend.labelcolor": GRAY}
    )


def filmstrip(clips, titles=None, every: int = 1, width: float = 0.8, ylabels=None) -> np.ndarray:
    """Draw clips as rows of frames. Introduced in chapter 01.

    Args:
        clips: one clip or a list of clips: uint8 frames (T, H, W, 3) or float clips (T, 3, H, W).
        titles: a title above each column.
        every: show every n-th frame.
        width: inches a frame.
        ylabels: a label left of each row.

    Returns:
        The matplotlib axes, one row a clip.
    """
    rows = [_frames(clip)[::every] for clip in (clips if isinstance(clips, (list, tuple)) else [clips])]
    columns, (height, wide) = max(map(len, rows)), rows[0].shape[1:3]
    size = (width * columns, width * (height / wide) * len(rows) + 0.25 * bool(titles))
    fig, axes = plt.subplots(
        len(rows), columns, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for r, row in enumerate(rows):
        for c, frame in enumerate(row):
            axes[r, c].imshow(frame)
        if ylabels:
            axes[r, 0].set_ylabel(ylabels[r], rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], titles or [], strict=False):
        ax.set_title(title)
    return axes


def show_video(clips, labels=None, rate: float = 8, height: int = 128, alt: str = "looping video") -> HTML:
    """Show clips side by side as small looping H.264 videos in the notebook. Introduced in chapter 01.

    Args:
        clips: one clip or a list of clips: uint8 frames (T, H, W, 3) or float clips (T, 3, H, W).
        labels: a line of text below each.
        rate: frames per second.
        height: pixels on the page; small clips are enlarged without smoothing.
        alt: what a screen reader says.
    """
    clips = [_frames(clip) for clip in (clips if isinstance(clips, (list, tuple)) else [clips])]
    figures = []
    for clip, label in zip(clips, labels or [""] * len(clips), strict=True):
        enlarge = max(1, round(height / clip.shape[1]))
        source = base64.b64encode(
            _encode(clip.repeat(enlarge, axis=1).repeat(enlarge, axis=2), rate)
        ).decode()
        spoken = html.escape(f"{alt}: {label}" if label else alt, quote=True)
        video = (
            f'<video autoplay loop muted playsinline controls height="{height}" aria-label="{spoken}" '
            f'src="data:video/mp4;base64,{source}"></video>'
        )
        width = round(
            height * clip.shape[2] / clip.shape[1]
        )  # long labels wrap instead of pushing clips apart
        style = f"margin:0;text-align:center;max-width:{width}px"
        figures.append(
            f'<figure style="{style}">{video}<figcaption>{html.escape(label)}</figcaption></figure>'
        )
    return HTML(f'<div class="clips" style="display:flex;flex-wrap:wrap;gap:0.6rem">{"".join(figures)}</div>')


def curves(
    series: dict[str, list[float]],
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot named series against 1, 2, 3, …, with a dashed line at chance. Introduced in chapter 03."""
    ax = ax or plt.subplots(figsize=(5, 2.8))[1]
    for name, values in series.items():
        ax.plot(range(1, len(values) + 1), values, label=name)
    if chance is not None:
        ax.axhline(chance, color=GRAY, ls="--", lw=1, label="chance")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def intervals(
    scores: dict[str, list[float]], xlabel: str, chance: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw one row per model: a dot per seed, the mean and its 95 % interval. Introduced in chapter 03."""
    ax = ax or plt.subplots(figsize=(6, 0.45 * len(scores) + 0.9))[1]
    for row, values in enumerate(scores.values()):
        mean, half = mean_interval(values) if len(values) > 1 else (values[0], 0)
        ax.errorbar(mean, row, xerr=half, fmt="D", color=BLUE, capsize=4, ms=5)
        ax.plot(values, np.full(len(values), row - 0.22), "o", color=ORANGE, ms=4, alpha=0.8)
    if chance is not None:
        ax.axvline(chance, color=GRAY, ls="--", lw=1)
        ax.annotate("chance", (chance, -0.5), ha="center", va="bottom", fontsize=8, annotation_clip=False)
    ax.set(yticks=range(len(scores)), yticklabels=list(scores), xlabel=xlabel, ylim=(len(scores) - 0.5, -0.5))
    return ax


def confusion(matrix: Num[Tensor, "classes classes"], names, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix with row shares written in the cells. Introduced in chapter 03."""
    ax = ax or plt.subplots(figsize=(0.42 * len(names) + 1.6, 0.42 * len(names) + 1.2))[1]
    shares = (matrix.double() / matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
    ax.imshow(shares, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.05:
            ax.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="black" if share > 0.5 else "white",
            )
    ax.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="answer", ylabel="truth")
    ax.set_xticklabels(names, rotation=60, ha="right")
    ax.set_yticklabels(names)
    return ax


def _frames(clip) -> np.ndarray:
    """Accept uint8 frames (T, H, W, 3) or a float clip (T, 3, H, W)."""
    if isinstance(clip, Tensor):
        clip = to_frames(clip) if clip.is_floating_point() else clip.numpy()
    clip = np.asarray(clip)
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
        raise ValueError(
            f"Got a clip of {clip.dtype} {clip.shape}; expected uint8 (T, H, W, 3) or float (T, 3, H, W) with 3 channels."
        )
    return clip


def _encode(frames: np.ndarray, rate: float) -> bytes:
    frames = frames[
        :, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2
    ]  # browsers want 4:2:0, so even sides
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, rate=rate)
        return path.read_bytes()
