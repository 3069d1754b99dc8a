"""Tokens of space and time: a video, or a grid of features, cut into blocks. Derived in chapter 06."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Size = tuple[int, int, int]  # frames, rows, columns of a tubelet


def tubelets(
    x: Float[Tensor, "batch time channels height width"], size: Size
) -> Float[Tensor, "batch t h w features"]:
    """Cut into blocks of ``size`` (frames, rows, columns) that do not overlap, each laid out as one vector.

    Numbers inside a block come in the order channels, time, height, width: that of an ``nn.Conv3d``'s weight.
    A patch is a tubelet of one frame. Derived in chapter 06.

    Raises:
        ValueError: the blocks do not fill the video exactly.
    """
    frames, rows, columns = size
    time, _, height, width = x.shape[1:]
    if time % frames or height % rows or width % columns:
        raise ValueError(
            f"Tubelets of {frames} × {rows} × {columns} do not fill {time} frames of {height} × {width} cells: sample "
            f"a multiple of {frames} frames, or choose tubelets that divide all three."
        )
    return rearrange(x, "b (t i) c (h j) (w k) -> b t h w (c i j k)", i=frames, j=rows, k=columns)


class TubeletEmbedding(nn.Linear):
    """One linear map of every tubelet (Arnab et al. 2021): an ``nn.Conv3d`` whose stride is its kernel.

    ``weight.view(dim, channels, *size)`` is that convolution's weight. A matrix product does the same work, faster on
    a CPU, and keeps bfloat16 gradients finite where torch's CPU convolution does not. Derived in chapter 06.

    Args:
        channels: channels of the video, or of the grid of features.
        dim: width of a token.
        size: frames, rows and columns of a tubelet.
    """

    def __init__(self, channels: int, dim: int, size: Size = (2, 2, 2)):
        frames, rows, columns = size
        super().__init__(channels * frames * rows * columns, dim)
        self.channels, self.size = channels, tuple(size)

    def forward(
        self, x: Float[Tensor, "batch time channels height width"]
    ) -> Float[Tensor, "batch t h w dim"]:
        """Return one token a tubelet.

        Raises:
            ValueError: other channels than the embedding was built for, or tubelets that do not fill the video.
        """
        if x.shape[2] != self.channels:
            raise ValueError(
                f"TubeletEmbedding got {x.shape[2]} channels on axis 2 of {tuple(x.shape)}; it expects {self.channels}."
            )
        return super().forward(tubelets(x, self.size))
