"""Cards for a trained model and for a list of videos: what is on record, and what is not. Derived in chapter 23."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sora_nb.data.listing import VideoList
from sora_nb.recipe.model import Recipe

MISSING = "not recorded"
# What no program can know: somebody has to write it, or the card says that nobody did.
MODEL_WORDS = ("meant for", "not meant for", "people in the data", "limits")
DATA_WORDS = ("why it was made", "where it comes from", "licence", "people in the data", "not meant for")
FACTS = (
    "data",
    "files",
    "left out",
    "updates",
    "epochs",
    "best epoch",
    "lr",
    "batch_size",
    "seed",
    "parameters",
    "training loss",
    "validation accuracy",
    "test accuracy",
    "test interval",
    "versions",
    "seconds",
)


def model_card(
    made: Recipe, name: str, words: Mapping[str, str], measured: Mapping[str, object] | None = None
) -> str:
    """A model card (Mitchell et al. 2019) in Markdown, from what a recipe recorded.

    Nothing is guessed: a fact that was not recorded, or words that nobody wrote, are named as missing. Derived in
    chapter 23.

    Args:
        made: the trained model.
        name: title of the card.
        words: what a person has to say, under the names in `MODEL_WORDS`.
        measured: what else was measured, such as attacks; each value as it is to be read.

    Raises:
        ValueError: words under a name that the card does not have.
    """
    reading = vars(made.reading) | {"stride": made.reading.stride or "spread over the file"}
    facts = {"design": made.design, "classes": made.classes, "reading": reading}
    facts |= {"temperature": made.temperature, "threshold": made.threshold}
    facts |= {fact: made.facts.get(fact) for fact in FACTS}
    others = {k: v for k, v in made.facts.items() if k not in FACTS}
    parts = [_said(words, MODEL_WORDS), _table("On record", facts | others)]
    return "\n\n".join([f"# {name}", *parts, _table("Measured since", measured or {})]) + "\n"


def data_card(
    videos: VideoList, name: str, words: Mapping[str, str], measured: Mapping[str, object] | None = None
) -> str:
    """A short datasheet (Gebru et al. 2021) in Markdown, counted from a list of videos. Derived in chapter 23.

    Args:
        videos: files and labels; the files are counted and weighed, not opened.
        name: title of the card.
        words: what a person has to say, under the names in `DATA_WORDS`.
        measured: what else was measured.

    Raises:
        ValueError: words under a name that the card does not have.
    """
    counts = Counter(label for _, label in videos.items)
    sizes = [os.path.getsize(path) for path, _ in videos.items]
    facts = {"files": len(sizes), "megabytes": round(sum(sizes) / 1e6, 2) if sizes else None}
    facts |= {"kinds of file": sorted({Path(path).suffix for path, _ in videos.items})}
    facts |= {"left out": [str(path) for path in videos.skipped]}
    facts |= {f"class {label}": counts[i] for i, label in enumerate(videos.classes)}
    parts = [_said(words, DATA_WORDS), _table("Counted", facts)]
    return "\n\n".join([f"# {name}", *parts, _table("Measured since", measured or {})]) + "\n"


def _said(words: Mapping[str, str], names: tuple[str, ...]) -> str:
    if unknown := sorted(set(words) - set(names)):
        raise ValueError(f"A card has no place for {', '.join(unknown)}; its words are {', '.join(names)}.")
    return _table("Said by a person", {name: words.get(name) for name in names})


def _table(title: str, rows: Mapping[str, object]) -> str:
    lines = [f"| {name} | {_text(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *(lines or [f"| anything | {MISSING} |"])])


def _text(value: object) -> str:
    """A value as words in a table's cell; None is `MISSING`, an empty list is "none"."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value).replace("|", "\\|").replace("\n", " ")
