"""Causality and receptive fields by gradient, streaming equal to batch, (2+1)-D blocks equal to torchvision's."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, Conv3DSimple

from sora_nb.layers.convolution import (
    TCN,
    CausalConv1d,
    CausalConv3d,
    Conv2Plus1d,
    ResidualBlock3d,
    TemporalBlock,
    causal_conv1d,
    factorised_width,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def positive(module: nn.Module) -> nn.Module:
    """Positive weights keep every ReLU awake, so that a zero gradient means no path."""
    for p in module.parameters():
        nn.init.constant_(p, 0.1)
    return module.double()


def seen(output: torch.Tensor, x: torch.Tensor, axis: int) -> list[int]:
    """Indices of x along an axis that an output depends on, by gradient."""
    gradient = torch.autograd.grad(output.sum(), x, retain_graph=True)[0]
    return gradient.abs().movedim(axis, 0).flatten(1).sum(1).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 3), (3, 1), (3, 4)])
def test_causal_convolution_equals_a_loop(kernel, dilation):
    x, w, b = torch.randn(2, 3, 9), torch.randn(4, 3, kernel), torch.randn(4)
    expected = torch.zeros(2, 4, 9) + b[:, None]
    for t in range(9):
        for i in range(kernel):
            s = t - (kernel - 1 - i) * dilation
            if s >= 0:
                expected[:, :, t] += x[:, :, s] @ w[:, :, i].T
    assert_close(causal_conv1d(x, w, b, dilation), expected)


@pytest.mark.parametrize("dilation", [1, 3])
def test_acausal_convolution_is_torch_same_padding(dilation):
    conv = CausalConv1d(3, 4, 3, dilation, causal=False)
    x = torch.randn(2, 3, 9)
    assert_close(conv(x), F.conv1d(x, conv.weight, conv.bias, padding="same", dilation=dilation))


@pytest.mark.parametrize(("kernel", "levels"), [(2, 1), (2, 3), (3, 1), (3, 2), (5, 2)])
def test_receptive_field_formula_by_gradient(kernel, levels):
    tcn = positive(TCN(2, 3, levels, kernel))
    field = tcn.receptive_field
    assert field == 1 + 2 * (kernel - 1) * (2**levels - 1)
    x = torch.rand(1, field + 4, 2, dtype=torch.float64, requires_grad=True)
    t = field + 1
    reached = seen(tcn(x)[0, t], x, 1)
    assert (reached[0], reached[-1]) == (t - field + 1, t)


def test_acausal_pad_leaks_the_future():
    tcn = positive(TCN(2, 3, 2, causal=False))
    x = torch.rand(1, 20, 2, dtype=torch.float64, requires_grad=True)
    assert max(seen(tcn(x)[0, 9], x, 1)) == 9 + (tcn.receptive_field - 1) // 2


def test_tcn_is_shift_equivariant_once_padding_is_out_of_view():
    tcn = TCN(2, 4, 2).eval()
    x = torch.randn(1, 40, 2)
    field = tcn.receptive_field
    assert_close(tcn(x[:, 5:])[:, field:], tcn(x)[:, field + 5 :])


@pytest.mark.parametrize(("dim", "kernel"), [(6, 3), (4, 2)])
def test_step_equals_the_batch_result_frame_by_frame(dim, kernel):
    tcn = TCN(dim, 6, 3, kernel, dropout=0.5).eval()
    x = torch.randn(2, tcn.receptive_field + 3, dim)
    batch, state = tcn(x), None
    for t in range(x.shape[1]):
        y, state = tcn.step(x[:, t], state)
        assert_close(y, batch[:, t])


def test_block_is_rectified_identity_when_silent_and_counts_two_convolutions():
    block = TemporalBlock(5, 5)
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    x = torch.randn(2, 5, 7)
    assert_close(block(x), torch.relu(x))
    assert sum(p.numel() for p in block.parameters()) == 2 * (5 * 5 * 3 + 5)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    tcn = TCN(3, 8, 2, dropout=0.5)
    x = torch.randn(1, 20, 3)
    assert not torch.equal(tcn(x), tcn(x))
    tcn.eval()
    assert torch.equal(tcn(x), tcn(x))


def test_short_clip_warns_and_long_clip_does_not():
    tcn = TCN(2, 3, 3)
    with pytest.warns(UserWarning, match=f"8 frames and the receptive field is {tcn.receptive_field}"):
        tcn(torch.randn(1, 8, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tcn(torch.randn(1, tcn.receptive_field, 2))


@pytest.mark.parametrize(("stride", "dilation", "frames"), [(1, 1, 8), (1, 2, 8), (2, 1, 4)])
def test_causal_conv3d_sees_up_to_the_end_of_its_group(stride, dilation, frames):
    conv = positive(CausalConv3d(2, 3, (3, 3), (stride, 2), dilation))
    x = torch.rand(1, 2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    y = conv(x)
    assert y.shape == (1, 3, frames, 2, 2)
    for j in range(frames):
        end = stride * j + stride - 1
        assert seen(y[:, :, j], x, 2) == [s for s in range(end - 2 * dilation, end + 1, dilation) if s >= 0]


def test_acausal_conv3d_is_torch_same_padding():
    conv = CausalConv3d(2, 3, dilation=2, causal=False)
    x = torch.randn(1, 2, 7, 4, 4)
    assert_close(conv(x), F.conv3d(x, conv.weight, conv.bias, padding=(2, 1, 1), dilation=(2, 1, 1)))


def test_conv3d_equals_a_loop():
    conv = nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1))
    x = torch.randn(1, 2, 4, 5, 4)
    expected = torch.empty(1, 3, 3, 2, 3)
    for t in range(3):
        for i in range(2):
            for j in range(3):
                patch = x[0, :, t : t + 2, 2 * i : 2 * i + 3, j : j + 2]
                expected[0, :, t, i, j] = (conv.weight * patch).sum((1, 2, 3, 4)) + conv.bias
    assert_close(conv(x), expected)


@pytest.mark.parametrize(("channels", "out"), [(16, 16), (16, 32), (64, 64), (64, 128)])
def test_factorised_convolution_matches_the_parameters_of_the_full_one(channels, out):
    middle = factorised_width(channels, out)
    ours = 9 * channels * middle + 3 * middle * out  # the two kernels
    full = 27 * channels * out
    assert ours <= full < ours + 9 * channels + 3 * out  # one more middle channel would exceed it
    assert sum(p.numel() for p in Conv2Plus1d(channels, out).parameters()) == ours + 2 * middle


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("factorised", "builder", "channels", "stride"),
    [(f, b, 8, s) for f, b in ((False, Conv3DSimple), (True, Conv2Plus1D)) for s in (1, 2)]
    + [(False, Conv3DSimple, 4, 2)],
)
def test_residual_block_equals_torchvision(factorised, builder, channels, stride, training):
    """Factorised only at equal widths, for torchvision gives the second convolution the middle width of the first."""
    shortcut = nn.Sequential(nn.Conv3d(channels, 8, 1, 2, bias=False), nn.BatchNorm3d(8))
    downsample = shortcut if stride == 2 else None
    reference = BasicBlock(channels, 8, builder, stride, downsample).train(training)
    ours = ResidualBlock3d(channels, 8, stride, factorised).train(training)
    weights = list(reference.state_dict().values())
    for mine, theirs in zip(ours.state_dict().values(), weights, strict=True):
        assert mine.shape == theirs.shape
        theirs.copy_(torch.rand_like(theirs.float()) + 0.1)
        mine.copy_(theirs)
    x, y = (torch.randn(2, channels, 4, 6, 6).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    a, b = ours(x), reference(y)
    assert_close(a, b)
    a.square().sum().backward(), b.square().sum().backward()
    assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: causal_conv1d(torch.zeros(1, 2, 9), torch.zeros(4, 3, 3)),
            "2 channels; its weights expect 3",
        ),
        (lambda: causal_conv1d(torch.zeros(1, 3, 2), torch.zeros(4, 3, 3)), "2 frames for a kernel of 3"),
        (lambda: CausalConv1d(3, 4, causal=False)(torch.zeros(1, 3, 2)), "2 frames for a kernel of 3"),
        (lambda: CausalConv1d(3, 4, 2, 1, causal=False), "lopsided"),
        (lambda: CausalConv1d(3, 4, causal=False).step(torch.zeros(1, 3)), "cannot stream"),
        (lambda: CausalConv3d(3, 4)(torch.zeros(1, 2, 9, 4, 4)), "2 channels; its weights expect 3"),
        (lambda: ResidualBlock3d(3, 4)(torch.zeros(1, 2, 9, 4, 4)), "2 channels; its weights expect 3"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_state_dict_round_trip():
    a, b = TCN(3, 4, 2).eval(), TCN(3, 4, 2).eval()
    x = torch.randn(1, 20, 3)
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))
