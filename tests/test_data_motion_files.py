"""The motion set on disk: coding, manifest, resumption, repair, and what a wrong request gets to hear."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from sora_nb.data import motion, motion_files, motion_render
from sora_nb.data.motion import MotionSpec, generate, load, render, tone
from sora_nb.data.motion_files import directory
from sora_nb.files import digest, file_digest
from sora_nb.video import VideoReadError, read_audio, read_video, write_video

SMALL = MotionSpec(train=24, val=12, test=12)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return generate(SMALL, tmp_path_factory.mktemp("motion"), workers=1, progress=False)


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
    phase = np.array([motion_render.cycles(p, motion_render.progress(p, 16))[:: 1 if p["label"] % 2 else -1] % 1
                      for p in data.params[8:10]])  # fmt: skip
    assert np.array_equal(data.boxes[8:10].isnan().any(2).numpy(), phase < 0.1)  # vanish, appear
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
            (path.parent / f".{path.stem}.part").write_bytes(b"half a fi")
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
    assert not list(folder.rglob("*.part"))
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
                                   dict(train=-1), dict(rate=0), dict(seed=-1), dict(take=-1)])  # fmt: skip
def test_a_wrong_spec_is_refused_in_one_sentence(wrong):
    with pytest.raises(ValueError, match=f"MotionSpec got {next(iter(wrong))}="):
        MotionSpec(**wrong)


def test_a_clip_that_is_not_there(tmp_path):
    for split, index in (("train", 24), ("train", -1), ("training", 0)):
        with pytest.raises(ValueError, match="There is no clip"):
            render(SMALL, split, index)
    with pytest.raises(ValueError, match="holds no clips"):
        load(MotionSpec(train=1, val=0, test=0), "val", tmp_path)
