"""SoraGRU: streaming equal to batch for every pooling, padding unseen, order seen, samples kept apart."""

import pytest
import torch
from torch.testing import assert_close

from sora_nb.layers.frames import FrameCNN
from sora_nb.models.gru import POOLINGS, SoraGRU


def small(**options) -> SoraGRU:
    """A small model whose batch norm and query are not at their start values."""
    torch.manual_seed(0)
    model = SoraGRU(12, dim=12, frames=FrameCNN(12, (4, 4, 4), residual=True), **options)
    model(torch.rand(4, 3, 3, 32, 32))
    if model.query is not None:
        torch.nn.init.normal_(model.query)
    return model.eval()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("center", ["causal", False])
def test_step_equals_the_logits_of_the_clip_so_far(pooling, center):
    model, clips, state = small(pooling=pooling, center=center), torch.rand(2, 5, 3, 32, 32), None
    for t in range(5):
        logits, state = model.step(clips[:, t], state)
        assert_close(logits, model(clips[:, : t + 1]))


def test_a_stream_without_residual_equals_its_clip_and_its_state_does_not_grow():
    model, clips, state = small(residual=False, center="causal"), torch.rand(2, 5, 3, 32, 32), None
    sizes = set()
    for frame in clips.unbind(1):
        logits, state = model.step(frame, state)
        sizes.add(tuple(part.numel() for part in state))
    assert_close(logits, model(clips))
    assert len(sizes) == 1


def test_a_stream_can_start_from_the_state_before_the_first_frame():
    """One graph for all frames, as an exported model needs."""
    for pooling in POOLINGS:
        model, frame = small(pooling=pooling, center="causal"), torch.rand(2, 3, 32, 32)
        assert torch.equal(model.step(frame, model.start(frame))[0], model.step(frame)[0])


def test_causal_centering_takes_the_mean_of_the_frames_so_far_away():
    model, clips = small(center="causal"), torch.rand(2, 4, 3, 32, 32)
    by_hand = torch.stack([clips[:, t] - clips[:, : t + 1].mean(1) for t in range(4)], 1)
    expected, model.center = model.embed(clips), False
    assert_close(expected, model.embed(by_hand))


def test_a_stream_cannot_know_the_mean_of_the_whole_clip():
    with pytest.raises(ValueError, match='build it with center="causal"'):
        small().step(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("center", [True, "causal", False])
def test_padded_clips_give_what_they_give_alone(pooling, center):
    model, clips, lengths = small(pooling=pooling, center=center), torch.rand(3, 5, 3, 32, 32), [3, 5, 2]
    together = model(clips, torch.tensor(lengths))
    for i, n in enumerate(lengths):
        assert_close(together[i], model(clips[i : i + 1, :n])[0], rtol=1e-4, atol=1e-5)


def test_order_matters():
    model, clips = small(), torch.rand(2, 5, 3, 32, 32)
    assert (model(clips) - model(clips.flip(1))).abs().max() > 1e-3


def test_poolings_differ():
    clips = torch.rand(2, 5, 3, 32, 32)
    embeddings = [small(pooling=p).embed(clips) for p in POOLINGS]
    for i, a in enumerate(embeddings):
        assert all((a - b).abs().max() > 1e-3 for b in embeddings[:i])


def test_samples_do_not_mix():
    model, clips = small(), torch.rand(3, 4, 3, 32, 32, requires_grad=True)
    gradient = torch.autograd.grad(model(clips)[1].sum(), clips)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [False, True, False]


def test_logits_are_a_linear_map_of_the_embedding():
    model, clips = small(), torch.rand(2, 4, 3, 32, 32)
    assert model.embed(clips).shape == (2, 12)
    assert_close(model(clips), model.embed(clips) @ model.head.weight.T + model.head.bias)


def test_depth_and_residual_reach_the_stack():
    assert len(small(depth=3).gru.layers) == 3
    assert small().gru.residual and not small(residual=False).gru.residual
    assert sum(p.numel() for p in SoraGRU(12).parameters()) == 296_628


def test_every_parameter_learns():
    model = small(pooling="attention").train()
    model(torch.rand(4, 3, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_evaluation_is_deterministic_and_state_dict_round_trips():
    a, clips = small(), torch.rand(2, 4, 3, 32, 32)
    before = a(clips)
    b = SoraGRU(12, dim=12, frames=FrameCNN(12, (4, 4, 4), residual=True)).eval()
    assert not torch.equal(b(clips), before)
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(clips), before) and torch.equal(a(clips), before)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match='pooling="sum"; choose one of mean, max'):
        SoraGRU(12, pooling="sum")
    with pytest.raises(ValueError, match="center='running'; choose True, False"):
        SoraGRU(12, center="running")
