"""Video files of others: a folder per class, lists, and four well-known data sets as they are distributed.

Every function here returns ``(path, label)`` pairs and the class names; ``VideoClips`` reads them. Nothing is
downloaded: get UCF101, HMDB51, Kinetics or Something-Something from their owners, under their licences.
Derived in chapters 02 and 14.
"""

import csv
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from sora_nb.transforms import to_clip
from sora_nb.video import VideoReader, VideoReadError, sample_uniform

log = logging.getLogger(__name__)
SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")


class VideoList(NamedTuple):
    """Files with their labels, and what the labels mean."""

    items: list[tuple[Path, int]]
    classes: list[str]


class VideoClips(Dataset):
    """Clips read from a list of video files.

    Args:
        items: ``(path, label)`` pairs.
        sample: Takes the number of frames in a file and returns the indices of the frames to read; 16 frames spread
            evenly unless given.
        transform: Takes the clip, float (T, 3, H, W) in [0, 1], and returns what ``__getitem__`` yields.
        on_error: "raise", or "skip" for training: an unreadable file gives the next readable one in its place, and
            is counted, logged and listed in ``skipped``. Never skip in an evaluation: the score would then be about
            other clips than it claims.
        decoder: Passed on to the reader.

    Attributes:
        skipped: Path to the reason it could not be read, for each file met so far (in this process: a DataLoader's
            workers each keep their own).

    Raises:
        ValueError: the list is empty, or ``on_error`` is unknown.
        VideoReadError: a file is unreadable (or, with "skip", every file is).
    """

    def __init__(
        self,
        items: Sequence[tuple[str | os.PathLike, int]],
        sample: Callable[[int], np.ndarray] | None = None,
        transform: Callable | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        decoder: str = "auto",
    ) -> None:
        if not items:
            raise ValueError(
                "VideoClips got an empty list of files; give it at least one (path, label) pair."
            )
        if on_error not in ("raise", "skip"):
            raise ValueError(f'VideoClips got on_error={on_error!r}, but it must be "raise" or "skip".')
        self.items = [(Path(path), int(label)) for path, label in items]
        self.sample = sample or (lambda frames: sample_uniform(frames, 16))
        self.transform, self.on_error, self.decoder = transform, on_error, decoder
        self.skipped: dict[Path, str] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no clip {index}; the list holds {len(self)}.")
        for step in range(len(self)):
            path, label = self.items[(index + step) % len(self)]
            if path in self.skipped:
                continue
            try:
                return self._read(path), label
            except VideoReadError as error:
                if self.on_error == "raise":
                    raise
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
        for path, _ in self.items:
            try:
                self._read(path)
            except VideoReadError as error:
                failed[path] = str(error)
        return failed

    def _read(self, path: Path) -> Tensor:
        with VideoReader(
            path, self.decoder
        ) as reader:  # opened here, so that it works in a DataLoader's worker
            clip = to_clip(reader.get(self.sample(len(reader))))  # (T, 3, H, W)
        return self.transform(clip) if self.transform else clip


def _lines(path: Path) -> list[str]:
    if not Path(path).is_file():
        raise ValueError(f"There is no annotation file {str(path)!r}; check the path.")
    return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def _folder(root: str | os.PathLike) -> Path:
    if not Path(root).is_dir():
        raise ValueError(f"There is no folder {str(root)!r}; give the folder that holds the videos.")
    return Path(root)


def _label(name: str, classes: list[str], where: str) -> int:
    if name not in classes:
        raise ValueError(
            f"{where} names the class {name!r}, which is not among the {len(classes)} known classes; "
            "check that list and classes belong together."
        )
    return classes.index(name)


def _some(items: list, classes: list[str], where: object) -> VideoList:
    if not items:
        raise ValueError(
            f"Found no videos in {str(where)!r}; expected files ending in {', '.join(SUFFIXES)}."
        )
    return VideoList(items, classes)


def from_folder(root: str | os.PathLike) -> VideoList:
    """One folder per class, videos inside (at any depth); classes in alphabetical order.

    Raises:
        ValueError: no such folder, no class folders, or no videos in them.
    """
    root = _folder(root)
    classes = sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    items = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    return _some(items, classes, root)


def from_list(file: str | os.PathLike, root: str | os.PathLike | None = None) -> VideoList:
    """A text file with a path and a label on each line.

    The label is what follows the last comma, or the last blank in a line without commas. Paths are relative to
    ``root``, or to the list's own folder. Labels are all whole numbers from 0, or all names. Empty lines and lines that
    begin with # are left out.

    Raises:
        ValueError: no such file, a line without a label, numbers mixed with names or below 0, or no lines.
    """
    file = Path(file)
    pairs = []
    for number, line in enumerate(_lines(file), 1):
        if line.startswith("#"):
            continue
        path, _, label = line.rpartition("," if "," in line else " ")
        if not path or not label.strip():
            raise ValueError(
                f"Line {number} of {str(file)!r} reads {line!r}; expected a path, a comma or blank, "
                "and a label."
            )
        pairs.append((Path(root or file.parent) / path.strip(), label.strip()))
    labels = [label for _, label in pairs]
    if labels and all(label.isdecimal() for label in labels):
        numbers = [int(label) for label in labels]
        return VideoList(
            [(path, n) for (path, _), n in zip(pairs, numbers)], [str(i) for i in range(max(numbers) + 1)]
        )
    odd = [label for label in labels if label.lstrip("-").isdecimal()]
    if odd:
        raise ValueError(
            f"{str(file)!r} holds the label {odd[0]!r} beside names or below 0; use whole numbers from 0 "
            "throughout, or names throughout."
        )
    classes = sorted(set(labels))
    return _some([(path, classes.index(label)) for path, label in pairs], classes, file)


def ucf101(
    root: str | os.PathLike, split_dir: str | os.PathLike, fold: int = 1, train: bool = True
) -> VideoList:
    """UCF101: videos as ``Class/v_Class_g01_c01.avi``, splits from ``ucfTrainTestlist``.

    ``classInd.txt`` numbers the 101 classes from 1 ("1 ApplyEyeMakeup"); ``trainlist01.txt`` gives a path and that
    number, ``testlist01.txt`` the path alone.

    Raises:
        ValueError: a folder or file is missing, or a class is not in ``classInd.txt``.
    """
    root, split_dir = _folder(root), _folder(split_dir)
    classes = [
        line.split()[1]
        for line in sorted(_lines(split_dir / "classInd.txt"), key=lambda x: int(x.split()[0]))
    ]
    listing = split_dir / f"{'train' if train else 'test'}list{fold:02d}.txt"
    paths = [line.split()[0] for line in _lines(listing)]
    items = [(root / path, _label(path.split("/")[0], classes, listing.name)) for path in paths]
    return _some(items, classes, listing)


def hmdb51(
    root: str | os.PathLike, split_dir: str | os.PathLike, fold: int = 1, train: bool = True
) -> VideoList:
    """HMDB51: videos as ``class/name.avi``, splits from ``testTrainMulti_7030_splits``.

    One file per class, ``brush_hair_test_split1.txt``; each line a file name and 1 (train), 2 (test) or 0 (unused in
    this fold).

    Raises:
        ValueError: a folder is missing, it holds no list for the fold, or a line is malformed.
    """
    root, split_dir = _folder(root), _folder(split_dir)
    ending = f"_test_split{fold}.txt"
    files = sorted(split_dir.glob(f"*{ending}"))
    classes = [file.name.removesuffix(ending) for file in files]
    items = []
    for label, file in enumerate(files):
        for line in _lines(file):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2"):
                raise ValueError(f"{file.name} holds the line {line!r}; expected a file name and 0, 1 or 2.")
            if use == ("1" if train else "2"):
                items.append((root / classes[label] / name.strip(), label))
    return _some(items, classes, split_dir / f"*{ending}")


def kinetics(
    root: str | os.PathLike,
    file: str | os.PathLike,
    classes: list[str] | None = None,
    missing: Literal["raise", "drop"] = "raise",
) -> VideoList:
    """Kinetics-400/600/700: a csv ``label,youtube_id,time_start,time_end,split`` and trimmed mp4 files.

    A clip is ``<youtube_id>_<start>_<end>.mp4`` with six-digit seconds, in a folder named after its label or straight
    in ``root``. Many videos have left the web: ``missing="drop"`` lists those you have and logs how many you lack; say
    so wherever you state a score. The test csv of some releases has no label column: its label is then -1.

    Args:
        root: Folder with the videos of this split.
        file: The csv file.
        classes: Class names in order; the sorted labels of this file unless given. Give those of the training file when
            you read another split.

    Raises:
        ValueError: a folder, file, column or video is missing, or a label is not in ``classes``.
    """
    root, file = _folder(root), Path(file)
    _lines(file)  # says so if there is none
    with open(file, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    lacking = {"youtube_id", "time_start", "time_end"} - set(rows[0] if rows else ())
    if lacking:
        raise ValueError(
            f"{str(file)!r} lacks the columns {sorted(lacking)}; expected a Kinetics csv with the "
            "header label,youtube_id,time_start,time_end,split."
        )
    labelled = "label" in rows[0]
    classes = classes or sorted({row["label"] for row in rows} if labelled else ())
    items = [
        (_kinetics_path(root, row), _label(row["label"], classes, file.name) if labelled else -1)
        for row in rows
    ]
    there = [(path, label) for path, label in items if path.is_file()]
    if missing == "raise" and len(there) < len(items):
        first = next(path for path, _ in items if not path.is_file())
        raise ValueError(
            f"{len(items) - len(there)} of the {len(items)} clips in {file.name} are not under "
            f'{str(root)!r}, the first being {first.name}; fetch them or pass missing="drop".'
        )
    if len(there) < len(items):
        log.warning("%s: %d of %d clips are missing.", file.name, len(items) - len(there), len(items))
    return _some(there, classes, root)


def _kinetics_path(root: Path, row: dict[str, str]) -> Path:
    start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
    folders = (row.get("label", ""), row.get("label", "").replace(" ", "_"), "")
    return next(
        (path for folder in folders if (path := root / folder / name).is_file()), root / folders[0] / name
    )


def something_something(
    root: str | os.PathLike, file: str | os.PathLike, labels: str | os.PathLike
) -> VideoList:
    """Something-Something v2: ``<id>.webm`` files, ``labels.json`` and ``train.json`` or ``validation.json``.

    Labels map a sentence to a number given as text ({"Putting something on a surface": "94"}); each entry of a split has
    an "id" and a "template", which is that sentence with its placeholders in brackets ("Putting [something] on a
    surface"). ``test.json`` has no templates: its labels are -1.

    Raises:
        ValueError: a folder or file is missing, or a template is not among the labels.
    """
    root = _folder(root)
    _lines(Path(file)), _lines(Path(labels))  # say so if they are not there
    known = json.loads(Path(labels).read_text(encoding="utf-8"))
    classes = sorted(known, key=lambda name: int(known[name]))
    items = []
    for entry in json.loads(Path(file).read_text(encoding="utf-8")):
        sentence = entry.get("template", "").replace("[", "").replace("]", "")
        label = _label(sentence, classes, Path(file).name) if sentence else -1
        items.append((root / f"{entry['id']}.webm", label))
    return _some(items, classes, file)
