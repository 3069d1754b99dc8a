"""Rectified flow: a straight path from noise to data, the velocity along it, and the walk back. Derived in chapter 18."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Field = Callable[[Tensor, Tensor], Tensor]  # (x (B, …), t (B)) -> velocity (B, …)


def path(
    data: Float[Tensor, "batch *dims"], noise: Float[Tensor, "batch *dims"], t: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, "batch *dims"], Float[Tensor, "batch *dims"]]:
    """Return the point (1 − t)·noise + t·data and the velocity data − noise, which is the same at every t.

    Time runs from noise at 0 to data at 1 (Lipman et al. 2023; Liu et al. 2023). Derived in chapter 18.
    """
    t = t.view(-1, *[1] * (data.ndim - 1))  # (B) -> (B, 1, …)
    return (1 - t) * noise + t * data, data - noise


def flow_loss(
    field: Field,
    data: Float[Tensor, "batch *dims"],
    noise: Float[Tensor, "batch *dims"] | None = None,
    t: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of a field against the velocity of the path, at random times and from random noise.

    Its minimum is the *mean* velocity of all paths through a point, and its value there is not zero. Derived in chapter 18.

    Args:
        field: the network, with its condition bound.
        data: what to generate, standardised.
        noise: drawn from a normal distribution unless given.
        t: drawn evenly from 0 to 1 unless given.
    """
    noise = torch.randn_like(data) if noise is None else noise
    t = torch.rand(len(data), device=data.device) if t is None else t
    x, velocity = path(data, noise, t)
    return F.mse_loss(field(x, t), velocity)


def guided(conditional: Field, unconditional: Field, scale: float) -> Field:
    """Return the field u + scale·(c − u): classifier-free guidance (Ho and Salimans 2022). Derived in chapter 18.

    Args:
        conditional: the field c that knows the condition.
        unconditional: the field u that does not.
        scale: 0 ignores the condition, 1 is the conditional field itself, more exaggerates it.
    """
    if scale == 1:
        return conditional

    def field(x: Tensor, t: Tensor) -> Tensor:
        without = unconditional(x, t)
        return without + scale * (conditional(x, t) - without)

    return field


@torch.no_grad()
def integrate(
    field: Field,
    x: Float[Tensor, "batch *dims"],
    steps: int = 16,
    start: float = 0.0,
    end: float = 1.0,
    heun: bool = False,
) -> Float[Tensor, "batch *dims"]:
    """Follow a field in equal steps; backwards where ``end`` lies before ``start``. Derived in chapter 18.

    Args:
        field: velocity at a point and a time.
        x: where to begin: noise at time 0.
        steps: at least 1.
        start: time at which to begin.
        end: time at which to stop.
        heun: correct each step by the velocity at its end: twice the evaluations, an error of higher order.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"integrate got steps={steps}; it takes at least 1.")
    size = (end - start) / steps
    for step in range(steps):
        t = torch.full((len(x),), start + step * size, device=x.device)
        slope = field(x, t)
        if heun:
            slope = (slope + field(x + size * slope, t + size)) / 2
        x = x + size * slope
    return x
