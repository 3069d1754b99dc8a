"""Files that appear whole or not at all, and digests of what is in them. Explained in chapter 03."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the same folder; move it to ``path`` when the block ends well, else remove it.

    A reader sees the old file or the new one, never a part. The temporary name is short, so that every legal file
    name can be written, and ends in ``.part``, so that what a killed process left behind can be told.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(*parts: bytes | str) -> str:
    """SHA-256 of the parts one after the other, as hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
    return total.hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as hexadecimal digits; the file is not read into memory as a whole."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
