"""Views are drawn once a clip, by their formulas; the training step compares two of them."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb import objectives
from sora_nb.objectives import contrast_step, mix_colors, picked, shift_and_zoom, temporal_crop, view


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def numbered(n=5, frames=16, side=4):
    """Clips whose every pixel is the number of its frame."""
    return torch.arange(frames).float().view(1, frames, 1, 1, 1).expand(n, -1, 3, side, side)


def test_a_temporal_crop_is_a_stretch_of_the_clip_sampled_evenly():
    seen = temporal_crop(numbered(400), frames=8, shortest=11)[:, :, 0, 0, 0]  # (N, 8) frame numbers
    spans = (seen[:, -1] - seen[:, 0] + 1).long()
    assert set(spans.tolist()) == set(range(11, 17))
    assert set(seen[:, 0].long().tolist()) == set(range(6))  # 16 − 11 is the latest start
    assert seen.max() == 15
    for row, span in zip(seen, spans, strict=True):
        even = row[0] + torch.linspace(0, 1, 8) * (span - 1)
        assert_close(row, even.round(), atol=0.5, rtol=0)
        assert (row.diff() >= 1).all()


def test_a_crop_of_all_frames_is_the_clip():
    x = torch.rand(3, 8, 3, 4, 4)
    assert torch.equal(temporal_crop(x, frames=8, shortest=8), x)
    for shortest in (0, 9):
        with pytest.raises(ValueError, match=f"clips of 8 frames for stretches of {shortest} or more"):
            temporal_crop(x, shortest=shortest)


@pytest.mark.parametrize("change", [shift_and_zoom, mix_colors])
def test_a_change_is_the_same_in_all_frames_and_another_for_each_clip(change):
    still = torch.rand(1, 1, 3, 16, 16).expand(6, 5, -1, -1, -1)
    out = change(still)
    assert out.shape == still.shape
    assert_close(out, out[:, :1].expand_as(out))
    differ = torch.cdist(out[:, 0].flatten(1), out[:, 0].flatten(1)) + 9 * torch.eye(6)
    assert differ.min() > 1e-2


def test_a_shift_moves_by_at_most_its_share_and_a_zoom_of_nothing_changes_nothing():
    x = torch.rand(4, 2, 3, 8, 8)
    assert_close(shift_and_zoom(x, shift=0, zoom=0), x)
    ramp = torch.linspace(-7 / 8, 7 / 8, 8).expand(200, 1, 3, 8, 8)  # value = place, in halves of the side
    moved = shift_and_zoom(ramp, shift=0.25, zoom=0)[..., 3:5].mean(
        (1, 2, 3, 4)
    )  # inside, where nothing reflects
    assert 0.2 < moved.max() <= 0.25 and -0.25 <= moved.min() < -0.2
    scaled = shift_and_zoom(ramp, shift=0, zoom=0.2)[..., 3:5].mean((1, 2, 3)).diff(dim=1) / 0.25
    assert 1.15 < scaled.max() <= 1.2 + 1e-6 and 0.8 - 1e-6 <= scaled.min() < 0.85


def test_mixed_colors_are_means_of_the_old_ones():
    x = torch.rand(50, 2, 3, 4, 4)
    out = mix_colors(x)
    assert (out <= x.amax(2, keepdim=True) + 1e-6).all() and (out >= x.amin(2, keepdim=True) - 1e-6).all()
    gray = torch.rand(4, 2, 1, 4, 4).expand(-1, -1, 3, -1, -1)
    assert_close(mix_colors(gray), gray)  # the weights of a mean sum to one
    red = torch.zeros(1, 1, 3, 2, 2)
    red[:, :, 0] = 1
    torch.manual_seed(3)
    mixed = mix_colors(red)[0, 0, :, 0, 0]
    torch.manual_seed(3)
    weights = torch.rand(1, 3, 3)[0]
    assert_close(mixed, weights[:, 0] / weights.sum(1))


def test_a_view_is_its_three_changes_and_a_seed_repeats_it():
    x = torch.rand(3, 16, 3, 8, 8)
    torch.manual_seed(5)
    ours = view(x, frames=6, shortest=12)
    torch.manual_seed(5)
    assert torch.equal(ours, mix_colors(shift_and_zoom(temporal_crop(x, 6, 12))))
    assert ours.shape == (3, 6, 3, 8, 8) and ours.min() >= 0 and ours.max() <= 1


class Flat(torch.nn.Module):
    """The clip itself is its projection."""

    def project(self, clips):
        return clips.flatten(1)


def test_a_contrastive_step_is_the_loss_of_two_views():
    x = torch.rand(6, 8, 3, 4, 4)
    changes = iter([lambda c: c + 0.1, lambda c: c.flip(1)])
    loss, score = contrast_step(view=lambda c: next(changes)(c))(Flat(), (x, torch.arange(6)))
    first, second = (x + 0.1).flatten(1), x.flip(1).flatten(1)
    assert_close(loss, objectives.nt_xent(first, second))
    assert_close(score, picked(first, second))
    keep = contrast_step(view=lambda c: c, loss=objectives.vicreg)
    assert_close(keep(Flat(), (x,))[0], objectives.vicreg(x.flatten(1), x.flatten(1)))


def test_motion_pairs_take_the_second_view_of_the_partner():
    x, partner = torch.rand(2, 6, 8, 3, 4, 4)
    step = contrast_step(view=lambda c: c, pairs=True)
    loss, _ = step(Flat(), (x, partner, torch.arange(6)))
    assert_close(loss, objectives.nt_xent(x.flatten(1), partner.flatten(1)))


def test_picked_counts_partners_that_are_nearest():
    z = torch.eye(5)
    assert picked(z, 3 * z) == 1 and picked(z, z.roll(1, 0)) == 0
    assert_close(picked(z, z[[0, 1, 2, 4, 3]]), torch.tensor(0.6))
    assert_close(picked(torch.ones(5, 3), torch.ones(5, 3)), torch.tensor(0.2))  # all alike: chance


def test_views_stay_differentiable_and_keep_the_dtype():
    x = torch.rand(2, 16, 3, 8, 8, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(view(x).sum(), x)
    assert view(x).dtype == torch.double and gradient.any()
    assert F.mse_loss(view(x), view(x)) > 0
