"""Video files of every kind that the reader must read, made with PyAV; used by the video tests and benchmark."""

from __future__ import annotations

import hashlib
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

FRAMES, HEIGHT, WIDTH = 40, 64, 96


def picture(index: int, height: int, width: int) -> np.ndarray:
    """One frame of a moving scene that differs from every other and from its own mirror images."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack(
        [x * 255 // width + 3 * index, y * 255 // height + 5 * index, (x + y) * 2 + 7 * index], -1
    )
    frame = (128 + 100 * np.sin(frame * 0.05)).astype(np.uint8)
    row, column = (3 * index) % max(height - 8, 1), (5 * index) % max(width - 8, 1)
    frame[row : row + 8, column : column + 8] = 255
    frame[: height // 4, : width // 8] = 40  # a dark corner tells up from down and left from right
    return frame


def frames_of(count: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.stack([picture(i, height, width) for i in range(count)])


def make(
    path: Path,
    codec: str = "libx264",
    *,
    count: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
    pixels: str = "yuv420p",
    gop: int = 12,
    options: dict | None = None,
    muxer: dict | None = None,
    shift: int = 0,
    times=None,
    rotation: int | None = None,
    tag709: bool = False,
    tone: bool = False,
) -> Path:
    """Encode the scene. `shift` moves all time stamps by so many frames; `times` maps a frame to its stamp."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        same = {"mbtree": "0"} if codec == "libx264" else {}  # the same file every time: see video.QUALITY
        stream = container.add_stream(codec, rate=25, options=same | (options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.gop_size, stream.codec_context.thread_count = gop, 1
        stream.codec_context.time_base = Fraction(1, 25)
        if tag709:
            stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000, layout="mono") if tone else None
        packets = []
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = i if times is None else times(i), Fraction(1, 25)
            packets += stream.encode(frame)
        for packet in packets + stream.encode():
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            container.mux(packet)
        if sound is not None:
            _tone(container, sound, count / 25)
    return path


def _tone(container, sound, seconds: float) -> None:
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(16000 * seconds)) / 16000)
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    container.mux(sound.encode(frame))
    container.mux(sound.encode())


B3 = {"bf": "3"}
NO_SHIFT = {"avoid_negative_ts": "disabled"}
# name: (file name, arguments of make, whether decord may be trusted with it)
KINDS = {
    "cfr": ("a.mp4", dict(), True),
    "vfr": ("a.mp4", dict(times=lambda i: i * (i + 3) // 4), True),
    "no b-frames": ("a.mp4", dict(options={"bf": "0"}), True),
    "b-frames": ("a.mp4", dict(options=B3), True),
    "gop 1": ("a.mp4", dict(gop=1), True),
    "gop 30": ("a.mp4", dict(gop=30), True),
    "gop 250": ("a.mp4", dict(gop=250), True),
    "rotated 90": ("a.mp4", dict(rotation=90), False),
    "rotated 180": ("a.mp4", dict(rotation=180), False),
    "rotated 270": ("a.mov", dict(rotation=270), False),
    "10 bit": ("a.mp4", dict(pixels="yuv420p10le"), False),
    "bt.709": ("a.mp4", dict(tag709=True), True),
    "with sound": ("a.mp4", dict(tone=True), True),
    "late start": ("a.mp4", dict(shift=50), False),
    "edit list": ("a.mp4", dict(shift=-17, muxer=NO_SHIFT, options=B3), False),
    "edit list on a key frame": ("a.mp4", dict(shift=-12, muxer=NO_SHIFT, options=B3), True),
    "fragmented": ("a.mp4", dict(muxer={"movflags": "frag_keyframe+empty_moov"}), False),
    "open gop": ("a.mp4", dict(options={**B3, "x264-params": "open-gop=1:scenecut=0"}), False),
    "intra refresh": ("a.mp4", dict(options={"x264-params": "intra-refresh=1"}), False),
    "mpeg-4 b-frames": ("a.mp4", dict(codec="mpeg4", options={"bf": "2"}), False),
    "mpeg-4 b-frames avi": ("a.avi", dict(codec="mpeg4", options={"bf": "2"}), False),
    "mpeg-4": ("a.mp4", dict(codec="mpeg4"), False),
    "h.264 ts": ("a.ts", dict(options=B3), False),
    "mpeg-2 ts": ("a.ts", dict(codec="mpeg2video", options={"bf": "2"}), False),
    "mpeg-2 ps": ("a.mpg", dict(codec="mpeg2video", options={"bf": "2"}), False),
    "h.264 mkv": ("a.mkv", dict(options=B3), True),
    "h.264 mkv open gop": ("a.mkv", dict(options={**B3, "x264-params": "open-gop=1:scenecut=0"}), False),
    "h.264 raw": ("a.h264", dict(options=B3), False),
    "h.264 avi": ("a.avi", dict(options=B3), False),
    "h.264 avi with gaps": ("a.avi", dict(options=B3, times=lambda i: i * (i + 3) // 4), False),
    "h.264 asf": ("a.wmv", dict(options=B3), False),
    "partly fragmented": ("a.mp4", dict(options={"bf": "0"}, muxer={"movflags": "frag_keyframe"}), True),
    "hevc": ("a.mp4", dict(codec="libx265", options={"x265-params": "log-level=0:open-gop=0:keyint=12"}), True),
    "hevc open gop": ("a.mp4", dict(codec="libx265", options={"x265-params": "log-level=0:keyint=12"}), False),
    "vp9": ("a.webm", dict(codec="libvpx-vp9", options={"cpu-used": "8"}), True),
    "vp8": ("a.webm", dict(codec="libvpx", options={"cpu-used": "8"}), False),
    "vp8 hidden frames": ("a.webm", dict(codec="libvpx"), False),
    "av1": ("a.mp4", dict(codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}), False),
    "vp9 odd height": (
        "a.webm", dict(codec="libvpx-vp9", options={"cpu-used": "8"}, width=96, height=63), False),
    "mjpeg": ("a.avi", dict(codec="mjpeg", pixels="yuvj420p"), False),
    "ffv1": ("a.mkv", dict(codec="ffv1"), False),
    "odd size": ("a.mp4", dict(width=97, height=63, pixels="yuv444p"), True),
    "odd width 33": ("a.mp4", dict(width=33, height=35, pixels="yuv444p"), False),
    "width 16": ("a.mp4", dict(width=16, height=16), False),
    "width 24": ("a.mp4", dict(width=24, height=32), False),
    "width 32": ("a.mp4", dict(width=32, height=32), True),
    "width 48": ("a.mp4", dict(width=48, height=48), False),
    "width 64": ("a.mp4", dict(width=64, height=64), True),
    "width 72": ("a.mp4", dict(width=72, height=64), False),
    "one frame": ("a.mp4", dict(count=1), True),
    "two frames": ("a.mp4", dict(count=2), True),
    "threads": ("a.mp4", dict(width=640, height=416, count=20, options=B3), True),
}  # fmt: skip


def make_kind(name: str, folder: Path) -> Path:
    file_name, arguments, _ = KINDS[name]
    folder.mkdir(parents=True, exist_ok=True)
    return hide(folder / file_name) if "hidden" in name else make(folder / file_name, **arguments)


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _tone(container, container.add_stream("aac", rate=16000, layout="mono"), 1.0)
    return path


def sequential(path: Path) -> np.ndarray:
    """The reference: PyAV, first packet to last, strict, frame after frame, upright."""
    frames = [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in decoded(path)]
    if not frames:
        raise av.InvalidDataError(0, "no frames", str(path))
    return np.stack(frames)


def decoded(path: Path) -> list[av.VideoFrame]:
    """All frames of the first video track, decoded strictly in order."""
    strict = "explode+crccheck+bitstream+buffer"
    frames = []
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        if stream.codec_context.name in (
            "mpeg1video",
            "mpeg2video",
        ):  # which may have zeros before a start code
            strict = "explode+crccheck+buffer"
        stream.codec_context.options = {"err_detect": strict}
        for packet in container.demux(stream):
            if packet.size or packet.dts is None:  # an empty packet is no end of the stream
                frames += packet.decode()
    if any(frame.is_corrupt for frame in frames):
        raise av.InvalidDataError(0, "damaged frame", str(path))
    return frames


def native_digest(frame: av.VideoFrame) -> str:
    """MD5 of the decoded planes without padding, as the muxer ``framemd5`` has it."""
    total = hashlib.md5()
    for number, plane in enumerate(frame.planes):
        bits = sum(8 if c.bits <= 8 else 16 for c in frame.format.components if c.plane == number)
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        total.update(np.ascontiguousarray(rows[: plane.height, : plane.width * bits // 8]))
    return total.hexdigest()


def ffmpeg(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run the ``ffmpeg`` that imageio-ffmpeg ships; it prints errors only."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-nostdin",
        "-y",
        "-v",
        "error",
        "-threads",
        "1",
    ]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


VP8 = ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "8", "-b:v", "300k")


def hide(path: Path) -> Path:
    """Write a VP8 file with frames that are decoded and never shown, which its encoder makes in a second pass."""
    scene = ("-f", "lavfi", "-i", f"testsrc2=size={WIDTH}x{HEIGHT}:rate=25", "-frames:v", str(FRAMES))
    log = ("-pix_fmt", "yuv420p", "-passlogfile", path.with_name("first"))
    assert ffmpeg(*scene, *VP8, *log, "-pass", "1", "-f", "null", "-").returncode == 0
    assert ffmpeg(*scene, *VP8, *log, "-pass", "2", path).returncode == 0
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > FRAMES
    return path


def pack(path: Path, count: int) -> Path:
    """Write an AVI as Xvid does: two frames in one packet, then an empty one for the place of the second."""
    scene = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=64x48:rate=25",
        "-frames:v",
        str(count),
        "-pix_fmt",
        "yuv420p",
    )
    done = ffmpeg(*scene, "-c:v", "libxvid", "-bf", "2", "-g", "8", path)
    if "Unknown encoder" in done.stderr:
        pytest.skip("this build of ffmpeg has no Xvid")
    assert (
        done.returncode == 0 and b"DivX503b1393p" in path.read_bytes()
    )  # the p tells decoders that it is packed
    return path


def command_line(path: Path) -> tuple[list[float], list[str], str]:
    """What the ``ffmpeg`` command makes of a file: when each frame is shown, its digest, and the complaints."""
    keep = ("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framemd5", "-")
    done = ffmpeg("-noautorotate", "-i", path, *keep)
    unit, times, digests = Fraction(0), [], []
    for line in done.stdout.splitlines():
        if line.startswith("#tb 0:"):
            unit = Fraction(line.split(":")[1].strip())
        elif line[:1] != "#":
            fields = line.split(",")
            times.append(float(int(fields[2]) * unit))
            digests.append(fields[5].strip())
    return times, digests, done.stderr.strip()


def field_pictures(count: int) -> bytes:
    """A raw H.264 stream of 32x32 pixels in which each field of a frame is a picture, and a packet, of its own."""

    def golomb(number: int) -> str:
        return f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1)

    def packed(bits: str, stop: str = "") -> bytes:
        bits += stop
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    start = b"\0\0\0\1"
    # main profile, 2 macroblocks wide, 1 map unit high, no frame macroblocks only
    size = golomb(0) * 4 + golomb(1) + "0" + golomb(1) + golomb(0) + "0" + "0" + "1" + "0" + "0"
    sequence = start + b"\x67" + bytes([77, 0, 30]) + packed(size, "1")
    picture_set = golomb(0) * 2 + "00" + golomb(0) * 3 + "000" + golomb(0) * 3 + "100"
    stream = b""
    for frame in range(count):
        stream += sequence + start + b"\x68" + packed(picture_set, "1")
        for bottom in (0, 1):  # an intra slice of a field, without deblocking; the top one is an IDR picture
            head = golomb(0) + golomb(7) + golomb(0) + f"00001{bottom}"
            head += "" if bottom else golomb(frame % 2)
            head += f"{bottom:04b}" + ("0" if bottom else "00") + golomb(0) + golomb(1)
            stream += start + (b"\x41" if bottom else b"\x65")
            for block in (0, 1):  # stored samples
                luma = 16 + (7 * frame + 40 * bottom + 11 * block) % 200
                stream += packed(head + golomb(25)) + bytes([luma]) * 256 + bytes([128]) * 128
                head = ""
            stream += b"\x80"
    return stream
