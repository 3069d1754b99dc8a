"""UCF101, HMDB51, Kinetics and Something-Something, read as they are distributed.

Nothing is downloaded: get them from their owners, under their licences. A video is found by its name, anywhere under
the folder you give, because the tools that unpack and tidy these sets name the folders in different ways (torchvision
strips apostrophes and brackets from Kinetics' labels, others turn blanks into underscores, the archives hold no
folders at all), and some change the suffix. Derived in chapter 14.
"""

import csv
import io
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

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

log = logging.getLogger(__name__)
Missing = Literal["raise", "drop"]


def ucf101(
    root: str | os.PathLike,
    split_dir: str | os.PathLike,
    fold: int = 1,
    train: bool = True,
    missing: Missing = "raise",
) -> VideoList:
    """UCF101: videos as ``Class/v_Class_g01_c01.avi``, splits from ``ucfTrainTestlist``.

    ``classInd.txt`` numbers the 101 classes from 1 ("1 ApplyEyeMakeup"); ``trainlist01.txt`` gives a path and that
    number, ``testlist01.txt`` the path alone.

    Args:
        root: Folder with the videos.
        split_dir: Folder with the lists.
        fold: 1, 2 or 3.
        train: Read the training list, or else the test list.
        missing: What to do if a video is not there: "raise", or "drop" it and log how many were dropped.

    Raises:
        ValueError: a folder, list or video is missing, the classes are not numbered 1, 2, 3 and so on, or a line names
            another class than its number.
    """
    split_dir = folder_at(split_dir)
    number = _ucf_classes(split_dir / "classInd.txt")
    listing = split_dir / f"{_split(train)}list{fold:02d}.txt"
    items = []
    for line in _lines(listing):
        path, *given = line.split()
        label = look_up(path.split("/")[0], number, listing.name)
        if given and given != [str(label + 1)]:
            raise ValueError(
                f"{listing.name} holds the line {line!r}, but classInd.txt gives this class the number {label + 1}; "
                "use lists of one release."
            )
        items.append(([path], label))
    return _gather(items, number, root, listing.name, missing)


def _ucf_classes(file: Path) -> dict[str, int]:
    pairs = [line.split() for line in _lines(file)]
    if [pair[0] for pair in pairs] != [str(i + 1) for i in range(len(pairs))] or any(
        len(p) != 2 for p in pairs
    ):
        raise ValueError(f"{str(file)!r} must hold the lines '1 NAME', '2 NAME' and so on; get it anew.")
    return numbered(name for _, name in pairs)


def hmdb51(
    root: str | os.PathLike,
    split_dir: str | os.PathLike,
    fold: int = 1,
    train: bool = True,
    missing: Missing = "raise",
) -> VideoList:
    """HMDB51: videos as ``class/name.avi``, splits from ``testTrainMulti_7030_splits``.

    One file per class, ``brush_hair_test_split1.txt``; each line a file name and 1 (train), 2 (test) or 0 (unused in
    this fold).

    Args:
        root: Folder with the videos.
        split_dir: Folder with the lists.
        fold: 1, 2 or 3.
        train: Read the training part, or else the test part.
        missing: What to do if a video is not there: "raise", or "drop" it and log how many were dropped.

    Raises:
        ValueError: a folder, list or video is missing, or a line is malformed.
    """
    split_dir, wanted = folder_at(split_dir), {"train": "1", "test": "2"}[_split(train)]
    names = [re.fullmatch(r"(.+)_test_split\d+\.txt", file.name) for file in split_dir.iterdir()]
    classes = sorted({name[1] for name in names if name})
    if not classes:
        raise ValueError(f"{str(split_dir)!r} holds no list such as 'brush_hair_test_split{fold}.txt'.")
    items = []
    for label, home in enumerate(classes):
        file = split_dir / f"{home}_test_split{fold}.txt"
        for line in _lines(file):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2"):
                raise ValueError(f"{file.name} holds the line {line!r}; expected a file name and 0, 1 or 2.")
            items += [([f"{home}/{name.strip()}"], label)] if use == wanted else []
    return _gather(items, numbered(classes), root, f"split {fold}", missing)


def kinetics(
    root: str | os.PathLike,
    file: str | os.PathLike,
    classes: Sequence[str] | None = None,
    missing: Missing = "raise",
) -> VideoList:
    """Kinetics-400/600/700: a csv ``label,youtube_id,time_start,time_end,split`` and trimmed mp4 files.

    A clip is ``<youtube_id>_<start>_<end>.mp4`` with six-digit seconds, or ``<youtube_id>.mp4`` where the csv holds one
    clip of that video. Many videos have left the web: ``missing="drop"`` lists those you have and logs how many you
    lack; say so wherever you state a score. The test csv of some releases has no label column: its label is then -1.

    Args:
        root: Folder with the videos of this split.
        file: The csv file.
        classes: Class names in order; the sorted labels of this file unless given. Give those of the training file when
            you read another split.
        missing: What to do if a video is not there: "raise", or "drop" it and log how many were dropped.

    Raises:
        ValueError: a folder, file, column or video is missing, a time is no number, or a label is not in ``classes``.
    """
    rows = _kinetics_rows(Path(file))
    where = Path(file).name
    if "label" not in rows[0]:
        number, labels = ({} if classes is None else numbered(classes)), [-1] * len(rows)
    else:
        number = numbered(sorted({row["label"] for row in rows}) if classes is None else classes)
        labels = [look_up(row["label"], number, where) for row in rows]
    clips = Counter(row["youtube_id"] for row in rows)
    names = [[_kinetics_name(row, where)] for row in rows]
    for row, either in zip(rows, names):
        either += [f"{row['youtube_id']}.mp4"] if clips[row["youtube_id"]] == 1 else []
    return _gather(list(zip(names, labels)), number, root, where, missing)


def _kinetics_rows(file: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(file))))
    lacking = {"youtube_id", "time_start", "time_end", "label"} - set(rows[0] if rows else ())
    if lacking == {"label"} and all(row.get("split") == "test" for row in rows):
        return rows
    if lacking:
        raise ValueError(
            f"{str(file)!r} lacks the columns {sorted(lacking)}; expected a Kinetics csv with the header "
            "label,youtube_id,time_start,time_end,split (a test csv may lack the label) and lines below it."
        )
    return rows


def _kinetics_name(row: dict[str, str], where: str) -> str:
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (TypeError, ValueError):
        raise ValueError(
            f"{where} holds the line {','.join(map(str, row.values()))!r}; expected numbers as time_start and time_end."
        ) from None
    return f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"


def something_something(
    root: str | os.PathLike,
    file: str | os.PathLike,
    labels: str | os.PathLike,
    missing: Missing = "raise",
) -> VideoList:
    """Something-Something v2: ``<id>.webm`` files, ``labels.json`` and ``train.json`` or ``validation.json``.

    Labels map a sentence to a number given as text ({"Putting something on a surface": "94"}); each entry of a split has
    an "id" and a "template", which is that sentence with its placeholders in brackets ("Putting [something] on a
    surface"). The entries of ``test.json`` hold nothing but the id: their labels are -1.

    Args:
        root: Folder with the videos.
        file: The json file of a split.
        labels: The json file with the labels.
        missing: What to do if a video is not there: "raise", or "drop" it and log how many were dropped.

    Raises:
        ValueError: a folder, file or video is missing, a file has another form, or a template is not among the labels.
    """
    number = _something_classes(labels)
    entries = _json(file)
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "id" in e for e in entries):
        raise ValueError(
            f"{str(file)!r} is no list of entries with an id; give train, validation or test.json."
        )
    items = []
    for entry in entries:
        sentence = str(entry.get("template", "")).replace("[", "").replace("]", "")
        label = -1 if set(entry) == {"id"} else look_up(sentence, number, Path(file).name)
        items.append(([f"{entry['id']}.webm"], label))
    return _gather(items, number, root, Path(file).name, missing)


def _something_classes(file: str | os.PathLike) -> dict[str, int]:
    known = _json(file)
    try:
        classes = sorted(known, key=lambda name: int(known[name]))
        if [int(known[name]) for name in classes] == list(range(len(classes))):
            return numbered(classes)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{str(file)!r} does not number sentences from 0 without gaps; give labels.json.")


def _json(file: str | os.PathLike) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(file)!r} is no json ({error}); get it anew.") from None


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(file).split("\n") if line.strip()]


def _split(train: bool) -> str:
    if not isinstance(train, bool):
        raise ValueError(
            f"train is {train!r}, but it must be True for the training part or False for the test part."
        )
    return "train" if train else "test"


def _gather(
    items: list[tuple[list[str], int]],
    number: dict[str, int],
    root: str | os.PathLike,
    where: str,
    missing: Missing,
) -> VideoList:
    """Find the video of each item, which may have one of several names, under ``root``."""
    check_choice("missing", missing, ("raise", "drop"))
    root = folder_at(root)
    tree: dict[str, list[Path]] = {}
    for path in files_below(root):
        if path.suffix.lower() in SUFFIXES:
            tree.setdefault(path.stem, []).append(path)
    paths = [next(filter(None, (_find(tree, root / name) for name in names)), None) for names, _ in items]
    absent = [names[0] for path, (names, _) in zip(paths, items) if path is None]
    if not items:
        raise ValueError(f"{where} lists no videos; get it anew.")
    if absent and (missing == "raise" or len(absent) == len(items)):
        raise ValueError(
            f"{len(absent)} of the {len(items)} videos of {where} are not under {str(root)!r}, the first being "
            f'{absent[0]}; fetch them, or pass missing="drop" to go on with those that are there.'
        )
    if absent:
        log.warning("%s: %d of %d videos are missing.", where, len(absent), len(items))
    found = [(path, label) for path, (_, label) in zip(paths, items) if path is not None]
    return VideoList(found, list(number))


def _find(tree: dict[str, list[Path]], place: Path) -> Path | None:
    """The file at its usual place, or else the one of that name."""
    found = tree.get(place.stem, [])
    if place in found:
        return place
    if len({os.path.realpath(path) for path in found}) > 1:
        raise ValueError(
            f"{str(found[0])!r} and {str(found[1])!r} have the same name; give the folder of one split or version."
        )
    return found[0] if found else None
