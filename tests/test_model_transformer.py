import pytest
import torch
from safetensors.torch import load, save

from sora_nb.layers.frames import FrameCNN, ResidualBlock
from sora_nb.models.transformer import SoraTransformer

PLACED = ["sinusoidal", "learned", "rotary"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clips(batch=4, time=6):
    return torch.rand(batch, time, 3, 32, 32)


def small(**options):
    return SoraTransformer(**{"frame_dim": 16, "dim": 16, "words": 8, "depth": 1} | options)


# Frame features


@pytest.mark.parametrize("residual", [False, True])
def test_frames_are_seen_one_by_one(residual):
    cnn, x = FrameCNN(16, residual=residual).eval(), clips()
    whole = cnn(x)
    assert whole.shape == (4, 6, 16)
    for b in range(4):
        for t in range(6):
            torch.testing.assert_close(whole[b, t], cnn(x[b : b + 1, t : t + 1])[0, 0], atol=1e-5, rtol=1e-4)


def test_frame_features_know_where_a_thing_is():
    cnn = FrameCNN(16).eval()
    here, there = torch.zeros(1, 1, 3, 32, 32), torch.zeros(1, 1, 3, 32, 32)
    here[..., 8:12, 8:12] = there[..., 16:20, 16:20] = 1  # 8 pixels apart: the stride of the whole network
    assert (cnn(here) - cnn(there)).abs().max() > 1e-3


def test_frame_sizes_other_than_32_end_on_the_same_grid():
    cnn = FrameCNN(16).eval()
    assert cnn(torch.rand(2, 3, 3, 64, 48)).shape == (2, 3, 16)
    assert cnn.out.in_features == 64 * 4 * 4


def test_residual_block_is_the_published_one():
    block, x = ResidualBlock(4), torch.randn(2, 4, 8, 8)
    first, _, _, second, last = block.branch
    inner = torch.nn.functional.batch_norm(
        torch.nn.functional.conv2d(x, first.weight, padding=1), None, None, training=True
    )
    outer = torch.nn.functional.conv2d(inner.relu(), second.weight, padding=1)
    torch.testing.assert_close(block(x), (x + last(outer)).relu())


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_frame_parameters_are_those_counted_by_hand():
    kernels = 9 * (3 * 16 + 16 * 32 + 32 * 64)  # no biases: batch norm would take them out again
    norms = 2 * (16 + 32 + 64)
    assert parameters(FrameCNN()) == kernels + norms + 64 * 4 * 4 * 128 + 128
    blocks = sum(2 * (9 * width * width + 2 * width) for width in (16, 32, 64))
    assert parameters(FrameCNN(residual=True)) == parameters(FrameCNN()) + blocks
    assert FrameCNN().stages(torch.rand(1, 3, 32, 32)).shape == (1, 64, 4, 4)  # each stage halves the side


def test_frame_errors():
    with pytest.raises(ValueError, match=r"expected \(batch, time, 3, height, width\)"):
        FrameCNN()(torch.zeros(6, 3, 32, 32))
    with pytest.raises(ValueError, match=r"shape \(1, 6, 32, 32, 3\) do not fit"):
        FrameCNN()(torch.zeros(1, 6, 32, 32, 3))


# The whole model


def test_the_articles_sizes():
    model, seen = SoraTransformer(), {}
    for name in ("frames", "token", "encoder", "decoder"):
        model.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: seen.update({name: out.shape})
        )
    logits = model(clips(2, 5))
    assert seen == {"frames": (2, 5, 128), "token": (2, 5, 64), "encoder": (2, 5, 64), "decoder": (2, 4, 64)}
    assert logits.shape == (2, 12) and model.embed(clips(2, 5)).shape == (2, 64)


@pytest.mark.parametrize("position", PLACED)
def test_position_lets_the_model_see_order(position):
    model, x = small(position=position).eval().double(), clips().double()
    assert (model.embed(x) - model.embed(x.flip(1))).abs().max() > 1e-5


@pytest.mark.parametrize("decoder_depth", [0, 1])
@pytest.mark.parametrize("words", [False, True])
def test_without_position_the_model_ties_a_clip_and_its_reversal(decoder_depth, words):
    model, x = small(position="none", decoder_depth=decoder_depth).eval().double(), clips().double()
    if words:
        model.start_words(x)
    torch.testing.assert_close(model.embed(x), model.embed(x.flip(1)), atol=1e-10, rtol=0)


def test_parts_can_be_left_out():
    whole, no_decoder = parameters(SoraTransformer()), parameters(SoraTransformer(decoder_depth=0))
    block = 12 * 64 * 64 + 13 * 64  # qkv, out and feed-forward with their biases, and two norms
    assert parameters(SoraTransformer(depth=3)) == whole + block
    assert (
        whole - no_decoder == block + 4 * 64 * 64 + 6 * 64 + 4 * 64 + 2 * 64
    )  # cross-attention, queries, norm
    assert parameters(SoraTransformer(position="learned")) == whole + 64 * 64
    assert parameters(SoraTransformer(words=0)) == whole  # the codebook is averaged, not trained


def test_nothing_is_dropped_unless_asked_for():
    tokens = torch.randn(2, 6, 16)
    for dropout in (0.0, 0.5):
        model = small(dropout=dropout) if dropout else small()
        same = [torch.equal(part(tokens), part(tokens)) for part in (model.encoder, model.decoder)]
        assert same == [not dropout] * 2


def test_position_after_the_encoder_is_seen_by_the_decoder_only():
    x = clips().double()
    blind = small(where="after", decoder_depth=0).eval().double()
    torch.testing.assert_close(blind.embed(x), blind.embed(x.flip(1)), atol=1e-10, rtol=0)
    asked = small(where="after", decoder_depth=1).eval().double()
    assert (asked.embed(x) - asked.embed(x.flip(1))).abs().max() > 1e-6


def test_without_decoder_the_tokens_are_averaged():
    model, x = small(decoder_depth=0).eval(), clips()
    tokens = model.token(model.frames(x))
    torch.testing.assert_close(model.embed(x), model.encode(tokens).mean(1))


def test_clips_of_a_batch_do_not_mix():
    model, x = small().eval(), clips()
    model.start_words(x)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-5, rtol=1e-4)


def test_words_start_when_told():
    model, x = small(), clips()
    model(x)
    assert model.auxiliary_loss == 0 and not model.quantizer.initialised
    model.start_words(x)
    assert model.training  # start_words leaves the mode as it was
    model(x)
    assert model.auxiliary_loss > 0
    codes = model.eval().words(x)
    assert codes.shape == (4, 6) and codes.min() >= 0 and codes.max() < 8
    torch.testing.assert_close(model.quantize(model.frames(x)), model.quantizer.codebook[codes])


def test_the_commitment_loss_reaches_the_frames_but_not_the_tokens():
    model, x = small(), clips()
    model.start_words(x)
    model(x)
    model.auxiliary_loss.backward()
    assert model.frames.out.weight.grad.abs().max() > 0 and model.token.weight.grad is None


def test_gradients_reach_every_parameter_through_the_words():
    model, x = small(position="learned"), clips()
    model.start_words(x)
    (model(x).square().sum() + model.auxiliary_loss).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_looking_at_words_changes_nothing():
    model, x = small(), clips()
    model.start_words(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model.words(x), model.eval().words(x))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_given_codebook_is_used():
    model, rows = small(), torch.randn(8, 16)
    model.start_words(clips(), codebook=rows)
    assert torch.equal(model.quantizer.codebook, rows)


@pytest.mark.parametrize("position", ["none", *PLACED])
def test_a_saved_model_answers_the_same(position):
    model, other, x = small(position=position), small(position=position).eval(), clips()
    model(x)  # batch norm has seen something
    model.start_words(x)
    other.load_state_dict(load(save(model.state_dict())))
    expected = model.eval()(x)
    assert torch.equal(expected, model(x)) and torch.equal(expected, other(x))
    assert torch.equal(model.words(x), other.words(x))


def test_another_frame_network_fits_in():
    model = small(frames=torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(3 * 32 * 32, 16)))
    assert model(clips()).shape == (4, 12)


def test_errors():
    with pytest.raises(
        ValueError, match="position must be one of none, sinusoidal, learned, rotary, got 'absolute'"
    ):
        small(position="absolute")
    for options in ({"where": "during"}, {"where": "after", "position": "rotary"}):
        with pytest.raises(
            ValueError, match='"before" or "after" the encoder, and rotary can only be "before"'
        ):
            small(**options)
    with pytest.raises(ValueError, match="6 positions but the learned table holds 4"):
        small(position="learned", max_length=4)(clips())
    for model in (small(), small(words=0)):
        with pytest.raises(ValueError, match="no visual words yet"):
            model.words(clips())
    with pytest.raises(ValueError, match="words=0"):
        small(words=0).start_words(clips())
    with pytest.raises(ValueError, match="needs at least 8 feature vectors, got 6"):
        small().start_words(clips(batch=1))
