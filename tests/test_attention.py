import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sora_nb.layers.attention import (
    DividedAttention,
    MultiHeadAttention,
    attention,
    attention_weights,
    block_macs,
    joint_attention,
    naive_attention,
    space_attention,
    time_attention,
)
from sora_nb.layers.position import rotary_angles
from sora_nb.layers.transformer import DividedBlock, EncoderBlock


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def heads(batch=2, heads=3, time=5, dim=4, dtype=torch.float64):
    return torch.randn(batch, heads, time, dim, dtype=dtype, requires_grad=True)


def looped(q, k, v, may):
    """One query at a time, one key at a time."""
    q, k, v = q.detach(), k.detach(), v.detach()
    out, scale = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=v.dtype), math.sqrt(q.shape[-1])
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        weights = {s: math.exp(q[b, h, t] @ k[b, h, s] / scale) for s in range(k.shape[2]) if may[t, s]}
        for s, weight in weights.items():
            out[b, h, t] += weight / sum(weights.values()) * v[b, h, s]
    return out


MASKS = {
    "all": torch.ones(5, 7, dtype=torch.bool),
    "some": torch.eye(5, 7, dtype=torch.bool).roll(2) | (torch.arange(7) > 4),
}


@pytest.mark.parametrize("function", [attention, naive_attention])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_equals_a_loop(function, mask):
    q, k, v = heads(), heads(time=7), heads(time=7)
    torch.testing.assert_close(function(q, k, v, mask=MASKS[mask]), looped(q, k, v, MASKS[mask]))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_naive_equals_fused_in_value_and_gradient(causal, masked):
    q, k, v = heads(), heads(), heads()
    mask = torch.rand(2, 1, 5, 5) > 0.3 if masked else None
    ours = naive_attention(q, k, v, mask, causal)
    fused = attention(q, k, v, mask, causal)
    torch.testing.assert_close(ours, fused)
    weight = torch.randn_like(ours)
    for a, b in zip(
        *(torch.autograd.grad((o * weight).sum(), (q, k, v)) for o in (ours, fused)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_float32_stays_close_to_float64():
    q, k, v = (heads(time=64, dim=16, dtype=torch.float32) for _ in range(3))
    exact = naive_attention(q.double(), k.double(), v.double())
    assert (attention(q, k, v).double() - exact).abs().max() < 1e-6


def test_gradients_are_those_of_finite_differences():
    q, k, v = (heads(1, 2, 3, 2) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *qkv: naive_attention(*qkv, causal=True), (q, k, v))


def test_weights_sum_to_one_over_the_keys():
    weights = attention_weights(heads(), heads(time=7))
    assert weights.shape == (2, 3, 5, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))


@pytest.mark.parametrize("function", [attention, naive_attention])
def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(function):
    q, k, v = heads(), heads(), heads()
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False
    out = function(q, k, v, mask)
    assert out[:, :, 2].eq(0).all() and out[:, :, 1].ne(0).any()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.parametrize("function", [attention, naive_attention])
def test_causal_output_has_no_gradient_from_the_future(function):
    q, k, v = heads(), heads(), heads()
    out = function(q, k, v, causal=True)
    for gradient in torch.autograd.grad(out[:, :, 2].sum(), (k, v)):
        assert gradient[:, :, 3:].eq(0).all()
        assert gradient[:, :, :3].ne(0).all()


def test_dropout_only_in_training():
    q, k, v = heads(), heads(), heads()
    torch.testing.assert_close(attention(q, k, v, dropout_p=0.5), attention(q, k, v))
    assert not torch.allclose(attention(q, k, v, dropout_p=0.5, training=True), attention(q, k, v))
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


WRONG = {
    "float": (torch.zeros(5, 5), "dtype torch.float32, expected torch.bool"),
    "integer": (torch.ones(5, 5, dtype=torch.int64), "dtype torch.int64, expected torch.bool"),
    "padding": (torch.ones(2, 5, dtype=torch.bool), "enters as mask\\[:, None, None, :\\]"),
    "keys": (torch.ones(5, 4, dtype=torch.bool), r"has shape \(5, 4\), expected \(5, 5\)"),
    "three axes": (torch.ones(3, 5, 5, dtype=torch.bool), r"has shape \(3, 5, 5\)"),
    "heads": (torch.ones(2, 2, 5, 5, dtype=torch.bool), r"broadcasts to \(2, 3, 5, 5\)"),
    "five axes": (torch.ones(1, 2, 3, 5, 5, dtype=torch.bool), r"has shape \(1, 2, 3, 5, 5\)"),
}


@pytest.mark.parametrize("function", [attention, naive_attention])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_masks_are_refused_in_one_sentence(function, wrong):
    mask, sentence = WRONG[wrong]
    with pytest.raises(ValueError, match=sentence):
        function(heads(), heads(), heads(), mask)


@pytest.mark.parametrize("shape", [(5, 5), (1, 5), (2, 1, 1, 5), (2, 3, 5, 5), (1, 3, 5, 1)])
def test_masks_that_broadcast_are_taken(shape):
    q, k, v, mask = heads(), heads(), heads(), torch.rand(shape) > 0.5
    torch.testing.assert_close(attention(q, k, v, mask), naive_attention(q, k, v, mask.expand(2, 3, 5, 5)))


@pytest.mark.parametrize("function", [attention, naive_attention])
def test_causal_needs_equal_lengths(function):
    with pytest.raises(ValueError, match="as many queries as keys, got 5 and 7"):
        function(heads(), heads(time=7), heads(time=7), causal=True)


@pytest.mark.parametrize("n", [0, 5])
def test_heads_must_divide_the_width(n):
    with pytest.raises(ValueError, match=f"{n} heads do not divide a width of 12"):
        MultiHeadAttention(12, n)


def test_one_head_is_plain_attention():
    layer, x = MultiHeadAttention(8, 1), torch.randn(2, 5, 8)
    q, k, v = (part[:, None] for part in layer.qkv(x).chunk(3, -1))
    torch.testing.assert_close(layer(x), layer.out(naive_attention(q, k, v)[:, 0]))


def pair(dim=12, n=3, bias=True):
    """Our attention and torch's, with the same weights."""
    ours, theirs = (
        MultiHeadAttention(dim, n, bias=bias),
        nn.MultiheadAttention(dim, n, bias=bias, batch_first=True),
    )
    names = {"qkv.weight": "in_proj_weight", "out.weight": "out_proj.weight"}
    names |= {"qkv.bias": "in_proj_bias", "out.bias": "out_proj.bias"} if bias else {}
    theirs.load_state_dict({there: ours.state_dict()[here] for here, there in names.items()})
    return ours.double(), theirs.double(), names


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", ["self", "masked", "causal", "padding", "cross"])
def test_multi_head_attention_equals_torch(case, bias):
    ours, theirs, names = pair(bias=bias)
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 7, 12, dtype=torch.float64) if case == "cross" else None
    mask = torch.rand(5, 5) > 0.3
    mask[:, 0] = True
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])  # the second clip has three real frames
    mine = {
        "masked": {"mask": mask},
        "causal": {"causal": True},
        "padding": {"mask": real[:, None, None]},
    }.get(case, {})
    torchs = {
        "masked": {"attn_mask": ~mask},
        "causal": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
        "padding": {"key_padding_mask": ~real},
    }.get(case, {})
    out = ours(x, context, **mine)
    source = x if context is None else context
    expected = theirs(x, source, source, need_weights=False, **torchs)[0]
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    grads = torch.autograd.grad((out * weight).sum(), [x, *(ours.get_parameter(n) for n in names)])
    wanted = torch.autograd.grad(
        (expected * weight).sum(), [x, *(theirs.get_parameter(n) for n in names.values())]
    )
    for a, b in zip(grads, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_self_attention_is_permutation_equivariant_until_it_is_told_positions():
    layer, x, order = MultiHeadAttention(8, 2), torch.randn(2, 6, 8), torch.randperm(6)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))
    angles = rotary_angles(6, 4)
    assert (layer(x, angles=angles)[:, order] - layer(x[:, order], angles=angles)).abs().max() > 1e-3


def test_rotary_attention_does_not_change_with_a_shift():
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 6, 8)
    later = rotary_angles(16, 4)[10:]
    torch.testing.assert_close(
        layer(x, angles=rotary_angles(6, 4)), layer(x, angles=later), atol=1e-5, rtol=1e-4
    )


def test_rotary_angles_do_not_go_with_a_context():
    with pytest.raises(ValueError, match="belong to self-attention"):
        MultiHeadAttention(8, 2)(torch.zeros(1, 6, 8), torch.zeros(1, 4, 8), angles=rotary_angles(6, 4))


REACH = {  # which of the (T, S) tokens reach token (1, 2)
    space_attention: lambda t, s: t == 1,
    time_attention: lambda t, s: s == 2,
    joint_attention: lambda t, s: True,
}


@pytest.mark.parametrize("function", REACH)
def test_reach_of_space_time_and_joint_attention(function):
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 3, 4, 8, requires_grad=True)
    out = function(layer, x)
    assert out.shape == x.shape
    (gradient,) = torch.autograd.grad(out[0, 1, 2].sum(), x)
    for t in range(3):
        for s in range(4):
            assert gradient[0, t, s].ne(0).any().item() == REACH[function](t, s)
    assert gradient[1].eq(0).all()


def test_space_attention_is_attention_frame_by_frame():
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 3, 4, 8)
    torch.testing.assert_close(space_attention(layer, x), torch.stack([layer(x[:, t]) for t in range(3)], 1))
    torch.testing.assert_close(
        time_attention(layer, x), torch.stack([layer(x[:, :, s]) for s in range(4)], 2)
    )


def test_divided_attention_reaches_everything_in_two_steps_time_first():
    layer, x = DividedAttention(8, 2), torch.randn(2, 3, 4, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0, 1, 2].sum(), x)
    assert gradient[0].ne(0).any(-1).all() and gradient[1].eq(0).all()
    timed = x + layer.time_out(time_attention(layer.time, layer.norm_time(x)))
    torch.testing.assert_close(layer(x), timed + space_attention(layer.space, layer.norm_space(timed)))


@pytest.mark.parametrize("kind", ["space", "joint", "divided"])
def test_macs_are_those_torch_counts(kind):
    time, space, dim = 3, 4, 16
    block = DividedBlock(dim, 2) if kind == "divided" else EncoderBlock(dim, 2)
    x = torch.randn(1, time, space, dim)
    run = {"space": lambda: space_attention(block, x), "joint": lambda: joint_attention(block, x)}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run.get(kind, lambda: block(x))()
    assert counter.get_total_flops() == 2 * block_macs(kind, time, space, dim)


def test_divided_is_dearer_on_short_clips_and_cheaper_on_long_ones():
    macs = {(kind, t): block_macs(kind, t, 196, 768) for kind in ("joint", "divided") for t in (8, 96)}
    assert macs["divided", 8] / 1e9 == pytest.approx(16.2, abs=0.05)
    assert macs["joint", 8] / 1e9 == pytest.approx(14.9, abs=0.05)
    assert macs["joint", 96] / macs["divided", 96] == pytest.approx(3.4, abs=0.05)


def test_macs_of_an_unknown_kind():
    with pytest.raises(ValueError, match='kind must be "space", "joint" or "divided"'):
        block_macs("axial", 1, 1, 1)
