"""Time `sora_nb.video` against the decoders below it, side by side in one run.

    python scripts/benchmark_video.py [--repeat 7] [--clips 1000] [--json FILE]

Each cell is the best time of a row's task in several rounds, opening the file included; methods take turns, so that a
busy moment hits all of them. It is processor time of this process, which neighbours on the machine disturb least.
`ratio` is ours over the best raw decoder of the row: the aim is at most 1.1 for many tiny clips and 1.2 elsewhere.
Each file is new to the reader, but in the row "again", where it remembers which packets a file holds, as in every epoch
after the first. A second table reads a long clip in batches of 32 frames: that may take 1.3 times as long as one call
for all of it. torchcodec joins in where it works.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from sora_nb.video import VideoReader, packets, read_video, write_video

Read = Callable[[Path, np.ndarray], np.ndarray]
BATCH = 32


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


METHODS: dict[str, Read] = {
    "ours": ours,
    "ours decord": ours_decord,
    "pyav seq": pyav_sequential,
    "pyav seek": pyav_seek,
    "decord": raw_decord,
    "torchcodec": raw_torchcodec,
}


def working(methods: dict[str, Read], sample: Path) -> dict[str, Read]:
    """The methods that read a file here; a decoder that is missing, or whose libraries are, is named and left out."""
    found = {}
    for name, read in methods.items():
        try:
            read(sample, np.arange(2))
        except Exception as error:  # a peer may fail in any way: no package, no library, no symbol
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            print(f"{name}: not available ({reason})")
        else:
            found[name] = read
    return found


def scene(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A textured picture that drifts: about as hard to code as ordinary footage."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3)).astype(np.uint8)
    large = coarse.repeat(8, 0).repeat(8, 1)
    large = np.clip(large + rng.integers(-12, 13, large.shape), 0, 255).astype(np.uint8)
    return np.stack([large[i % 300 : i % 300 + height, i % 300 : i % 300 + width] for i in range(count)])


class Task(NamedTuple):
    """Files to read these frames of, how many times over, and whether the reader has seen them before."""

    files: list[Path]
    indices: np.ndarray
    times: int = 1
    again: bool = False


def tasks(folder: Path, clips: int) -> dict[str, Task]:
    """The rows of the first table."""
    rng = np.random.default_rng(0)
    wide = scene(300, 240, 320)
    gop30 = [write_video(folder / "gop30.mp4", wide, 30, options={"g": "30"})]
    gop250 = [write_video(folder / "gop250.mp4", wide, 30, options={"g": "250"})]
    hd = [write_video(folder / "hd.mp4", scene(60, 720, 1280), 30)]
    tiny = [write_video(folder / f"tiny{i}.mp4", scene(16, 32, 32, i)) for i in range(20)]
    some, times = np.sort(rng.choice(300, 16, replace=False)), max(clips // len(tiny), 1)
    return {
        "16 random frames, GOP 30": Task(gop30, some),
        "16 random frames, GOP 250": Task(gop250, some),
        "contiguous clip of 16": Task(gop30, np.arange(140, 156)),
        "full read, 300 of 320x240": Task(gop30, np.arange(300)),
        "full read, 60 of 1280x720": Task(hd, np.arange(60)),
        f"{clips} tiny clips, 16 of 32x32": Task(tiny, np.arange(16), times),
        f"{clips} tiny clips, again": Task(tiny, np.arange(16), times, again=True),
    }


def best_of(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor seconds of each call, which take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def time_row(named: dict[str, Read], task: Task, rounds: int) -> dict[str, tuple[float, bool]]:
    """Best seconds of every method, and whether it returns the frames of a sequential read."""
    turns = max(task.times // rounds, 1)  # of many small files, a round reads a part

    def read_all(read: Read) -> None:
        for _ in range(turns):
            if not task.again:
                packets._indices.clear()
            for path in task.files:
                read(path, task.indices)

    reference, exact = pyav_sequential(task.files[0], task.indices), {}
    for name, read in named.items():
        frames = read(task.files[0], task.indices)
        exact[name] = frames.shape == reference.shape and np.array_equal(frames, reference)
    seconds = best_of({name: lambda read=read: read_all(read) for name, read in named.items()}, rounds)
    return {name: (seconds[name] * task.times / turns, exact[name]) for name in named}


CODECS = {
    "H.264, GOP 1": ("mp4", "libx264", {"g": "1"}),
    "H.264, GOP 30": ("mp4", "libx264", {"g": "30", "bf": "3"}),
    "H.264, GOP 250": ("mp4", "libx264", {"g": "250", "bf": "3"}),
    "H.264, one key frame": ("mp4", "libx264", {"g": "9999", "x264-params": "scenecut=0"}),
    "H.264, AVI": ("avi", "libx264", {"g": "30", "bf": "3"}),
    "H.264, raw": ("h264", "libx264", {"g": "30", "bf": "3"}),
    "H.264, TS": ("ts", "libx264", {"g": "30", "bf": "3"}),
    "HEVC, open GOP": ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=0:keyint=30"}),
    "VP8": (
        "webm",
        "libvpx",
        {"cpu-used": "8", "deadline": "realtime"},
    ),
    "VP9": ("webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
    "AV1": ("mp4", "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
    "MPEG-4, AVI": ("avi", "mpeg4", {"bf": "2", "g": "12"}),
    "MPEG-2, TS": ("ts", "mpeg2video", {"bf": "2", "g": "12"}),
    "MJPEG, AVI": ("avi", "mjpeg", {}),
}


def encode(path: Path, frames: np.ndarray, codec: str, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def batches(folder: Path, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds for a long clip in one call, in batches, and for its first frame alone, a row for each codec."""
    frames, table = scene(count, 120, 160), {}
    for row, (ending, codec, options) in CODECS.items():
        path = encode(folder / f"long.{ending}", frames, codec, options)

        def read(*parts: range, path: Path = path) -> None:
            packets._indices.clear()
            with VideoReader(path) as reader:
                for part in parts:
                    reader.get(part)

        steps = [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
        read(range(1))
        calls = {
            "one call": lambda read=read: read(range(count)),
            "batches": lambda read=read, steps=steps: read(*steps),
            "first": lambda read=read: read(range(1)),
        }
        best = best_of(calls, rounds)
        table[row] = {name: round(seconds * 1e3, 2) for name, seconds in best.items()}
        table[row]["ratio"] = round(best["batches"] / best["one call"], 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=1200, help="frames of the long clip")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        table = compare(Path(folder), arguments.clips, arguments.repeat)
        long = batches(Path(folder), arguments.frames, max(arguments.repeat // 2, 1))
    print(
        f"\n{f'{arguments.frames} frames of 160x120, milliseconds':<34}", *(f"{n:>10}" for n in long["VP8"])
    )
    for row, cells in long.items():
        print(f"{row:<34}", *(f"{value:10.2f}" for value in cells.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"decoders": table, "batches": long}, indent=1) + "\n")


def compare(folder: Path, clips: int, repeat: int) -> dict[str, dict[str, float]]:
    """Print and return the milliseconds of every method, row by row."""
    rows, table = tasks(folder, clips), {}
    named = working(METHODS, folder / "tiny0.mp4")
    title = "milliseconds (* = not the reference frames)"
    print(f"{title:<34}", *(f"{n:>12}" for n in named), f"{'ratio':>7}")
    for row, task in rows.items():
        cells = time_row(named, task, repeat)
        ratio = cells["ours"][0] / min(cells[n][0] for n in cells if not n.startswith("ours"))
        table[row] = {n: round(s * 1e3, 2) for n, (s, _) in cells.items()} | {"ratio": round(ratio, 2)}
        shown = (f"{s * 1e3:11.1f}{' ' if e else '*'}" for s, e in cells.values())
        print(f"{row:<34}", *shown, f"{ratio:7.2f}", flush=True)
    return table


if __name__ == "__main__":
    sys.exit(main())
