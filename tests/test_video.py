"""The video reader against a sequential decode, over every decoder and every kind of file."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import struct
from array import array
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import (
    FRAMES,
    HEIGHT,
    KINDS,
    WIDTH,
    audio_only,
    frames_of,
    make,
    make_kind,
    sequential,
)

from sora_nb.video import VideoReader, VideoReadError, packets, probe, read_video, write_video

os.environ.setdefault("SVT_LOG", "1")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each kind of file with its reference frames, made once and when first asked for."""
    folder, made = tmp_path_factory.mktemp("kinds"), {}

    def get(name: str) -> tuple[Path, np.ndarray]:
        if name not in made:
            path = make_kind(name, folder / name.replace(" ", "-"))
            made[name] = path, sequential(path)
        return made[name]

    return get


@pytest.fixture
def from_disk(monkeypatch):
    """As if every file were too large for its packets to stay in memory."""
    packets._indices.clear()
    monkeypatch.setattr(packets, "KEEP_BYTES", 0)
    yield
    packets._indices.clear()


@pytest.fixture
def no_second_try(monkeypatch):
    """Forbid the retry from the start of the file, which would hide a wrong place to start from."""
    convert = VideoReader._convert

    def once(self, wanted, final):
        try:
            return convert(self, wanted, final)
        except (VideoReadError, av.FFmpegError) as error:
            raise AssertionError(f"a second try was needed: {error}") from error

    monkeypatch.setattr(VideoReader, "_convert", once)


# ----------------------------------------------------------------------------------------------- conformance


@pytest.mark.parametrize("kind", KINDS)
def test_whole_read_equals_sequential_decode(files, kind):
    path, reference = files(kind)
    frames = read_video(path)
    assert frames.dtype == np.uint8 and frames.flags.c_contiguous
    np.testing.assert_array_equal(frames, reference)


# Key frames of these need not decode by themselves, which shows only when it is tried.
FALSE_KEYS = ("intra refresh", "open gop", "h.264 mkv open gop")


@pytest.mark.parametrize("kind", KINDS)
def test_every_single_frame_equals_sequential_decode(files, kind, request):
    path, reference = files(kind)
    if kind not in FALSE_KEYS:
        request.getfixturevalue("no_second_try")
    with VideoReader(path) as reader:
        for index in np.random.default_rng(0).permutation(len(reference)).tolist():
            np.testing.assert_array_equal(reader.get([index])[0], reference[index], err_msg=f"frame {index}")


@pytest.mark.parametrize("kind", KINDS)
def test_random_access_from_disk_equals_sequential_decode(files, kind, from_disk):
    path, reference = files(kind)
    rng = np.random.default_rng(1)
    with VideoReader(path) as reader:
        for size in (1, 1, 1, 5, 9):
            wanted = rng.integers(0, len(reference), size)  # unsorted, with repeats
            np.testing.assert_array_equal(reader.get(wanted), reference[wanted], err_msg=f"{wanted}")


@pytest.mark.parametrize("kind", ["b-frames", "h.264 mkv", "edit list", "hevc", "vp9", "late start"])
def test_seeks_from_disk_land_right(files, kind, from_disk, no_second_try, monkeypatch):
    """A seek that misses costs a read from the start, so it must not be the rule."""
    path, reference = files(kind)
    with VideoReader(path) as reader:
        reader.get([0])
        connects = []
        connect = packets.PacketFile._connect
        monkeypatch.setattr(packets.PacketFile, "_connect", lambda self: (connects.append(1), connect(self)))
        late = [i for i in range(len(reference)) if reader._file.index.entry[reader._file.index.shown[i]]]
        for index in late[::3]:
            np.testing.assert_array_equal(reader.get([index])[0], reference[index])
    assert late and not connects


@pytest.mark.parametrize("kind", [kind for kind, (_, _, trusted) in KINDS.items() if trusted])
def test_decord_equals_sequential_decode_where_it_is_trusted(files, kind):
    path, reference = files(kind)
    with VideoReader(path, "decord") as reader:
        np.testing.assert_array_equal(reader.get(range(len(reader))), reference)
        for index in range(len(reference) - 1, -1, -4):
            np.testing.assert_array_equal(reader.get([index])[0], reference[index], err_msg=f"frame {index}")


@pytest.mark.parametrize("kind", KINDS)
def test_decord_is_trusted_with_the_right_files(files, kind):
    path, _ = files(kind)
    trusted = KINDS[kind][2]
    assert probe(path).decoder == ("decord" if trusted else "pyav")
    if not trusted:
        with pytest.raises(VideoReadError, match="decord misreads"):
            read_video(path, decoder="decord")


def decord_errs(path: str, reference: np.ndarray) -> bool:
    import decord

    try:
        reader = decord.VideoReader(path, num_threads=1)
        if len(reader) != len(reference):
            return True
        wanted = np.random.default_rng(0).permutation(len(reader))
        return any(not np.array_equal(reader.get_batch([i]).asnumpy()[0], reference[i]) for i in wanted)
    except Exception:
        return True


@pytest.mark.parametrize(
    "kind",
    [
        "edit list",
        "open gop",
        "mpeg-4 b-frames",
        "mpeg-2 ts",
        "h.264 ts",
        "width 48",
        "10 bit",
        "av1",
        "hevc open gop",
        "vp9 odd height",
    ],
)
def test_the_distrust_of_decord_is_earned(files, kind):
    """Raw decord really does get these wrong; it runs elsewhere, since it may hang."""
    path, reference = files(kind)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply_async(decord_errs, (str(path), reference))
        try:
            assert answer.get(60)
        except multiprocessing.TimeoutError:
            pass  # it hangs, which is wrong enough


def test_a_false_entry_falls_back_on_the_start(tmp_path):
    """Where decoding does not start as the index says, the reader starts over, and learns from it."""
    path = make(tmp_path / "a.mp4", gop=250, options={"bf": "0"})
    reference = sequential(path)
    with VideoReader(path) as reader:
        reader._file.index.entry[:] = array("q", range(FRAMES))  # as if every frame were a key frame
        np.testing.assert_array_equal(reader.get([30])[0], reference[30])
        assert set(reader._file.index.entry) == {0}
        np.testing.assert_array_equal(reader.get([7, 21]), reference[[7, 21]])


def test_frames_are_not_blank_or_repeated(files):
    """The reference itself shows the scene: each frame is nearest to the one that was written."""
    path, reference = files("cfr")
    written = frames_of().astype(float)
    distance = ((reference[:, None].astype(float) - written[None]) ** 2).mean((2, 3, 4))  # (T, T)
    assert (distance.argmin(1) == np.arange(FRAMES)).all()


# --------------------------------------------------------------------------------------------- times and facts


def test_probe_of_a_constant_rate(files):
    info = probe(files("cfr")[0])
    assert (info.frames, info.width, info.height, info.rotation) == (FRAMES, WIDTH, HEIGHT, 0)
    assert (info.codec, info.pixel_format, info.has_audio, info.start) == ("h264", "yuv420p", False, 0.0)
    assert info.rate == pytest.approx(25) and info.duration == pytest.approx(FRAMES / 25)
    assert info.key_frames == (0, 12, 24, 36) and info.key_frame_interval == 10
    np.testing.assert_allclose(info.times, np.arange(FRAMES) / 25, atol=1e-9)
    assert "times" not in repr(info) and info == dataclasses.replace(
        info, times=info.times + 1
    )  # arrays stay out of both


def test_probe_of_sound_start_edit_and_rotation(files):
    assert probe(files("with sound")[0]).has_audio
    assert (
        probe(files("late start")[0]).start == pytest.approx(2.0)
        and probe(files("late start")[0]).times[0] == 0
    )
    assert probe(files("edit list")[0]).frames == FRAMES - 17
    assert [probe(files(f"rotated {turn}")[0]).rotation for turn in (90, 180, 270)] == [90, 180, 270]
    assert probe(files("one frame")[0]).duration == pytest.approx(1 / 25)


def test_get_at_shows_the_frame_of_the_moment(files):
    path, reference = files("vfr")
    with VideoReader(path) as reader:
        times, end = reader.info.times, reader.info.duration
        np.testing.assert_allclose(times, [i * (i + 3) // 4 / 25 for i in range(FRAMES)], atol=1e-9)
        np.testing.assert_array_equal(reader.get_at(times), reference)  # from its own instant on
        middles = (times + np.append(times[1:], end)) / 2
        np.testing.assert_array_equal(reader.get_at(middles), reference)  # and until the next one's
        np.testing.assert_array_equal(reader.get_at(times[7] - 1e-3), reference[6:7])
        for outside in (-0.1, end, float("nan"), [0.0, end + 1]):
            with pytest.raises(ValueError, match="outside the video"):
                reader.get_at(outside)


@pytest.mark.parametrize("rate", [12, 24, 30, 30000 / 1001, 50, 60])
def test_get_at_finds_frames_by_their_nominal_time(tmp_path, rate):
    """However the division of a frame number by the rate is rounded."""
    write_video(tmp_path / "a.mp4", frames_of(80, 32, 32), rate)
    with VideoReader(tmp_path / "a.mp4") as reader:
        np.testing.assert_array_equal(reader.get_at([i / rate for i in range(80)]), reader.get(range(80)))


def test_clip_takes_start_length_and_stride(files):
    path, reference = files("cfr")
    with VideoReader(path) as reader:
        np.testing.assert_array_equal(reader.clip(5, 6, 3), reference[5:23:3])
        with pytest.raises(ValueError, match="indices run from 30 to 48, but the video has frames 0 to 39"):
            reader.clip(30, 10, 2)


@pytest.mark.parametrize("indices", [[-1], [0, FRAMES], [0.5], [[0, 1]], ["a"]])
def test_indices_that_are_none_raise(files, indices):
    with pytest.raises(ValueError) as error:
        read_video(files("cfr")[0], indices)
    assert str(error.value).count(".") == 1 and ";" in str(error.value)


def test_no_indices_give_no_frames(files):
    assert read_video(files("cfr")[0], []).shape == (0, HEIGHT, WIDTH, 3)


def test_unknown_decoder_raises(files):
    with pytest.raises(ValueError, match="decoder is 'opencv'"):
        VideoReader(files("cfr")[0], "opencv")


# ---------------------------------------------------------------------------------------------------- failures


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoReadError) as error:
        read_video(tmp_path / "gone.mp4")
    assert error.value.path == tmp_path / "gone.mp4" and "no such file" in error.value.reason
    assert (
        str(error.value) == f"Cannot read '{tmp_path / 'gone.mp4'}': there is no such file; check the path."
    )
    copy = pickle.loads(pickle.dumps(error.value))  # workers send their errors by pickle
    assert (copy.path, copy.reason, copy.advice) == (error.value.path, error.value.reason, error.value.advice)


def test_the_reason_holds_what_ffmpeg_says(tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"no video " * 50)
    with pytest.raises(VideoReadError, match=r"no video \(Invalid data found"):
        probe(tmp_path / "text.mp4")


def test_audio_only_is_no_video(tmp_path):
    with pytest.raises(VideoReadError, match="holds no video"):
        probe(audio_only(tmp_path / "a.m4a"))


def test_a_picture_on_a_sound_file_is_no_video(tmp_path):
    """Cover art is a video stream to the demuxer."""
    path = audio_only(tmp_path / "a.m4a")
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.m4a"), "w", format="mp4") as target:
        sound, art = (
            target.add_stream_from_template(source.streams.audio[0]),
            target.add_stream("mjpeg", rate=1),
        )
        art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                target.mux(packet)
        frame = av.VideoFrame.from_ndarray(frames_of(1, 32, 32)[0], "rgb24").reformat(format="yuvj420p")
        target.mux(art.encode(frame) + art.encode())
    with pytest.raises(VideoReadError, match="holds no video"):
        probe(tmp_path / "b.m4a")


def test_a_promise_of_more_frames_is_refused(tmp_path):
    """The time table of an mp4 announces 80 frames of which 40 are there: decord waits for them for ever."""
    path = make(tmp_path / "a.mp4", gop=1)
    data = path.read_bytes()
    place = data.index(b"stts") + 12
    assert struct.unpack(">I", data[place : place + 4])[0] == FRAMES
    path.write_bytes(data[:place] + struct.pack(">I", 2 * FRAMES) + data[place + 4 :])
    with pytest.raises(VideoReadError, match="promises 80 frames and holds 40"):
        read_video(path)


class Swallowing:
    """Stands for a decoder, and for a track that has one, which never gives its last frame."""

    def __init__(self, inner) -> None:
        self.inner = inner

    def __getattr__(self, name: str):
        found = getattr(self.__dict__["inner"], name)
        return Swallowing(found) if name == "codec_context" else found

    def decode(self, packet):
        frames = self.inner.decode(packet)
        return frames if packet is not None else frames[:-1]


@pytest.mark.parametrize("decoder", ["auto", "decord"])
def test_a_decoder_that_swallows_a_frame_is_caught(tmp_path, monkeypatch, decoder):
    path = make(tmp_path / "a.mp4")
    probe(path)
    monkeypatch.setattr(packets.PacketFile, "stream", property(lambda self: Swallowing(self._stream)))
    with pytest.raises(VideoReadError, match="packet 37 gives no frame"):
        read_video(path, decoder=decoder)


@pytest.mark.parametrize("shift", [0, -17])
def test_damaged_text_in_the_header_does_no_harm(tmp_path, shift):
    """Names that are no UTF-8 say nothing about the frames; with an edit list the container is opened twice."""
    path = make(tmp_path / "a.mp4", shift=shift, muxer={"avoid_negative_ts": "disabled"})
    reference = sequential(path)
    path.write_bytes(path.read_bytes().replace(b"isomiso2", b"isom\x92so2").replace(b"VideoH", b"Vid\x92oH"))
    np.testing.assert_array_equal(read_video(path), reference)


def test_a_damaged_frame_does_not_spoil_the_others(tmp_path):
    """Damage raises where it is met; groups of pictures that do not touch it still read exactly."""
    path = make(tmp_path / "a.mp4", gop=10, options={"bf": "0", "x264-params": "scenecut=0"})
    reference = sequential(path)
    with av.open(str(path)) as container:
        third = [p for p in container.demux(video=0) if p.dts is not None][25]
        place, size = third.pos, third.size
    data = bytearray(path.read_bytes())
    data[place + size // 2 : place + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with pytest.raises(VideoReadError):
        read_video(path)
    with VideoReader(path) as reader:
        with pytest.raises(VideoReadError):
            reader.get([25])
        np.testing.assert_array_equal(reader.get([0, 19, 30, 39]), reference[[0, 19, 30, 39]])
    with pytest.raises(VideoReadError):
        VideoReader(path, "decord")  # which would repeat the last good frame


def test_a_change_of_frame_size_is_refused(tmp_path):
    small, large = (make(tmp_path / f"{w}.h264", width=w, count=5, options={"bf": "0"}) for w in (96, 128))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(VideoReadError, match="frame size changes at frame 5"):
        read_video(path)


def test_a_rewritten_file_is_read_anew(tmp_path):
    path = tmp_path / "a.mp4"
    for count in (5, 9):
        write_video(path, frames_of(count))
        assert len(read_video(path)) == count
