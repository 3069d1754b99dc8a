"""Principal components as a fixed layer: the best linear code of its width, and the way back. Derived in chapter 10."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Components(nn.Module):
    """Project onto ``count`` directions and back; `fit` takes them from data. Derived in chapter 10.

    The directions are orthonormal, so that squared distances survive among what they span. Before `fit` they are
    random. They are buffers: training does not move them, and they are saved with the model.

    Args:
        dim: width of the vectors.
        count: directions, at most ``dim``.

    Raises:
        ValueError: there are more directions than dimensions.
    """

    def __init__(self, dim: int, count: int):
        super().__init__()
        if not 1 <= count <= dim:
            raise ValueError(f"Components got count={count} for vectors of width {dim}; choose 1 to {dim}.")
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("directions", nn.init.orthogonal_(torch.empty(dim, count)))
        self.register_buffer("spread", torch.ones(count))  # standard deviation along each direction

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "n dim"]) -> None:
        """Take mean, leading principal directions and their standard deviations from the rows of ``x``.

        Raises:
            ValueError: ``x`` has another width, or fewer rows than there are directions.
        """
        dim, count = self.directions.shape
        if x.ndim != 2 or x.shape[1] != dim or x.shape[0] <= count:
            raise ValueError(
                f"Components got data of shape {tuple(x.shape)}; it expects more than {count} rows of width {dim}."
            )
        mean = x.mean(0)
        centered = x - mean
        variances, vectors = torch.linalg.eigh(centered.T @ centered / x.shape[0])  # from small to large
        self.mean.copy_(mean)
        self.directions.copy_(vectors.flip(1)[:, :count])
        self.spread.copy_(variances.flip(0)[:count].clamp(min=1e-8).sqrt())

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch count"]:
        """Coordinates along the directions."""
        return (x - self.mean) @ self.directions

    def back(self, y: Float[Tensor, "*batch count"]) -> Float[Tensor, "*batch dim"]:
        """The vector that these coordinates stand for."""
        return y @ self.directions.T + self.mean
