"""Video files of others: a folder per class, or a list of paths and labels, and the clips read from them.

A label is a number, and ``classes`` says what it means: whoever reads a second split hands over the classes of the
first, or a class that is missing there would shift all numbers after it. `sora_nb.data.datasets` reads four
well-known data sets as they are distributed. Derived in chapters 02 and 14.
"""

import csv
import functools
import logging
import operator
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sora_nb.data.listing import (
    SUFFIXES,
    VideoList,
    check_choice,
    files_below,
    folder_at,
    look_up,
    numbered,
    read_text,
)
from sora_nb.transforms import to_clip
from sora_nb.video import VideoReader, VideoReadError, sample_uniform

log = logging.getLogger(__name__)
MOST_CLASSES = 100_000
LABEL_WORDS = {"label", "labels", "class", "classes", "category", "target", "class_id", "label_id"}
SPLIT_WORDS = {"train", "training", "val", "valid", "validate", "validation", "test", "testing"}


class VideoClips(Dataset):
    """Clips read from a list of video files.

    Random draws come from torch's generator, so that the seed of a run decides them, the workers of a DataLoader draw
    differently in every epoch, and a resumed run draws as it would have. A file that fails leaves no trace in them.

    Args:
        items: ``(path, label)`` pairs, or what `from_folder` and its like return.
        sample: Takes the number of frames in a file and returns the indices of the frames to read; 16 frames spread
            evenly unless given. Write ``functools.partial(sample_random_clip, k=16)`` or a named function, not a
            lambda: processes that do not fork cannot send one to a DataLoader's workers.
        transform: Takes the clip, float (T, 3, H, W) in [0, 1], and returns what ``__getitem__`` yields.
        on_error: "raise", or "skip" for training: an unreadable file gives the next readable one in its place, and
            is counted, logged and listed in ``skipped``. Never skip in an evaluation: the score would then be about
            other clips than it claims.
        decoder: Passed on to the reader.

    Attributes:
        classes: What the labels mean, or None if only pairs were given.
        files: The path of each clip.
        skipped: Path to the reason it could not be read, for each file met so far (in this process: a DataLoader's
            workers each keep their own).

    Raises:
        ValueError: the list is empty, an item is no pair, ``on_error`` is unknown, or ``sample`` brings a generator.
        VideoReadError: a file is unreadable (or, with "skip", every file is).
    """

    def __init__(
        self,
        items: VideoList | Sequence[tuple[str | os.PathLike, SupportsIndex]],
        sample: Callable[[int], np.ndarray] | None = None,
        transform: Callable | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        decoder: str = "auto",
    ) -> None:
        self.classes = list(items.classes) if isinstance(items, VideoList) else None
        self.items = [_pair(item) for item in (items.items if isinstance(items, VideoList) else items)]
        if not self.items:
            raise ValueError(
                "VideoClips got an empty list of files; give it at least one (path, label) pair."
            )
        check_choice("on_error", on_error, ("raise", "skip"))
        if isinstance(sample, functools.partial) and sample.keywords.get("generator") is not None:
            raise ValueError(
                "VideoClips got a sampling rule with a generator of its own, which every worker would copy and repeat in "
                "every epoch; leave it out, and torch's generator draws."
            )
        self.sample = sample or functools.partial(sample_uniform, k=16)
        self.transform, self.on_error, self.decoder = transform, on_error, decoder
        self.skipped: dict[Path, str] = {}

    @property
    def files(self) -> list[Path]:
        return [path for path, _ in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no clip {index}; the list holds {len(self)}.")
        state = torch.get_rng_state()
        for step in range(len(self)):
            path, label = self.items[(index + step) % len(self)]
            if path in self.skipped:
                continue
            try:
                return self._read(path), label
            except VideoReadError as error:
                if self.on_error == "raise":
                    raise
                torch.set_rng_state(state)  # a resumed run, which meets this file again, must draw alike
                self.skipped[path] = str(error)
                log.warning("Skipped unreadable file %d: %s", len(self.skipped), error)
        raise VideoReadError(
            self.items[index][0],
            f"none of the {len(self)} files of this list can be read",
            "check the folder the list points to",
        )

    def unreadable(self) -> dict[Path, str]:
        """Read every clip once and return each file that fails, with the reason: to report beside a score."""
        failed = {}
        with torch.random.fork_rng(devices=[]):
            for path in self.files:
                try:
                    self._read(path)
                except VideoReadError as error:
                    failed[path] = str(error)
        return failed

    def _read(self, path: Path) -> Tensor | Any:
        # opened here, so that it works in a DataLoader's worker
        with VideoReader(path, self.decoder) as reader:
            clip = to_clip(reader.get(self.sample(len(reader))))  # (T, 3, H, W)
        return self.transform(clip) if self.transform else clip


def _pair(item: Any) -> tuple[Path, int]:
    try:
        path, label = item
        return Path(path), operator.index(label)
    except (TypeError, ValueError):
        raise ValueError(
            f"VideoClips got the item {item!r}; expected a (path, label) pair whose label is a whole number."
        ) from None


# ------------------------------------------------------------------------------------------- a folder, and a list


def from_folder(root: str | os.PathLike, classes: Sequence[str] | None = None) -> VideoList:
    """One folder per class, videos inside (at any depth, links followed).

    Files that are not videos by their suffix, or that lie outside the class folders, are listed in ``skipped`` and
    logged; hidden ones are passed over.

    Args:
        root: Folder that holds the class folders.
        classes: Class names in order; the folders in alphabetical order unless given. Give those of the training
            folder when you read another split: a class may have no video there.

    Raises:
        ValueError: no such folder, no videos in it, or folders that are no classes: splits, a folder without videos, or
            one that is not in ``classes`` although it holds videos.
    """
    root = folder_at(root)
    inside = files_below(root)
    homes = [path.relative_to(root).parts[0] for path in inside]
    videos = [path.suffix.lower() in SUFFIXES and path.parent != root for path in inside]
    held = {home for home, is_video in zip(homes, videos) if is_video}
    number = _number_folders(root, held, classes)
    items = [(path, number[home]) for path, home, is_video in zip(inside, homes, videos) if is_video]
    skipped = [path for path, is_video in zip(inside, videos) if not is_video]
    if skipped:
        counts = Counter(path.suffix.lower() or "no suffix" for path in skipped).most_common()
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts)
        log.warning("%s: left out %d files that are no videos of a class: %s.", root, len(skipped), kinds)
    return VideoList(items, list(number), skipped)


def _number_folders(root: Path, held: set[str], classes: Sequence[str] | None) -> dict[str, int]:
    """Check the folders of ``root``, of which some hold videos, and number the classes."""
    if not held:
        raise ValueError(
            f"Found no videos in the folders of {str(root)!r}; expected one folder a class, with files that end in one of "
            f"{' '.join(SUFFIXES)}."
        )
    folders = sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    if classes is not None:
        number = numbered(classes)
        for name in sorted(held):
            look_up(name, number, f"The folder {str(root)!r}")
        return number
    if {name.lower() for name in folders} <= SPLIT_WORDS:
        raise ValueError(
            f"{str(root)!r} holds the splits {', '.join(folders)}, not classes; give the folder of one split."
        )
    if len(held) < len(folders):
        raise ValueError(
            f"{min(set(folders) - held)!r} in {str(root)!r} is a folder without videos; remove it, or give classes= as the "
            "training folder has them."
        )
    return numbered(folders)


def from_list(
    file: str | os.PathLike,
    root: str | os.PathLike | None = None,
    classes: Sequence[str] | None = None,
) -> VideoList:
    """A text file with a path and a label on each line, separated by a tab, a comma, a semicolon or a blank.

    A path that holds the separator is put in quotes (among blanks it need not be: the label is what follows the last).
    Paths are relative to ``root``, or to the list's own folder. Labels are all whole numbers from 0, or all names.
    Empty lines, lines that begin with "# " and a header are left out.

    Args:
        file: The list, in UTF-8.
        root: Folder that relative paths start from.
        classes: Class names in order; give those of the training list when you read another. Unless given, they are
            the sorted names, or "0", "1" and so on up to the largest number.

    Raises:
        ValueError: no such file, not UTF-8, no lines, a line that is no path and label, or a label that is not in
            ``classes``, that is a number beside names, below 0, not whole or too large.
    """
    file = Path(file)
    rows = _rows(file)
    labels, classes = _number_labels([label for _, label in rows], classes, str(file))
    home = Path(root) if root is not None else file.parent
    return VideoList([(home / path, label) for (path, _), label in zip(rows, labels)], classes)


def _rows(file: Path) -> list[tuple[str, str]]:
    lines = [(n, line.strip()) for n, line in enumerate(read_text(file).split("\n"), 1)]
    lines = [(n, line) for n, line in lines if line and line != "#" and not line.startswith("# ")]
    # A list of paths with blanks may hold some commas, so the separator is what most lines have outside quotes.
    bare = [re.sub(r'"[^"]*"', "", line) for _, line in lines]
    separator = next((s for s in "\t,;" if 2 * sum(s in line for line in bare) > len(bare)), " ")
    rows = [_fields(line, separator, f"Line {n} of {str(file)!r}") for n, line in lines]
    if rows and _is_header(rows):
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{str(file)!r} lists no videos; expected a path and a label on each line.")
    if not any(_is_video(path) for path, _ in rows) and all(_is_video(label) for _, label in rows):
        raise ValueError(
            f"{str(file)!r} has its columns the wrong way round; expected the path, then the label."
        )
    return rows


def _fields(line: str, separator: str, where: str) -> tuple[str, str]:
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=separator != " ", strict=True))
    except csv.Error:
        row = []
    if separator == " ":
        row = [" ".join(row[:-1]), row[-1]] if row else []
    row = [part.strip() for part in row]
    if len(row) != 2 or not all(row):
        raise ValueError(
            f"{where} reads {line!r}; expected a path and a label, separated by a tab, comma, semicolon or blank as in "
            "the other lines; put a path that holds the separator in quotes."
        )
    return row[0], row[1]


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _is_header(rows: list[tuple[str, str]]) -> bool:
    path, label = rows[0]
    alone = len(rows) > 1 and not Path(path).suffix and all(Path(other).suffix for other, _ in rows[1:])
    return not _is_video(path) and not label.isdecimal() and (alone or label.lower() in LABEL_WORDS)


def _number_labels(
    labels: list[str], classes: Sequence[str] | None, where: str
) -> tuple[list[int], list[str]]:
    number = None if classes is None else numbered(classes)
    named = number is not None and any(name.isdecimal() for name in number)
    if all(label.isdecimal() for label in labels) and not named:
        limit = MOST_CLASSES if number is None else len(number)
        found = [_whole(label, limit, where) for label in labels]
        return found, list(number or map(str, range(max(found) + 1)))
    odd = [label for label in labels if re.fullmatch(r"[-+]?\d*\.?\d+", label)]
    if odd and number is None:
        raise ValueError(
            f"{where!r} holds the label {odd[0]!r} beside names, below 0 or not whole; use whole numbers from 0 throughout, "
            "or names throughout."
        )
    number = number or numbered(sorted(set(labels)))
    return [look_up(label, number, where) for label in labels], list(number)


def _whole(label: str, limit: int, where: str) -> int:
    digits = label.lstrip("0") or "0"
    if len(digits) > 9 or int(digits) >= limit:
        raise ValueError(
            f"{where!r} holds the label {label[:20]}, but labels must lie below {limit}; number the classes from 0, "
            "without gaps, or use their names."
        )
    return int(digits)
