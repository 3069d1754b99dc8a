"""What reading costs, counted in packets: calls go on where the last one stopped, and nothing beyond is decoded."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from video_files import FRAMES, hide, make, sequential

from sora_nb.video import VideoReader, VideoReadError, packets, read_video

CODECS = {
    "one key frame": ("a.mp4", dict(gop=250, options={"bf": "3"})),
    "intra": ("a.mp4", dict(gop=1)),
    "open gop": ("a.mkv", dict(options={"bf": "3", "x264-params": "open-gop=1:scenecut=0"})),
    "vp8": ("a.webm", dict(codec="libvpx", options={"cpu-used": "8"})),
    "vp8 hidden frames": ("a.webm", {}),
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
            folder = tmp_path_factory.mktemp("cost")
            made[name] = hide(folder / ending) if "hidden" in name else make(folder / ending, **arguments)
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
LOOK_AHEAD = {"one key frame": 2, "open gop": 2, "ts": 2, "avi": 1, "threads": 7}


@pytest.mark.parametrize("name", CODECS)
def test_decoding_stops_when_the_last_wanted_frame_is_out(files, name):
    """No packet is fed but those up to the frame's, and those that its decoder wants to see before it gives it out."""
    ahead = LOOK_AHEAD.get(name, 0)
    with VideoReader(files(name)) as reader:
        assert reader._file.index.taught == (name == "avi")  # opening decodes only where stamps are missing
    for last, wanted in ((0, [0]), (5, [2, 5]), (20, range(15, 21))):
        with VideoReader(files(name)) as reader:
            reader.get(wanted)
            assert reader._file._fed <= reader._file.index.shown[last] + ahead


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
