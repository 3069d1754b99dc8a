"""SoraFusion: the batch stays the batch, fusion on known numbers, and each switch removes what it names."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sora_nb.models.fusion import SoraFusion, fuse


def small(**options) -> SoraFusion:
    torch.manual_seed(0)
    model = SoraFusion(12, channels=(4, 4), dim=6, **options)
    model(torch.rand(4, 8, 3, 16, 16))
    return model.eval()


def test_fuse_on_known_numbers():
    fused = fuse(torch.tensor([[3.0]]), torch.tensor([[0.0, 4.0, 0.0]]))
    assert_close(fused, torch.tanh(torch.tensor([[1.2, 0.0, 1.6, 0.0]])))  # length 5 -> √4 = 2


def test_fusion_ignores_the_scale_of_the_features():
    a, b = torch.randn(3, 4), torch.randn(3, 5)
    assert_close(fuse(a, b), fuse(7 * a, 7 * b))
    assert fuse(a, b).abs().max() < 1


@pytest.mark.parametrize("options", [{}, {"lstm": False}, {"fusion": False}, {"branches": (3,)}])
def test_samples_do_not_mix(options):
    """The article's ``view`` folds the batch into the channels; this is the one-line test that catches it."""
    model, clips = small(**options), torch.rand(3, 8, 3, 16, 16, requires_grad=True)
    gradient = torch.autograd.grad(model(clips)[1].sum(), clips)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [False, True, False]
    assert_close(model(clips)[1:2], model(clips[1:2]))


def test_switches_remove_what_they_name():
    count = lambda model, kind: sum(isinstance(m, kind) for m in model.modules())  # noqa: E731
    assert count(small(), nn.LSTM) == 2 and count(small(lstm=False), nn.LSTM) == 0
    assert [b.layers[0].kernel_size[0] for b in small(branches=(3, 7)).branches] == [3, 7]
    clips = torch.rand(2, 8, 3, 16, 16)
    raw, fused = small(fusion=False), small()
    fused.load_state_dict(raw.state_dict())
    assert_close(fused.embed(clips), fuse(raw.embed(clips)))


def test_without_time_in_the_kernels_only_the_lstm_sees_order():
    """Zero every tap but the middle one in time: reversal then changes the answer through the LSTM alone."""
    clips = torch.rand(2, 8, 3, 16, 16)
    clips[:, 1::2] = clips[:, ::2]  # the stride of 2 then reads the same frames either way round
    for lstm in (True, False):
        model = small(lstm=lstm)
        for branch in model.branches:
            for conv in (m for m in branch.layers if isinstance(m, nn.Conv3d)):
                conv.weight.data[:, :, torch.arange(conv.kernel_size[0]) != conv.kernel_size[0] // 2] = 0
        change = (model(clips) - model(clips.flip(1))).abs().max()
        assert change > 1e-4 if lstm else change < 1e-5


def test_article_shapes_30_frames_of_256():
    """32 kernels 3³ with stride 2 on 30 × 256 × 256 give 15 × 128 × 128; the LSTM reads 15 steps and has 64 units."""
    model, shapes = SoraFusion(12, branches=(3,), channels=(32, 32)).eval(), {}
    branch = model.branches[0]
    branch.layers[0].register_forward_hook(lambda m, i, o: shapes.update(conv=tuple(o.shape)))
    branch.lstm.register_forward_hook(lambda m, i, o: shapes.update(lstm=tuple(o[0].shape)))
    with torch.no_grad():
        assert model.embed(torch.rand(1, 30, 3, 256, 256)).shape == (1, 64)
    assert shapes == {"conv": (1, 32, 15, 128, 128), "lstm": (1, 15, 64)}


def test_logits_are_a_linear_map_of_the_embedding():
    model, clips = small(), torch.rand(2, 8, 3, 16, 16)
    assert_close(model(clips), model.embed(clips) @ model.head.weight.T + model.head.bias)


def test_default_size():
    assert sum(p.numel() for p in SoraFusion(12).parameters()) == 186_188


def test_every_parameter_learns():
    model = small().train()
    model(torch.rand(4, 8, 3, 16, 16)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_evaluation_is_deterministic_and_state_dict_round_trips():
    a, clips = small(), torch.rand(2, 8, 3, 16, 16)
    before, b = a(clips), SoraFusion(12, channels=(4, 4), dim=6).eval()
    assert not torch.equal(b(clips), before)
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(clips), before) and torch.equal(a(clips), before)


@pytest.mark.parametrize("time", [1, 3, 8, 29])
def test_clips_may_have_any_length(time):
    model, clips = small(), torch.rand(2, time, 3, 16, 16)
    assert model(clips).shape == (2, 12) and model(clips).isfinite().all()
    assert model.embed(clips).shape == (2, model.width) == (2, 12)


@pytest.mark.parametrize("branches", [(3,), (5,), (3, 5)])
def test_receptive_field_formula_by_gradient(branches):
    """What one step of the convolutions sees, with weights that let every path through."""
    model = small(branches=branches, center=False)
    clips = torch.rand(1, 60, 3, 16, 16, requires_grad=True)
    seen = []
    for branch in model.branches:
        for parameter in branch.layers.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        one = branch.layers(clips.transpose(1, 2))[:, :, 15].sum()
        gradient = torch.autograd.grad(one, clips)[0]
        seen.append(int((gradient.abs().flatten(2).sum((0, 2)) > 0).sum()))
    assert max(seen) == model.receptive_field
