"""Contrastive losses against plain loops in double precision; measures of collapse at their known values."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from sora_nb import objectives


def pair(n=7, dim=5, seed=0):
    """Two sets of views that require a gradient."""
    torch.manual_seed(seed)
    return [torch.randn(n, dim, dtype=torch.double).requires_grad_() for _ in range(2)]


def loop_info_nce(queries, keys, temperature, negatives=()):
    """The definition, one query at a time."""
    total = 0.0
    for i, q in enumerate(queries):
        scores = [torch.cosine_similarity(q, c, dim=0) / temperature for c in (*keys, *negatives)]
        total = total - scores[i] + torch.stack(scores).logsumexp(0)
    return total / len(queries)


def loop_nt_xent(first, second, temperature):
    """The definition, a double loop over views."""
    views, n, total = [*first, *second], len(first), 0.0
    for i, view in enumerate(views):
        cosine = {c: torch.cosine_similarity(view, other, dim=0) for c, other in enumerate(views) if c != i}
        total = total - cosine[(i + n) % (2 * n)] / temperature
        total = total + torch.stack([s / temperature for s in cosine.values()]).logsumexp(0)
    return total / (2 * n)


def same_value_and_gradient(ours, reference, inputs):
    assert_close(ours, reference)
    assert_close(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs))


@pytest.mark.parametrize("temperature", [0.05, 0.15, 1.0])
@pytest.mark.parametrize("extra", [0, 3])
def test_info_nce_equals_a_loop(temperature, extra):
    (q, k), negatives = pair(), torch.randn(extra, 5, dtype=torch.double)
    ours = objectives.info_nce(q, k, temperature, negatives if extra else None)
    same_value_and_gradient(ours, loop_info_nce(q, k, temperature, negatives), [q, k])


@pytest.mark.parametrize("temperature", [0.05, 0.15, 1.0])
def test_nt_xent_equals_a_double_loop(temperature):
    a, b = pair()
    same_value_and_gradient(objectives.nt_xent(a, b, temperature), loop_nt_xent(a, b, temperature), [a, b])


def test_a_queue_that_holds_the_batch_is_the_batch():
    q, k = pair()
    alone = [
        objectives.info_nce(q[[i]], k[[i]], 0.2, negatives=torch.cat([k[:i], k[i + 1 :]])) for i in range(7)
    ]
    assert_close(torch.stack(alone).mean(), objectives.info_nce(q, k, 0.2))


def test_known_values():
    same = torch.ones(8, 4)
    assert_close(objectives.nt_xent(same, same), torch.tensor(math.log(15)))
    assert_close(objectives.info_nce(same, same), torch.tensor(math.log(8)))
    apart = torch.eye(2)  # partners equal, the two clips orthogonal
    assert_close(objectives.nt_xent(apart, apart, 0.5), torch.tensor(math.log(1 + 2 * math.exp(-2))))


def test_lengths_of_vectors_do_not_matter_and_order_of_clips_neither():
    a, b = pair()
    assert_close(objectives.nt_xent(3 * a, b / 7), objectives.nt_xent(a, b))
    order = torch.randperm(7)
    assert_close(objectives.nt_xent(a[order], b[order]), objectives.nt_xent(a, b))
    assert objectives.nt_xent(a, b.roll(1, 0)) != objectives.nt_xent(a, b)
    assert_close(objectives.nt_xent(b, a), objectives.nt_xent(a, b))


def test_vicreg_equals_its_three_terms_by_loop():
    a, b = pair(dim=4)
    wanted = 25 * (a - b).square().mean()
    for z in (a, b):
        centered = z - z.mean(0)
        for i in range(4):
            spread = (centered[:, i].square().sum() / 6 + 1e-4).sqrt()
            wanted = wanted + 25 * torch.clamp(1 - spread, min=0) / 4 / 2
            for j in range(4):
                if i != j:
                    wanted = wanted + ((centered[:, i] @ centered[:, j]) / 6) ** 2 / 4
    same_value_and_gradient(objectives.vicreg(a, b), wanted, [a, b])


def test_vicreg_parts_can_be_switched_off_and_forbid_collapse():
    same = torch.ones(6, 3)
    assert objectives.vicreg(same, same, variance=0, covariance=0) == 0
    assert objectives.vicreg(same, same) > 20


def test_alignment_and_uniformity_at_known_points():
    a = torch.eye(3)
    assert objectives.alignment(a, 5 * a) == 0
    assert_close(objectives.alignment(a, -a), torch.tensor(4.0))
    assert objectives.uniformity(torch.ones(5, 3)) == 0
    assert_close(objectives.uniformity(a), torch.tensor(-4.0))  # squared distance 2, t = 2
    assert_close(objectives.uniformity(a, t=1.0), torch.tensor(-2.0))


def test_effective_rank_counts_equal_directions_and_ignores_scale_and_place():
    cross = torch.cat([torch.eye(4), -torch.eye(4)])
    assert objectives.effective_rank(cross) == pytest.approx(4)
    assert objectives.effective_rank(10 * cross + 3) == pytest.approx(4)
    line = torch.randn(9, 1) * torch.randn(1, 6)
    assert objectives.effective_rank(line) == pytest.approx(1, abs=1e-4)
    assert objectives.effective_rank(torch.ones(4, 3)) == pytest.approx(1)  # all on one point


def test_gather_in_one_process_is_the_input():
    a, _ = pair()
    assert objectives.gather_with_gradient(a) is a


@pytest.mark.parametrize("loss", [objectives.info_nce, objectives.nt_xent, objectives.vicreg])
def test_unequal_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\); expected two of the same"):
        loss(torch.randn(4, 3), torch.randn(4, 2))


def test_bad_temperature_and_lonely_clip_are_refused():
    a, b = pair()
    with pytest.raises(ValueError, match="must be positive"):
        objectives.nt_xent(a, b, 0.0)
    with pytest.raises(ValueError, match="must be positive"):
        objectives.info_nce(a, b, -1.0)
    with pytest.raises(ValueError, match="there is no negative"):
        objectives.nt_xent(a[:1], b[:1])
    with pytest.raises(ValueError, match="vicreg got 1 clip; without a second one there is no spread"):
        objectives.vicreg(a[:1], b[:1])


def test_the_push_on_a_wrong_candidate_is_its_probability_over_the_temperature():
    unit = F.normalize(torch.randn(6, 5, dtype=torch.double), dim=1)
    cosines = (unit[:1] @ unit.T)[0].requires_grad_()
    (push,) = torch.autograd.grad(F.cross_entropy(cosines[None] / 0.2, torch.tensor([0])), cosines)
    assert_close(push[1:], ((cosines / 0.2).softmax(0) / 0.2)[1:].detach())
