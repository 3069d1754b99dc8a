"""SoraGRU: streaming equal to batch for every pooling, padding unseen, order seen, samples kept apart."""

import pytest
import torch
from torch.testing import assert_close

from sora_nb.models.gru import POOLINGS, SoraGRU


def small(**options) -> SoraGRU:
    """A small model whose batch norm and query are not at their start values."""
    torch.manual_seed(0)
    model = SoraGRU(hidden=12, channels=(4, 4, 4), **options)
    model(torch.rand(4, 3, 3, 32, 32))
    if model.query is not None:
        torch.nn.init.normal_(model.query)
    return model.eval()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("residual", [True, False])
def test_step_equals_the_logits_of_the_clip_so_far(pooling, residual):
    model, clips, state = small(pooling=pooling, residual=residual), torch.rand(2, 5, 3, 32, 32), None
    for t in range(5):
        logits, state = model.step(clips[:, t], state)
        assert_close(logits, model(clips[:, : t + 1]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padded_clips_give_what_they_give_alone(pooling):
    model, clips, lengths = small(pooling=pooling), torch.rand(3, 5, 3, 32, 32), torch.tensor([3, 5, 1])
    together = model(clips, lengths)
    for i, n in enumerate(lengths):
        assert_close(together[i], model(clips[i : i + 1, :n])[0])


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
    assert sum(p.numel() for p in SoraGRU().parameters()) == 296_628


def test_every_parameter_learns():
    model = small(pooling="attention").train()
    model(torch.rand(4, 3, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_evaluation_is_deterministic_and_state_dict_round_trips():
    a, clips = small(), torch.rand(2, 4, 3, 32, 32)
    before = a(clips)
    b = SoraGRU(hidden=12, channels=(4, 4, 4)).eval()
    assert not torch.equal(b(clips), before)
    b.load_state_dict(a.state_dict())
    assert torch.equal(b(clips), before) and torch.equal(a(clips), before)


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match='pooling="sum"; choose one of mean, max'):
        SoraGRU(pooling="sum")
