"""From a file to the clip that a model takes, alike in training and ever after. Derived in chapter 14."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from sora_nb.data.folders import from_folder, from_list
from sora_nb.data.listing import VideoList
from sora_nb.transforms import evaluation_transform
from sora_nb.video import VideoReader, VideoReadError, sample_multi_clip, sample_uniform

log = logging.getLogger(__name__)
Videos = str | os.PathLike | VideoList


@dataclass(frozen=True)
class Reading:
    """How a file becomes the clip that the model takes. Derived in chapter 14.

    Attributes:
        frames: frames a clip.
        size: the short side is brought to so many pixels, and the central square is taken.
        stride: frames between neighbours, so that a clip is a stretch; None spreads the frames over the whole file.
    """

    frames: int = 8
    size: int = 32
    stride: int | None = None

    def __post_init__(self):
        for name, value in vars(self).items():
            if not (isinstance(value, int) and value >= 1) and not (name == "stride" and value is None):
                raise ValueError(f"Reading got {name}={value!r}; expected a whole number of at least 1.")

    def read(
        self, path: str | os.PathLike, clips: int = 1
    ) -> UInt8[Tensor, "{clips} {self.frames} 3 {self.size} {self.size}"]:
        """Clips of a file; several are spread over it.

        Raises:
            VideoReadError: the file is unreadable or has fewer frames than a clip.
        """
        with VideoReader(path) as reader:
            at = self.indices(len(reader), clips, path)
            wanted, back = np.unique(at, return_inverse=True)
            frames = torch.from_numpy(reader.get(wanted)).movedim(-1, 1)  # (F, H, W, 3) -> (F, 3, H, W)
        return evaluation_transform(self.size)(frames)[torch.from_numpy(back.reshape(at.shape))]

    def indices(self, n: int, clips: int, path: str | os.PathLike) -> Int64[np.ndarray, "{clips} time"]:
        """Which of a file's ``n`` frames make its clips.

        Raises:
            VideoReadError: there are too few.
        """
        needed = (self.frames - 1) * (self.stride or 1) + 1
        if n < needed:
            reason = f"it has {n} frame{'s' * (n > 1)}, and a clip takes {needed}"
            raise VideoReadError(path, reason, "give a longer video, or train with fewer frames")
        if self.stride:
            return sample_multi_clip(n, self.frames, self.stride, clips)
        return sample_uniform(n, clips * self.frames).reshape(self.frames, clips).T


@dataclass(frozen=True)
class Read:
    """Clips of many files in memory, and the files that could not be read, with the reason. Derived in chapter 14."""

    clips: UInt8[Tensor, "file clip time 3 size size"]
    labels: Int64[Tensor, " file"]
    files: list[Path]
    failed: dict[Path, str]


def read_all(videos: VideoList, reading: Reading, name: str, clips: int = 1, progress: bool = True) -> Read:
    """Read every file of a list once. Derived in chapter 14.

    Args:
        videos: files and labels.
        reading: how to read each.
        name: of the list, shown beside the bar and in the log.
        clips: clips a file.
        progress: show a bar.

    Raises:
        VideoReadError: no file can be read; the first one's reason.
    """
    read, labels, files, failed = [], [], [], {}
    for path, label in tqdm(videos.items, desc=f"reading {name}", unit="video", disable=not progress):
        try:
            read.append(reading.read(path, clips))
        except VideoReadError as error:
            log.warning("Left out of %s: %s", name, error)
            failed[path] = error
            continue
        labels.append(label)
        files.append(Path(path))
    if not read:
        raise next(iter(failed.values()))
    reasons = {path: str(error) for path, error in failed.items()}
    return Read(torch.stack(read), torch.tensor(labels), files, reasons)


def listed(videos: Videos, classes: Sequence[str] | None = None) -> VideoList:
    """The files and labels of a folder (one subfolder a class) or of a list file. Derived in chapter 14.

    Args:
        videos: a folder, a list file, or what one of the functions of `sora_nb.data` returned.
        classes: names of the classes in order, where a recipe has them already.

    Raises:
        ValueError: no such file, no videos, or classes that the recipe does not have.
    """
    if isinstance(videos, VideoList):
        if not videos.items:
            raise ValueError("The list of videos is empty; give at least one file a class.")
        if classes is not None and list(videos.classes) != list(classes):
            raise ValueError(
                f"The list has the classes {', '.join(videos.classes)}; the recipe's are {', '.join(classes)}, in this "
                "order: read the list with classes=recipe.classes."
            )
        return videos
    return (from_folder if Path(videos).is_dir() else from_list)(videos, classes=classes)


class Clips(Dataset):
    """Clips uint8 as a model takes them, in [0, 1], with labels if there are any. Derived in chapter 14."""

    def __init__(
        self, clips: UInt8[Tensor, "n time 3 height width"], labels: Int64[Tensor, " n"] | None = None
    ):
        self.clips, self.labels = clips, labels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, Tensor]:
        clip = self.clips[index].float() / 255
        return clip if self.labels is None else (clip, self.labels[index])
