"""Time `sora_nb.video` against the decoders below it, side by side in one run.

    python scripts/benchmark_video.py [--repeat 7] [--clips 1000] [--json FILE]

Each cell is the median time of a row's task, opening the file included; methods take turns, so that a busy moment
hits all of them. `ratio` is ours over the best raw decoder of the row: the aim is at most 1.2. The tiny-clips row
also says how many clips a second are read. torchcodec joins in where it imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from sora_nb.video import read_video, write_video

Read = Callable[[Path, np.ndarray], np.ndarray]


def pyav_sequential(path: Path, indices: np.ndarray) -> np.ndarray:
    """Decode from the first frame on and keep what was asked for, until all of it is there."""
    wanted, last, frames = set(indices.tolist()), int(indices.max()), {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        reformatter = VideoReformatter()
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                frames[number] = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            if number == last:
                break
    return np.stack([frames[i] for i in indices.tolist()])


def pyav_seek(path: Path, indices: np.ndarray) -> np.ndarray:
    """Seek by time (right only for a constant frame rate) and decode forward from the key frame."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        reformatter = VideoReformatter()
        step = Fraction(1, 1) / stream.average_rate / stream.time_base
        decoder, position = None, -1
        for index in indices.tolist():
            if decoder is None or not 0 <= index - position <= 12:
                container.seek(int(index * step), stream=stream)
                decoder = container.decode(stream)
            for frame in decoder:
                position = round(frame.pts / step)
                if position == index:
                    frames.append(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
                    break
    return np.stack(frames)


def raw_decord(path: Path, indices: np.ndarray) -> np.ndarray:
    import decord

    return decord.VideoReader(str(path), num_threads=1).get_batch(indices).asnumpy()


def raw_torchcodec(path: Path, indices: np.ndarray) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(indices.tolist()).data.numpy()


def ours(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_video(path, indices)


def ours_decord(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_video(path, indices, decoder="decord")


def methods() -> dict[str, Read]:
    named = {"ours": ours, "ours decord": ours_decord, "pyav seq": pyav_sequential, "pyav seek": pyav_seek}
    for name, module, read in (
        ("decord", "decord", raw_decord),
        ("torchcodec", "torchcodec.decoders", raw_torchcodec),
    ):
        try:
            __import__(module)
        except (ImportError, OSError, RuntimeError):
            continue
        named[name] = read
    return named


def scene(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A textured picture that drifts: about as hard to code as ordinary footage."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3)).astype(np.uint8)
    large = coarse.repeat(8, 0).repeat(8, 1)
    large = np.clip(large + rng.integers(-12, 13, large.shape), 0, 255).astype(np.uint8)
    return np.stack([large[i % 300 : i % 300 + height, i % 300 : i % 300 + width] for i in range(count)])


def tasks(folder: Path, clips: int) -> dict[str, tuple[list[Path], np.ndarray, int]]:
    """Rows: files, indices, and how often each file is read in one timing."""
    rng = np.random.default_rng(0)
    wide = scene(300, 240, 320)
    gop30 = write_video(folder / "gop30.mp4", wide, 30, options={"g": "30"})
    gop250 = write_video(folder / "gop250.mp4", wide, 30, options={"g": "250"})
    hd = write_video(folder / "hd.mp4", scene(60, 720, 1280), 30)
    tiny = [write_video(folder / f"tiny{i}.mp4", scene(16, 32, 32, i)) for i in range(20)]
    some = np.sort(rng.choice(300, 16, replace=False))
    return {
        "16 random frames, GOP 30": ([gop30], some, 1),
        "16 random frames, GOP 250": ([gop250], some, 1),
        "contiguous clip of 16": ([gop30], np.arange(140, 156), 1),
        "full read, 300 of 320x240": ([gop30], np.arange(300), 1),
        "full read, 60 of 1280x720": ([hd], np.arange(60), 1),
        f"{clips} tiny clips, 16 of 32x32": (tiny, np.arange(16), max(clips // len(tiny), 1)),
    }


def time_row(named: dict[str, Read], files: list[Path], indices: np.ndarray, times: int, repeat: int) -> dict:
    """Median seconds of every method, after checking that it returns the frames of a sequential read."""
    seconds, exact = {name: [] for name in named}, {}
    reference = pyav_sequential(files[0], indices)
    for name, read in named.items():
        frames = read(files[0], indices)
        exact[name] = frames.shape == reference.shape and np.array_equal(frames, reference)
    for _ in range(repeat):
        for name, read in named.items():
            start = time.perf_counter()
            for _ in range(times):
                for path in files:
                    read(path, indices)
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(values), exact[name]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    named, table = methods(), {}
    print(
        f"{'milliseconds (* = not the reference frames)':<34}", *(f"{n:>12}" for n in named), f"{'ratio':>7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for row, (files, indices, times) in tasks(Path(folder), arguments.clips).items():
            repeat = 1 if len(files) > 1 else arguments.repeat
            cells = time_row(named, files, indices, times, max(repeat, 3 if len(files) > 1 else 1))
            raw = min(cells[n][0] for n in cells if not n.startswith("ours"))
            ratio = cells["ours"][0] / raw
            table[row] = {n: round(s * 1e3, 2) for n, (s, _) in cells.items()} | {"ratio": round(ratio, 2)}
            print(
                f"{row:<34}",
                *(f"{s * 1e3:11.1f}{' ' if e else '*'}" for s, e in cells.values()),
                f"{ratio:7.2f}",
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
