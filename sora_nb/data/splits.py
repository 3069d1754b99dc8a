"""Training, validation and test parts that share no source video. Derived in chapter 14."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from sora_nb.data.listing import VideoList

Source = Callable[[Path], str]
PARTS = ("training", "validation", "test")


def split_by_source(
    videos: VideoList,
    source: Source | None = None,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> list[VideoList]:
    """Deal the files out to parts, all files of one source to the same part.

    Two clips cut from one film share its place, light and people: with one of them in training, a score on the other
    tells how well the film was remembered. Every class goes to every part, as near to the shares as whole sources
    allow. Derived in chapter 14.

    Args:
        videos: files, labels and classes.
        source: names the source of a file, such as the film that it was cut from; without it each file is its own.
        shares: of the sources of each class, one for each part; they add up to 1. Two or three parts.
        seed: decides which source goes where.

    Returns:
        One list a part, each with all classes, its files in their old order.

    Raises:
        ValueError: shares that are no shares, or a class with too few sources to be in every part.
    """
    if len(shares) not in (2, 3) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"split_by_source got the shares {tuple(shares)}; expected two or three above 0 that add up to 1."
        )
    source = source or str
    held = defaultdict(set)  # the sources of each class
    for path, label in videos.items:
        held[label].add(source(path))
    place: dict[str, int] = {}
    for label in sorted(held, key=lambda label: (len(held[label]), label)):  # first whoever has least to give
        _deal(sorted(held[label]), place, shares, random.Random(f"{seed} {label}"))
    _check(held, place, videos.classes, len(shares))
    return [
        VideoList([item for item in videos.items if place[source(item[0])] == part], videos.classes)
        for part in range(len(shares))
    ]


def _deal(sources: list[str], place: dict[str, int], shares: Sequence[float], rng: random.Random) -> None:
    """Give each source of a class that has no part yet to the part that lacks most of its share."""
    free = [source for source in sources if source not in place]
    rng.shuffle(free)
    counts = [sum(place.get(source) == part for source in sources) for part in range(len(shares))]
    for source in free:
        empty = [part for part, count in enumerate(counts) if not count]
        lacking = [share * len(sources) - count for share, count in zip(shares, counts)]
        part = max(empty or range(len(shares)), key=lacking.__getitem__)
        place[source] = part
        counts[part] += 1


def _check(held: dict[int, set[str]], place: dict[str, int], classes: list[str], parts: int) -> None:
    for label, sources in held.items():
        missing = set(range(parts)) - {place[source] for source in sources}
        if missing:
            raise ValueError(
                f"The class {classes[label]!r} has {len(sources)} source{'s' * (len(sources) > 1)} of video, too few for "
                f"{parts} parts that share none; add videos, or give the other parts yourself."
            )
