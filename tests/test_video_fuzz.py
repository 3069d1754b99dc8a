"""Damaged and hostile files: every one gives exactly the reference frames or `VideoReadError`, within 10 seconds.

The files are read in a child process, so that a decoder that hangs (decord does so holding the interpreter lock)
or crashes fails the test and not the test run.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import audio_only, make, sequential

from sora_nb.video import VideoReader, VideoReadError, read_video

SECONDS = 10
SMALL = dict(count=24, width=96, height=64, gop=8)
BASES = {
    "h264.mp4": dict(options={"bf": "2"}),
    "intra.mp4": dict(gop=1),
    "hevc.mp4": dict(codec="libx265", options={"x265-params": "log-level=0:keyint=8"}),
    "h264.mkv": dict(options={"bf": "2"}),
    "vp9.webm": dict(codec="libvpx-vp9", options={"cpu-used": "8"}),
    "h264.ts": dict(options={"bf": "2"}),
    "mpeg4.avi": dict(codec="mpeg4", options={"bf": "2"}),
}


# --------------------------------------------------------------------------------------------- the child process


def judge(path: str, decoder: str) -> str:
    """Compare what the reader returns with a strict sequential decode of the same file."""
    try:
        frames = read_video(path, decoder=decoder)
    except VideoReadError as error:
        assert error.path == Path(path) and error.reason and error.advice
        return "refused"
    try:
        reference = sequential(Path(path))
    except (av.FFmpegError, OSError, IndexError, ValueError, StopIteration):
        return "WRONG: frames of a file whose strict decode fails"
    if frames.shape != reference.shape or not np.array_equal(frames, reference):
        return "WRONG: not the reference frames"
    try:
        with VideoReader(path, decoder) as reader:
            for wanted in ([len(reader) - 1], [len(reader) // 2], [0, len(reader) // 3]):
                if not np.array_equal(reader.get(wanted), reference[wanted]):
                    return f"WRONG: random access to {wanted}"
    except VideoReadError:
        return "WRONG: reads as a whole, not in part"
    return "same"


def serve(pipe, judge_file) -> None:
    av.logging.set_level(None)
    while True:
        try:
            answer = judge_file(*pipe.recv())
        except EOFError:
            return
        except Exception as error:  # anything but VideoReadError is a fault of the reader
            answer = f"WRONG: {type(error).__name__}: {error}"
        pipe.send(answer)


class Child:
    """A process that judges files one at a time and is replaced when it hangs or dies."""

    def __init__(self, judge_file=judge) -> None:
        self.judge_file = judge_file
        self.start()

    def start(self) -> None:
        self.warm = False  # the first answer may wait for imports
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, self.judge_file), daemon=True)
        self.process.start()
        other.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def ask(self, *question, seconds: float = SECONDS) -> str:
        self.pipe.send(question)
        try:
            if self.pipe.poll(seconds if self.warm else seconds + 30):
                self.warm = True
                return self.pipe.recv()
            answer = "WRONG: hangs"
        except (EOFError, ConnectionError):
            answer = "WRONG: crashes"
        self.stop()
        self.start()
        return answer


# ------------------------------------------------------------------------------------------------ the mutations


def flips(data: bytes, seed: int) -> bytes:
    """Change 1 to 32 bytes, anywhere or near the two ends, where the headers are."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    low, high = [(0, len(data)), (0, min(2048, len(data))), (max(len(data) - 2048, 0), len(data))][seed % 3]
    for place in rng.integers(low, high, 2 ** rng.integers(0, 6)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def hole(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    start, length = rng.integers(0, len(data)), rng.integers(8, 256)
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def lost(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    start, length = rng.integers(0, len(data)), rng.integers(1, 400)
    return data[:start] + data[start + length :]


def more(data: bytes, box: bytes, offset: int, extra: int) -> bytes:
    """Raise the 32-bit number at an offset from the name of an mp4 box."""
    place = data.index(box) + offset
    number = struct.unpack(">I", data[place : place + 4])[0] + extra
    return data[:place] + struct.pack(">I", number) + data[place + 4 :]


def over_reported(data: bytes) -> dict[str, bytes]:
    """More frames in the tables of an mp4 than in its data, more and more consistently."""
    files = {}
    for extra in (1, 5, 100, 1 << 20):
        files[f"stts-{extra}"] = more(data, b"stts", 12, extra)
        files[f"stsz-{extra}"] = more(data, b"stsz", 12, extra)
        files[f"stts-stsz-{extra}"] = more(files[f"stsz-{extra}"], b"stts", 12, extra)
        files[f"stts-stsz-stsc-{extra}"] = more(files[f"stts-stsz-{extra}"], b"stsc", 16, extra)
        files[f"all-{extra}"] = more(files[f"stts-stsz-stsc-{extra}"], b"ctts", 12, extra)
        files[f"mdhd-{extra}"] = more(data, b"mdhd", 20, extra * 1000)
    return files


def mutants(base: Path) -> dict[str, bytes]:
    data = base.read_bytes()
    files = {f"cut-{i}": data[: len(data) * i // 12] for i in range(1, 12)} | {"cut-1": data[:-1]}
    files |= {f"zeroed-{n}": bytes(n) + data[n:] for n in (4, 16, 64, 512)}
    files |= {f"flip-{i}": flips(data, i) for i in range(30)}
    files |= {f"hole-{i}": hole(data, i) for i in range(6)}
    files |= {f"lost-{i}": lost(data, i) for i in range(6)}
    files |= {"tail": data + bytes(range(256)) * 8, "twice": data + data}
    return files | (over_reported(data) if base.name == "h264.mp4" else {})


@pytest.fixture(scope="module")
def child():
    child = Child()
    yield child
    child.stop()


def answers(folder: Path, child: Child, names, decoders=("auto",)) -> dict[str, str]:
    """What the child says of every mutant of these base files."""
    found = {}
    for name in names:
        base = make(folder / name, **SMALL | BASES[name])
        for decoder in decoders:
            assert child.ask(str(base), decoder) == "same", f"the undamaged {name} with {decoder}"
        for mutation, data in mutants(base).items():
            path = folder / f"{mutation}-{name}"
            path.write_bytes(data)
            for decoder in decoders:
                found[f"{path.name} with {decoder}"] = child.ask(str(path), decoder)
    return found


@pytest.mark.parametrize("name", BASES)
def test_every_mutant_is_read_exactly_or_refused(tmp_path, child, name):
    decoders = ("auto", "decord") if name in ("h264.mp4", "h264.mkv", "vp9.webm") else ("auto",)
    found = answers(tmp_path, child, [name], decoders)
    wrong = [f"{file}: {answer}" for file, answer in found.items() if answer not in ("same", "refused")]
    assert not wrong, "\n".join(wrong)
    counts = Counter(found.values())
    print(f"{len(found)} mutants: {dict(counts)}")
    assert (
        len(found) >= 50 and counts["refused"] > 10 and counts["same"] > 0
    )  # neither all deadly nor all idle


def no_video(folder: Path) -> dict[str, Path]:
    """Things that are no video at all."""
    paths = {
        name: folder / name
        for name in ("missing.mp4", "empty.mp4", "text.mp4", "notes.txt", "pipe.mp4", "zeros.mp4")
    }
    paths["empty.mp4"].touch()
    for name in ("text.mp4", "notes.txt"):
        paths[name].write_text("This is a letter, not a film.\n" * 200)
    paths["zeros.mp4"].write_bytes(bytes(10_000))
    if hasattr(os, "mkfifo"):
        os.mkfifo(paths["pipe.mp4"])
    paths["list.m3u8"] = folder / "list.m3u8"
    paths["list.m3u8"].write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    return paths | {"directory": folder, "sound.m4a": audio_only(folder / "sound.m4a")}


@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
def test_what_is_no_video_is_refused(tmp_path, child, decoder):
    for name, path in no_video(tmp_path).items():
        assert child.ask(str(path), decoder) == "refused", name


def judge_without_permission(path: str) -> str:
    os.seteuid(65534)  # the administrator may read everything, so become nobody
    return judge(path, "auto")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX ones")
def test_a_file_without_permission_is_refused(tmp_path):
    path = make(tmp_path / "a.mp4", count=2)
    path.chmod(0)
    child = Child(judge_without_permission if os.geteuid() == 0 else judge)
    question = (str(path),) if os.geteuid() == 0 else (str(path), "auto")
    assert child.ask(*question) == "refused"
    child.stop()


@pytest.mark.parametrize(
    "codec, pixels, ending",
    [("libx264", "yuv444p", "mp4"), ("libvpx-vp9", "yuv420p", "webm"), ("libx264", "yuv420p", "mkv")],
)
def test_decord_is_right_at_every_size_that_it_is_trusted_with(tmp_path, child, codec, pixels, ending):
    """All sizes from 1 to 200 in both directions were tried once; here is a sample that differs from file to file."""
    rng, found = np.random.default_rng(len(codec + pixels)), Counter()
    step = 2 if codec == "libx264" and pixels == "yuv420p" else 1
    options = {"cpu-used": "8"} if codec == "libvpx-vp9" else {"bf": "2"}
    sizes = [*rng.integers(1, 201, (24, 2)), (96, 121), (97, 120), (121, 96), (72, 64), (16, 16), (32, 1)]
    for width, height in {(max(w // step * step, 2), max(h // step * step, 2)) for w, h in sizes}:
        path = tmp_path / f"{width}x{height}.{ending}"
        size = dict(width=int(width), height=int(height))
        make(path, codec, count=3, pixels=pixels, options=options, **size)
        found[child.ask(str(path), "decord")] += 1
    assert set(found) == {"same", "refused"}, found


# --------------------------------------------------------------------------- these tests are able to fail


def judge_lenient(path: str, decoder: str) -> str:
    """The reader without its strict decoder settings."""
    from sora_nb.video import packets

    packets.STRICT = {}
    return judge(path, decoder)


def judge_raw(path: str, decoder: str) -> str:
    """What decord or PyAV give by themselves: both conceal damage."""
    import decord

    try:
        if decoder == "decord":
            frames = decord.VideoReader(path, num_threads=1)
            frames = frames.get_batch(range(len(frames))).asnumpy()
        else:
            with av.open(path) as container:
                frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except Exception:
        return "refused"
    try:
        return "same" if np.array_equal(frames, sequential(Path(path))) else "WRONG: not the reference frames"
    except (av.FFmpegError, OSError, ValueError):
        return "WRONG: frames of a file whose strict decode fails"


@pytest.mark.parametrize(
    "judge_file, decoder, name",
    [
        (judge_lenient, "auto", "mpeg4.avi"),
        (judge_raw, "pyav", "h264.mp4"),
        (judge_raw, "decord", "h264.mp4"),
    ],
)
def test_the_fuzz_test_catches_a_lenient_reader(tmp_path, judge_file, decoder, name):
    child = Child(judge_file)
    files = mutants(make(tmp_path / name, **SMALL | BASES[name]))
    found = Counter()
    for mutation in ["zeroed-16", *(f"flip-{i}" for i in range(12)), *(f"hole-{i}" for i in range(6))]:
        path = tmp_path / f"{mutation}-{name}"
        path.write_bytes(files[mutation])
        found[child.ask(str(path), decoder)[:5]] += 1
    child.stop()
    assert found["WRONG"] >= 1, found


def judge_badly(path: str) -> str:
    if path == "hang":
        while True:
            pass
    os.abort()


def test_the_fuzz_test_catches_a_hang_and_a_crash():
    child = Child(judge_badly)
    child.warm = True
    assert child.ask("hang", seconds=4) == "WRONG: hangs"
    assert child.ask("crash") == "WRONG: crashes"
    child.stop()
