"""Tubelets: the blocks by loop, the embedding equal to a strided convolution in value and gradient."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sora_nb.layers.patches import TubeletEmbedding, tubelets


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_tubelets_are_the_blocks_by_loop():
    x = torch.randn(2, 4, 3, 6, 8)
    blocks = tubelets(x, (2, 3, 4))
    assert blocks.shape == (2, 2, 2, 2, 3 * 2 * 3 * 4)
    for t in range(2):
        for h in range(2):
            for w in range(2):
                part = x[:, 2 * t : 2 * t + 2, :, 3 * h : 3 * h + 3, 4 * w : 4 * w + 4]
                assert torch.equal(
                    blocks[:, t, h, w], part.transpose(1, 2).flatten(1)
                )  # (C, T, H, W) in a block


@pytest.mark.parametrize("size", [(1, 2, 2), (2, 2, 4), (4, 8, 8)])
def test_embedding_equals_a_convolution_whose_stride_is_its_kernel(size):
    conv = nn.Conv3d(3, 5, size, size).double()
    ours = TubeletEmbedding(3, 5, size).double()
    ours.load_state_dict({"weight": conv.weight.detach().flatten(1), "bias": conv.bias.detach()})
    x = torch.randn(2, 4, 3, 8, 8, dtype=torch.double, requires_grad=True)
    tokens, maps = ours(x), conv(x.transpose(1, 2)).movedim(1, -1)  # (B, D, t, h, w) -> (B, t, h, w, D)
    assert_close(tokens, maps)
    slope = torch.randn_like(tokens)
    mine = torch.autograd.grad((tokens * slope).sum(), [x, ours.weight, ours.bias])
    theirs = torch.autograd.grad((maps * slope).sum(), [x, conv.weight, conv.bias])
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b.reshape(a.shape))


def test_each_token_sees_its_own_tubelet_only():
    layer, x = TubeletEmbedding(3, 4, (2, 2, 2)), torch.randn(1, 4, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0, 1, 0, 1].sum(), x)
    inside = torch.zeros(4, 4, 4, dtype=torch.bool)
    inside[2:, :2, 2:] = True
    assert torch.equal(gradient[0].ne(0).any(1), inside)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((3, 2, 2), (1, 4, 3, 4, 4)), ((2, 3, 2), (1, 4, 3, 4, 4)), ((2, 2, 3), (1, 4, 3, 4, 4))],
)
def test_tubelets_that_do_not_fit_are_refused(size, shape):
    with pytest.raises(ValueError, match=r"do not fill 4 frames of 4 × 4 cells: sample a multiple of"):
        tubelets(torch.zeros(shape), size)


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="got 4 channels on axis 2 of .*; it expects 3"):
        TubeletEmbedding(3, 4)(torch.zeros(1, 2, 4, 4, 4))
