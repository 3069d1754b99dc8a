"""Rules of the video reader that need a file or a caller of their own: odd streams, tracks, and true reasons."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import (
    command_line,
    decoded,
    ffmpeg,
    field_pictures,
    frames_of,
    make,
    native_digest,
    sequential,
)

from sora_nb.video import VideoReader, VideoReadError, probe, read_audio, read_video, write_video
from sora_nb.video.errors import damaged
from sora_nb.video.index import NEVER, Clock, entries

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


def test_an_mpeg4_packet_may_say_that_the_picture_stays(tmp_path):
    """Encoders write such a packet of a few bytes for a frame equal to the last one; no decoder gives that out."""
    path, stays = make(tmp_path / "a.mkv", codec="mpeg4", count=10, gop=5), tmp_path / "stays.mkv"
    with av.open(str(path)) as old, av.open(str(stays), "w") as new:
        track = new.add_stream_from_template(old.streams.video[0])
        for packet in [packet for packet in old.demux(video=0) if packet.size]:
            if packet.pts == 280:  # a P-picture of the time after the sixth, not coded
                data = b"\0\0\1\xb6" + int(f"0101{7:05b}10" + "01111", 2).to_bytes(2, "big")
                still = av.Packet(data)
                still.pts, still.dts, still.time_base = packet.pts, packet.dts, packet.time_base
                packet = still
            packet.stream = track
            new.mux(packet)
    times, digests, complaint = command_line(stays)
    assert len(digests) == 9 and not complaint
    info = probe(stays)
    assert info.frames == 9 and info.decoder == "pyav"
    np.testing.assert_allclose(info.times, times, atol=1e-6)
    np.testing.assert_array_equal(read_video(stays), sequential(stays))


@pytest.mark.parametrize(
    "encoder",
    [
        "libx264 -bf 3",
        "mpeg4 -bf 2",
        *(f"libx265 -x265-params log-level=0:keyint={k}" for k in ("12", "8:open-gop=0")),
    ],
)
def test_gaps_between_the_frames_of_an_avi_are_kept(tmp_path, encoder):
    some = "select=not(eq(mod(n\\,7)\\,2))*not(eq(mod(n\\,5)\\,3))"
    scene = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30", "-frames:v", "24", "-pix_fmt", "yuv420p")
    encode = ("-vf", some, "-fps_mode", "vfr", "-c:v", *encoder.split())
    assert ffmpeg(*scene, *encode, tmp_path / "a.nut").returncode == 0
    assert ffmpeg("-i", tmp_path / "a.nut", "-c", "copy", tmp_path / "a.avi").returncode == 0
    kept = [n for n in range(60) if n % 7 != 2 and n % 5 != 3][:24]
    times = probe(tmp_path / "a.avi").times[:-2]  # no packets come after the last two, to tell their times
    np.testing.assert_allclose(times, np.array(kept[:-2]) / 30, atol=1e-6)


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


@pytest.mark.parametrize(
    "ranked, keys, expected",
    [
        ([0, 2, 1, 3, 5, 4], {0, 3}, [0, 0, 0, 3, 3, 3]),
        ([0, 2, 1, 4, 3, 5], {0, 3}, [0, 0, 0, 0, 0, 0]),  # 4 leads its key frame: an open group
        ([0, 2, 1, 4, 3, 5, 6], {0, 3, 6}, [0, 0, 0, 0, 0, 0, 6]),
        ([0, 2, 3, 1, 4], {0, 3, 4}, [0, 0, 0, 0, 4]),  # 1 comes before the key frame and is shown after it
        ([0, 1, 3], {0, 2, 3}, [0, 0, 0, 3]),  # a key frame that is not shown
    ],
)
def test_where_decoding_may_start_by_hand(ranked, keys, expected):
    assert entries(ranked, keys, len(expected)).tolist() == expected


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
