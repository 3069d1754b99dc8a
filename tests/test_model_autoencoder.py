"""SoraAutoencoder: causal in groups of four frames on both sides of the code, and able to learn a clip."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb.models.autoencoder import SoraAutoencoder


def small(**options) -> SoraAutoencoder:
    """A small model whose blocks are not silent, as they are at the start."""
    torch.manual_seed(0)
    model = SoraAutoencoder(code=5, width=4, **options)
    for block in (m for m in model.modules() if hasattr(m, "conv2")):
        torch.nn.init.normal_(block.conv2.weight, std=0.3)
    return model.eval()


def reached(output: torch.Tensor, x: torch.Tensor) -> list[int]:
    gradient = torch.autograd.grad(output.sum(), x, retain_graph=True)[0]
    return gradient.abs().flatten(2).sum((0, 2)).nonzero()[:, 0].tolist()


def test_code_vector_sees_no_frame_after_its_group():
    clips = torch.rand(1, 16, 3, 16, 16, requires_grad=True)
    code = small().encode(clips)
    assert code.shape == (1, 4, 5)
    for j in range(4):
        assert max(reached(code[:, j], clips)) == 4 * j + 3


def test_code_vector_sees_37_frames():
    """3 + 2 + (1 + 2 + 4)·2·2 + 4: kernels of three, the first at full rate and the others at half; blocks dilate by 1, 2, 4."""
    clips = torch.rand(1, 80, 3, 16, 16, requires_grad=True)
    seen = reached(small().encode(clips)[:, -1], clips)
    assert (min(seen), max(seen), len(seen)) == (43, 79, 37)


def test_frame_is_decoded_from_no_later_code_vector():
    code = torch.randn(1, 4, 5, requires_grad=True)
    clips = small().decode(code)
    assert clips.shape == (1, 16, 3, 16, 16)
    for t in range(16):
        assert max(reached(clips[:, t], code)) == t // 4


def test_a_longer_clip_starts_with_the_same_code_and_the_same_frames():
    model, clips = small(), torch.rand(2, 16, 3, 16, 16)
    assert_close(model.encode(clips[:, :8]), model.encode(clips)[:, :2])
    assert_close(model(clips[:, :8]), model(clips)[:, :8])


def test_default_size():
    assert sum(p.numel() for p in SoraAutoencoder().parameters()) == 376_883


def test_default_code_of_16_frames_has_64_numbers():
    assert SoraAutoencoder().encode(torch.rand(1, 16, 3, 16, 16)).numel() == 64


@pytest.mark.parametrize(("size", "channels", "frames"), [(16, 3, 4), (32, 3, 8), (20, 1, 8)])
def test_reconstruction_has_the_shape_of_the_clip(size, channels, frames):
    clips = torch.rand(2, frames, channels, size, size)
    assert small(size=size, channels=channels)(clips).shape == clips.shape


def test_forward_is_decode_of_encode_and_samples_do_not_mix():
    model, clips = small(), torch.rand(3, 8, 3, 16, 16, requires_grad=True)
    assert_close(model(clips), model.decode(model.encode(clips)))
    gradient = torch.autograd.grad(model(clips)[1].sum(), clips)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [False, True, False]


def test_code_carries_the_clip():
    """A few steps on four clips beat the best answer that ignores the code, their mean."""
    torch.manual_seed(0)
    clips = F.interpolate(torch.rand(4, 3, 2, 2), 16)[:, None].expand(-1, 4, -1, -1, -1)
    model = SoraAutoencoder(code=16, width=8)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        loss = F.mse_loss(model(clips), clips)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert loss < 0.5 * (clips - clips.mean(0)).square().mean()


def test_grey_is_zero_inside_and_a_quarter_of_contrast_is_one():
    model = small()
    assert_close(model.encode(torch.full((1, 8, 3, 16, 16), 0.5)), model.to_code.bias.expand(1, 2, 5))
    last = model.decoder[-1]
    torch.nn.init.zeros_(last.weight), torch.nn.init.ones_(last.bias)
    assert_close(model.decode(torch.randn(1, 2, 5)), torch.full((1, 8, 3, 16, 16), 0.75))


def test_weights_start_as_he_and_others_draw_them():
    """One convolution's spread is torch's own for its fan-in; a block's last convolution starts at zero."""
    torch.manual_seed(0)
    model = SoraAutoencoder(width=32)
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv3d) and m.weight.any())
    theirs = torch.nn.init.kaiming_normal_(torch.empty(4096, *first.weight.shape[1:]), nonlinearity="relu")
    assert_close(first.weight.std(), theirs.std(), rtol=0.06, atol=0)
    assert not any(m.conv2.weight.any() for m in model.modules() if hasattr(m, "conv2"))


def test_every_parameter_learns():
    model = small()
    model(torch.rand(2, 8, 3, 16, 16)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_evaluation_is_deterministic_and_state_dict_round_trips():
    a, clips = small(), torch.rand(2, 8, 3, 16, 16)
    before, b = a(clips), SoraAutoencoder(code=5, width=4).eval()
    assert not torch.equal(b(clips), before)
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(clips), before) and torch.equal(a(clips), before)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(torch.zeros(1, 8, 3, 32, 32)), "expects .batch, time, 3, 16, 16."),
        (lambda m: m(torch.zeros(1, 6, 3, 16, 16)), "multiple of 4"),
        (lambda m: m(torch.zeros(8, 3, 16, 16)), "expects .batch, time"),
        (lambda m: m.decode(torch.zeros(1, 2, 6)), "expects .batch, steps, 5."),
        (lambda m: SoraAutoencoder(size=18), "multiple of 4"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call(small())
