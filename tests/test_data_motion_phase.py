"""No single frame tells the direction: a proof by construction, and what a linear model and two-sample tests see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest
from sklearn.linear_model import RidgeClassifier

from sora_nb.data import motion_render


def _params(label: int, level: int = 1, seed: int = 0, background: str = "photo") -> dict:
    rng = np.random.default_rng([seed, label])
    return motion_render.sample(rng, label, "train", level, background)


# One direction per pair is enough: an even class is a reversed odd one, so "alike in both directions at time t" is
# "alike at t and 1 - t in the odd class".
MIRROR = dict(
    skew=-1, drift=-1
)  # what the easing, the stray and (below) window, pan, flicker become under reversal


def _mirror(params: dict, when: float) -> dict:
    """Another draw of the same density, whose frame at ``when`` is the frame of ``params`` at 1 - ``when``."""
    other = params | {name: sign * params[name] for name, sign in MIRROR.items()}
    other["window"] = [1 - end for end in params["window"][::-1]]
    other["pan"] = [-pan for pan in params["pan"]]
    depth, cycles, phase = params["flicker"]
    other["flicker"] = [depth, cycles, 0.5 - cycles - phase]
    frames = 11
    here, there = (motion_render.progress(p, frames) for p in (params, other))
    moved = here[::-1][round(when * (frames - 1))] - there[round(when * (frames - 1))]
    other["phase"] = (params["phase"] + params["extent"] * moved) % 1  # uniform, because the phase is
    return other


@settings(max_examples=60, deadline=None)
@given(
    pair=st.integers(0, 5),
    level=st.sampled_from([1, 2]),
    seed=st.integers(0, 10_000),
    at=st.integers(0, 10),
)
def test_every_frame_of_one_direction_is_as_likely_in_the_other(pair, level, seed, at):
    """The proof of the second theorem's premise: a map of draws onto draws of equal density, frame for frame."""
    params = _params(2 * pair + 1, level, seed)
    here, boxes = motion_render.draw(params, 11, 24)
    there, other_boxes = motion_render.draw(_mirror(params, at / 10), 11, 24)
    assert np.abs(here[10 - at].astype(int) - there[at]).max() <= 1  # rounding
    np.testing.assert_allclose(boxes[10 - at], other_boxes[at], atol=1e-6)


@pytest.mark.parametrize("level", [1, 2])
def test_what_the_mirror_changes_is_drawn_evenly(level):
    """Skew, stray, pan and window have densities that the mirror leaves alone; phases are uniform."""

    draws = [_params(1 + 2 * (i % 6), level, seed=i) for i in range(3000)]

    def even(values) -> bool:
        """Half of the sample against the other half with its sign changed."""
        return ks_2samp(values[::2], -np.array(values[1::2])).pvalue > 1e-3

    assert even([p["skew"] for p in draws]) and even([p["drift"] for p in draws])
    assert kstest([p["phase"] for p in draws], "uniform").pvalue > 1e-3
    if level == 2:
        assert even([sum(p["window"]) - 1 for p in draws])
        assert all(even([p["pan"][axis] for p in draws]) for axis in (0, 1))
        assert kstest([p["flicker"][2] for p in draws], "uniform").pvalue > 1e-3


def test_easing_played_backwards_is_an_easing_of_the_family():
    for seed in range(20):
        params = _params(seed % 12, level=1, seed=seed)
        back = 1 - motion_render.progress(params, 33)[::-1]
        mirrored = motion_render.progress(params | dict(skew=-params["skew"]), 33)
        np.testing.assert_allclose(back, mirrored, atol=1e-12)
        assert mirrored[0] == 0 and mirrored[-1] == pytest.approx(1) and (np.diff(mirrored) > 0).all()


def _first(label: int, level: int, index: int) -> np.ndarray:
    """The first frame of a clip of any length, averaged to 8 × 8."""
    frame = motion_render.draw(_params(label, level, index), 2, 16)[0][0]
    return frame.reshape(8, 2, 8, 2, 3).mean((1, 3)).ravel() / 255


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("pair", range(6))
def test_frame_0_does_not_tell_the_direction(pair, level):
    """Motions that begin at one end of their path gave .92 and .72 here, over all pairs."""
    labels = 2 * pair + np.arange(480) % 2
    pixels = np.stack([_first(int(label), level, 10 * i + pair) for i, label in enumerate(labels)])
    ridge = RidgeClassifier(alpha=3.0).fit(pixels[:320], labels[:320])
    assert 0.37 < ridge.score(pixels[320:], labels[320:]) < 0.63  # 160 fair coins, 3.3 standard errors


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("pair", range(6))
def test_neither_first_box_nor_first_pitch_tells_the_direction(pair, level):
    """Two samples, compared number by number; a start at one end has p < 1e-30."""
    draws = [_params(2 * pair + i % 2, level, seed=7 * i + pair) for i in range(600)]
    rows = []
    for params in draws:
        at = motion_render.progress(params, 16)[[0 if params["label"] % 2 else -1]]
        copies = motion_render.track(params, at)
        box = motion_render.boxes(params["image"], copies, 32, pair == 5)[0]
        rows.append([*box, motion_render.cycles(params, at)[0] % 1])
    odd, even = np.array(rows)[1::2], np.array(rows)[::2]
    for name, a, b in zip(("x0", "y0", "x1", "y1", "pitch"), odd.T, even.T, strict=True):
        hidden = np.isnan(a).sum(), np.isnan(b).sum()
        assert abs(hidden[0] - hidden[1]) < 4 * np.sqrt(sum(hidden) + 1)
        assert ks_2samp(a[~np.isnan(a)], b[~np.isnan(b)]).pvalue > 1e-3, name


def test_motions_are_slow_enough_to_follow():
    """At 32 pixels and 16 frames; and at double speed on 8 frames a step stays well under half a cycle."""
    for level, limit in ((1, 2.2), (2, 2.6)):
        steps, pixels = [], []
        for seed in range(600):
            params = _params(1 + 2 * (seed % 6), level, seed)
            step = np.abs(np.diff(params["extent"] * motion_render.progress(params, 16)))
            steps.append(step.max())
            if seed % 6 < 2:
                pixels += [*(step[step > 0] * (1 + motion_render.GAP * params["side"]) * 32)]
        assert np.quantile(pixels, 0.95) < limit
        assert max(steps) * 4 < 0.45
