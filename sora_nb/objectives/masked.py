"""Hide part of a clip and ask for it: tube masks, what to predict, and a target that trails behind. Derived in chapter 12."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sora_nb.layers.patches import Size, tubelets

STILL = 1e-3  # variance of a tubelet in [0, 1] pixels that normalising takes for none: a spread of 0.03


def tube_mask(
    batch: int, grid: Size, ratio: float = 0.75, device: torch.device | str | None = None
) -> Bool[Tensor, "batch tokens"]:
    """Hide the same places of the grid at all times: True = hidden (VideoMAE, Tong et al. 2022).

    Each clip gets places of its own, drawn from torch's global generator of the device. Derived in chapter 12.

    Args:
        batch: clips.
        grid: steps, rows and columns of the tubelets; tokens are laid out in this order.
        ratio: share of the places to hide, rounded to whole places.

    Raises:
        ValueError: nothing would be hidden, or nothing seen.
    """
    time, places = grid[0], grid[1] * grid[2]
    hidden = round(ratio * places)
    if not 0 < hidden < places:
        raise ValueError(
            f"A ratio of {ratio} hides {hidden} of {places} places; hide at least one and leave at least one to see."
        )
    rank = (
        torch.rand(batch, places, device=device).argsort(1).argsort(1)
    )  # (B, places), 0 … places - 1 shuffled
    return (rank < hidden).repeat(1, time)  # (B, time · places)


def seen_and_hidden(
    mask: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch seen"], Int[Tensor, "batch hidden"]]:
    """Indices of the seen and of the hidden tokens of each clip, in order. Derived in chapter 12.

    Raises:
        ValueError: clips hide different numbers of tokens, which no tensor can hold.
    """
    count = mask.sum(1)
    if (count != count[0]).any():
        raise ValueError(
            f"Clips hide between {int(count.min())} and {int(count.max())} tokens; all must hide as many."
        )
    order = mask.byte().argsort(dim=1, stable=True)  # seen first, each group in its order
    seen = mask.shape[1] - int(count[0])
    return order[:, :seen], order[:, seen:]


def take(
    tokens: Float[Tensor, "batch tokens dim"], index: Int[Tensor, "batch chosen"]
) -> Float[Tensor, "batch chosen dim"]:
    """Of each clip the tokens at its own indices. Derived in chapter 12."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def pixel_targets(
    clips: Float[Tensor, "batch time channels height width"], size: Size, still: float = STILL
) -> Float[Tensor, "batch tokens features"]:
    r"""What a masked autoencoder predicts: each tubelet less its mean, over its spread (He et al. 2022).

    :math:`(x - \bar x) / \sqrt{\operatorname{var} x + s}`. Tubelets that hardly vary stay small instead of being
    blown up to noise of unit size. Derived in chapter 12.

    Args:
        size: frames, rows and columns of a tubelet.
        still: s, the variance that counts as none.
    """
    patches = tubelets(clips, size).flatten(1, 3)  # (B, N, F)
    variance, mean = torch.var_mean(patches, -1, correction=0, keepdim=True)
    return (patches - mean) / (variance + still).sqrt()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move each weight of ``slow`` towards the one of the same name: θ' ← m θ' + (1 - m) θ (He et al. 2020).

    Derived in chapter 11, used from there on.
    """
    weights = dict(fast.named_parameters())
    for name, weight in slow.named_parameters():
        weight.lerp_(weights[name], 1 - momentum)
