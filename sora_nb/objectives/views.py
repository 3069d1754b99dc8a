"""Random views of clips: what two of them share is what a contrastive loss keeps. Derived in chapter 11.

Everything is drawn once per clip and view, never per frame: a frame-wise shift would be a motion that was not there
(Qian et al. 2021). Draws come from torch's generator on the CPU, so that a seed means the same on every device.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sora_nb.layers.door import Clips


def temporal_crop(
    clips: Clips, frames: int = 8, shortest: int = 11
) -> Float[Tensor, "batch {frames} channels height width"]:
    """Of each clip a stretch of at least ``shortest`` frames, sampled evenly: start and speed vary. Derived in chapter 11.

    Raises:
        ValueError: the clips are shorter than ``shortest``.
    """
    n, length = clips.shape[:2]
    if not 1 <= shortest <= length:
        raise ValueError(f"temporal_crop got clips of {length} frames for stretches of {shortest} or more.")
    span = torch.randint(shortest, length + 1, (n, 1))
    start = (torch.rand(n, 1) * (length - span + 1)).long()
    at = (start + torch.linspace(0, 1, frames) * (span - 1)).round().long()  # (N, frames)
    return clips[torch.arange(n)[:, None], at]


def shift_and_zoom(clips: Clips, shift: float = 0.25, zoom: float = 0.2) -> Clips:
    """One random shift and zoom for all frames of a clip, in shares of half the side. Derived in chapter 11."""
    n = clips.shape[0]
    scale = 1 + zoom * (2 * torch.rand(n, 1, 1) - 1)
    move = shift * (2 * torch.rand(n, 2, 1) - 1)
    theta = torch.cat([torch.eye(2) * scale, move], 2).to(clips)  # (N, 2, 3)
    grid = F.affine_grid(theta, (n, 1, *clips.shape[-2:]), align_corners=False)
    flat = clips.flatten(1, 2)  # frames as channels: (N, T·C, H, W)
    out = F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False)
    return out.view_as(clips)


def mix_colors(clips: Clips) -> Clips:
    """Each new channel is a random mean of the old ones, the same in all frames of a clip. Derived in chapter 11."""
    channels = clips.shape[2]
    mix = torch.rand(clips.shape[0], channels, channels).to(clips)
    return torch.einsum("nij,ntjhw->ntihw", mix / mix.sum(2, keepdim=True), clips)


def view(
    clips: Clips, frames: int = 8, shortest: int = 11
) -> Float[Tensor, "batch {frames} channels height width"]:
    """One random view of each clip: all three changes above, one after another. Derived in chapter 11."""
    return mix_colors(shift_and_zoom(temporal_crop(clips, frames, shortest)))
