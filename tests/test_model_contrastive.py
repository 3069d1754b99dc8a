"""SoraContrastive: the slice keeps order, the head is apart from the representation, the slow copy and queue as in MoCo."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb import objectives
from sora_nb.models.contrastive import SliceEncoder, SoraContrastive
from sora_nb.models.fusion import SoraFusion
from sora_nb.models.gru import SoraGRU


def small(**options) -> SoraContrastive:
    torch.manual_seed(0)
    encoder = SliceEncoder(frames=5, features=6, width=12, channels=(4, 4))
    return SoraContrastive(encoder, width=12, projection=7, **options)


def clips(n=4, frames=5):
    return torch.rand(n, frames, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_slice_is_the_features_of_each_frame_in_order():
    encoder, x = SliceEncoder(frames=5, features=6, channels=(4, 4)).eval(), clips()
    each = [F.relu(encoder.frames(x[:, t : t + 1]))[:, 0] for t in range(5)]
    assert_close(encoder.slice(x), torch.stack(each, 1))
    assert_close(encoder.embed(x), F.relu(encoder.read(torch.cat(each, 1))))
    assert (encoder.embed(x) - encoder.embed(x.flip(1))).abs().max() > 1e-3


def test_another_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="clips of 4 frames; it reads 5"):
        small().embed(clips(frames=4))


def test_a_still_background_is_taken_away():
    model, x, still = small().eval(), clips(), torch.rand(4, 1, 3, 16, 16)
    assert_close(model.embed(x + still), model.embed(x), rtol=1e-4, atol=1e-5)
    plain = small(center=False).eval()
    assert (plain.embed(x + still) - plain.embed(x)).abs().max() > 1e-3
    assert_close(plain.embed(x), plain.encoder.embed(x))


def test_forward_projects_the_embedding():
    model, x = small().eval(), clips()
    assert model.embed(x).shape == (4, 12) and model(x).shape == (4, 7)
    assert_close(model(x), model.project(model.embed(x)))


@pytest.mark.parametrize(
    "encoder, width",
    [
        (SoraGRU(hidden=10, depth=1, channels=(4, 4)), 10),
        (SoraFusion(branches=(3,), widths=(4, 4), hidden=9), 9),
    ],
    ids=["C", "D"],
)
def test_any_encoder_with_embed_learns_by_contrast(encoder, width):
    model = SoraContrastive(encoder, width)
    first, second = model(torch.cat([clips(), clips().flip(-1)])).chunk(2)
    objectives.nt_xent(first, second).backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle <= {"encoder.head.weight", "encoder.head.bias"}  # embed does not use the classifier


def test_training_lowers_the_loss_and_finds_partners():
    torch.manual_seed(0)
    model, x = small(), clips(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        noisy = [x + 0.05 * torch.randn_like(x) for _ in range(2)]
        losses.append(objectives.nt_xent(*model(torch.cat(noisy)).chunk(2)))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_without_a_queue_there_is_no_slow_copy():
    model = small()
    assert model.slow is None and model.queue.shape == (0, 7)


def test_the_slow_copy_trails_by_momentum_and_gets_no_gradient():
    model = small(queue=8, momentum=0.9)
    before = {n: p.clone() for n, p in model.slow.named_parameters()}
    assert_close(before["read.weight"] if "read.weight" in before else before["encoder.read.weight"],
                 model.encoder.read.weight)  # fmt: skip
    with torch.no_grad():
        for p in (*model.encoder.parameters(), *model.project.parameters()):
            p += 1.0
    keys = model.keys(clips())
    for name, p in model.slow.named_parameters():
        assert_close(p, before[name] + 0.1)
        assert not p.requires_grad
    assert not keys.requires_grad
    assert_close(keys.norm(dim=1), torch.ones(4))


def test_the_queue_is_first_in_first_out():
    model = small(queue=6)
    assert_close(model.queue.norm(dim=1), torch.ones(6))
    one, two = F.normalize(torch.randn(4, 7), dim=1), F.normalize(torch.randn(4, 7), dim=1)
    model.enqueue(one)
    model.enqueue(two)
    assert torch.equal(model.queue, torch.cat([two, one])[:6])
    assert "queue" in model.state_dict()


def test_the_queue_of_the_last_step_can_be_used_before_it_moves_on():
    model = small(queue=8)
    keys = model.keys(clips())
    loss = objectives.info_nce(model(clips()), keys, negatives=model.queue)
    model.enqueue(keys)
    loss.backward()
    assert all(p.grad is None for p in model.slow.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
