"""Masked learning: what is hidden, who sees what, what is predicted, and the target that trails behind."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb import evaluation
from sora_nb.models import SoraContrastive
from sora_nb.models.masked import HoleFiller, LatentPredictor, MaskedAutoencoder, TubeletEncoder, places
from sora_nb.objectives.masked import follow, pixel_targets, seen_and_hidden, take, tube_mask

GRID, TUBELET = (2, 3, 4), (2, 2, 2)


def clips(n=3):
    return torch.rand(n, 4, 3, 6, 8, generator=torch.Generator().manual_seed(1))


def encoder(seed=0, **options):
    torch.manual_seed(seed)
    return TubeletEncoder(**{"dim": 12, "depth": 2, "heads": 2, "grid": GRID, "tubelet": TUBELET} | options)


def model(kind=MaskedAutoencoder, **options):
    net = kind(5, encoder=encoder(), **{"inner": 8} | options)
    torch.nn.init.normal_(net.filler.leave.weight)  # which begins at zero
    return net


def mask(n=3, ratio=0.5):
    torch.manual_seed(2)
    return tube_mask(n, GRID, ratio)


def test_a_tube_hides_the_same_places_at_all_times_and_other_places_in_other_clips():
    hidden = tube_mask(400, (3, 4, 4), 0.75).unflatten(1, (3, 16))
    assert (hidden == hidden[:, :1]).all() and (hidden.sum(2) == 12).all()
    assert (hidden[:, 0].float().mean(0) - 0.75).abs().max() < 0.1
    assert len(hidden[:, 0].unique(dim=0)) > 200


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.99, 1.0])
def test_a_mask_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match="hide at least one"):
        tube_mask(2, GRID, ratio)


def test_seen_and_hidden_are_the_places_of_the_mask_in_order():
    hidden = mask()
    seen, away = seen_and_hidden(hidden)
    for i, row in enumerate(hidden):
        assert seen[i].tolist() == [j for j, m in enumerate(row) if not m]
        assert away[i].tolist() == [j for j, m in enumerate(row) if m]
    x = torch.randn(3, 24, 5)
    assert_close(take(x, away), torch.stack([row[m] for row, m in zip(x, hidden, strict=True)]))
    hidden[0, 0] = ~hidden[0, 0]
    with pytest.raises(ValueError, match="hide between"):
        seen_and_hidden(hidden)


def test_pixel_targets_equal_a_loop_over_tubelets():
    x, targets = clips(), pixel_targets(clips(), TUBELET, 0.01).unflatten(1, GRID)
    for t, h, w in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        patch = x[1, 2 * t : 2 * t + 2, :, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].movedim(1, 0).flatten()
        by_hand = (patch - patch.mean()) / (patch.var(correction=0) + 0.01).sqrt()
        assert_close(targets[1, t, h, w], by_hand)
    assert_close(pixel_targets(x * 3 + 1, TUBELET, 0.0), pixel_targets(x, TUBELET, 0.0))
    assert pixel_targets(x * 1e-4, TUBELET).abs().max() < 0.01  # hardly any change is no change


def test_places_differ_and_neighbors_are_the_nearest():
    code = places((2, 8, 8), 64).unflatten(0, (2, 8, 8))
    far = torch.cdist(code[0, 3, 3][None], code.flatten(0, 2))[0].unflatten(0, (2, 8, 8))
    assert far[0, 3, 3] == 0 and far.flatten().sort().values[1] > 0.5
    assert far[0, 3, 4] < far[0, 3, 5] < far[0, 3, 7]


def test_seen_tokens_see_each_other_and_nothing_else():
    part, x, hidden = encoder().double(), clips().double(), mask()
    seen, away = seen_and_hidden(hidden)
    allowed = ~hidden[:, None, None, :]  # (B, heads, query, key): nobody looks at a hidden token
    whole = part.encoder(part.tubelets(x / part.spread).flatten(1, 3) + part.position, mask=allowed)
    assert_close(part(x, seen), take(whole, seen))
    turned = seen.flip(1)
    assert_close(part(x, turned), part(x, seen).flip(1))
    assert_close(part(x), part(x, torch.arange(24).expand(3, -1)))
    assert_close(part.embed(x), part(x).mean(1))


@pytest.mark.parametrize("kind", [MaskedAutoencoder, LatentPredictor])
def test_what_is_hidden_cannot_be_seen_even_through_the_mean_over_time(kind):
    net, hidden = model(kind), mask()
    x = clips().requires_grad_()
    net.fill(x, hidden).square().sum().backward()
    there = pixel_targets(x.grad, TUBELET, 1.0).abs().sum(2) > 0
    assert not (there & hidden).any() and (there | hidden).all()
    torch.manual_seed(3)
    loose = torch.rand(3, 24).argsort(1) < 12  # not a tube: the clip's mean over time leaks
    x = clips().requires_grad_()
    net.fill(x, loose).square().sum().backward()
    assert (pixel_targets(x.grad, TUBELET, 1.0).abs().sum(2)[loose] > 0).any()


@pytest.mark.parametrize("kind", [MaskedAutoencoder, LatentPredictor])
def test_only_hidden_targets_enter_the_loss(kind, monkeypatch):
    net, hidden = model(kind), mask()
    target = net.targets(clips()).detach().clone().requires_grad_()
    before = net.loss(clips(), hidden)
    monkeypatch.setattr(net, "targets", lambda x: target)
    loss = net.loss(clips(), hidden)
    assert_close(loss, before)
    (there,) = torch.autograd.grad(loss, target)
    assert (there.abs().sum(2) > 0).eq(hidden).all()


def test_losses_by_hand():
    x, hidden = clips(), mask()
    away = seen_and_hidden(hidden)[1]
    mae, latent = model(), model(LatentPredictor)
    assert_close(mae.loss(x, hidden), (mae.fill(x, hidden) - take(mae.targets(x), away)).square().mean())
    gap = (latent.fill(x, hidden) - take(latent.targets(x), away)).abs()
    assert_close(latent.loss(x, hidden), torch.where(gap < 1, gap.square() / 2, gap - 0.5).mean())


def test_each_hidden_place_is_asked_for_by_where_it_is():
    torch.manual_seed(0)
    filler, tokens = HoleFiller(12, 7, 8, grid=GRID), torch.randn(1, 10, 12)
    assert not filler.leave.weight.any()  # it begins with the mean
    torch.nn.init.normal_(filler.leave.weight)
    seen, away = torch.arange(10)[None], torch.arange(10, 24)[None]
    out = filler(tokens, seen, away)
    assert out.shape == (1, 14, 7) and (out[0, 0] - out[0, 1]).abs().max() > 1e-4
    assert_close(filler(tokens, seen, away.flip(1)), out.flip(1))
    moved = filler(tokens.flip(1), seen, away)  # the same tokens elsewhere say something else
    assert (moved - out).abs().max() > 1e-4


def test_the_target_gets_no_gradient_has_unit_size_and_trails():
    net, hidden = model(LatentPredictor, momentum=0.9), mask()
    target = net.targets(clips())
    assert not target.requires_grad
    assert_close(target.mean(2), torch.zeros(3, 24), atol=1e-5, rtol=0)
    assert_close(target.var(2, correction=0), torch.ones(3, 24), atol=1e-2, rtol=0)
    net.loss(clips(), hidden).backward()
    assert all(p.grad is None and not p.requires_grad for p in net.slow.parameters())
    assert all(p.grad is not None for p in net.filler.parameters())
    before = net.slow.tubelets.weight.clone()
    with torch.no_grad():
        net.encoder.tubelets.weight += 1.0
    net.follow()
    assert_close(net.slow.tubelets.weight, 0.9 * before + 0.1 * net.encoder.tubelets.weight)
    whole = F.layer_norm(net.slow(net.prepare(clips())), [12])
    assert_close(net.targets(clips()), whole)  # the target has seen the whole clip


def test_follow_goes_all_the_way_or_not_at_all():
    slow, fast = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    start = copy.deepcopy(slow)
    follow(slow, fast, 1.0)
    assert_close(slow.weight, start.weight)
    follow(slow, fast, 0.0)
    assert_close(slow.bias, fast.bias)


@pytest.mark.parametrize("kind", [MaskedAutoencoder, LatentPredictor])
def test_one_face(kind):
    net = model(kind)
    assert net.embed(clips()).shape == (3, net.width) == (3, 12)
    assert_close(net(clips()), net.head(net.embed(clips())))
    assert_close(net.embed(clips() + torch.rand(3, 1, 3, 6, 8)), net.embed(clips()), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="built for a grid"):
        net.embed(torch.rand(2, 4, 3, 8, 8))
    with pytest.raises(ValueError, match="it expects clips"):
        net.embed(torch.rand(2, 4, 1, 6, 8))


def test_the_encoder_learns_by_contrast_too():
    net = SoraContrastive(5, encoder=encoder())
    assert net.project(clips()).shape == (3, 64) and net(clips()).shape == (3, 5)


def test_a_masked_autoencoder_learns_a_batch():
    net, x = model(inner=32), clips(2)
    hidden, rest = mask(2), net.targets(clips(2))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(150):
        loss = net.loss(x, hidden)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.7 * rest.square().mean()


# ----------------------------------------------------------------------------- the script that trains many at once

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))


@pytest.mark.parametrize("kind", [MaskedAutoencoder, LatentPredictor])
def test_models_trained_side_by_side_are_those_trained_alone(kind):
    import masked_learning as script

    from sora_nb import training

    alone = [kind(5, encoder=encoder(seed), inner=8).double() for seed in range(2)]
    many = script.Many([copy.deepcopy(net) for net in alone])
    batches = [(torch.rand(2, 3, 4, 3, 6, 8).double(), mask(3)) for _ in range(3)]
    given, rates = iter(batches), [1e-3, 4e-3]
    after = (lambda: script.trail(many)) if kind is LatentPredictor else None
    script.train(many, rates, 3, lambda net, *x: net.loss(*x), lambda: next(given), alike=(1,), after=after)
    for k, (net, rate) in enumerate(zip(alone, rates, strict=True)):
        optimizer = torch.optim.AdamW(training._decay_groups(net, 0.05), lr=rate)
        for i, (x, hidden) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate(i, 3, rate)
            optimizer.zero_grad()
            net.loss(x[k], hidden).backward()
            optimizer.step()
            if after:
                net.follow()
        for ours, theirs in zip(many.unstack(k).parameters(), net.parameters(), strict=True):
            assert_close(ours, theirs, atol=1e-7, rtol=0)


def test_the_scripts_logistic_regression_is_scikit_learns():
    import masked_learning as script

    torch.manual_seed(0)
    y, w = torch.arange(240) % 12, torch.arange(240) % 12
    x, v = (torch.randn(240, 20) + 1.5 * F.one_hot(labels, 20) for labels in (y, w))
    ours, _ = script.linear(x, y, v, w)
    assert abs(ours - evaluation.linear_probe(x, y, v, w, v, w)) < 0.015
