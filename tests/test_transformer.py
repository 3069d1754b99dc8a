import pytest
import torch
from torch import nn

from sora_nb.layers.position import rotary_angles, sinusoidal
from sora_nb.layers.transformer import (
    Decoder,
    DecoderBlock,
    DividedBlock,
    Encoder,
    EncoderBlock,
    FeedForward,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


ENCODER = {
    "norm_attention": "norm1",
    "norm_feed": "norm2",
    "attention.qkv": "self_attn.in_proj_",
    "attention.out": "self_attn.out_proj",
    "feed.0": "linear1",
    "feed.3": "linear2",
}
DECODER = {
    "norm_self": "norm1",
    "norm_cross": "norm2",
    "norm_feed": "norm3",
    "self_attention.qkv": "self_attn.in_proj_",
    "self_attention.out": "self_attn.out_proj",
    "cross_attention.qkv": "multihead_attn.in_proj_",
    "cross_attention.out": "multihead_attn.out_proj",
    "feed.0": "linear1",
    "feed.3": "linear2",
}


def twin(ours, theirs, layers):
    """Give torch's layer our (randomised) weights; return it with the pairs of parameters."""
    names = {}
    for here, there in layers.items():
        for kind in ("weight", "bias"):
            names[f"{here}.{kind}"] = there + kind if there.endswith("_") else f"{there}.{kind}"
    for (
        parameter
    ) in ours.parameters():  # norms start as the identity and biases at zero, which would hide a swap
        nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict({there: ours.state_dict()[here] for here, there in names.items()})
    return [(ours.get_parameter(a), theirs.get_parameter(b)) for a, b in names.items()]


def assert_same(out, expected, pairs):
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    ours = torch.autograd.grad((out * weight).sum(), [a for a, _ in pairs])
    theirs = torch.autograd.grad((expected * weight).sum(), [b for _, b in pairs])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def settings(cls, dim=16, heads=4, hidden=24):
    return cls(dim, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True).double()


@pytest.mark.parametrize("causal", [False, True])
def test_encoder_block_equals_torch(causal):
    ours, theirs = EncoderBlock(16, 4, hidden=24).double(), settings(nn.TransformerEncoderLayer)
    pairs = twin(ours, theirs, ENCODER)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    future = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    assert_same(ours(x, causal=causal), theirs(x, src_mask=future), pairs)


@pytest.mark.parametrize("masked", [False, True])
def test_decoder_block_equals_torch(masked):
    ours, theirs = DecoderBlock(16, 4, hidden=24).double(), settings(nn.TransformerDecoderLayer)
    pairs = twin(ours, theirs, DECODER)
    x, memory = torch.randn(2, 3, 16, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]) if masked else None
    out = ours(x, memory, mask=real[:, None, None] if masked else None, causal=masked)
    future = torch.ones(3, 3, dtype=torch.bool).triu(1) if masked else None
    expected = theirs(x, memory, tgt_mask=future, memory_key_padding_mask=~real if masked else None)
    assert_same(out, expected, pairs)


def test_encoder_is_its_blocks_then_a_norm():
    encoder, x = Encoder(16, 3, 4), torch.randn(2, 5, 16)
    assert len(encoder.blocks) == 3
    expected = encoder.norm(encoder.blocks[2](encoder.blocks[1](encoder.blocks[0](x))))
    torch.testing.assert_close(encoder(x), expected)


def test_encoder_is_equivariant_until_it_is_told_positions():
    encoder, x, order = (
        Encoder(16, 2, 4).double(),
        torch.randn(2, 6, 16, dtype=torch.float64),
        torch.randperm(6),
    )
    torch.testing.assert_close(encoder(x)[:, order], encoder(x[:, order]))
    placed, angles = x + sinusoidal(6, 16), rotary_angles(6, 4)
    moved = x[:, order] + sinusoidal(6, 16)
    assert (encoder(placed)[:, order] - encoder(moved)).abs().max() > 1e-2
    assert (encoder(x, angles=angles)[:, order] - encoder(x[:, order], angles=angles)).abs().max() > 1e-2


@pytest.mark.parametrize("causal", [False, True])
def test_causal_encoder_has_no_gradient_from_the_future(causal):
    x = torch.randn(1, 6, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(Encoder(16, 2, 4)(x, causal=causal)[0, 2].square().sum(), x)
    assert gradient[0, :3].ne(0).any(-1).all()
    assert gradient[0, 3:].eq(0).all().item() == causal


def test_masked_frames_leave_the_others_alone():
    encoder, x = Encoder(16, 2, 4), torch.randn(2, 6, 16)
    real = (torch.arange(6) < 4).expand(2, 1, 1, 6)
    torch.testing.assert_close(encoder(x, mask=real)[:, :4], encoder(x[:, :4]))


def test_decoder_answers_do_not_depend_on_the_order_of_the_memory():
    decoder, memory, order = Decoder(16, 2, 4, queries=3), torch.randn(2, 6, 16), torch.randperm(6)
    assert decoder(memory).shape == (2, 3, 16)
    torch.testing.assert_close(decoder(memory), decoder(memory[:, order]))
    real = (torch.arange(6) < 4).expand(2, 1, 1, 6)
    torch.testing.assert_close(decoder(memory, mask=real), decoder(memory[:, :4]))


def test_decoder_answers_differ_by_query_and_by_memory():
    decoder, memory = Decoder(16, 1, 4, queries=3), torch.randn(2, 6, 16)
    answers = decoder(memory)
    assert (answers[:, 0] - answers[:, 1]).abs().max() > 1e-3
    assert (answers[0] - answers[1]).abs().max() > 1e-3
    answers.square().sum().backward()
    assert decoder.queries.grad.abs().sum(-1).gt(0).all()


def test_a_decoder_needs_a_query():
    with pytest.raises(ValueError, match="at least 1 learned query"):
        Decoder(16, 1, 4, queries=0)


def test_divided_block_is_attention_then_feed_forward():
    block, x = DividedBlock(16, 4), torch.randn(2, 3, 4, 16)
    mixed = block.attention(x)
    torch.testing.assert_close(block(x), mixed + block.feed(block.norm_feed(mixed)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Encoder(16, 2, 4, dropout=0.3),
        lambda: Decoder(16, 2, 4, queries=3, dropout=0.3),
        lambda: DividedBlock(16, 4, dropout=0.3),
    ],
)
def test_dropout_rests_in_evaluation_and_weights_travel(make):
    layer, other = make(), make()
    x = torch.randn(2, 3, 4, 16) if isinstance(layer, DividedBlock) else torch.randn(2, 5, 16)
    assert not torch.equal(layer(x), layer(x))
    expected = layer.eval()(x)
    assert torch.equal(expected, layer(x))
    assert not torch.allclose(expected, other.eval()(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(expected, other(x))


def test_dropout_reaches_both_branches():
    """With everything dropped, a block hands its input on."""
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    torch.testing.assert_close(EncoderBlock(16, 4, dropout=1.0)(x), x)
    torch.testing.assert_close(DecoderBlock(16, 4, dropout=1.0)(x, memory), x)


def test_one_query_is_enough():
    assert Decoder(16, 1, 4, queries=1)(torch.randn(2, 5, 16)).shape == (2, 1, 16)


@pytest.mark.parametrize(
    "make",
    [FeedForward, EncoderBlock, DecoderBlock, DividedBlock, Encoder, Decoder],
    ids=lambda make: make.__name__,
)
def test_nothing_is_dropped_unless_asked_for(make):
    sizes = {FeedForward: (16,), Encoder: (16, 2, 4), Decoder: (16, 1, 4, 3)}.get(make, (16, 4))
    layer, x = make(*sizes), torch.randn(2, 3, 4, 16) if make is DividedBlock else torch.randn(2, 5, 16)
    inputs = (x, torch.randn(2, 4, 16)) if make is DecoderBlock else (x,)
    assert torch.equal(layer.train()(*inputs), layer.eval()(*inputs))


def test_feed_forward_is_four_times_as_wide_inside():
    assert FeedForward(16)[0].out_features == 64 and FeedForward(16, hidden=20)[0].out_features == 20
