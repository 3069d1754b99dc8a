"""Draw one clip of the motion set: a handwritten digit that moves over a photograph.

Motions are cycles that begin anywhere: a digit that leaves the frame comes in again on the other side, one that has
grown fades and starts small. At every moment the distribution of the single frame is therefore the same for both
directions of a pair.

Three steps, each usable alone: ``sample`` draws the parameters of a clip, ``track`` turns them into the digit's
position, size, angle and opacity at each frame, ``paint`` draws tracks over a background. A longer video is tracks
one after the other over one background. Lengths are fractions of the frame's side, so that the same parameters give
the same clip at any size and number of frames. All arithmetic is float64: the rounded pixels are then the same on
every machine. Explained in chapter 03.
"""

import colorsys
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from sora_nb.data.real import photographs

CLASSES = (
    "left",
    "right",
    "up",
    "down",
    "shrink",
    "grow",
    "clockwise",
    "counter-clockwise",
    "vanish",
    "appear",
    "split",
    "merge",
)
PAIRS = ("left/right", "up/down", "shrink/grow", "turn", "vanish/appear", "split/merge")
SPLITS = ("train", "val", "test")
BACKGROUNDS = ("astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel")

# Share of the digit images, and of each photograph's width, that belongs to each split, in this order.
DIGIT_CUTS = (0.0, 0.6, 0.8, 1.0)
PHOTO_CUTS = (0.0, 0.5, 0.75, 1.0)
SMALLEST = 0.25  # the narrowest share of a photograph
SIDES = {
    1: ((0.46, 0.6), (0.7, 0.95)),
    2: ((0.32, 0.44), (0.55, 0.75)),
}  # of a digit; the second where it shrinks
ROAM = {1: 0.12, 2: 0.3}  # how far from the middle a motion may take place
DRIFT = 0.06  # how far a digit that moves left or right may stray up or down, and the reverse
EXTENT = {
    1: (0.35, 0.6),
    2: (0.35, 0.55),
}  # share of its cycle that a motion runs through, alike for all pairs
REACH = {1: (0.6, 0.8), 2: (0.5, 0.7)}  # how far apart two copies get
GAP = 0.6  # the cycle of a digit that crosses the frame is the frame and this share of the digit's side
SMALL = 0.35  # what a digit shrinks to
FADE = 0.12  # share of a cycle in which a digit fades in, and out, where size or distance starts anew
LENGTH = (0.6, 0.95)  # share of the clip that a motion fills at level 2
SKEW, EASE = (-0.3, 0.3), (-0.3, 0.1)  # of the easing
GLYPH = 40  # a digit image of 8×8 is enlarged to this side once, smoothly
VISIBLE = 0.1  # a digit of whose ink less than this share shows has no box
# What makes two clips the same motion, whatever moves before whatever scene.
MOTION = (
    "label",
    "side",
    "extent",
    "phase",
    "skew",
    "ease",
    "reach",
    "axis",
    "tilt",
    "center",
    "drift",
    "window",
)


@lru_cache
def digit_images() -> tuple[Float[np.ndarray, "image 8 8"], np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits in [0, 1] and what each one shows."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images / 16.0, digits.target


def digit_range(split: str) -> range:
    """Indices of the digit images that belong to ``split``: contiguous blocks, disjoint between splits."""
    i, n = SPLITS.index(split), len(digit_images()[1])
    return range(round(DIGIT_CUTS[i] * n), round(DIGIT_CUTS[i + 1] * n))


def photo_columns(name: str, split: str) -> range:
    """Pixel columns of a photograph that belong to ``split``: disjoint between splits."""
    i, width = SPLITS.index(split), _photographs()[name].shape[1]
    return range(round(PHOTO_CUTS[i] * width), round(PHOTO_CUTS[i + 1] * width))


@lru_cache
def _photographs() -> dict[str, np.ndarray]:
    return photographs()


@lru_cache(maxsize=64)
def _region(name: str, split: str) -> Float[np.ndarray, "3 height width"]:
    columns = photo_columns(name, split)
    return np.ascontiguousarray(
        (_photographs()[name][:, columns.start : columns.stop] / 255.0).transpose(2, 0, 1)
    )


@lru_cache(maxsize=2048)
def _glyph(index: int) -> tuple[Float[np.ndarray, "side side"], Float[np.ndarray, "point 2"]]:
    """The enlarged digit as opacity, and its ink as points (y, x) in units of the digit's side, centre 0."""
    image = np.pad(digit_images()[0][index], 1)  # a margin, so that the spline ends in nothing
    at = (np.arange(GLYPH) + 0.5) / GLYPH * len(image) - 0.5
    smooth = ndimage.map_coordinates(image, np.meshgrid(at, at, indexing="ij"), order=3, mode="nearest")
    opacity = np.clip((smooth - 0.15) / 0.5, 0, 1)
    ink = np.argwhere(opacity > 0.5)
    return opacity, (ink + 0.5) / GLYPH - 0.5


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low + (high - low) * rng.random())


def _pick(rng: np.random.Generator, n: int) -> int:
    return int(n * rng.random())


def _color(rng: np.random.Generator) -> list[float]:
    return list(colorsys.hsv_to_rgb(rng.random(), _uniform(rng, 0, 0.6), _uniform(rng, 0.85, 1)))


def _sample_motion(rng: np.random.Generator, pair: int, level: int) -> dict:
    """Size, place, phase and extent of one of the six motions, in the direction of the odd class."""
    side = _uniform(rng, *SIDES[level][pair == 2])  # what shrinks or grows is bigger to begin with
    reach, axis = _uniform(rng, *REACH[level]), _uniform(rng, -30, 30)
    apart = (reach * np.cos(np.radians(axis)), reach * abs(np.sin(np.radians(axis))))
    center = []
    for spread in apart if pair == 5 else (0, 0):
        room = min(ROAM[level], max(0.03, 0.5 - spread / 2 - 0.4 * side))
        center.append(0.5 + _uniform(rng, -room, room))
    return dict(side=side, reach=reach, axis=axis, center=center, tilt=_uniform(rng, -15, 15),
                drift=_uniform(rng, -DRIFT, DRIFT), phase=float(rng.random()),
                extent=_uniform(rng, *EXTENT[level]), skew=_uniform(rng, *SKEW), ease=_uniform(rng, *EASE))  # fmt: skip


def sample(
    rng: np.random.Generator, label: int, split: str, level: int = 1, background: str = "photo"
) -> dict:
    """Draw every parameter of one clip. Only ``rng.random`` is used, whose stream numpy keeps stable.

    Args:
        rng: Source of randomness; one of its own for each clip.
        label: Class, an index into ``CLASSES``.
        split: Which digit images and photograph regions may be used.
        level: 1, a still and dark background; 2, adds pan, flicker, a second digit that stands still (p = 0.6),
            a motion that fills only part of the clip, smaller digits anywhere in the frame, and lower contrast.
        background: "photo" or "black".

    Returns:
        Parameters that ``draw`` takes, JSON-able. Lengths are fractions of the frame's side, angles degrees,
        times fractions of the clip **in the direction of the odd class**.
    """
    digits = digit_range(split)
    params = dict(
        label=label,
        split=split,
        level=level,
        image=digits[_pick(rng, len(digits))],
        **_sample_motion(rng, label // 2, level),
        color=_color(rng),
        opacity=1.0,
        window=[0.0, 1.0],
    )
    name = BACKGROUNDS[_pick(rng, len(BACKGROUNDS))]
    params |= dict(
        photo=name if background == "photo" else None,
        zoom=_uniform(rng, 0.55, 0.85),
        corner=[float(rng.random()), float(rng.random())],
        gain=_uniform(rng, 0.4, 0.65),
    )
    params |= dict(pan=[0.0, 0.0], flicker=[0.0, 0.0, 0.0], distractor=None, pitch=_uniform(rng, 300, 500))
    if level == 2:
        params |= _sample_nuisance(rng, digits)
    params["digit"] = int(digit_images()[1][params["image"]])
    return params


def _sample_nuisance(rng: np.random.Generator, digits: range) -> dict:
    length = _uniform(rng, *LENGTH)
    start = _uniform(rng, 0, 1 - length)
    pan = [_uniform(rng, -0.15, 0.15), _uniform(rng, -0.15, 0.15)]
    flicker = [_uniform(rng, 0, 0.2), _uniform(rng, 2, 6), float(rng.random())]
    present = rng.random() < 0.6
    other = dict(image=digits[_pick(rng, len(digits))], side=_uniform(rng, 0.3, 0.42),
                 tilt=_uniform(rng, -15, 15), color=_color(rng),
                 center=[_uniform(rng, 0.15, 0.85), _uniform(rng, 0.15, 0.85)])  # fmt: skip
    return dict(window=[start, start + length], pan=pan, flicker=flicker, distractor=other if present else None,
                opacity=_uniform(rng, 0.6, 0.9), gain=_uniform(rng, 0.5, 0.8))  # fmt: skip


def progress(params: dict, frames: int) -> Float[np.ndarray, " time"]:
    """How far the motion has come at each frame, 0 to 1: eased, in its window, **in the odd direction**.

    The easing t + k t(1 - t) + m sin(2πt) / 2π, played backwards, is the one with -k: the family is closed under
    reversal, so speeding up is as frequent in one direction as in the other.
    """
    start, end = params["window"]
    t = np.clip((np.linspace(0, 1, frames) - start) / (end - start), 0, 1)
    return t + params["skew"] * t * (1 - t) + params["ease"] * np.sin(2 * np.pi * t) / (2 * np.pi)


def cycles(params: dict, at: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    """Cycles run at progress ``at``, counted from the uniformly drawn phase; the fraction is the phase there."""
    return params["phase"] + params["extent"] * at


def track(params: dict, at: Float[np.ndarray, " time"]) -> list[dict[str, np.ndarray]]:
    """Place, side, angle and opacity of the digit's copies where the motion has come to ``at``.

    Two copies move apart in split and merge; a digit that leaves the frame comes in as a second one.

    Returns:
        One dict a copy, each value an array over time: ``x``, ``y`` (centre), ``side``, ``angle`` (degrees,
        counter-clockwise), ``opacity``.
    """
    pair, side, (x, y) = params["label"] // 2, params["side"], params["center"]
    p = cycles(params, at) % 1
    still = dict(x=x + 0 * p, y=y + 0 * p, side=side + 0 * p, angle=params["tilt"] + 0 * p, opacity=1 + 0 * p)
    if pair < 2:
        return _crossing(params, still, p, at)
    if pair == 3:
        return [still | dict(angle=params["tilt"] + 360 * p)]
    if pair == 4:
        return [still | dict(opacity=p)]
    fade = np.clip(np.minimum(p, 1 - p) / FADE, 0, 1)
    if pair == 2:
        return [still | dict(side=side * (SMALL + (1 - SMALL) * p), opacity=fade)]
    apart, axis = params["reach"] / 2 * (1 - p), np.radians(params["axis"])
    dx, dy = apart * np.cos(axis), apart * np.sin(axis)
    return [still | dict(x=x - dx, y=y - dy, opacity=fade), still | dict(x=x + dx, y=y + dy, opacity=fade)]


def _crossing(params: dict, still: dict, p: np.ndarray, at: np.ndarray) -> list[dict[str, np.ndarray]]:
    """A digit that crosses the frame, and its copies a cycle before and behind where they are ever seen."""
    along, across = ("x", "y") if params["label"] < 2 else ("y", "x")
    gap = GAP * params["side"]
    places = [(p + turn) * (1 + gap) - gap / 2 for turn in (0, -1, 1)]
    stray = still[across] + params["drift"] * (at - 0.5)
    seen = [place for place in places if (np.abs(place - 0.5) < 0.5 + params["side"] / 2).any()]
    return [still | {along: place, across: stray} for place in seen]


def coverage(
    image: int, at: dict[str, np.ndarray], size: int, period: float | None = None
) -> Float[np.ndarray, "time size size"]:
    """Opacity of one digit on the frame's grid at each moment of a track: an affine warp of the glyph.

    With a ``period`` the world repeats after that length, across and down: what leaves on one side enters on the other.
    """
    center = (np.arange(size) + 0.5) / size
    dy, dx = center[None, :, None] - at["y"][:, None, None], center[None, None, :] - at["x"][:, None, None]
    if period:
        dy, dx = ((d + period / 2) % period - period / 2 for d in (dy, dx))
    angle = np.radians(at["angle"])[:, None, None]
    cos, sin, side = np.cos(angle), np.sin(angle), at["side"][:, None, None]
    v, u = (cos * dy + sin * dx) / side, (cos * dx - sin * dy) / side  # (T, S, S), the glyph's own axes
    grid = [(v + 0.5) * GLYPH - 0.5, (u + 0.5) * GLYPH - 0.5]
    return ndimage.map_coordinates(_glyph(image)[0], grid, order=1) * at["opacity"][:, None, None]


def boxes(
    image: int, copies: list[dict[str, np.ndarray]], size: int, together: bool = False
) -> Float[np.ndarray, "time 4"]:
    """Box ``x0, y0, x1, y1`` in pixels round a digit's ink inside the frame; NaN where too little of it shows.

    Args:
        image: Which digit image.
        copies: From ``track``.
        size: Side of the square frame in pixels.
        together: One box round all copies, as for split and merge; otherwise round the copy of which most shows,
            so that a digit that leaves on one side and enters on the other has no box across the frame.
    """
    found = [_box(image, at) for at in copies]
    corners, shown = np.stack([box for box, _ in found]), np.stack([share for _, share in found])
    if together:
        box = np.concatenate([corners[..., :2].min(0), corners[..., 2:].max(0)], 1)
    else:
        box = corners[shown.argmax(0), np.arange(shown.shape[1])]
    box = np.clip(box * size, 0, size)  # (T, 4)
    box[shown.max(0) < VISIBLE] = np.nan
    return box


def _box(
    image: int, at: dict[str, np.ndarray]
) -> tuple[Float[np.ndarray, "time 4"], Float[np.ndarray, " time"]]:
    """Corners of one copy's ink inside the frame, and how much of its ink shows: share inside × opacity."""
    angle, side, points = np.radians(at["angle"])[:, None], at["side"][:, None], _glyph(image)[1]
    cos, sin, y, x = np.cos(angle), np.sin(angle), points[:, 0][None], points[:, 1][None]
    px, py = at["x"][:, None] + side * (cos * x + sin * y), at["y"][:, None] + side * (cos * y - sin * x)
    inside, half = (np.minimum(px, py) > 0) & (np.maximum(px, py) < 1), side / GLYPH / 2  # of one glyph pixel
    low = [np.where(inside, v - half, np.inf).min(1) for v in (px, py)]
    high = [np.where(inside, v + half, -np.inf).max(1) for v in (px, py)]
    return np.stack([*low, *high], 1), inside.mean(1) * at["opacity"]


def _resample(
    starts: np.ndarray, window: float, size: int
) -> tuple[slice, Float[np.ndarray, "time size source"]]:
    """Which source pixels a moving window touches, and the weights of a tent filter over them.

    The filter is bilinear where the picture is enlarged and averages over the step where it shrinks.
    """
    step = window / size
    at = starts[:, None] + (np.arange(size) + 0.5) * step - 0.5  # (T, S), source coordinates
    touched = np.arange(max(0, int(starts.min() - step) - 1), int(starts.max() + window + step) + 2)
    weights = np.clip(1 - np.abs(at[..., None] - touched) / max(1, step), 0, None)  # (T, S, touched)
    return slice(touched[0], touched[-1] + 1), weights


def scenery(params: dict, frames: int, size: int) -> Float[np.ndarray, "time size size 3"]:
    """The background of a clip, in the odd direction: a window of the photograph that pans and flickers."""
    if params["photo"] is None:
        return np.zeros((frames, size, size, 3))
    region, when = _region(params["photo"], params["split"]), np.linspace(0, 1, frames)
    window = params["zoom"] * SMALLEST * _photographs()[params["photo"]].shape[1]  # alike in every split
    moments = when if any(params["pan"]) else when[:1]  # a still picture is drawn once
    cut, weights = [slice(None)], []
    for length, corner, pan in zip(region.shape[1:], params["corner"], params["pan"], strict=True):
        first = corner * (length - window * (1 + abs(pan))) - min(0, window * pan)  # the pan stays inside
        span, weight = _resample(first + window * pan * moments, window, size)
        cut.append(slice(span.start, min(span.stop, length)))
        weight = weight[..., : cut[-1].stop - span.start]
        weights.append((weight / weight.sum(-1, keepdims=True))[:, None])  # (T, 1, S, touched)
    image = weights[0] @ np.ascontiguousarray(region[tuple(cut)]) @ weights[1].swapaxes(2, 3)  # (T, 3, S, S)
    depth, cycles, phase = params["flicker"]
    gain = params["gain"] * (1 + depth * np.sin(2 * np.pi * (cycles * when + phase)))
    return image.transpose(0, 2, 3, 1) * gain[:, None, None, None]


def paint(
    canvas: Float[np.ndarray, "time size size 3"],
    opacity: Float[np.ndarray, "#time size size"],  # one frame will do for what stands still
    color: list[float],
) -> Float[np.ndarray, "time size size 3"]:
    """Lay one colour over the canvas, as opaque as given at each pixel."""
    return canvas + opacity[..., None] * (np.asarray(color) - canvas)


def still_box(params: dict, size: int) -> Float[np.ndarray, " 4"]:
    """Box in pixels of the digit that stands still in a clip of level 2; NaN if there is none. Used in chapter 21."""
    if not params["distractor"]:
        return np.full(4, np.nan)
    return boxes(params["distractor"]["image"], [_still(params)], size)[0]


def _still(params: dict) -> dict[str, np.ndarray]:
    """Track, of one moment, of the digit that stands still."""
    other = params["distractor"]
    x, y = other["center"]
    still = dict(x=x, y=y, side=other["side"], angle=other["tilt"], opacity=params["opacity"])
    return {key: np.array([value]) for key, value in still.items()}


def draw(
    params: dict, frames: int, size: int
) -> tuple[UInt8[np.ndarray, "time size size 3"], Float[np.ndarray, "time 4"]]:
    """Draw a clip and the boxes of its moving digit.

    An even class is drawn as its odd twin and then reversed in time, all of it: motion, pan, flicker. Nothing but
    the order of the frames can therefore differ between the two classes of a pair.

    Args:
        params: From ``sample``.
        frames: Number of frames, at least 2.
        size: Side of the square frame in pixels.

    Returns:
        Frames and boxes ``x0, y0, x1, y1`` in pixels (NaN where less than a tenth of the ink shows; for split
        and merge, one box round both copies).
    """
    copies = track(params, progress(params, frames))
    canvas = scenery(params, frames, size)
    if other := params["distractor"]:
        canvas = paint(canvas, coverage(other["image"], _still(params), size), other["color"])
    ink = np.max([coverage(params["image"], at, size) for at in copies], 0)  # (T, S, S)
    canvas = paint(canvas, params["opacity"] * ink, params["color"])
    clip = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    box = boxes(params["image"], copies, size, together=params["label"] // 2 == 5)
    step = 1 if params["label"] % 2 else -1
    return np.ascontiguousarray(clip[::step]), np.ascontiguousarray(box[::step])
