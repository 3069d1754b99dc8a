"""Rules of the video reader that need a file or a caller of their own: cost, odd streams, tracks, and true reasons."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import (
    FRAMES,
    command_line,
    decoded,
    ffmpeg,
    field_pictures,
    frames_of,
    make,
    native_digest,
    sequential,
)

from sora_nb.video import VideoReader, VideoReadError, packets, probe, read_audio, read_video, write_video
from sora_nb.video.errors import damaged
from sora_nb.video.index import NEVER, Clock

CODECS = {
    "one key frame": ("a.mp4", dict(gop=250, options={"bf": "3"})),
    "intra": ("a.mp4", dict(gop=1)),
    "open gop": ("a.mkv", dict(options={"bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "vp8": (
        "a.webm", dict(codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"})),
    "vp9": ("a.webm", dict(codec="libvpx-vp9", options={"cpu-used": "8"})),
    "av1": ("a.mp4", dict(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"})),
    "avi": ("a.avi", dict(codec="mpeg4", options={"bf": "2"})),
    "ts": ("a.ts", dict(options={"bf": "3"})),
    "threads": ("a.mp4", dict(width=640, height=416, options={"bf": "3"})),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            ending, arguments = CODECS[name]
            made[name] = make(tmp_path_factory.mktemp("rules") / ending, **arguments)
        return made[name]

    return get


@pytest.fixture
def starts(monkeypatch):
    """Where the decoder is started, call after call."""
    seen, start = [], packets.PacketFile._start
    monkeypatch.setattr(
        packets.PacketFile,
        "_start",
        lambda self, first, number: (seen.append(first), start(self, first, number))[1],
    )
    return seen


# ---------------------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize("name", CODECS)
def test_rising_calls_go_on_where_the_last_one_stopped(files, starts, name):
    path = files(name)
    reference = sequential(path)
    with VideoReader(path) as reader:
        starts.clear()
        for first in range(0, FRAMES, 7):
            part = reader.get(range(first, min(first + 7, FRAMES)))
            np.testing.assert_array_equal(part, reference[first : first + 7])
        assert starts == [0]
        np.testing.assert_array_equal(reader.get([3])[0], reference[3])  # back: from an entry at or before it
        assert len(starts) == 2 and starts[1] <= 3
        np.testing.assert_array_equal(reader.get([4, 5]), reference[[4, 5]])
        assert len(starts) == 2
        np.testing.assert_array_equal(reader.get([5, 4]), reference[[5, 4]])  # down is not on
        assert len(starts) == 3


# how many packets a decoder wants to see ahead: for B-frames, or because each of its threads holds a frame
LOOK_AHEAD = {"one key frame": 2, "open gop": 2, "ts": 2, "avi": 1, "threads": 5}


@pytest.mark.parametrize("name", CODECS)
def test_decoding_stops_when_the_last_wanted_frame_is_out(files, name):
    """No packet is fed but those up to the frame's, and those that its decoder wants to see before it gives it out."""
    ahead = LOOK_AHEAD.get(name, 0)
    for last, wanted in ((0, [0]), (5, [2, 5]), (20, range(15, 21))):
        with VideoReader(files(name)) as reader:
            reader.get(wanted)
            assert reader._file._fed <= last + ahead, name


def test_reading_once_decodes_no_packet_beyond_the_last_wanted_one(files, monkeypatch):
    fed, close = [], packets.PacketFile.close
    monkeypatch.setattr(packets.PacketFile, "close", lambda self: (fed.append(self._fed), close(self))[1])
    for name in CODECS:
        read_video(files(name), [0])
    assert max(fed) <= 1  # the one after it is not fed: the decoder is drained instead


def test_a_key_frame_on_the_way_is_jumped_to(tmp_path, starts):
    path = make(tmp_path / "a.mp4", gop=5, options={"bf": "0", "x264-params": "scenecut=0"})
    reference = sequential(path)
    with VideoReader(path) as reader:
        for place in (1, 3, 22, 23, 38):
            np.testing.assert_array_equal(reader.get([place])[0], reference[place])
    assert starts == [0, 20, 35]


def test_an_error_in_the_middle_leaves_nothing_to_go_on_from(tmp_path, monkeypatch):
    path = make(tmp_path / "a.mp4", gop=250, options={"bf": "0"})
    reference = sequential(path)
    with VideoReader(path) as reader:
        reader.get([5])
        place = reader._file.index.shown[8]
        monkeypatch.setattr(packets, "islice", lambda *_: iter(()))  # no packets any more
        stamps = reader._file.index.stamps
        right, stamps[8] = stamps[8], stamps[8] + 1  # and a frame that comes unexpected
        with pytest.raises(VideoReadError):
            reader.get([8])
        monkeypatch.undo()
        stamps[8] = right
        np.testing.assert_array_equal(reader.get([8, 9]), reference[[8, 9]])
        assert place == 8


def test_readers_take_turns(files):
    """Two readers of one file, and one closed in the middle, do not disturb each other."""
    path = files("one key frame")
    reference = sequential(path)
    with VideoReader(path) as one, VideoReader(path) as two:
        for place in range(0, 30, 3):
            np.testing.assert_array_equal(one.get([place])[0], reference[place])
            np.testing.assert_array_equal(two.get([place + 1])[0], reference[place + 1])
        one.close()
        np.testing.assert_array_equal(two.get([33])[0], reference[33])


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_the_benchmark_goes_on_without_a_decoder_whose_libraries_are_missing(
    tmp_path, monkeypatch, capsys, error
):
    """torchcodec without FFmpeg's libraries fails when it is imported, in many lines."""
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text(f"raise {error}('no libavutil\\nand so on')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    script = Path(__file__).parents[1] / "scripts" / "benchmark_video.py"
    benchmark = runpy.run_path(str(script))
    named = benchmark["working"](benchmark["METHODS"], make(tmp_path / "a.mp4", count=4))
    assert list(named) == ["ours", "ours decord", "pyav seq", "pyav seek", "decord"]
    assert capsys.readouterr().out == f"torchcodec: not available ({error}: no libavutil)\n"


# --------------------------------------------------------------------------------------------------- odd streams


def cut(source: Path, target: Path, keys: int = 1) -> Path:
    """Copy the packets from a later key frame on."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        track, seen = new.add_stream_from_template(old.streams.video[0]), -1
        for packet in old.demux(video=0):
            seen += packet.is_keyframe
            if packet.size and seen >= keys:
                packet.stream = track
                new.mux(packet)
    return target


X265 = {"x265-params": "log-level=0:keyint=12:min-keyint=12:scenecut=0:open-gop=1"}


@pytest.mark.parametrize(
    "codec, options, ending",
    [
        *(("libx265", X265, ending) for ending in ("mkv", "ts", "mp4")),
        *(("mpeg2video", {"bf": "2"}, ending) for ending in ("mkv", "ts", "mp4")),
        *(("mpeg4", {"bf": "2"}, ending) for ending in ("mkv", "mp4")),
    ],
)
def test_a_stream_that_starts_in_an_open_group_drops_its_leading_pictures(tmp_path, codec, options, ending):
    path = cut(make(tmp_path / "a.mp4", codec=codec, options=options), tmp_path / f"cut.{ending}")
    times, digests, complaint = command_line(path)
    with av.open(str(path)) as container:
        held = sum(packet.size > 0 for packet in container.demux(video=0))
    assert not complaint and len(digests) < held  # some have been dropped
    reference = sequential(path)
    np.testing.assert_array_equal(read_video(path), reference)
    assert [native_digest(frame) for frame in decoded(path)] == digests
    with VideoReader(path) as reader:
        np.testing.assert_allclose(reader.info.times, np.array(times) - times[0], atol=1e-6)
        for place in (20, 3, 11, 0):
            np.testing.assert_array_equal(reader.get([place])[0], reference[place])


def test_a_stream_that_starts_with_no_key_frame_is_refused(tmp_path):
    """MPEG-4 decoders start anywhere, from a picture that nobody has sent."""
    path = make(tmp_path / "a.avi", codec="mpeg4", gop=12)
    with av.open(str(path)) as old, av.open(str(tmp_path / "b.avi"), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in list(old.demux(video=0))[5:-1]:
            packet.stream = track
            new.mux(packet)
    with pytest.raises(VideoReadError, match="does not start with a key frame"):
        read_video(tmp_path / "b.avi")


@pytest.mark.parametrize("ending", ["h264", "ts", "mp4", "mkv", "avi"])
def test_two_fields_make_one_frame(tmp_path, ending):
    path, raw = tmp_path / f"a.{ending}", tmp_path / "raw.h264"
    raw.write_bytes(field_pictures(12))
    if path != raw:
        assert ffmpeg("-r", "50", "-i", raw, "-c", "copy", path).returncode == 0
    _, digests, complaint = command_line(path)
    reference = sequential(path)
    assert (
        not complaint
        and [native_digest(frame) for frame in decoded(path)] == digests
        and len(reference) == 12
    )
    np.testing.assert_array_equal(read_video(path), reference)
    with VideoReader(path) as reader:
        for place in (7, 2, 11):
            np.testing.assert_array_equal(reader.get([place])[0], reference[place])
        np.testing.assert_array_equal(reader.get([1, 5, 6]), reference[[1, 5, 6]])


@pytest.mark.parametrize("codec, ending", [("mpeg1video", "m1v"), ("mpeg2video", "m2v")])
def test_zeros_before_a_start_code_are_legal(tmp_path, codec, ending):
    path = make(tmp_path / f"a.{ending}", codec=codec, options={"bf": "2"})
    reference = sequential(path)
    path.write_bytes(path.read_bytes().replace(b"\0\0\1\0", bytes(9) + b"\0\0\1\0"))
    assert command_line(path)[2] == ""
    np.testing.assert_array_equal(read_video(path), reference)


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_a_raw_stream_has_its_own_rate(tmp_path, rate):
    path = tmp_path / "a.h264"
    write_video(tmp_path / "a.mp4", frames_of(30), rate, options={"bf": "3"})
    assert ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", path).returncode == 0
    with VideoReader(path) as reader:
        assert reader.info.rate == pytest.approx(rate) and reader.info.duration == pytest.approx(30 / rate)
        np.testing.assert_array_equal(reader.get_at([i / rate for i in range(30)]), sequential(path))


def test_stamps_that_lie_give_way_to_the_decoder(tmp_path):
    """This container stamps packets as they come; B-frames are shown in another order."""
    path = tmp_path / "a.mxf"
    scene = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "20", "-pix_fmt", "yuv420p")
    assert ffmpeg(*scene, "-c:v", "libx264", "-bf", "3", "-g", "10", path).returncode == 0
    reference = sequential(path)
    with VideoReader(path) as reader:
        assert reader._file.index.sure and not reader._file.index.taught  # it is believed, at first
        np.testing.assert_array_equal(reader.get([7, 2]), reference[[7, 2]])
        assert reader._file.index.taught
        np.testing.assert_array_equal(reader.get(range(20)), reference)
        np.testing.assert_allclose(reader.info.times, np.arange(20) / 25, atol=1e-9)


def test_the_clock_by_hand():
    def times(*frames: tuple) -> list[int]:
        clock = Clock()
        return [clock.read(*(NEVER if t is None else t for t in frame[:2]), frame[2]) for frame in frames]

    assert times((0, 2, 1), (1, 3, 1), (2, None, 1)) == [0, 1, 2]  # its own stamps
    assert times((None, 2, 1), (None, 3, 1), (None, None, 1), (None, None, 1)) == [
        2,
        3,
        4,
        5,
    ]  # the packets', and on
    assert times((0, 2, 1), (3, 3, 1), (2, 4, 1), (4, 5, 1)) == [0, 3, 4, 5]  # own ones that fall
    assert times((0, 5, 4), (4, 5, 4), (8, 5, 4)) == [0, 4, 8]  # the packets' repeat themselves
    assert times((0, None, 0), (40, None, 0), (None, None, 0)) == [0, 40, 80]  # no durations: the last step
    assert times((0, None, 1), (90, None, 1), (None, None, 1)) == [0, 90, 180]  # made-up durations
    assert times((None, None, 1)) == [NEVER]


# -------------------------------------------------------------------------------------------------------- tracks


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("sizes", [("96x64", "96x64"), ("96x64", "160x96"), ("160x96", "96x64")])
@pytest.mark.parametrize("default", [None, 0, 1])
def test_the_track_that_the_command_takes_is_read(tmp_path, ending, sizes, default):
    inputs, options = [], []
    for number, size in enumerate(sizes):  # of equal length
        scene = f"testsrc2=size={size}:rate=25" if number else f"testsrc=size={size}:rate=25"
        inputs += ["-f", "lavfi", "-i", scene]
        options += [
            "-map",
            f"{number}:v",
            f"-disposition:v:{number}",
            "default" if number == default else "0",
        ]
    path = tmp_path / f"both.{ending}"
    encode = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-frames:v", "10", "-preset", "ultrafast")
    assert ffmpeg(*inputs, *options, *encode, path).returncode == 0
    assert ffmpeg("-i", path, "-c", "copy", tmp_path / "taken.mp4").returncode == 0
    np.testing.assert_array_equal(read_video(path), sequential(tmp_path / "taken.mp4"))
    assert probe(path).decoder == "pyav"  # of two, decord may take the other one
    with pytest.raises(VideoReadError, match="decord misreads"):
        read_video(path, decoder="decord")


# ------------------------------------------------------------------------------------------------- true reasons


@pytest.mark.parametrize(
    "name, reason",
    [
        ("gone.mp4", "there is no such file"),
        ("n" * 300 + ".mp4", "its name is too long"),
        ("a.mp4/b.mp4", "as if that were a folder"),
        ("http://example.org/a.mp4", "it is an address"),
        ("a\0b", "no file can have such a name"),
        ("circle", "its links lead in a circle"),
        (".", "not a regular file"),
    ],
)
def test_a_path_that_leads_nowhere_is_named_truly(tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.mp4", count=2)
    os.symlink("circle", "circle")
    for attempt in (read_video, read_audio):
        with pytest.raises(VideoReadError, match=reason) as error:
            attempt(name)
        assert error.value.path == Path(name) and "re-encode" not in error.value.advice


def test_damage_is_not_blamed_on_permissions(tmp_path):
    """The decoder of this format fails with the number of an operating system's refusal."""
    path = tmp_path / "a.gif"
    scene = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "8")
    assert ffmpeg(*scene, path).returncode == 0
    data, causes = path.read_bytes(), []
    for place in range(760, len(data), 29):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            read_video(path)
        except VideoReadError as error:
            assert error.reason.startswith("it is damaged or no video") and "ermi" not in error.reason
            causes.append(type(error.__cause__))
    assert av.error.PermissionError in causes
    assert "no such file" in damaged(tmp_path / "gone", av.error.PermissionError(1, "", "")).reason


def test_a_closed_reader_says_so(tmp_path):
    reader = VideoReader(make(tmp_path / "a.mp4", count=4))
    reader.get([0])
    reader.close()
    reader.close()
    for attempt in (
        lambda: reader.get([1]),
        lambda: reader.get_at(0),
        lambda: reader.info,
        lambda: reader.clip(0, 2),
    ):
        with pytest.raises(VideoReadError, match="its reader is closed; open it again"):
            attempt()
    assert len(reader) == 4
