"""A trained model with its preprocessing and classes: what answers for a file, and what is kept of it on disk."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sora_nb import models, training
from sora_nb.data.listing import numbered
from sora_nb.data.splits import Source
from sora_nb.evaluation.report import Report
from sora_nb.files import atomic, digest, file_digest
from sora_nb.models.frozen import FrozenFrames
from sora_nb.recipe.reading import Clips, Read, Reading, Videos, listed, read_all

FORMAT, VERSION, NAME = "sora_nb recipe", 1, "recipe.json"
NONE = "none of these"
PIXELS = 250_000  # of all frames of a batch
DESIGNS = {
    "mean": models.MeanPool,
    "frozen": FrozenFrames,
    "A": models.SoraTransformer,
    "B": models.SoraContrastive,
    "C": models.SoraGRU,
    "D": models.SoraFusion,
    "E": models.SoraAutoencoder,
}


class Answer(NamedTuple):
    """What a recipe says of a file: the likeliest class, or "none of these"; and how likely each class is.

    Derived in chapter 14.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]


@dataclass
class Recipe:
    """A model with all that it needs to answer for a new file; ``train`` and `load` make one. Derived in chapter 14.

    Attributes:
        design: "mean", "frozen", or "A" to "E".
        options: what the design's class was given beside the number of classes.
        classes: names of the classes, in the order of the scores.
        reading: how files are read.
        model: in evaluation mode.
        temperature: scores are divided by it before the softmax; fitted on validation clips.
        threshold: below this confidence the answer is "none of these"; 95 % of the validation clips reach it.
        facts: how it was trained and what it scored: files, updates, seed, versions.
        report: scores on the test files, which were in no other part; None once loaded (``facts`` has its numbers).
    """

    design: str
    options: dict
    classes: list[str]
    reading: Reading
    model: nn.Module
    temperature: float = 1.0
    threshold: float = 0.0
    facts: dict = field(default_factory=dict)
    report: Report | None = None

    def predict(self, path: str | os.PathLike, clips: int = 1) -> Answer:
        """Name a file's class; the mean over several clips of it is steadier.

        Raises:
            VideoReadError: the file is unreadable or too short.
        """
        logits = self.logits(self.reading.read(path, clips))
        chances = (logits / self.temperature).softmax(1).mean(0)  # (clips, classes) -> (classes,)
        sure, at = chances.max(0)
        label = self.classes[at] if sure >= self.threshold else NONE
        return Answer(label, sure.item(), dict(zip(self.classes, chances.tolist(), strict=True)))

    def embed(self, path: str | os.PathLike, clips: int = 1) -> Float[Tensor, " dim"]:
        """The vector that stands for a file: the mean over its clips.

        Raises:
            VideoReadError: the file is unreadable or too short.
        """
        return self.embeddings(self.reading.read(path, clips)).mean(0)

    def logits(self, clips: UInt8[Tensor, "n time 3 size size"]) -> Float[Tensor, "n classes"]:
        """Scores of clips as the reading gives them, before the temperature."""
        return training.predict(self.model, Clips(clips), _batch(clips))

    def embeddings(self, clips: UInt8[Tensor, "n time 3 size size"]) -> Float[Tensor, "n dim"]:
        """Embeddings of clips as the reading gives them."""
        return training.predict(_Embed(self.model), Clips(clips), _batch(clips))

    def evaluate(
        self, videos: Videos, source: Source | None = None, clips: int = 1, progress: bool = True
    ) -> Report:
        """Score files whose classes are known. It means something only for files that training never saw.

        Args:
            videos: a folder with one subfolder a class, a list file, or a `VideoList`.
            source: names the film that a file was cut from, as in ``train``.
            clips: clips a file; their probabilities are averaged.
            progress: show a bar.
        """
        return self.judge(
            read_all(listed(videos, self.classes), self.reading, "test", clips, progress), source
        )

    def judge(self, read: Read, source: Source | None = None) -> Report:
        """Score clips that were read from files whose classes are known."""
        logits = self.logits(read.clips.flatten(0, 1)) / self.temperature
        chances = logits.softmax(1).unflatten(0, read.clips.shape[:2]).mean(1)  # (n·clips, C) -> (n, C)
        sources = [(source or str)(file) for file in [*read.files, *read.failed]]
        return Report(self.classes, read.files, read.labels, chances.log(), sources, read.failed)

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the recipe into a folder, which is made if need be; return it.

        The JSON is written last and names the weights by their digest, so that a killed call leaves the old recipe whole.
        Where half precision loses nothing, as after ``model.half().float()``, the weights are stored in it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = safetensors.torch.save({k: _compact(v) for k, v in self.model.state_dict().items()})
        weights = folder / _weights(digest(data))
        with atomic(weights) as temporary:
            temporary.write_bytes(data)
        text = {"format": FORMAT, "version": VERSION, "design": self.design, "options": self.options}
        text |= {"classes": self.classes, "reading": asdict(self.reading), "weights": digest(data)}
        text |= {"temperature": self.temperature, "threshold": self.threshold, "facts": self.facts}
        with atomic(folder / NAME) as temporary:
            temporary.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        for old in set(folder.glob(_weights("?" * 12))) - {weights}:
            old.unlink()
        return folder


def load(folder: str | os.PathLike) -> Recipe:
    """Build the model that a folder describes, ready to answer. Derived in chapter 14.

    Raises:
        ValueError: there is no recipe, it is damaged, of another program or a newer version, or the weights are not its own.
    """
    file = Path(folder) / NAME
    text = _parse(file)
    try:
        reading, classes = Reading(**text["reading"]), list(numbered(text["classes"]))
        model = build(text["design"], len(classes), reading, text["options"])
        numbers = float(text["temperature"]), float(text["threshold"]), dict(text["facts"])
        sha = str(text["weights"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no recipe that fits this program ({error!r}); save it anew.") from None
    weights = file.parent / _weights(sha)
    if not weights.is_file() or file_digest(weights) != sha:
        raise ValueError(
            f"The weights {str(weights)!r} are missing or not those that {NAME} was saved with; copy both files together."
        )
    training.load_weights(model, weights)
    return Recipe(text["design"], text["options"], classes, reading, model.eval(), *numbers)


def build(design: str, classes: int, reading: Reading, options: dict) -> nn.Module:
    """A design's model, as its reading asks for. Used in chapter 14.

    Raises:
        ValueError: there is no such design, or it does not take these options.
    """
    if design not in DESIGNS:
        raise ValueError(f"There is no design {design!r}; choose one of {', '.join(DESIGNS)}.")
    sizes = {"size": reading.size, "group": reading.frames, "center": True} if design == "E" else {}
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}  # JSON knows no tuples
    try:
        return DESIGNS[design](classes, **sizes | plain)
    except TypeError as error:
        raise ValueError(
            f"Design {design} does not take the options {', '.join(options)} ({error}); see {DESIGNS[design].__name__}."
        ) from None


class _Embed(nn.Module):
    """A model whose answer is its embedding, for ``training.predict``."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        return self.model.embed(clips)


def _batch(clips: Tensor) -> int:
    """Clips that go through the model at once: fewer where they are large, so that memory stays bounded."""
    return max(1, min(100, PIXELS // clips[0, :, 0].numel()))  # no mutate


def _weights(sha: str) -> str:
    return f"weights-{sha[:12]}.safetensors"


def _compact(tensor: Tensor) -> Tensor:
    """In half precision where that loses nothing."""
    tensor = tensor.detach().cpu().contiguous()
    half = tensor.half() if tensor.dtype == torch.float32 else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _parse(file: Path) -> dict:
    if not file.is_file():
        raise ValueError(f"There is no recipe in {str(file.parent)!r}; give the folder that save() wrote.")
    try:
        text = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(file)!r} is damaged or no JSON ({error}); save the recipe anew.") from None
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        raise ValueError(f"{str(file)!r} is a file of another program; expected one that save() wrote.")
    if text.get("version") != VERSION:
        raise ValueError(
            f"{str(file)!r} has version {text.get('version')!r} of the format and this program reads {VERSION}; update "
            "the package, or save the recipe anew."
        )
    return text
