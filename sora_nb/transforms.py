"""Preprocessing that respects time: every random draw is made once per clip. Derived in chapter 02."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_clip(
    frames: UInt8[np.ndarray, "*batch time height width 3"] | Tensor,
) -> Float[Tensor, "*batch time 3 height width"]:
    """Turn decoded frames (0..255, channels last) into a float clip in [0, 1], channels first. Derived in chapter 02.

    Raises:
        ValueError: frames are not uint8 or do not end in (time, height, width, 3).
    """
    frames = torch.as_tensor(frames)
    if frames.dtype != torch.uint8 or frames.ndim < 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"to_clip got {frames.dtype} of shape {tuple(frames.shape)}; expected uint8 (..., time, height, width, 3)."
        )
    return frames.movedim(-1, -3).float() / 255  # (..., T, H, W, 3) -> (..., T, 3, H, W)


def to_frames(
    clip: Float[Tensor, "*batch time 3 height width"],
) -> UInt8[np.ndarray, "*batch time height width 3"]:
    """Turn a float clip back into frames to show or write; the inverse of :func:`to_clip`.

    Values outside [0, 1] are clamped. Derived in chapter 02.
    """
    frames = (clip.detach().cpu().float() * 255).round().clamp(0, 255).to(torch.uint8)
    return frames.movedim(-3, -1).numpy()  # (..., T, 3, H, W) -> (..., T, H, W, 3)


def normalize(clip: Float[Tensor, "*batch 3 height width"], mean=IMAGENET_MEAN, std=IMAGENET_STD) -> Tensor:
    """Subtract a mean and divide by a standard deviation per channel. Derived in chapter 02."""
    # Here and below, not at the top: importing torchvision takes seconds.
    from torchvision.transforms import v2

    return v2.functional.normalize(clip, list(mean), list(std))


def denormalize(clip: Float[Tensor, "*batch 3 height width"], mean=IMAGENET_MEAN, std=IMAGENET_STD) -> Tensor:
    """Undo :func:`normalize`. Derived in chapter 02."""
    mean, std = (torch.as_tensor(v, dtype=clip.dtype, device=clip.device).view(3, 1, 1) for v in (mean, std))
    return clip * std + mean


def trim(clip: Tensor, start: int, length: int) -> Tensor:
    """Keep ``length`` frames of a clip (..., T, C, H, W) from frame ``start`` on. Derived in chapter 02.

    Raises:
        ValueError: the clip has no such frames.
    """
    frames = clip.shape[-4]
    if not (0 <= start and 0 < length and start + length <= frames):
        raise ValueError(
            f"trim asked for frames {start} to {start + length} of a clip with {frames}; shorten the request."
        )
    return clip.narrow(-4, start, length)


def evaluation_transform(size: int) -> nn.Module:
    """Return the deterministic transform: short side to ``size``, then the central square.

    Takes and returns float clips (..., 3, H, W); every frame is treated alike. Derived in chapter 02.
    """
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])


def training_transform(size: int, *, scale=(0.7, 1.0), color: float = 0.2, flip: bool = False) -> nn.Module:
    """Return a random crop and colour change, drawn once per call and shared by all frames.

    Call it on one clip (T, 3, H, W): called on a batch, every clip of the batch would share the draw.
    ``flip`` is off by default because a horizontal flip turns "left" into "right". Derived in chapter 02.

    Args:
        size: side of the square output in pixels.
        scale: range of the share of the picture that the crop keeps.
        color: strength of the brightness, contrast and saturation change.
        flip: mirror half of the clips. Only where no label names a side.
    """
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(size, scale=scale, ratio=(0.9, 1.1), antialias=True)]
    if color:
        steps.append(v2.ColorJitter(brightness=color, contrast=color, saturation=color))
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)
