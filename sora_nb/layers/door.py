"""What every model asks of its clips, checked in one place, and the clip's mean that most of them take away first.

Used from chapter 03 on.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Clips = Float[Tensor, "batch time channels height width"]
# What a model takes whose frame network is nn.Identity: features of frames, such as features.cache_features keeps.
ClipsOrFeatures = Clips | Float[Tensor, "batch time feature"]


def check_clips(module: nn.Module, clips: Tensor, channels: int = 3) -> None:
    """Refuse what the module cannot take: wrong axes, colours or number type, or nothing at all.

    A module whose ``frames`` is ``nn.Identity`` takes features of frames, (batch, time, dim), instead of clips; one
    whose ``frames`` has an attribute ``in_channels`` takes as many colours as that says.

    Raises:
        ValueError: names the module, what it got and what it expects.
    """
    name, frames = type(module).__name__, getattr(module, "frames", None)
    if isinstance(frames, nn.Identity):
        fits, wanted = clips.ndim == 3, "features of frames (batch, time, dim)"
    else:
        channels = getattr(frames, "in_channels", channels)
        fits = clips.ndim == 5 and clips.shape[2] == channels
        wanted = (
            f"clips (batch, time, {channels}, height, width), as transforms.to_clip makes them from frames"
        )
    if not fits:
        raise ValueError(f"{name} got a tensor of shape {tuple(clips.shape)}; it expects {wanted}.")
    if 0 in clips.shape:
        raise ValueError(
            f"{name} got an empty tensor of shape {tuple(clips.shape)}; give it at least one clip of one frame."
        )
    check_dtype(module, clips)


def check_dtype(module: nn.Module, x: Tensor) -> None:
    """Refuse numbers of another type than the module's weights, unless autocast converts them.

    Raises:
        ValueError: names both types and what to do.
    """
    wanted = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if x.dtype == wanted or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        return
    advice = "convert one of the two with .to(dtype)"
    if not x.is_floating_point():
        advice = "transforms.to_clip turns frames 0…255 into numbers in [0, 1]"
    raise ValueError(f"{type(module).__name__} got {x.dtype} and has weights in {wanted}; {advice}.")


def centered(clips: Float[Tensor, "batch time *rest"]) -> Float[Tensor, "batch time *rest"]:
    """Take each clip's mean over time away, and with it whatever stands still. Derived in chapter 03."""
    return clips - clips.mean(1, keepdim=True)
