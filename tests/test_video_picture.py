"""How a decoded picture is laid down: the eight right-angled display matrices, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from video_files import ffmpeg, make

from sora_nb.video import VideoReadError, probe, read_video

ONE = 1 << 16
FORMS = {
    # a, b, c, d of the matrix: what is shown, its rotation, whether mirrored
    (ONE, 0, 0, ONE): (lambda x: x, 0, False),
    (0, ONE, -ONE, 0): (lambda x: np.rot90(x, -1, axes=(1, 2)), 270, False),  # a phone held upright
    (-ONE, 0, 0, -ONE): (lambda x: x[:, ::-1, ::-1], 180, False),
    (0, -ONE, ONE, 0): (lambda x: np.rot90(x, 1, axes=(1, 2)), 90, False),
    (-ONE, 0, 0, ONE): (lambda x: x[:, :, ::-1], 0, True),  # a phone's front camera
    (ONE, 0, 0, -ONE): (lambda x: x[:, ::-1], 180, True),
    (0, ONE, ONE, 0): (lambda x: x.swapaxes(1, 2), 90, True),
    (0, -ONE, -ONE, 0): (lambda x: x.swapaxes(1, 2)[:, ::-1, ::-1], 270, True),
    (2 * ONE, 0, 0, ONE // 2): (lambda x: x, 0, False),  # sizes do not count
    (ONE, 400, -400, ONE): (lambda x: x, 0, False),  # a third of a degree
    (0, 0, 0, 0): (lambda x: x, 0, False),  # says nothing
}


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write the display matrix into the header of the track."""
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes of times, size and volume before the matrix
    turned = path.with_name("turned.mp4")
    turned.write_bytes(
        data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :]
    )
    return turned


@pytest.mark.parametrize("matrix", FORMS)
def test_the_picture_is_laid_down_as_its_display_matrix_says(tmp_path, matrix):
    shown, rotation, mirrored = FORMS[matrix]
    path = make(tmp_path / "a.mp4", count=3)
    expected = shown(read_video(path))
    turned = with_matrix(path, *matrix)
    np.testing.assert_array_equal(read_video(turned), expected)
    info = probe(turned)
    assert (info.height, info.width) == expected.shape[1:3]
    assert (info.rotation, info.mirrored) == (rotation, mirrored)
    upright = np.rot90(read_video(path)[:, :, :: -1 if mirrored else 1], rotation // 90, axes=(1, 2))
    np.testing.assert_array_equal(upright, expected)  # what the two numbers say they mean
    assert info.decoder == ("decord" if (rotation, mirrored) == (0, False) else "pyav")


def test_the_ffmpeg_command_lays_pictures_down_alike(tmp_path):
    path = make(tmp_path / "a.mp4", count=1)
    for matrix in list(FORMS)[:8]:
        turned = with_matrix(path, *matrix)
        ours = read_video(turned)[0]
        done = ffmpeg("-i", turned, "-pix_fmt", "rgb24", "-f", "rawvideo", tmp_path / "raw")
        theirs = np.fromfile(tmp_path / "raw", np.uint8)
        assert not done.stderr and theirs.size == ours.size
        assert np.abs(theirs.reshape(ours.shape).astype(int) - ours).mean() < 3, (
            matrix
        )  # colors convert otherwise


@pytest.mark.parametrize("angle", [1, 30, 45, 89, 135])
def test_other_angles_are_refused(tmp_path, angle):
    cos, sin = (round(ONE * f(np.radians(angle))) for f in (np.cos, np.sin))
    turned = with_matrix(make(tmp_path / "a.mp4", count=2), cos, sin, -sin, cos)
    for attempt in (read_video, probe):
        with pytest.raises(VideoReadError, match="by no right angle"):
            attempt(turned)
