"""What every kind of list of videos needs: text read safely, folders walked, class names numbered. Derived in chapter 14."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIXES = (
    ".3g2 .3gp .asf .avi .divx .f4v .flv .m2ts .m2v .m4v .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .ogm .ogv .ts .vob "
    ".webm .wmv"
).split()


@dataclass(frozen=True)
class VideoList:
    """Files with their labels, what the labels mean, and the files that were left out."""

    items: list[tuple[Path, int]]
    classes: list[str]
    skipped: list[Path] = field(default_factory=list)


def read_text(file: str | os.PathLike) -> str:
    """Read an annotation file as UTF-8, without the byte-order marks that some editors leave in it.

    Raises:
        ValueError: the file is missing, unreadable or not UTF-8.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"The annotation file {str(file)!r} cannot be read ({error.strerror}); check the path."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(file)!r} is not UTF-8 text (byte {error.start} does not fit); save it as UTF-8."
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{str(file)!r} holds zero bytes, as UTF-16 or a binary file does; save it as UTF-8."
        )
    return text.replace("\ufeff", "")


def folder_at(root: str | os.PathLike) -> Path:
    """Return ``root`` as a path.

    Raises:
        ValueError: there is no such folder.
    """
    if not Path(root).is_dir():
        raise ValueError(f"There is no folder {str(root)!r}; give the folder that holds the videos.")
    return Path(root)


def files_below(folder: Path, above: frozenset[str] = frozenset()) -> list[Path]:
    """List the files in a folder and its folders, in order, links followed, hidden ones left out.

    Args:
        folder: Where to look.
        above: Real paths of the folders that lead here; a link back to one of them is not followed.

    Raises:
        ValueError: a folder cannot be read.
    """
    above |= {os.path.realpath(folder)}
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"The folder {str(folder)!r} cannot be read ({error.strerror}); check its permissions."
        ) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            found.append(Path(entry.path))
        elif os.path.realpath(entry.path) not in above:
            found += files_below(Path(entry.path), above)
    return found


def numbered(classes: Iterable[str]) -> dict[str, int]:
    """Number class names from 0, in their order.

    Raises:
        ValueError: a single text instead of a list, no name, an empty name, or one that occurs twice.
    """
    names = [] if isinstance(classes, str) else list(classes)
    number = {name: i for i, name in enumerate(names)}
    if not names or len(number) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"classes is {repr(classes):.200}; expected a list of different names, at least one."
        )
    return number


def look_up(name: str, number: dict[str, int], where: str) -> int:
    """Return the number of a class.

    Raises:
        ValueError: there is no such class.
    """
    if name not in number:
        raise ValueError(
            f"{where} names the class {name!r}, which is not among the {len(number)} known classes; "
            "check that list and classes belong together."
        )
    return number[name]


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but it must be {' or '.join(map(repr, choices))}.")
