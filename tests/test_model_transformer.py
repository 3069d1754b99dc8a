import pytest
import torch
from safetensors.torch import load, save

from sora_nb.layers.frames import FrameCNN, FrameGrid, ResidualBlock
from sora_nb.models.transformer import SoraTransformer

PLACED = ["sinusoidal", "learned", "rotary"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def clips(batch=4, time=6):
    return torch.rand(batch, time, 3, 32, 32)


def small(**options):
    """Six frames make 3 × 2 × 2 tokens."""
    defaults = {"feature_dim": 16, "dim": 24, "words": 8, "depth": 1, "tubelet": (2, 4, 4)}
    return SoraTransformer(12, **defaults | options)


# Frame features


@pytest.mark.parametrize("residual", [False, True])
def test_frames_are_seen_one_by_one(residual):
    for network in (FrameCNN(16, residual=residual).eval(), FrameGrid((4, 8), residual).eval()):
        x = clips()
        whole = network(x)
        for b in range(4):
            for t in range(6):
                alone = network(x[b : b + 1, t : t + 1])[0, 0]
                torch.testing.assert_close(whole[b, t], alone, atol=1e-5, rtol=1e-4)


def test_frame_features_know_where_a_thing_is():
    here, there = torch.zeros(1, 1, 3, 32, 32), torch.zeros(1, 1, 3, 32, 32)
    here[..., 8:12, 8:12] = there[..., 16:20, 16:20] = 1  # 8 pixels apart: the stride of the whole network
    for network in (FrameCNN(16).eval(), FrameGrid().eval()):
        assert (network(here) - network(there)).abs().max() > 1e-3
    grid = FrameGrid().eval()
    moved = grid(there).roll((-2, -2), (-2, -1))  # 8 pixels are two cells
    torch.testing.assert_close(grid(here)[..., 1:5, 1:5], moved[..., 1:5, 1:5])


def test_frame_sizes_other_than_32_end_on_the_same_grid():
    cnn = FrameCNN(16).eval()
    assert cnn(torch.rand(2, 3, 3, 64, 48)).shape == (2, 3, 16)
    assert cnn.out.in_features == 64 * 4 * 4
    assert FrameGrid()(torch.rand(2, 3, 3, 64, 48)).shape == (2, 3, 32, 8, 8)


def test_a_frame_cnn_is_a_linear_map_of_its_whole_grid():
    """That is a tubelet of one frame and all cells: one word a frame."""
    cnn, x = FrameCNN(16).eval(), clips()
    grid = super(FrameCNN, cnn).forward(x)
    assert grid.shape == (4, 6, 64, 4, 4)
    torch.testing.assert_close(cnn(x), grid.flatten(2) @ cnn.out.weight.T + cnn.out.bias)


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
    assert parameters(FrameGrid()) == 9 * (3 * 16 + 16 * 32) + 2 * (16 + 32)
    assert FrameCNN().stages(torch.rand(1, 3, 32, 32)).shape == (1, 64, 4, 4)  # each stage halves the side


def test_frame_errors():
    with pytest.raises(ValueError, match=r"expects clips \(batch, time, 3, height, width\)"):
        FrameCNN()(torch.zeros(6, 3, 32, 32))
    with pytest.raises(ValueError, match=r"shape \(1, 6, 32, 32, 3\); it expects"):
        FrameCNN()(torch.zeros(1, 6, 32, 32, 3))
    with pytest.raises(ValueError, match=r"expects clips \(batch, time, 1, height, width\)"):
        FrameGrid(in_channels=1)(clips())


# The whole model


def trace(model, x):
    """Shapes after each part of the model."""
    seen = {}
    for name in ("frames", "tubelets", "token", "encoder", "decoder"):
        part = model.get_submodule(name)
        part.register_forward_hook(lambda m, i, out, name=name: seen.update({name: tuple(out.shape)}))
    model(x)
    return seen


def test_sizes_from_pixels_to_tokens():
    assert trace(SoraTransformer(12), clips(2, 8)) == {
        "frames": (2, 8, 32, 8, 8),
        "tubelets": (2, 4, 4, 4, 64),
        "token": (2, 4, 4, 4, 64),
        "encoder": (2, 64, 64),
        "decoder": (2, 4, 64),
    }


def test_the_articles_sizes():
    """Five frames, one word each, features of 128, tokens of 64."""
    model = SoraTransformer(12, feature_dim=128, dim=64, tubelet=(1, 8, 8), words=5)
    x = clips(2, 5)
    sizes = trace(model, x)
    assert sizes["tubelets"] == (2, 5, 1, 1, 128) and sizes["token"] == (2, 5, 1, 1, 64)
    assert sizes["encoder"] == (2, 5, 64) and model.embed(x).shape == (2, 64)
    model.start_words(x)
    assert model.words(x).shape == (2, 5, 1, 1, 1)  # five numbers a clip


@pytest.mark.parametrize("position", PLACED)
def test_position_lets_the_model_see_order(position):
    model, x = small(position=position, tubelet=(1, 4, 4)).eval().double(), clips().double()
    assert (model.embed(x) - model.embed(x.flip(1))).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("position", "where"),
    [("sinusoidal", "before"), ("sinusoidal", "after"), ("learned", "before"), ("rotary", "before")],
)
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_position_counts_time_height_and_width(position, where, axis):
    """Tokens turned round along one axis are other tokens, though they are the same set."""
    model = small(position=position, where=where).eval().double()
    tokens = torch.randn(2, 3, 2, 2, 24).double()
    here, turned = (model.decoder(model.encode(x)) for x in (tokens, tokens.flip(axis)))
    assert (here - turned).abs().max() > 1e-6
    blind = small(position="none").eval().double()
    same, also = (blind.decoder(blind.encode(x)) for x in (tokens, tokens.flip(axis)))
    torch.testing.assert_close(same, also, atol=1e-10, rtol=0)


def test_learned_positions_are_those_of_time_plus_those_of_the_place():
    model, tokens = small(position="learned"), torch.randn(2, 3, 2, 4, 24)
    time, place = (part.table for part in model.learned)
    by_hand = tokens + time[:3, None, None] + place[:8].view(2, 4, 24)
    torch.testing.assert_close(model.add_position(tokens), by_hand)


@pytest.mark.parametrize("decoder_depth", [0, 1])
@pytest.mark.parametrize("words", [False, True])
def test_without_position_the_model_ties_a_clip_and_its_reversal(decoder_depth, words):
    model = small(position="none", decoder_depth=decoder_depth, tubelet=(1, 4, 4)).eval().double()
    x = clips().double()
    if words:
        model.start_words(x)
    torch.testing.assert_close(model.embed(x), model.embed(x.flip(1)), atol=1e-10, rtol=0)


def test_parts_can_be_left_out():
    whole, no_decoder = parameters(SoraTransformer(12)), parameters(SoraTransformer(12, decoder_depth=0))
    assert whole == 193_756 + 2 * 64 * 64  # and the learned positions of time and place
    block = 12 * 64 * 64 + 13 * 64  # qkv, out and feed-forward with their biases, and two norms
    assert parameters(SoraTransformer(12, depth=3)) == whole + block
    assert (
        whole - no_decoder == block + 4 * 64 * 64 + 6 * 64 + 4 * 64 + 2 * 64
    )  # cross-attention, queries, norm
    assert parameters(SoraTransformer(12, position="rotary")) == whole - 2 * 64 * 64
    assert parameters(SoraTransformer(12, words=256)) == whole  # the codebook is averaged, not trained


def test_nothing_is_dropped_unless_asked_for():
    tokens = torch.randn(2, 6, 24)
    for dropout in (0.0, 0.5):
        model = small(dropout=dropout) if dropout else small()
        same = [torch.equal(part(tokens), part(tokens)) for part in (model.encoder, model.decoder)]
        assert same == [not dropout] * 2


def test_position_after_the_encoder_is_seen_by_the_decoder_only():
    x = clips().double()
    blind = small(where="after", decoder_depth=0, tubelet=(1, 4, 4)).eval().double()
    torch.testing.assert_close(blind.embed(x), blind.embed(x.flip(1)), atol=1e-10, rtol=0)
    asked = small(where="after", decoder_depth=1, tubelet=(1, 4, 4)).eval().double()
    assert (asked.embed(x) - asked.embed(x.flip(1))).abs().max() > 1e-6


def test_without_decoder_the_tokens_are_averaged():
    model, x = small(decoder_depth=0).eval(), clips()
    tokens = model.token(model.featurize(x))
    torch.testing.assert_close(model.embed(x), model.encode(tokens).mean(1))


def test_words_start_when_told():
    model, x = small(), clips()
    assert model(x, losses=True)[1] == 0 and not model.quantizer.initialised
    model.start_words(x)
    assert model.training  # start_words leaves the mode as it was
    scores, loss = model(x, losses=True)
    assert scores.shape == (4, 12) and loss > 0
    codes = model.eval().words(x)
    assert codes.shape == (4, 3, 2, 2, 1) and codes.min() >= 0 and codes.max() < 8
    vectors, loss = model.quantize(model.featurize(x))
    torch.testing.assert_close(vectors, model.quantizer.codebook[0][codes[..., 0]])
    torch.testing.assert_close(loss, 0.25 * (vectors - model.featurize(x)).square().mean())


def test_several_words_a_tubelet_name_parts_of_its_feature():
    model, x = small(groups=4).eval(), clips()
    model.start_words(x)
    codes, (vectors, _) = model.words(x), model.quantize(model.featurize(x))
    assert codes.shape == (4, 3, 2, 2, 4)
    rows = [model.quantizer.codebook[g][codes[..., g]] for g in range(4)]
    torch.testing.assert_close(vectors, torch.cat(rows, -1))


def test_a_model_with_words_says_no_more_than_its_words():
    """Two clips with the same words have the same scores, whatever their pixels."""
    model, x = small(words=2).eval(), clips()
    model.start_words(x)
    near = x + 1e-4 * torch.randn_like(x)
    assert torch.equal(model.words(x), model.words(near))
    assert not torch.allclose(model.featurize(x), model.featurize(near), atol=1e-6)
    torch.testing.assert_close(model(x), model(near))


def test_the_commitment_loss_reaches_the_tubelets_but_not_the_tokens():
    model, x = small(), clips()
    model.start_words(x)
    model(x, losses=True)[1].backward()
    assert model.tubelets.weight.grad.abs().max() > 0 and model.token.weight.grad is None


def test_gradients_reach_every_parameter_through_the_words():
    model, x = small(position="learned"), clips()
    model.start_words(x)
    scores, loss = model(x, losses=True)
    (scores.square().sum() + loss).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_looking_at_words_changes_nothing():
    model, x = small(), clips()
    model.start_words(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model.words(x), model.eval().words(x))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_given_codebook_is_used():
    model, rows = small(), torch.randn(1, 8, 16)
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


def test_another_frame_network_gives_one_token_a_frame_or_a_grid():
    flat = torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(3 * 32 * 32, 24))
    model = SoraTransformer(12, dim=24, frames=flat)
    assert trace(model, clips())["tubelets"] == (4, 6, 1, 1, 64) and model(clips()).shape == (4, 12)
    grid = SoraTransformer(12, frames=FrameGrid((4, 10), grid=4), frame_dim=10, tubelet=(3, 2, 2))
    assert trace(grid, clips())["tubelets"] == (4, 2, 2, 2, 64)


@pytest.mark.parametrize("time", [2, 8, 20])
def test_clips_may_have_any_number_of_whole_tubelets(time):
    assert small()(clips(2, time)).shape == (2, 12)


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
    with pytest.raises(ValueError, match="3 positions but the learned table holds 2"):
        small(position="learned", max_length=2, tubelet=(2, 8, 8))(clips())
    with pytest.raises(ValueError, match="do not fill 5 frames of 8 × 8 cells"):
        small()(clips(time=5))
    for model in (small(), small(words=0)):
        with pytest.raises(ValueError, match="no visual words yet"):
            model.words(clips())
    with pytest.raises(ValueError, match="words=0"):
        small(words=0).start_words(clips())
    with pytest.raises(ValueError, match="needs at least 20 feature vectors, got 12"):
        small(words=20).start_words(clips(batch=1))
