"""The motion set: what it promises, each promise with a test that fails when it is broken."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_nb.data import motion, motion_files, motion_render
from sora_nb.data.motion import CLASSES, PAIRS, MotionSpec, caption, generate, load, render, tone
from sora_nb.data.motion_files import directory
from sora_nb.files import digest, file_digest
from sora_nb.video import VideoReadError, read_audio, read_video, write_video

SMALL = MotionSpec(train=24, val=12, test=12)


def _params(label: int, level: int = 1, seed: int = 0, background: str = "photo") -> dict:
    rng = np.random.default_rng([seed, label])
    return motion_render.sample(rng, label, "train", level, background)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return generate(SMALL, tmp_path_factory.mktemp("motion"), workers=1, progress=False)


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


# What grows from the first frame to the last in each class, and by how much at least.
GROWS = {"left": ("x", -8), "right": ("x", 8), "up": ("y", -8), "down": ("y", 8), "shrink": ("spread", -10),
         "grow": ("spread", 10), "clockwise": ("angle", -1.5), "counter-clockwise": ("angle", 1.5), "vanish": ("peak", -90),
         "appear": ("peak", 90), "split": ("spread", 20), "merge": ("spread", -20)}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("seed", range(3))
def test_a_class_moves_as_its_name_says(name, seed):
    params = _params(CLASSES.index(name), seed=seed, background="black") | dict(smooth=0.0, gamma=1.0)
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


@settings(max_examples=40, deadline=None)
@given(label=st.integers(0, 11), seed=st.integers(0, 10_000))
def test_boxes_enclose_the_ink_tightly(label, seed):
    params = _params(label, seed=seed, background="black")
    clip, boxes = motion_render.draw(params, 6, 64)
    for frame, box in zip(clip, boxes):
        light = frame.max(-1)
        if np.isnan(box).any():
            assert np.isnan(box).all() and light.max() < 40
            continue
        rows, columns = np.nonzero(light > 0.5 * light.max())
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(box - seen).max() < 3.1  # pixels of 64; 2.4 in 1 of 28,000 frames, where a tip is faint
        assert (box >= 0).all() and (box <= 64).all()


def test_boxes_are_not_off_to_one_side():
    """Over many clips the box's centre is the ink's; half a point of the enlarged digit would show."""
    off = []
    for seed in range(60):
        clip, boxes = motion_render.draw(_params(seed % 4, seed=seed, background="black"), 2, 128)
        for frame, (x0, y0, x1, y1) in zip(clip, boxes):
            rows, columns = np.nonzero(frame.max(-1) > 0.5 * frame.max())
            off.append(
                (
                    (x0 + x1 - columns.min() - columns.max() - 1) / 2,
                    (y0 + y1 - rows.min() - rows.max() - 1) / 2,
                )
            )
    assert np.abs(np.mean(off, 0)).max() < 0.2  # pixels of 128


def test_a_digit_less_opaque_than_a_tenth_has_no_box():
    at = {name: np.full(3, value) for name, value in dict(x=0.5, y=0.5, side=0.5, angle=0.0).items()}
    found = motion_render.boxes(0, [at | dict(opacity=np.array([0.05, 0.099, 0.11]))], 64)
    assert np.isnan(found).all(1).tolist() == [True, True, False]


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
    assert 0.49 < min(lengths) and max(lengths) < 0.91
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
    assert len({caption(c, d, t) for c in range(12) for d in range(10) for t in range(5)}) == 600


@pytest.mark.parametrize("label", range(12))
def test_tone_rises_in_odd_classes_and_falls_in_even_ones(label):
    params = _params(label)
    wave = tone(params, 16, rate=8, sample_rate=16000)
    assert wave.dtype == np.float32 and wave.shape == (32000,) and 0.2 < np.abs(wave).max() <= 0.3
    crossings = [
        np.sum(np.diff(np.signbit(part))) / len(part) * 8000 for part in (wave[200:1200], wave[-1200:-200])
    ]
    low, high = crossings if label % 2 else crossings[::-1]
    assert low == pytest.approx(params["pitch"], rel=0.1) and high == pytest.approx(
        2 * params["pitch"], rel=0.1
    )


def test_tone_has_a_frames_pitch_in_the_middle_of_the_frame():
    params = _params(1)
    wave, height = tone(params, 16, rate=8, sample_rate=16000), motion_render.progress(params, 16)
    half = np.diff(np.nonzero(np.diff(np.signbit(wave)))[0]).astype(float)  # samples between zeros
    at = np.nonzero(np.diff(np.signbit(wave)))[0][:-1] + half / 2
    heard = 8000 / np.convolve(half, np.ones(9) / 9, "same")
    for frame in range(2, 14):
        expected = params["pitch"] * 2 ** height[frame]
        assert np.interp((frame + 0.5) * 2000, at, heard) == pytest.approx(expected, rel=0.02)


def test_audio_track_reads_back_in_time(tmp_path):
    spec = MotionSpec(train=1, val=0, test=0, audio=True)
    data = load(spec, "train", tmp_path, progress=False)
    wave, rate = read_audio(data.files[0])
    ours = tone(data.params[0], 16, 8, rate)
    assert rate == 16000
    lags = range(-1100, 1101, 4)
    middle = slice(4000, 24000)
    scores = [np.dot(wave[middle.start + lag : middle.stop + lag], ours[middle]) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 4


def test_intra_coding_commutes_with_reversal_and_ordinary_coding_does_not(tmp_path):
    def same(clip: np.ndarray, intra: bool) -> bool:
        forth = read_video(write_video(tmp_path / "a.mp4", clip, intra=intra))
        back = read_video(write_video(tmp_path / "b.mp4", clip[::-1], intra=intra))
        return np.array_equal(forth[::-1], back)

    clips = [render(MotionSpec(level=1 + i % 2), "train", i)[0] for i in range(60)]
    assert sum(same(clip, True) for clip in clips) == 60
    assert sum(same(clip, False) for clip in clips[:10]) == 0


def test_spec_intra_reaches_the_encoder(tmp_path):
    spec = MotionSpec(train=2, val=0, test=0, intra=True)
    path = load(spec, "train", tmp_path, progress=False).files[1]
    frames = render(spec, "train", 1)[0]
    assert path.read_bytes() == write_video(tmp_path / "same.mp4", frames, spec.rate, intra=True).read_bytes()


def test_default_set_is_the_one_the_chapters_speak_of():
    sizes = dict(size=32, frames=16, train=2400, val=600, test=600, rate=8, seed=0)
    assert MotionSpec() == MotionSpec(level=1, intra=True, audio=False, background="photo", **sizes)


def test_a_folder_names_its_set(tmp_path):
    assert re.fullmatch(r"motion-v2-32px-16f-[0-9a-f]{8}", directory(MotionSpec(level=2), tmp_path).name)
    assert directory(MotionSpec(level=2), tmp_path) != directory(MotionSpec(level=2, seed=1), tmp_path)


def test_manifest_describes_every_file(small):
    manifest = json.loads((small / "manifest.json").read_text())
    assert manifest["spec"]["train"] == 24 and manifest["version"] == motion_files.VERSION
    for split in motion.SPLITS:
        assert (
            len(manifest["splits"][split])
            == getattr(SMALL, split)
            == len(list((small / split).glob("*.mp4")))
        )
        for i, record in enumerate(manifest["splits"][split]):
            frames, known = render(SMALL, split, i)
            assert record["raw_sha256"] == digest(frames.tobytes())
            assert record["params"] == known["params"] and record["caption"] == known["caption"]
            redrawn = motion_render.draw(record["params"], 16, 32)[0]
            assert np.array_equal(redrawn, frames)  # the parameters survive JSON


def test_load_reads_the_files_and_their_truth(small):
    data = load(SMALL, "val", small.parent, progress=False)
    assert len(data) == 12 and data.labels.tolist() == list(range(12))
    assert data.clips.shape == (12, 16, 32, 32, 3) and data.clips.dtype == torch.uint8
    assert np.array_equal(data.clips[5].numpy(), read_video(data.files[5]))
    frames, known = render(SMALL, "val", 5)
    assert np.abs(data.clips[5].numpy().astype(int) - frames).mean() < 6
    assert data.digits[5] == known["digit"] and data.captions[5] == known["caption"]
    np.testing.assert_allclose(data.boxes[5].numpy(), known["boxes"], atol=1e-3)
    assert data.boxes[9, 0].isnan().all() and not data.boxes[9, -1].isnan().any()  # "appear"
    batch = data.float()
    assert batch.shape == (12, 16, 3, 32, 32) and 0 <= batch.min() and 0.5 < batch.max() <= 1
    backwards, labels = data.reversed()
    assert torch.equal(backwards[:, 0], data.clips[:, -1]) and labels.tolist() == [c ^ 1 for c in range(12)]


def test_second_load_decodes_nothing_and_writes_through_to_no_file(small, monkeypatch):
    first = load(SMALL, "test", small.parent, progress=False)
    monkeypatch.setattr(motion_files, "read_video", None)
    second = load(SMALL, "test", small.parent, progress=False)
    second.clips[:] = 0
    assert torch.equal(load(SMALL, "test", small.parent).clips, first.clips) and first.clips.any()


def test_cache_of_another_manifest_is_not_used(tmp_path):
    spec = MotionSpec(train=2, val=0, test=0)
    load(spec, "train", tmp_path, progress=False)
    folder = motion.directory(spec, tmp_path)
    (cache,) = folder.glob("decoded-*.npy")
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + "\n")
    np.save(cache, np.zeros((2, 16, 32, 32, 3), np.uint8))
    assert load(spec, "train", tmp_path, progress=False).clips.any()


def _hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): file_digest(p) for p in sorted(folder.rglob("*.mp4"))}


def test_workers_write_the_same_files(small, tmp_path, monkeypatch):
    monkeypatch.setattr(motion_files, "CHUNK", 6)  # 8 chunks, enough for two processes
    other = generate(SMALL, tmp_path, workers=2, progress=False)
    assert _hashes(other) == _hashes(small)
    assert (other / "manifest.json").read_text() == (small / "manifest.json").read_text()


def _counting(monkeypatch, fail_after: int | None = None) -> list:
    written = []

    def write(path, *args, **kwargs):
        if fail_after is not None and len(written) >= fail_after:
            (path.parent / f".{path.stem}-torn.mp4").write_bytes(b"half a fi")
            raise KeyboardInterrupt
        written.append(path)
        return write_video(path, *args, **kwargs)

    monkeypatch.setattr(motion_files, "write_video", write)
    return written


def test_killed_run_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    monkeypatch.setattr(motion_files, "CHUNK", 5)
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        _counting(patch, fail_after=33)
        generate(SMALL, tmp_path, workers=1, progress=False)
    folder = motion.directory(SMALL, tmp_path)
    assert not (folder / "manifest.json").exists()
    with open(folder / "records.jsonl", "a") as journal:
        journal.write('{"file": "train/000')  # the power went while this line was written
    written = _counting(monkeypatch)
    generate(SMALL, tmp_path, workers=1, progress=False)
    assert len(written) == 48 - 30  # six whole chunks were recorded
    assert _hashes(folder) == _hashes(small)
    assert (folder / "manifest.json").read_text() == (small / "manifest.json").read_text()


def test_finished_set_is_left_alone_and_damage_is_repaired(small, tmp_path, monkeypatch):
    folder = generate(SMALL, tmp_path, workers=1, progress=False)
    written = _counting(monkeypatch)
    generate(SMALL, tmp_path, workers=1, progress=False)
    assert written == []
    damaged = folder / "val" / "00003.mp4"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (folder / "test" / "00007.mp4").unlink()
    with pytest.raises(VideoReadError, match="00003.*generate"):
        load(SMALL, "val", tmp_path, progress=False)
    generate(SMALL, tmp_path, workers=1, progress=False)
    assert [p.name for p in written] == ["00003.mp4", "00007.mp4"]
    assert _hashes(folder) == _hashes(small)
    assert len(load(SMALL, "val", tmp_path, progress=False)) == 12


def test_second_process_waits_and_says_so(tmp_path, capsys):
    spec = MotionSpec(train=1, val=0, test=0)
    lock = FileLock(motion.directory(spec, tmp_path).with_suffix(".lock"))
    lock.acquire()
    thread = threading.Thread(target=generate, args=(spec, tmp_path, 1, False))
    thread.start()
    thread.join(1)
    assert thread.is_alive() and not list(tmp_path.rglob("*.mp4"))
    lock.release()
    thread.join(10)
    assert len(list(tmp_path.rglob("*.mp4"))) == 1
    assert "Another process is writing" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [dict(level=3), dict(size=31), dict(size=8), dict(frames=1), dict(background="sea"),
                                   dict(train=-1), dict(rate=0), dict(seed=-1)])  # fmt: skip
def test_a_wrong_spec_is_refused_in_one_sentence(wrong):
    with pytest.raises(ValueError, match=f"MotionSpec got {next(iter(wrong))}="):
        MotionSpec(**wrong)


def test_a_clip_that_is_not_there(tmp_path):
    for split, index in (("train", 24), ("train", -1), ("training", 0)):
        with pytest.raises(ValueError, match="There is no clip"):
            render(SMALL, split, index)
    with pytest.raises(ValueError, match="holds no clips"):
        load(MotionSpec(train=1, val=0, test=0), "val", tmp_path)
