"""SoraAutoencoder: principal components to begin with, causal in groups of frames, a stream equal to the clip."""

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb.models.autoencoder import SoraAutoencoder

# Clips of one group are shorter than the reach of a TCN that also looks at earlier groups.
pytestmark = pytest.mark.filterwarnings("ignore:The clip has")


def small(**options) -> SoraAutoencoder:
    """A small model whose networks are not silent, as they are at the start."""
    torch.manual_seed(0)
    defaults = {"dim": 6, "code": 5, "group": 8, "hop": 2, "size": 4, "components": (9, 12), "depth": 2}
    model = SoraAutoencoder(3, **defaults | options)
    for layer in (model.to_code, model.out):
        nn.init.normal_(layer.weight, std=0.5)
    return model.eval()


def clips(n=2, frames=16, size=4):
    return torch.rand(n, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def smooth(n=300, frames=8, size=4):
    """Clips of a few strong components and some noise."""
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    flat = draw(n, 6) * torch.tensor([6.0, 5, 4, 3, 2, 1]) @ draw(6, frames * 3 * size * size)
    return (0.5 + 0.02 * flat + 0.01 * draw(*flat.shape)).view(n, frames, 3, size, size)


def reached(output: torch.Tensor, x: torch.Tensor) -> list[int]:
    gradient = torch.autograd.grad(output.sum(), x, retain_graph=True)[0]
    return gradient.abs().flatten(2).sum((0, 2)).nonzero()[:, 0].tolist()


def test_code_vector_sees_no_frame_after_its_group():
    x = clips(1, 32).requires_grad_()
    code = small().encode(x)
    assert code.shape == (1, 4, 5)
    for j in range(4):
        seen = reached(code[:, j], x)
        assert max(seen) == 8 * j + 7 and set(range(8 * j, 8 * j + 8)) <= set(seen)


def test_code_vector_sees_the_steps_that_the_tcn_reaches():
    """Kernels of 2, two in a block, dilations 1 and 2: 7 steps of two frames, counted from the group's first step."""
    x = torch.rand(1, 40, 3, 4, 4).requires_grad_()
    model = small()
    for name, parameter in model.encoder.named_parameters():
        nn.init.constant_(
            parameter, 0.1 if name.endswith("weight") else 5.0
        )  # no path hidden by a ReLU that is off
    assert model.encoder.receptive_field == 7
    seen = reached(model.encode(x)[:, -1], x)
    assert (min(seen), max(seen), len(seen)) == (40 - 8 - 6 * 2, 39, 8 + 6 * 2)


def test_frame_is_decoded_from_no_later_code_vector():
    code = torch.randn(1, 4, 5, requires_grad=True)
    x = small().decode(code)
    assert x.shape == (1, 32, 3, 4, 4)
    for t in range(32):
        assert max(reached(x[:, t], code)) == t // 8


def test_a_longer_clip_starts_with_the_same_code_and_the_same_frames():
    model, x = small(), clips(2, 16)
    assert_close(model.encode(x[:, :8]), model.encode(x)[:, :1])
    assert_close(model.reconstruct(x[:, :8]), model.reconstruct(x)[:, :8])


@pytest.mark.parametrize(
    "options", [{}, {"group": 4, "hop": 4, "depth": 1}, {"hop": 1, "kernel": 3, "components": (9, 9)}]
)
def test_a_stream_gives_the_codes_of_the_clip_and_forgets_what_it_needs_no_more(options):
    model, x, state, codes, sizes = small(**options), clips(2, 32), None, {}, set()
    for t, frame in enumerate(x.unbind(1)):
        code, state = model.step(frame, state)
        if code is not None:
            codes[t] = code
        sizes.add(state.frames.shape[1] * 1000 + state.steps.shape[1])
    assert list(codes) == list(range(model.group - 1, 32, model.group))
    assert_close(torch.stack(list(codes.values()), 1), model.encode(x))
    assert (
        max(size // 1000 for size in sizes) < model.hop and max(size % 1000 for size in sizes) < model.steps
    )


def test_at_the_start_it_is_principal_component_analysis():
    """With all components of frames and steps kept: scikit-learn's code of whole groups, scaled to spread 1, and back."""
    model, x = SoraAutoencoder(3, dim=6, code=5, group=8, hop=2, size=4, components=(48, 96)), smooth()
    model.fit_linear(x)
    reference = PCA(5, svd_solver="full").fit(x.flatten(1).numpy())
    theirs = torch.from_numpy(reference.transform(x.flatten(1).numpy()))
    code = model.encode(x)[:, 0].detach()
    assert_close(code.abs(), (theirs / theirs.std(0, correction=0)).abs(), rtol=1e-2, atol=5e-3)
    back = torch.from_numpy(reference.inverse_transform(theirs.numpy())).view_as(x)
    assert_close(model.reconstruct(x).detach(), back, rtol=1e-3, atol=1e-3)


def test_components_of_frames_and_steps_bound_what_is_lost():
    x = smooth()
    errors = []
    for components in ((6, 6), (48, 96)):
        model = SoraAutoencoder(3, dim=6, code=5, group=8, hop=2, size=4, components=components)
        model.fit_linear(x)
        errors.append((model.reconstruct(x) - x).square().mean().item())
    assert errors[1] < 0.1 * x.var() < errors[0]


def test_fitting_again_starts_anew():
    model, x = small(), smooth()
    model.fit_linear(x)
    first = model.reconstruct(x)
    for layer in (model.to_code, model.out):
        nn.init.normal_(layer.weight)
    assert not torch.allclose(model.reconstruct(x), first, atol=1e-2)
    model.fit_linear(x)
    assert torch.equal(model.reconstruct(x), first)


def test_training_beats_the_linear_code_it_starts_from():
    """A bright pixel at one of sixteen places: one number is enough for a network, not for a line."""
    torch.manual_seed(0)
    place = torch.arange(16).repeat(8)
    x = F.one_hot(place, 16).float().view(-1, 1, 1, 4, 4).expand(-1, 4, 3, -1, -1)
    model = SoraAutoencoder(3, dim=64, code=2, group=4, hop=2, size=4, components=(15, 15))
    model.fit_linear(x + 0.01 * torch.randn_like(x))
    start = F.mse_loss(model.reconstruct(x), x).item()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(200):
        loss = F.mse_loss(model.reconstruct(x), x)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    assert loss < 0.5 * start


def test_samples_do_not_mix():
    model, x = small(), clips(3).requires_grad_()
    gradient = torch.autograd.grad(model.reconstruct(x)[1].sum(), x)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [False, True, False]


def test_scores_are_read_from_the_mean_code():
    model, x = small(), clips(2, 24)
    assert_close(model.embed(x), model.encode(x).mean(1))
    assert_close(model(x), model.encode(x).mean(1) @ model.head.weight.T + model.head.bias)
    assert_close(model.reconstruct(x), model.decode(model.encode(x)))


def test_default_sizes():
    model = SoraAutoencoder(12)
    assert sum(p.numel() for p in model.parameters()) == 733_036
    assert model.encode(torch.rand(1, 16, 3, 16, 16)).numel() == 64 == model.width
    assert model.encoder.receptive_field <= model.steps  # every tap meets data in a clip of one group


@pytest.mark.parametrize(("size", "channels", "frames"), [(4, 3, 8), (6, 1, 16)])
def test_reconstruction_has_the_shape_of_the_clip(size, channels, frames):
    x = torch.rand(2, frames, channels, size, size)
    assert small(size=size, channels=channels).reconstruct(x).shape == x.shape


def test_every_parameter_learns_from_reconstruction_but_the_head():
    model = small()
    model.reconstruct(clips()).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == ["head.weight", "head.bias"]


def test_evaluation_is_deterministic_and_state_dict_round_trips():
    a, x = small(), clips()
    a.fit_linear(smooth())
    nn.init.normal_(a.out.weight)
    before, b = a.reconstruct(x), small()
    assert not torch.equal(b.reconstruct(x), before)
    b.load_state_dict(a.state_dict())
    assert torch.equal(b.reconstruct(x), before) and torch.equal(a.reconstruct(x), before)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(torch.zeros(1, 8, 3, 8, 8)), "expects .batch, time, 3, 4, 4."),
        (lambda m: m.reconstruct(torch.zeros(1, 12, 3, 4, 4)), "multiple of 8"),
        (lambda m: m.encode(torch.zeros(8, 3, 4, 4)), "expects clips .batch, time"),
        (lambda m: m.step(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "got torch.uint8"),
        (lambda m: m.decode(torch.zeros(1, 2, 6)), "expects .batch, groups, 5."),
        (lambda m: m.decode(torch.zeros(1, 2, 5).double()), "got torch.float64"),
        (lambda m: m.fit_linear(clips(1, 8)), "expects more than 9 rows"),
        (lambda m: SoraAutoencoder(3, group=6), "group=6; it must be a multiple of hop=4"),
        (lambda m: SoraAutoencoder(3, group=2), "group=2; it must be a multiple of hop=4"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call(small())


def test_centered_it_sees_what_moves_and_nothing_else():
    plain, x = small(), smooth()
    model = small(center=True)
    model.fit_linear(x), plain.fit_linear(x - x.mean(1, keepdim=True))
    still = torch.rand(1, 1, 3, 4, 4)
    assert_close(model.encode(x + still), plain.encode(x - x.mean(1, keepdim=True)))
    assert model.reconstruct(x).mean(1).abs().max() < 0.05 < x.mean(1).abs().max()
    with pytest.raises(ValueError, match="a stream has no mean yet"):
        model.step(x[:, 0])


def test_errors_of_steps_are_errors_of_pixels():
    """Beside what the components cannot say, which no weight changes: so training may leave the pixels alone."""
    model, x = small(), clips(5)
    steps = model.describe(x)
    code = model.encode_steps(steps)
    assert_close(code, model.encode(x))
    spanned = model.by_step.back(steps).unflatten(2, (2, -1)).flatten(1, 2)
    nearest = model.by_frame.back(spanned).unflatten(2, (3, 4, 4))
    by_pixels = (model.reconstruct(x) - x).square().sum()
    by_steps = (model.decode_steps(code) - steps).square().sum()
    assert_close(by_steps + (nearest - x).square().sum(), by_pixels)
