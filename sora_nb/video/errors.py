"""What can go wrong with a video file, in one error that says which file, why, and what to do. Derived in chapter 01."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import av

RECODE = "re-encode the file or leave it out"
# What the operating system says of a path, by its number; anything else is passed on in its own words.
REASONS = {
    errno.ENOENT: ("there is no such file", "check the path"),
    errno.ENOTDIR: ("its path leads through a file as if that were a folder", "check the path"),
    errno.EACCES: ("permission is denied", "change the file's permissions"),
    errno.EPERM: ("permission is denied", "change the file's permissions"),
    errno.ENAMETOOLONG: ("its name is too long", "check the path"),
    errno.ELOOP: ("its links lead in a circle", "check the path"),
    errno.EMFILE: ("too many files are open", "close readers that are done"),
}
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one slash: a Path has lost the other
FAILURES = (av.FFmpegError, OSError, UnicodeDecodeError)  # what FFmpeg and PyAV raise over a file


class VideoReadError(Exception):
    """A file cannot be read as video: which file, why, and what to do about it.

    Attributes:
        path: The file.
        reason: What is wrong with it.
        advice: What to do.
    """

    def __init__(self, path: str | os.PathLike, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # the arguments themselves, so that the error pickles
        self.path, self.reason, self.advice = Path(path), reason, advice

    def __str__(self) -> str:
        return f"Cannot read {str(self.path)!r}: {self.reason}; {self.advice}."


class MisledError(VideoReadError):
    """What the decoder gives is not what the packets led to expect; decoding all of them will tell more."""


def regular(path: Path) -> os.stat_result:
    """What the operating system knows of a regular file; a pipe would block, a device never end.

    Raises:
        VideoReadError: If there is no such file, if it may not be seen, or if it is no regular file.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise refused(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoReadError(path, "it is not a regular file", "give the path of a video file")
    return status


def refused(path: Path, error: OSError | ValueError) -> VideoReadError:
    """What to raise where the operating system does not give a file."""
    number = getattr(error, "errno", None)
    if number is None:  # a null character
        return VideoReadError(path, "no file can have such a name", "check the path")
    if number == errno.ENOENT and ADDRESS.match(str(path)):
        return VideoReadError(path, "it is an address and not a file", "download it first")
    reason, advice = REASONS.get(number, (f"it cannot be opened ({error.strerror})", RECODE))
    return VideoReadError(path, reason, advice)


def damaged(path: Path, error: Exception) -> VideoReadError:
    """What to raise where FFmpeg fails over a file: what the operating system says of it, or what FFmpeg says."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as refusal:
        return refused(path, refusal)
    detail = getattr(error, "strerror", None) or type(error).__name__
    if isinstance(error, PermissionError):  # -1, with which some decoders say no more than that they failed
        detail = "its decoder fails"
    return VideoReadError(path, f"it is damaged or no video ({detail})", RECODE)
