"""Telling attention where a token stands: sinusoidal, learned, rotary, and over time, height and width. Derived in chapter 06."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

PAIRINGS = ("interleaved", "half")


def frequencies(dim: int, base: float, device=None) -> Float[Tensor, " half"]:
    """Return the `dim / 2` angular frequencies ω_i = base^(−2i/dim), in radians per position."""
    if dim < 2 or dim % 2:
        raise ValueError(
            f"A position code pairs its dimensions, so dim must be even and at least 2, got {dim}."
        )
    return base ** (-torch.arange(0, dim, 2, device=device).float() / dim)


def sinusoidal(length: int, dim: int, base: float = 10_000.0, device=None) -> Float[Tensor, "length dim"]:
    """Sinusoidal position code of Vaswani et al. (2017): sin(p ω_i) in dimension 2i, cos(p ω_i) in 2i + 1.

    Derived in chapter 06.

    Args:
        length: number of positions p = 0 … length − 1; any length, there is no table to run out of.
        dim: width of the code, even.

    Raises:
        ValueError: if `dim` is odd.
    """
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies(dim, base, device))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (T, D/2, 2) -> (T, D)


class LearnedPosition(nn.Module):
    """A trained vector for each position, added to the tokens. Derived in chapter 06.

    Args:
        max_length: rows of the table; a longer sequence has no code and raises.
        dim: width of the tokens.
    """

    def __init__(self, max_length: int, dim: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(max_length, dim) * 0.5)

    def forward(self, x: Float[Tensor, "*batch time dim"]) -> Float[Tensor, "*batch time dim"]:
        """Return `x` plus the codes of its positions.

        Raises:
            ValueError: if the sequence is longer than the table.
        """
        time, rows = x.shape[-2], self.table.shape[0]
        if time > rows:
            raise ValueError(
                f"The sequence has {time} positions but the learned table holds {rows}: "
                "shorten the clip, or build the model with a larger max_length."
            )
        return x + self.table[:time]


def rotary_angles(length: int, dim: int, base: float = 10_000.0, device=None) -> Float[Tensor, "length half"]:
    """Angle p ω_i, in radians, by which rotary position embedding turns pair i at position p (Su et al. 2021).

    `dim` is the width of one head. The angles say nothing of which dimensions form a pair: that is
    `apply_rotary`'s `pairing`. Derived in chapter 06.
    """
    return torch.outer(torch.arange(length, device=device).float(), frequencies(dim, base, device))


def apply_rotary(
    x: Float[Tensor, "*batch time dim"], angles: Float[Tensor, "time half"], pairing: str = "interleaved"
) -> Float[Tensor, "*batch time dim"]:
    """Turn each pair (a, b) of `x` by its angle θ: (a cos θ − b sin θ, a sin θ + b cos θ).

    After it, the product of a query at p and a key at s depends on p − s alone, and no vector changes its length.
    Two conventions pair the dimensions, and weights trained with one are wrong in the other: "interleaved" pairs
    neighbours (0,1), (2,3), … as in Su et al. (2021); "half" pairs i with i + dim/2, as in GPT-NeoX and LLaMA.
    Derived in chapter 06.

    Raises:
        ValueError: if `pairing` is neither of the two, or the angles do not fit `x`.
    """
    if pairing not in PAIRINGS:
        raise ValueError(f'pairing must be "interleaved" or "half", got {pairing!r}.')
    if angles.shape != (x.shape[-2], x.shape[-1] // 2):
        raise ValueError(
            f"Angles of shape {tuple(angles.shape)} do not fit {x.shape[-2]} positions of width {x.shape[-1]}: "
            f"expected ({x.shape[-2]}, {x.shape[-1] // 2}), from rotary_angles({x.shape[-2]}, {x.shape[-1]})."
        )
    cos, sin = angles.cos(), angles.sin()
    if pairing == "interleaved":
        a, b = x[..., 0::2], x[..., 1::2]  # (…, T, D) -> 2 × (…, T, D/2)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)  # -> (…, T, D)
    else:
        a, b = x.chunk(2, dim=-1)  # (…, T, D) -> 2 × (…, T, D/2)
        turned = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)  # -> (…, T, D)
    return turned.to(x.dtype)


def split_axes(dim: int) -> tuple[int, int, int]:
    """Share an even width between time, height and width: even parts, what is left over goes to time."""
    if dim < 6 or dim % 2:
        raise ValueError(f"A code over time, height and width needs an even dim of at least 6, got {dim}.")
    part = dim // 6 * 2
    return dim - 2 * part, part, part


def over_axes(codes: list[Float[Tensor, "_ _"]]) -> Float[Tensor, "time height width dim"]:
    """Lay three one-axis codes side by side on the (T, H, W) grid: cell (t, h, w) holds [time_t, height_h, width_w]."""
    time, height, width = (code.shape[0] for code in codes)
    grids = (codes[0][:, None, None], codes[1][None, :, None], codes[2][None, None, :])
    return torch.cat([grid.expand(time, height, width, -1) for grid in grids], dim=-1)


def sinusoidal_3d(
    time: int, height: int, width: int, dim: int, device=None
) -> Float[Tensor, "time height width dim"]:
    """Factorised sinusoidal code of a (T, H, W) grid: the first part of `dim` codes time, then height, then width.

    Flatten it with `.flatten(0, 2)` for tokens in the order "(t h w)". Derived in chapter 06.

    Raises:
        ValueError: if `dim` is odd or below 6.
    """
    sizes = zip((time, height, width), split_axes(dim))
    return over_axes([sinusoidal(length, part, device=device) for length, part in sizes])


def rotary_angles_3d(
    time: int, height: int, width: int, dim: int, device=None
) -> Float[Tensor, "tokens half"]:
    """Rotary angles of tokens in the order "(t h w)": some pairs turn with time, some with height, some with width.

    The product of two turned tokens then depends on their displacement (Δt, Δh, Δw) alone. Derived in chapter 06.
    """
    sizes = zip((time, height, width), split_axes(dim))
    grid = over_axes([rotary_angles(length, part, device=device) for length, part in sizes])
    return grid.flatten(0, 2)  # (T, H, W, D/2) -> (T·H·W, D/2)
