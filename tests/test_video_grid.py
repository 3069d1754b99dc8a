"""Every codec in every container that can hold it, against PyAV's decode in order and against the `ffmpeg` command.

The rule: what the command decodes without a complaint is read, with equal frames at equal times; everything else is
refused. Files are made by the `ffmpeg` of imageio-ffmpeg, which knows encoders that PyAV lacks.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from video_files import command_line, decoded, ffmpeg, hide, native_digest, sequential

from sora_nb.video import VideoReader, VideoReadError, read_video

FRAMES = 20
MP4, AVI, TS = "mp4 mov mkv nut frag.mp4", "avi asf", "ts mpg"
# encoder: its options, and the containers; those after the bar take its packets but do not give them back
GRID = {
    "libx264": ("-bf 3 -g 8", f"{MP4} {AVI} {TS} flv 3gp 3g2 f4v ismv h264"),
    "libx264 open": ("-bf 3 -g 8 -x264-params open-gop=1:scenecut=0", f"{MP4} {AVI} {TS} flv h264"),
    "libx264 pyramid": ("-bf 5 -g 20 -x264-params b-pyramid=normal:b-adapt=0", f"{MP4} {AVI} {TS} h264"),
    "libx264 interlaced": ("-bf 3 -g 8 -flags +ildct+ilme -x264-params tff=1", f"{MP4} {AVI} {TS} h264"),
    "libx265": (
        "-x265-params log-level=0:open-gop=0:keyint=8:bframes=3:pools=1:frame-threads=1",
        f"{MP4} {TS} avi flv ismv hevc",
    ),
    "libx265 open": (
        "-x265-params log-level=0:keyint=8:min-keyint=8:scenecut=0:bframes=3:pools=1:frame-threads=1",
        f"{MP4} {TS} avi flv hevc",
    ),
    "mpeg4": ("-bf 2 -g 8 -q:v 4", f"{MP4} {AVI} {TS} 3gp m4v"),
    "libxvid": ("-bf 2 -g 8 -q:v 4", f"avi ts m2ts | {MP4} asf 3gp m4v"),
    "mpeg1video": ("-bf 2 -g 8 -q:v 4", f"{MP4} {AVI} {TS} vob wtv m1v"),
    "mpeg2video": ("-bf 2 -g 8 -q:v 4", f"{MP4} {AVI} {TS} vob wtv mxf m2v"),
    "libvpx": ("-cpu-used 8 -g 8 -b:v 300k", f"mkv webm nut {AVI} ivf | {TS}"),
    "libvpx hidden": ("", f"mkv webm nut {AVI} wtv ivf | {TS}"),
    "libvpx-vp9": ("-lag-in-frames 16 -cpu-used 8 -g 8 -b:v 200k", f"mp4 mkv webm nut {AVI} flv ivf wtv frag.mp4 | {TS}"),
    "libsvtav1": ("-preset 12 -g 8 -svtav1-params lp=1", f"mp4 mkv webm nut {AVI} flv ivf obu frag.mp4 | {TS}"),
    "libtheora": ("-g 8 -q:v 5", f"mkv nut {AVI} ogv | {TS}"),
    "wmv2": ("-g 8", f"mkv nut {AVI} | {TS}"),
    "msmpeg4": ("-g 8", f"mov mkv nut {AVI} | {TS}"),
    "flv": ("-g 8", f"mov mkv nut {AVI} flv | {TS}"),
    "mjpeg": ("-pix_fmt yuvj420p", f"{MP4} {AVI} mjpeg"),
    "ffv1": ("-g 8", f"{MP4} {AVI} | {TS}"),
    "huffyuv": ("-pix_fmt yuv422p", f"mov mkv nut {AVI} | {TS}"),
    "prores": ("-pix_fmt yuv422p10le", "mov mkv nut avi"),
    "snow": ("-strict -2 -g 8", f"mov mkv nut {AVI} | {TS}"),
    "svq1": ("-pix_fmt yuv410p -g 8", f"mov nut {AVI} | {TS}"),
    "gif": ("-pix_fmt rgb8", "gif nut | mkv"),
}  # fmt: skip
counts: dict[str, Counter[str]] = {}


def encoders() -> str:
    return ffmpeg("-encoders").stdout


def files_of(name: str, folder: Path) -> list[Path]:
    """Encode the moving test picture and put the packets into each container."""
    encoder, (options, containers) = name.split()[0], GRID[name]
    scene = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48:rate=30",
        "-frames:v",
        str(FRAMES),
        "-pix_fmt",
        "yuv420p",
    )
    encode = ("-c:v", encoder, *options.split())
    paths = [folder / f"a.{ending}" for ending in containers.replace("|", " ").split()]
    if encoder == "libxvid":  # what it packs for a container does not fit another
        for path in paths:
            assert ffmpeg(*scene, *encode, *options_of(path), path).returncode == 0
        return paths
    source = folder / ("source.webm" if "hidden" in name else "source.nut")
    if "hidden" in name:
        hide(source)
    else:
        assert ffmpeg(*scene, *encode, source).returncode == 0
    outputs: list[str | Path] = []
    for path in paths:
        headless = path.suffix in (".mpg", ".ts", ".h264", ".hevc", ".m4v")  # no header for the whole file
        outputs += ["-c", "copy", *(["-bsf:v", "dump_extra"] if headless else []), *options_of(path), path]
    done = ffmpeg("-i", source, *outputs)
    assert done.returncode == 0, done.stderr
    return paths


def options_of(path: Path) -> list[str]:
    return ["-movflags", "frag_keyframe"] if "frag" in path.name else []


def check(path: Path) -> str:
    """Hold the reader to the rule on one file; say what it did."""
    times, digests, complaint = command_line(path)
    if complaint or not digests:
        with pytest.raises(VideoReadError):
            read_video(path)
        return "refused"
    assert digests == [native_digest(frame) for frame in decoded(path)]  # the reference is the command's
    reference = sequential(path)
    np.testing.assert_array_equal(read_video(path), reference)
    rng = np.random.default_rng(0)
    with VideoReader(path) as reader:
        for place in rng.permutation(len(reference))[:8].tolist():
            np.testing.assert_array_equal(reader.get([place])[0], reference[place], err_msg=f"frame {place}")
        for start in range(0, len(reference), 6):
            part = range(start, min(start + 6, len(reference)))
            np.testing.assert_array_equal(reader.get(part), reference[part.start : part.stop])
        np.testing.assert_array_equal(reader.get_at(reader.info.times), reference)
        if all(a < b for a, b in pairwise(times)):
            np.testing.assert_allclose(reader.info.times, np.array(times) - times[0], atol=1e-6)
        else:  # the command's times are none
            np.testing.assert_allclose(reader.info.times, np.arange(len(reference)) / 30, atol=1e-6)
    return "read"


@pytest.mark.parametrize("name", GRID)
def test_what_the_command_decodes_silently_is_read_and_nothing_else(tmp_path, name):
    if f" {name.split()[0]} " not in encoders():
        pytest.skip("this build of ffmpeg lacks the encoder")
    held = len(GRID[name][1].split("|")[0].split())
    answers = [check(path) for path in files_of(name, tmp_path)]
    assert answers[:held] == ["read"] * held and set(answers[held:]) <= {"refused"}
    counts[name] = Counter(answers)


def test_the_grid_is_wide():
    if counts.keys() != GRID.keys():
        pytest.skip("not all of the grid has been tried")
    total = sum(counts.values(), Counter())
    print(f"codec x container: {dict(total)}")
    assert total["read"] > 180 and total["refused"] > 20
