"""The motion set as it is drawn: what it promises, each promise with a test that fails when it is broken."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_nb.data import motion, motion_files, motion_render
from sora_nb.data.motion import CLASSES, PAIRS, MotionSpec, caption, render, tone
from sora_nb.data.motion_files import directory

SMALL = MotionSpec(train=24, val=12, test=12)


def _params(label: int, level: int = 1, seed: int = 0, background: str = "photo") -> dict:
    rng = np.random.default_rng([seed, label])
    return motion_render.sample(rng, label, "train", level, background)


def test_twelve_classes_in_six_pairs():
    assert len(CLASSES) == 12 == 2 * len(PAIRS) == len(set(CLASSES))
    assert [CLASSES[c ^ 1] for c in (0, 2, 4, 6, 8, 10)] == [
        "right",
        "down",
        "grow",
        "counter-clockwise",
        "appear",
        "merge",
    ]


@settings(max_examples=40, deadline=None)
@given(label=st.integers(0, 11), level=st.sampled_from([1, 2]), seed=st.integers(0, 10_000))
def test_twin_is_exact_reversal_of_the_same_draw(label, level, seed):
    params = _params(label, level, seed)
    clip, boxes = motion_render.draw(params, 7, 16)
    twin, twin_boxes = motion_render.draw(params | dict(label=label ^ 1), 7, 16)
    assert np.array_equal(clip[::-1], twin)
    np.testing.assert_array_equal(boxes[::-1], twin_boxes)


@pytest.mark.parametrize("level", [1, 2])
def test_parameters_do_not_depend_on_the_direction(level):
    """The same random stream gives both classes of a pair the same parameters, so only the order can tell them."""
    for label in range(0, 12, 2):
        one = motion_render.sample(np.random.default_rng(5), label, "train", level)
        other = motion_render.sample(np.random.default_rng(5), label + 1, "train", level)
        assert one | dict(label=0) == other | dict(label=0)


def _measures(clip: np.ndarray) -> dict[str, np.ndarray]:
    """Centre, spread and amount of light of a bright digit on black, per frame."""
    light = clip.astype(float).mean(-1)
    total = light.sum((1, 2)) + 1e-9
    y, x = np.mgrid[: light.shape[1], : light.shape[2]]
    cx, cy = (light * x).sum((1, 2)) / total, (light * y).sum((1, 2)) / total
    dx, dy = x - cx[:, None, None], cy[:, None, None] - y  # dy upwards
    xx, yy, xy = ((light * a).sum((1, 2)) / total for a in (dx * dx, dy * dy, dx * dy))
    angle = np.unwrap(np.arctan2(2 * xy, xx - yy)) / 2  # of the long axis, counter-clockwise
    return dict(x=cx, y=cy, angle=angle, total=total, peak=light.max((1, 2)), spread=xx + yy)


# What grows from the first frame to the last in each class, and by how much at least, over half a cycle.
GROWS = {"left": ("x", -8), "right": ("x", 8), "up": ("y", -8), "down": ("y", 8), "shrink": ("spread", -10),
         "grow": ("spread", 10), "clockwise": ("angle", -2.5), "counter-clockwise": ("angle", 2.5), "vanish": ("peak", -75),
         "appear": ("peak", 75), "split": ("spread", 20), "merge": ("spread", -20)}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("seed", range(3))
def test_a_class_moves_as_its_name_says(name, seed):
    half = dict(phase=0.25, extent=0.5)  # so that no cycle ends within the clip
    params = _params(CLASSES.index(name), seed=seed, background="black") | half
    if "clockwise" in name:  # a one has a long axis that can be measured
        params["image"] = next(
            i for i in motion_render.digit_range("train") if motion_render.digit_images()[1][i] == 1
        )
    measured = _measures(motion_render.draw(params, 24, 48)[0])
    quantity, change = GROWS[name]
    series = measured[quantity]
    assert (series[-1] - series[0]) * np.sign(change) > abs(change)
    if quantity in ("x", "y"):
        assert abs(measured["xy".replace(quantity, "")][-1] - measured["xy".replace(quantity, "")][0]) < 5


@pytest.mark.parametrize("pair", range(6))
def test_a_cycle_closes(pair):
    """A whole cycle later the picture is the same, and just before and after its end no ink jumps but the fading digit's."""
    params = _params(2 * pair + 1, seed=pair, background="black") | dict(drift=0.0, phase=0.3)
    moments = np.array([0.0, 1.0, 0.7 - 1e-6, 0.7 + 1e-6]) / params["extent"]
    copies = motion_render.track(params, moments)
    start, later, before, after = np.max(
        [motion_render.coverage(params["image"], at, 48) for at in copies], 0
    )
    np.testing.assert_allclose(start, later, atol=1e-9)
    jump = np.abs(after - before).max()
    assert jump > 0.9 if pair == 4 else jump < 1e-3


def _ink(frame: np.ndarray) -> np.ndarray:
    """Box of what is bright."""
    rows, columns = np.nonzero(frame.max(-1) > 0.5 * frame.max())
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def _copies_seen(params: dict, frames: int) -> np.ndarray:
    """How many copies show any ink at each frame, in the order of the clip."""
    copies = motion_render.track(params, motion_render.progress(params, frames))
    seen = np.sum([motion_render._box(params["image"], at)[1] > 0 for at in copies], 0)
    return seen[:: 1 if params["label"] % 2 else -1]


@settings(max_examples=60, deadline=None)
@given(label=st.integers(0, 11), seed=st.integers(0, 10_000))
def test_boxes_enclose_the_ink_tightly(label, seed):
    params = _params(label, seed=seed, background="black")
    clip, boxes = motion_render.draw(params, 6, 64)
    for frame, box, copies in zip(clip, boxes, _copies_seen(params, 6)):
        if np.isnan(box).any():
            assert np.isnan(box).all() and (frame.max(-1) > 100).mean() < 0.05
            continue
        assert (box >= 0).all() and (box <= 64).all()
        if label > 3 or copies == 1:
            off = (box - _ink(frame)) * [-1, -1, 1, 1]  # outwards; pixels of 64
            assert off.min() > -3.1  # 2.4 in 1 of 28,000 frames, where a tip is faint
            cut = (box == 0).any() or (box == 64).any()  # half a pixel at the edge may hold a long stroke
            assert cut or off.max() < 3.1


def test_boxes_of_cut_digits_are_tight_too():
    """Round the ink inside the frame, not round the whole digit and then cut."""
    off = []
    for seed in range(120):
        params = _params(seed % 4, seed=seed, background="black")
        clip, boxes = motion_render.draw(params, 6, 64)
        cut = ((boxes == 0) | (boxes == 64)).any(1) & (_copies_seen(params, 6) == 1)
        off += [np.abs(box - _ink(frame)).max() for frame, box in zip(clip[cut], boxes[cut])]
    assert len(off) > 100 and np.mean(np.array(off) < 3.1) > 0.95


def test_no_box_spans_the_frame_where_a_digit_leaves_and_comes_in():
    """At the end of a cycle the box is round the part of which most shows, or there is none."""
    widths, hidden = [], []
    for seed in range(60):
        params = _params(1 + 2 * (seed % 2), seed=seed) | dict(phase=0.8)
        copies = motion_render.track(params, motion_render.progress(params, 16))
        box = motion_render.boxes(params["image"], copies, 1)
        shown = np.stack([motion_render._box(params["image"], at)[1] for at in copies])
        assert (np.isnan(box).any(1) == (shown.max(0) < motion_render.VISIBLE)).all()
        side = slice(seed % 2, None, 2)
        widths += [*np.ptp(box[:, side], axis=1), *np.ptp(box[:, side], axis=1)]
        hidden.append(np.isnan(box[:, 0]).mean())
        for t in np.nonzero(~np.isnan(box[:, 0]))[0]:
            alone = motion_render.boxes(
                params["image"],
                [{k: v[[t]] for k, v in copies[shown[:, t].argmax()].items()}],
                1,
            )
            np.testing.assert_array_equal(box[t], alone[0])
    assert np.nanmax(widths) < 0.6 and 0.02 < np.mean(hidden) < 0.3


def test_boxes_are_not_off_to_one_side():
    """Over many clips the box's centre is the ink's; half a point of the enlarged digit would show."""
    off = []
    for seed in range(60):
        params = _params(seed % 4, seed=seed, background="black") | dict(phase=0.4, extent=0.2)
        clip, boxes = motion_render.draw(params, 2, 128)
        off += [(box - _ink(frame)).reshape(2, 2).mean(0) for frame, box in zip(clip, boxes)]
    assert np.abs(np.mean(off, 0)).max() < 0.2  # pixels of 128


def test_a_digit_less_opaque_than_a_tenth_has_no_box():
    at = {name: np.full(3, value) for name, value in dict(x=0.5, y=0.5, side=0.5, angle=0.0).items()}
    found = motion_render.boxes(0, [at | dict(opacity=np.array([0.05, 0.099, 0.11]))], 64)
    assert np.isnan(found).all(1).tolist() == [True, True, False]


def test_a_digit_of_which_less_than_a_tenth_is_inside_has_no_box():
    at = {name: np.full(40, value) for name, value in dict(y=0.5, side=0.5, angle=0.0, opacity=1.0).items()}
    at["x"] = np.linspace(-0.3, 0.3, 40)
    x = at["x"][:, None] + 0.5 * motion_render._glyph(0)[1][:, 1]
    share = (x > 0).mean(1)
    found = motion_render.boxes(0, [at], 64)
    assert (np.isnan(found).any(1) == (share < 0.1)).all() and 5 < np.isnan(found).any(1).sum() < 35
    assert (found[share > 0.1][:, 0] >= 0).all() and found[(share > 0.1) & (share < 1)][:, 0].max() < 1


def test_splits_partition_digits_and_photographs():
    ranges = [motion_render.digit_range(split) for split in motion.SPLITS]
    assert sorted(i for r in ranges for i in r) == list(range(1797))
    for r in ranges:
        assert len(set(motion_render.digit_images()[1][list(r)])) == 10
    for name in motion_render.BACKGROUNDS:
        columns = [motion_render.photo_columns(name, split) for split in motion.SPLITS]
        assert sorted(c for r in columns for c in r) == list(
            range(motion_render._photographs()[name].shape[1])
        )


@pytest.mark.parametrize("split", motion.SPLITS)
def test_clips_use_only_pixels_and_digits_of_their_split(split, monkeypatch):
    """Blank everything that belongs to the other splits: nothing may change."""
    spec = MotionSpec(level=2, train=36, val=36, test=36)
    before = [render(spec, split, i)[0] for i in range(36)]
    photos = {name: np.zeros_like(image) for name, image in motion_render._photographs().items()}
    for name in motion_render.BACKGROUNDS:
        columns = list(motion_render.photo_columns(name, split))
        photos[name][:, columns] = motion_render._photographs()[name][:, columns]
    images, targets = motion_render.digit_images()
    own = np.zeros_like(images)
    own[list(motion_render.digit_range(split))] = images[list(motion_render.digit_range(split))]
    monkeypatch.setattr(motion_render, "_photographs", lambda: photos)
    monkeypatch.setattr(motion_render, "digit_images", lambda: (own, targets))
    motion_render._region.cache_clear(), motion_render._glyph.cache_clear()
    after = [render(spec, split, i)[0] for i in range(36)]
    motion_render._region.cache_clear(), motion_render._glyph.cache_clear()
    assert all(np.array_equal(a, b) for a, b in zip(before, after))


def test_level_two_adds_what_it_says():
    params = [render(MotionSpec(level=2), "train", i)[1]["params"] for i in range(400)]
    assert 0.5 < np.mean([p["distractor"] is not None for p in params]) < 0.7
    lengths = [p["window"][1] - p["window"][0] for p in params]
    assert 0.59 < min(lengths) and max(lengths) < 0.96
    assert np.ptp([p["pan"][0] for p in params]) > 0.28 and np.ptp([p["pan"][1] for p in params]) > 0.28
    assert 0.18 < max(p["flicker"][0] for p in params) <= 0.2
    assert max(p["opacity"] for p in params) < 0.91
    still = render(MotionSpec(level=1), "train", 0)[1]["params"]
    assert still["flicker"] == [0, 0, 0]
    assert still["pan"] == [0, 0] and still["distractor"] is None and still["window"] == [0, 1]


def test_level_one_background_stands_still_and_level_two_moves():
    black = dict(opacity=0.0, distractor=None)
    for level, moves in ((1, False), (2, True)):
        params = render(MotionSpec(level=level), "train", 1)[1]["params"] | black
        clip = motion_render.draw(params, 8, 32)[0]
        assert bool(np.ptp(clip.astype(int), axis=0).max()) is moves


def test_bigger_frames_and_longer_clips_show_the_same():
    base = render(MotionSpec(level=2), "val", 3)[0]
    big = render(MotionSpec(level=2, size=128), "val", 3)[0].reshape(16, 32, 4, 32, 4, 3).mean((2, 4))
    assert np.abs(big - base).mean() < 2.5
    long = render(MotionSpec(level=2, frames=31), "val", 3)[0][::2]
    assert np.abs(long.astype(int) - base).max() <= 1


def test_a_larger_set_begins_with_the_smaller_and_classes_take_turns():
    labels = [render(SMALL, "train", i)[1]["label"] for i in range(24)]
    assert labels == list(range(12)) * 2
    larger = replace(SMALL, train=2400)
    assert all(
        np.array_equal(render(SMALL, "train", i)[0], render(larger, "train", i)[0]) for i in (0, 11, 23)
    )
    assert not np.array_equal(render(replace(SMALL, seed=1), "train", 0)[0], render(SMALL, "train", 0)[0])


def test_generator_makes_the_committed_pixels():
    committed = json.loads((Path(__file__).parents[1] / "data" / "motion_manifest.json").read_text())
    assert motion.fingerprint() == committed, (
        "The generator draws other pixels than data/motion_manifest.json records: raise motion_files.VERSION and write "
        "the file anew as data/README.md says, or undo the change."
    )


def test_captions_hold_one_template_back():
    train = {render(MotionSpec(), "train", i)[1]["params"]["template"] for i in range(60)}
    held = {
        render(MotionSpec(), split, i)[1]["params"]["template"]
        for split in ("val", "test")
        for i in range(20)
    }
    assert train == {0, 1, 2, 3} and held == {4}
    assert caption(10, 8, 2) == "an eight that splits in two"
    assert (
        len(
            {
                caption(c, d, t, a)
                for c in range(12)
                for d in range(10)
                for t in range(5)
                for a in (False, True)
            }
        )
        == 1200
    )


def test_captions_say_where_a_cycle_ends_within_the_clip():
    for i in range(48):
        known = render(MotionSpec(), "train", i)[1]
        turns = motion_render.cycles(known["params"], motion_render.progress(known["params"], 16))
        ends = int(turns[-1]) > int(turns[0])
        assert ends == ("anew" in known["caption"] or "other side" in known["caption"])
    assert caption(10, 8, 2, anew=True) == "an eight that splits in two and starts anew"
    assert caption(0, 1, anew=True) == "the digit one moves left and comes back on the other side"
    assert all(motion_files.ANEW[p] == motion_files.ANEW[p // 2 * 2] for p in range(2))


def test_another_take_is_the_same_motion_in_another_scene():
    for level in (1, 2):
        for i in range(24):
            spec = MotionSpec(level=level)
            one, other = (render(replace(spec, take=k), "train", i)[1]["params"] for k in (0, 2))
            assert all(one[name] == other[name] for name in motion_render.MOTION)
            assert all(
                one[name] != other[name] for name in ("image", "color", "corner", "zoom", "gain", "pitch")
            )
            paths = [motion_render.track(p, motion_render.progress(p, 16)) for p in (one, other)]
            assert all(np.array_equal(a[k], b[k]) for a, b in zip(*paths, strict=True) for k in a)
    assert directory(MotionSpec(take=1), "x") != directory(MotionSpec(), "x")


def _heard(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times (samples) and pitch (Hz), from the zeros of a 16 kHz tone."""
    zeros = np.nonzero(np.diff(np.signbit(wave)))[0]
    half = np.diff(zeros).astype(float)
    return zeros[:-1] + half / 2, 8000 / np.convolve(half, np.ones(9) / 9, "same")


@pytest.mark.parametrize("label", range(12))
def test_tone_rises_in_odd_classes_and_falls_in_even_ones(label):
    params = _params(label) | dict(phase=0.2)  # no cycle ends
    wave = tone(params, 16, rate=8, sample_rate=16000)
    assert wave.dtype == np.float32 and wave.shape == (32000,) and 0.2 < np.abs(wave).max() <= 0.3
    pitch = _heard(wave)[1][10:-10]
    low, high = (pitch[0], pitch[-1]) if label % 2 else (pitch[-1], pitch[0])
    assert low == pytest.approx(params["pitch"] * 2**0.2, rel=0.1)
    assert high == pytest.approx(params["pitch"] * 2 ** (0.2 + params["extent"]), rel=0.1)


@pytest.mark.parametrize("phase", [0.1, 0.7])
def test_tone_has_a_frames_pitch_in_the_middle_of_the_frame(phase):
    params = _params(1) | dict(phase=phase)
    at, heard = _heard(tone(params, 16, rate=8, sample_rate=16000))
    p = motion_render.cycles(params, motion_render.progress(params, 16))
    near = np.abs(p - 1) < 0.06  # where the pitch starts anew within the nine half waves that are averaged
    for frame in set(range(2, 14)) - set(np.nonzero(near)[0]):
        expected = params["pitch"] * 2 ** (p[frame] % 1)
        assert np.interp((frame + 0.5) * 2000, at, heard) == pytest.approx(expected, rel=0.03)
    assert (p.max() > 1) == (phase == 0.7) and heard[10:-10].max() < 2.1 * params["pitch"]
