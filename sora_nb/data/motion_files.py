"""Write the motion set: draw, encode, describe, in parallel and so that it can be killed at any moment.

No torch in here: worker processes import this module, and torch would cost each of them seconds.
Explained in chapter 03.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32, UInt8
from tqdm.auto import tqdm

from sora_nb.data.motion_render import CLASSES, MOTION, SPLITS, cycles, draw, progress, sample
from sora_nb.files import atomic, digest, file_digest
from sora_nb.video import VideoReadError, read_video, write_video

VERSION = 4  # raise it whenever a pixel or the encoding changes: the folder name depends on it
CHUNK = 50  # no mutate; clips a worker makes between two reports
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# x264's macroblock tree reads memory it has not written when frames are tiny: the same clip gave other bytes in
# another process. Without it they are the same.
STEADY = {"x264-params": "mbtree=0"}
VERBS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "shrinks",
    "grows",
    "turns clockwise",
    "turns counter-clockwise",
    "fades away",
    "fades in",
    "splits in two",
    "merges into one",
)
# What one sees when a cycle ends within the clip, one for each pair: it says nothing about the direction.
ANEW = (*2 * (" and comes back on the other side",), *4 * (" and starts anew",))
# The last one describes validation and test clips only: there a text model meets a sentence it has not seen.
TEMPLATES = (
    "the digit {digit} {verb}",
    "a handwritten {digit} {verb}",
    "{a} {digit} that {verb}",
    "a photograph, and over it {a} {digit} {verb}",
    "in this clip you can watch how {a} {digit} {verb}",
)


@dataclass(frozen=True)
class MotionSpec:
    """Everything a generated set depends on.

    Attributes:
        level: 1, still and dark background; 2, adds pan, flicker, a second digit, a motion that fills only part
            of the clip, and lower contrast.
        size: Side of the square frames in pixels (even, at least 16).
        frames: Frames in a clip, at least 2.
        train, val, test: Number of clips in each split. Classes take turns, so multiples of 12 are balanced.
        seed: Another seed, another set.
        intra: Encode each frame by itself with a constant quantiser. Decoding then commutes exactly with
            reversal; ordinary H.264 leaves a trace of the direction it was encoded in.
        audio: Add an AAC track with a tone that follows the motion.
        background: "photo" or "black".
        rate: Frames per second.
        take: Which take of the same motions. Clip i of take 1 moves exactly as clip i of take 0 (size, place, phase,
            extent, easing), but with another digit, colour, photograph, pan, flicker and second digit.
    """

    level: int = 1
    size: int = 32
    frames: int = 16
    train: int = 2400
    val: int = 600
    test: int = 600
    seed: int = 0
    intra: bool = True
    audio: bool = False
    background: str = "photo"
    rate: float = 8.0
    take: int = 0

    def __post_init__(self) -> None:
        checks = {
            "level": (self.level in (1, 2), "1 or 2"),
            "size": (self.size >= 16 and self.size % 2 == 0, "an even number of pixels, at least 16"),
            "frames": (self.frames >= 2, "at least 2"),
            "background": (self.background in ("photo", "black"), '"photo" or "black"'),
            "rate": (self.rate > 0, "frames per second above 0"),
            "seed": (self.seed >= 0, "0 or more"),
            "take": (self.take >= 0, "0 or more"),
            **{split: (getattr(self, split) >= 0, "a number of clips, 0 or more") for split in SPLITS},
        }
        for name, (good, expected) in checks.items():
            if not good:
                given = f"{name}={getattr(self, name)!r}"
                raise ValueError(f"MotionSpec got {given}, but {name} must be {expected}.")


def caption(label: int, digit: int, template: int = 0, anew: bool = False) -> str:
    """One sentence saying what ``digit`` does in a clip of class ``label``, after ``TEMPLATES[template]``.

    ``anew`` adds what one sees where a cycle ends within the clip.
    """
    verb = VERBS[label] + (ANEW[label // 2] if anew else "")
    return TEMPLATES[template].format(a="an" if digit == 8 else "a", digit=DIGITS[digit], verb=verb)


def tone(
    params: dict, frames: int, rate: float = 8.0, sample_rate: int = 16000
) -> Float32[np.ndarray, " samples"]:
    """A tone whose pitch follows the motion's phase through an octave: up in odd classes, down in even ones.

    Where a cycle ends the pitch starts anew. The phase is uniform at every moment, so no single pitch tells the
    direction; the loudness is constant and all pairs run alike, so the sound says nothing about the pair.
    """
    turns = cycles(params, progress(params, frames))[:: 1 if params["label"] % 2 else -1]
    seconds = np.arange(round(frames / rate * sample_rate)) / sample_rate
    middles = (np.arange(frames) + 0.5) / rate
    pitch = params["pitch"] * 2 ** (np.interp(seconds, middles, turns) % 1)
    ramp = np.clip(np.minimum(seconds, seconds[-1] - seconds) / 0.01, 0, 1)  # 10 ms, no click
    return (0.3 * ramp * np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)).astype(np.float32)


def render(spec: MotionSpec, split: str, index: int) -> tuple[UInt8[np.ndarray, "time height width 3"], dict]:
    """Draw one clip without encoding it.

    Returns:
        The raw frames, and a dict with ``label``, ``digit``, ``caption``, ``boxes`` (float64 (T, 4), NaN where less
        than a tenth of the digit's ink shows) and ``params``.

    Raises:
        ValueError: no such split or index.
    """
    if split not in SPLITS or not 0 <= index < getattr(spec, split):
        sizes = ", ".join(f"{name} {getattr(spec, name)}" for name in SPLITS)
        raise ValueError(f"There is no clip {index} in split {split!r}; this set has {sizes}.")
    params = _params(spec, split, index, spec.take)
    if spec.take:
        first = _params(spec, split, index, 0)
        params |= {name: first[name] for name in MOTION}
    frames, boxes = draw(params, spec.frames, spec.size)
    anew = params["phase"] + params["extent"] >= 1
    sentence = caption(params["label"], params["digit"], params["template"], anew)
    known = dict(label=params["label"], digit=params["digit"], caption=sentence, boxes=boxes, params=params)
    return frames, known


def _params(spec: MotionSpec, split: str, index: int, take: int) -> dict:
    """What one take of a clip is drawn from, and which sentence describes it."""
    rng = np.random.default_rng([spec.seed, SPLITS.index(split), index, take])
    params = sample(rng, index % len(CLASSES), split, spec.level, spec.background)
    held = len(TEMPLATES) - 1
    params["template"] = int(rng.random() * held) if split == "train" else held
    return params


def fingerprint(clips: int = 24) -> dict[str, str]:
    """SHA-256 of the raw frames of the first clips of each default set and split: changes with any pixel."""
    result = {"version": str(VERSION), "clips": str(clips)}
    for level in (1, 2):
        for split in SPLITS:
            raw = [render(MotionSpec(level=level), split, i)[0].tobytes() for i in range(clips)]
            result[f"level {level} {split}"] = digest(*raw)
    return result


def directory(spec: MotionSpec, root: str | os.PathLike | None = None) -> Path:
    """Folder of a set: its name holds a digest of the spec and of the generator's version."""
    default = os.environ.get("SORA_NB_CACHE", Path(__file__).parents[2] / "data" / "cache")
    name = digest(json.dumps([VERSION, asdict(spec)]))[:8]
    return Path(root or default) / f"motion-v{spec.level}-{spec.size}px-{spec.frames}f-{name}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the operating system frees the lock of a killed one."""
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is writing {folder.name}; waiting until it has finished.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(spec: MotionSpec, folder: Path, jobs: list[tuple[str, int]]) -> list[dict]:
    """Draw, encode and describe some clips (runs in a worker process)."""
    return [_make_one(spec, folder, split, index) for split, index in jobs]


def _make_one(spec: MotionSpec, folder: Path, split: str, index: int) -> dict:
    frames, record = render(spec, split, index)
    path = folder / split / f"{index:05d}.mp4"
    sound = tone(record["params"], spec.frames, spec.rate) if spec.audio else None
    sample_rate = 16000 if spec.audio else None
    options = None if spec.intra else STEADY
    write_video(
        path, frames, spec.rate, intra=spec.intra, options=options, audio=sound, sample_rate=sample_rate
    )
    boxes = [None if np.isnan(box[0]) else box.round(3).tolist() for box in record["boxes"]]
    return record | dict(
        file=f"{split}/{path.name}",
        boxes=boxes,
        raw_sha256=digest(frames.tobytes()),
        file_sha256=file_digest(path),
    )


def _parallel(function: Callable, jobs: list, workers: int | None, *args) -> Iterator:
    """Results chunk by chunk as they come: made here if that is soon done, else by worker processes."""
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    workers = min(workers or joblib.cpu_count(), len(chunks) // 4 or 1)  # a process takes seconds to start
    if workers == 1:
        return (function(*args, chunk) for chunk in chunks)
    pool = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
    return pool(joblib.delayed(_in_worker)(os.getpid(), function, *args, chunk) for chunk in chunks)


def _in_worker(parent: int, function: Callable, *args) -> list | int:
    _watch(parent)
    return function(*args)


@lru_cache
def _watch(parent: int) -> None:
    """Leave when the parent is gone: joblib's workers outlive a killed notebook for ever."""

    def leave() -> None:
        while os.getppid() == parent:
            time.sleep(1)  # no mutate
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


def _read_records(folder: Path) -> list[dict]:
    """What a finished or killed run has recorded; the last line of a killed one may be torn."""
    records, path = [], folder / "records.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _intact(folder: Path, record: dict) -> bool:
    path = folder / record["file"]
    return path.is_file() and file_digest(path) == record["file_sha256"]


def generate(
    spec: MotionSpec, root: str | os.PathLike | None = None, workers: int | None = None, progress: bool = True
) -> Path:
    """Write a set as mp4 files with a manifest; whatever is already there and intact is kept.

    A killed run goes on where it stopped; a damaged or missing file is written again; two processes that ask for
    the same set write it once.

    Args:
        spec: Which set.
        root: Folder to put it in; ``data/cache``, or the environment variable ``SORA_NB_CACHE``, unless given.
        workers: Processes; one per core unless given. The files do not depend on it.
        progress: Show a bar.

    Returns:
        The folder, with ``manifest.json`` and a folder of mp4 files per split.
    """
    folder = directory(spec, root)
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        done = {r["file"]: r for r in _read_records(folder) if _intact(folder, r)}
        jobs = [(s, i) for s in SPLITS for i in range(getattr(spec, s)) if f"{s}/{i:05d}.mp4" not in done]
        if jobs:
            _generate(spec, folder, jobs, done, workers, progress)
        if jobs or not (folder / "manifest.json").exists():
            _write_manifest(spec, folder, done)
    return folder


def _generate(spec, folder: Path, jobs: list, done: dict[str, dict], workers, progress: bool) -> None:
    for torn in folder.rglob(".*.part"):  # temporary files of a killed run
        torn.unlink()
    _write_text(folder / "records.jsonl", "".join(json.dumps(r) + "\n" for r in done.values()))
    bar = tqdm(total=len(jobs), desc=f"motion set, level {spec.level}", unit="clip", disable=not progress)
    with bar, open(folder / "records.jsonl", "a") as journal:
        for records in _parallel(_make, jobs, workers, spec, folder):
            done |= {r["file"]: r for r in records}
            journal.write("".join(json.dumps(r) + "\n" for r in records))
            journal.flush()
            bar.update(len(records))


def _write_manifest(spec: MotionSpec, folder: Path, done: dict[str, dict]) -> None:
    splits = {s: [done[f"{s}/{i:05d}.mp4"] for i in range(getattr(spec, s))] for s in SPLITS}
    manifest = dict(version=VERSION, spec=asdict(spec), classes=CLASSES, splits=splits)
    _write_text(folder / "manifest.json", json.dumps(manifest))


def decoded(
    spec: MotionSpec,
    folder: Path,
    split: str,
    manifest: bytes,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """The npy file with a split's decoded frames, made from the video files if this manifest has none yet."""
    cache = folder / f"decoded-{split}-{digest(manifest)[:12]}.npy"
    if cache.exists():
        return cache
    with _locked(folder):
        if not cache.exists():  # another process may have written it meanwhile
            _decode_all(spec, folder, json.loads(manifest)["splits"][split], cache, workers, progress)
    return cache


def _decode_all(spec, folder: Path, records: list[dict], cache: Path, workers, progress: bool) -> None:
    shape = (len(records), spec.frames, spec.size, spec.size, 3)
    bar = tqdm(total=len(records), desc=f"decoding {cache.stem}", unit="clip", disable=not progress)
    with atomic(cache) as temporary, bar:
        np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).flush()
        for count in _parallel(_decode, list(enumerate(records)), workers, folder, temporary):
            bar.update(count)


def _decode(folder: Path, target: Path, jobs: list[tuple[int, dict]]) -> int:
    """Decode some files into their rows of the cache (runs in a worker process)."""
    rows = np.load(target, mmap_mode="r+")
    for row, record in jobs:
        if not _intact(folder, record):
            raise VideoReadError(
                folder / record["file"],
                "it is missing or differs from the manifest",
                "call sora_nb.data.motion.generate again, which writes it anew",
            )
        frames = read_video(folder / record["file"])
        if frames.shape != rows.shape[1:]:
            reason = f"it decodes to {frames.shape} instead of {rows.shape[1:]}"
            raise VideoReadError(folder / record["file"], reason, "call sora_nb.data.motion.generate again")
        rows[row] = frames
    rows.flush()
    return len(jobs)
