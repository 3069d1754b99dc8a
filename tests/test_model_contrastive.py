"""SoraContrastive: the slice keeps order, the projection is apart from the representation, slow copy and queue as in MoCo."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb import objectives
from sora_nb.layers.frames import FrameCNN
from sora_nb.models.contrastive import SliceEncoder, SoraContrastive
from sora_nb.models.fusion import SoraFusion
from sora_nb.models.gru import SoraGRU


def small(**options) -> SoraContrastive:
    torch.manual_seed(0)
    return SoraContrastive(5, **{"dim": 12, "frames": FrameCNN(12, (4, 4)), "projection": 7} | options)


def clips(n=4, frames=5):
    return torch.rand(n, frames, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_slice_is_the_features_of_each_frame_in_order():
    encoder, x = SliceEncoder(12, frames=FrameCNN(12, (4, 4))).eval(), clips()
    each = [F.relu(encoder.frames(x[:, t : t + 1]))[:, 0] for t in range(5)]
    assert_close(encoder.slice(x), torch.stack(each, 1))
    assert (encoder.embed(x) - encoder.embed(x.flip(1))).abs().max() > 1e-4


def test_the_slice_is_read_by_convolutions_over_time():
    encoder, x = SliceEncoder(12, depth=1, frames=FrameCNN(12, (4, 4))), clips()
    encoder.embed(x)  # batch norm has seen something
    conv, norm, _ = encoder.eval().read
    wide, read = F.pad(encoder.slice(x), (0, 0, 1, 1)), []
    for t in range(5):
        read.append(torch.einsum("bkc,ock->bo", wide[:, t : t + 3], conv.weight))
    normed = F.batch_norm(torch.stack(read, 2), norm.running_mean, norm.running_var, norm.weight, norm.bias)
    assert_close(encoder.embed(x), normed.relu().mean(2))


def test_without_convolutions_order_is_not_seen():
    encoder, x = SliceEncoder(12, depth=0, frames=FrameCNN(12, (4, 4))).eval(), clips()
    assert_close(encoder.embed(x), encoder.slice(x).mean(1))
    assert_close(encoder.embed(x), encoder.embed(x.flip(1)))


@pytest.mark.parametrize("frames", [1, 2, 8, 33])
def test_any_number_of_frames_will_do(frames):
    model = small().eval()
    assert model(clips(2, frames)).shape == (2, 5) and model.embed(clips(2, frames)).isfinite().all()


def test_scores_and_projection_are_both_read_from_the_embedding():
    model, x = small().eval(), clips()
    assert model.embed(x).shape == (4, 12) and model(x).shape == (4, 5) and model.project(x).shape == (4, 7)
    assert_close(model(x), model.head(model.embed(x)))
    assert_close(model.project(x), model.projection(model.embed(x)))


@pytest.mark.parametrize(
    "encoder",
    [
        SoraGRU(3, dim=10, depth=1, frames=FrameCNN(10, (4, 4))),
        SoraFusion(3, branches=(3,), channels=(4, 4), dim=9),
    ],
    ids=["C", "D"],
)
def test_any_model_with_embed_learns_by_contrast(encoder):
    model = SoraContrastive(5, encoder=encoder)
    assert model.width == encoder.width
    first, second = model.project(torch.cat([clips(), clips().flip(-1)])).chunk(2)
    objectives.nt_xent(first, second).backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle <= {"encoder.head.weight", "encoder.head.bias", "head.weight", "head.bias"}  # classifiers


def test_training_lowers_the_loss_and_finds_partners():
    torch.manual_seed(0)
    model, x = small(), clips(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    step = objectives.contrast_step(view=lambda c: c + 0.05 * torch.randn_like(c))
    losses, found = [], []
    for _ in range(40):
        loss, share = step(model, (x, None))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item()), found.append(share.item())
    assert losses[-1] < 0.5 * losses[0]
    assert sum(found[-5:]) / 5 > 0.8 and not share.requires_grad


def test_pretraining_leaves_the_head_alone_and_the_head_leaves_the_projection_alone():
    model, x = small(), clips()
    objectives.contrast_step(view=lambda c: c)(model, (x,))[0].backward()
    assert model.head.weight.grad is None and model.projection[0].weight.grad.any()
    model.zero_grad()
    model(x).sum().backward()
    assert model.head.weight.grad.any() and model.projection[0].weight.grad is None


def test_without_a_queue_there_is_no_slow_copy():
    model = small()
    assert model.slow is None and model.queue.shape == (0, 7)
    with pytest.raises(ValueError, match="build it with queue="):
        model.keys(clips())


def test_the_slow_copy_trails_by_momentum_and_gets_no_gradient():
    model = small(queue=8, momentum=0.9)
    before = {n: p.clone() for n, p in model.slow.named_parameters()}
    assert_close(before["encoder.read.0.weight"], model.encoder.read[0].weight)
    assert not any("head" in name for name in before)
    with torch.no_grad():
        for p in (*model.encoder.parameters(), *model.projection.parameters()):
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
    loss = objectives.info_nce(model.project(clips()), keys, negatives=model.queue)
    model.enqueue(keys)
    loss.backward()
    assert all(p.grad is None for p in model.slow.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
