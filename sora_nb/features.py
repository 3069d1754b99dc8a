"""Features of frames, computed once and kept on disk. Derived in chapter 14."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from tqdm.auto import tqdm

from sora_nb import processes
from sora_nb.files import atomic
from sora_nb.transforms import to_clip
from sora_nb.video import VideoReader, VideoReadError

Source = str | os.PathLike | UInt8[np.ndarray, "_ _ _ 3"]  # a file, or a clip (time, height, width, 3)


@dataclass(frozen=True)
class CachedFeatures:
    """Features on disk, one ``.npy`` file a video: ``features[i]`` maps video i's (T, D) into memory.

    A file is opened when it is asked for and holds no memory until it is read, so a list may be longer than the memory
    is large and than the operating system allows files to be open. Writing to an array changes memory, not the file.
    """

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Float[np.ndarray, "time dim"]:
        return np.load(self.files[index], mmap_mode="c")


def fingerprint(model: nn.Module) -> str:
    """Digest of all that a model prints about itself and of every weight and buffer. Derived in chapter 14.

    Two models with the same digest give the same features, unless they differ in something that neither ``repr(model)``
    nor ``model.state_dict()`` shows: print such a setting in ``extra_repr``.
    """
    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def cache_features(
    model: nn.Module,
    sources: Sequence[Source],
    folder: str | os.PathLike,
    name: str,
    *,
    stride: int = 1,
    batch_size: int = 32,
    progress: bool = True,
) -> CachedFeatures:
    """Run a frame network over videos, or read back what an earlier call kept. Derived in chapter 14.

    Each video's features go to ``folder/name-MODEL/VIDEO.npy``. MODEL is a digest of the weights, VIDEO of the file's
    content and of the stride: change one and the features are made anew; rename a video and they are found again.
    A file appears complete or not at all, so a killed call goes on with the video it was at.

    Under ``accelerate launch`` or ``torchrun`` each process makes the features of its share of the videos, and all of them
    return the whole when the last is done; ``folder`` must be one that all of them see. See chapter 22.

    Args:
        model: maps float clips (1, T, 3, H, W) in [0, 1] to features (1, T, D), each frame by itself. Resizing and
            normalising belong inside it. Run in evaluation mode, on the device where its weights are.
        sources: video files, or clips uint8 (T, H, W, 3).
        folder: where to keep the features; made if need be.
        name: first part of the folder's name, for people.
        stride: take every stride-th frame.
        batch_size: frames that go through the model at once.
        progress: show a bar over the videos that are not there yet.

    Raises:
        ValueError: no sources, a source that is no clip, a stride or batch below 1, a name that is no plain file name, or
            a model that does not give one finite feature a frame.
        VideoReadError: a file cannot be read. What was computed before it stays.
    """
    _check(sources, name, stride, batch_size)
    place = Path(folder) / f"{name}-{fingerprint(model)[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    world = processes.join()
    # Of the whole list: what is missing looks different in each process.
    mine = processes.shard(sources, world)
    files = [place / f"{_digest(source, stride)}.npy" for source in mine]
    missing = {file: source for file, source in zip(files, mine, strict=True) if not _intact(file)}
    training = model.training
    model.eval()
    try:
        for file, source in tqdm(
            missing.items(), desc=f"features {name}", unit="video", disable=not (progress and missing)
        ):
            _write(file, _features(model, source, stride, batch_size))
    finally:
        model.train(training)
    return CachedFeatures(tuple(processes.gathered(files, world)))


@torch.no_grad()
def _features(
    model: nn.Module, source: Source, stride: int, batch_size: int
) -> Float[np.ndarray, "kept dim"]:
    """One video's features, a batch of its frames at a time: a long film never lies in memory whole."""
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    parts = []
    with ExitStack() as stack:
        reader = None if isinstance(source, np.ndarray) else stack.enter_context(VideoReader(source))
        wanted = range(0, len(source if reader is None else reader), stride)
        for start in range(0, len(wanted), batch_size):
            part = list(wanted[start : start + batch_size])
            frames = source[part] if reader is None else reader.get(part)
            out = model(to_clip(frames)[None].to(where))  # (1, t, 3, H, W) -> (1, t, D)
            _check_features(out, len(part), source)
            parts.append(out[0].float().cpu().numpy())
    return np.concatenate(parts)


def _check_features(out: torch.Tensor, frames: int, source: Source) -> None:
    if out.ndim != 3 or out.shape[:2] != (1, frames):
        raise ValueError(
            f"The model turned {frames} frames into a tensor of shape {tuple(out.shape)}; expected one feature a frame, "
            f"(1, {frames}, D): give it a frame network such as FrameCNN."
        )
    if not out.isfinite().all():
        named = f"a clip of shape {source.shape}" if isinstance(source, np.ndarray) else os.fspath(source)
        raise ValueError(
            f"The model's features of {named} are not all finite; check its weights and its preprocessing."
        )


def _check(sources, name: str, stride: int, batch_size: int) -> None:
    if isinstance(sources, str | os.PathLike | np.ndarray) or len(sources) == 0:
        raise ValueError(
            "cache_features expected a list of video files or clips, at least one; put a single one in [ ]."
        )
    for i, source in enumerate(sources):
        if not (isinstance(source, str | os.PathLike) or _is_clip(source)):
            given = f"{getattr(source, 'dtype', type(source).__name__)} {tuple(getattr(source, 'shape', ()))}"
            raise ValueError(
                f"Source {i} is {given}; expected a path or a uint8 array (time, height, width, 3) with a frame in it."
            )
    if not name or Path(name).name != name:
        raise ValueError(
            f"cache_features got the name {name!r}; expected a plain word, which becomes part of a folder's name."
        )
    if stride < 1 or batch_size < 1:
        raise ValueError(
            f"cache_features got stride {stride} and batch_size {batch_size}; both must be 1 or more."
        )


def _is_clip(x) -> bool:
    return (
        isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] == 3 and len(x) > 0
    )


def _digest(source: Source, stride: int) -> str:
    """Name of a source's file: what is in it counts, not what it is called."""
    if isinstance(source, np.ndarray):
        digest = hashlib.sha256(f"{source.shape}".encode())
        digest.update(np.ascontiguousarray(source))
    else:
        try:
            with open(source, "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise VideoReadError(
                source, f"it cannot be opened ({error.strerror})", "check the path and its permissions"
            ) from None
    digest.update(f"stride {stride}".encode())
    return digest.hexdigest()[:24]


def _intact(file: Path) -> bool:
    """Whether a feature file is there and whole; one that a full disk or a bad copy cut short is made anew."""
    try:
        return np.load(file, mmap_mode="r").ndim == 2
    except (OSError, ValueError, EOFError):
        return False


def _write(file: Path, features: np.ndarray) -> None:
    with atomic(file) as temporary, open(temporary, "wb") as out:
        np.save(out, features)
