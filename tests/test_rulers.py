"""Rulers: each equal to a reference, and each able to see what it is for."""

import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge

from sora_nb import evaluation
from sora_nb.evaluation import rulers as rulers_module


def _clock(n: int, seed: int, spread: float = 1.0, frames: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of a bright bar that goes round a frame, class 1 to the right, class 0 to the left; the start is spread
    over this share of the way round."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    start = torch.rand(n, 1, generator=g) * spread
    place = (start + (2 * labels[:, None] - 1) * 0.1 * torch.arange(frames)) % 1  # (n, T)
    columns = (torch.arange(16) + 0.5) / 16
    off = (columns - place[..., None] + 0.5) % 1 - 0.5  # (n, T, 16)
    rows = (-((off / 0.12) ** 2)).exp()[..., None, None, :]
    return rows.expand(n, frames, 1, 16, 16).contiguous(), labels


@pytest.fixture(scope="module")
def read() -> dict[str, torch.Tensor]:
    sets = [_clock(n, seed) for n, seed in ((300, 0), (100, 1), (200, 2))]
    test = evaluation.with_reversals(*sets[2])
    return {
        name: (z, evaluation.pair_scores(z, test[1])["within"])
        for name, z in evaluation.ruler_scores(sets[0], sets[1], test).items()
    }


def test_only_relations_between_frames_tell_the_direction_of_a_cycle(read):
    within = {name: score for name, (_, score) in read.items()}
    assert abs(within["frame 0 alone"] - 0.5) < 0.09
    assert within["mean over time"] == pytest.approx(0.5, abs=0.005)  # an exact tie may be broken by rounding
    assert within["pixel neighbours, distance"] == within["pixel neighbours, cosine"] == 1.0


def test_linear_rulers_of_a_cycle_have_a_loss_of_at_least_log_2():
    """Sums over frames: the mean squared error of a ±1 direction stays at 1, whatever its accuracy does."""
    train, val, test = (_clock(n, seed) for n, seed in ((600, 3), (200, 4), (600, 5)))
    for view in rulers_module.VIEWS.values():
        x, x_val, x_test = (view(rulers_module.thumbnails(clips)) for clips, _ in (train, val, test))
        sign = [(2.0 * y - 1)[:, None] for _, y in (train, val, test)]
        way = rulers_module._ridge(x, sign[0], x_val, sign[1], x_test)
        assert torch.nn.functional.softplus(-way * sign[2]).mean() > 0.685


def test_frame_0_gives_away_motions_that_begin_at_one_place():
    sets = [_clock(n, seed, spread=0.3) for n, seed in ((300, 0), (100, 1), (200, 2))]
    scores = evaluation.ruler_scores(*sets)
    ends = evaluation.pair_scores(scores["frames side by side, linear"], sets[2][1])["within"]
    assert ends > 0.99


def test_a_ridge_is_scikit_learns_with_the_strength_that_is_best_on_validation():
    torch.manual_seed(0)
    x, x_val, x_test = (torch.randn(n, 7, dtype=torch.float64) + 2 for n in (30, 20, 10))
    weights = torch.randn(7, 2, dtype=torch.float64)
    y, y_val = (v @ weights + 3 * torch.randn(len(v), 2, dtype=torch.float64) + 5 for v in (x, x_val))
    unit = (x - x.mean(0)).square().sum(1).mean().item()
    fits = [Ridge(alpha=s * unit).fit(x, y) for s in rulers_module.STRENGTHS]
    errors = [((fit.predict(x_val) - y_val.numpy()) ** 2).mean() for fit in fits]
    assert 0 < errors.index(min(errors)) < 3  # neither the least nor the greatest strength
    expected = fits[errors.index(min(errors))].predict(x_test)
    torch.testing.assert_close(rulers_module._ridge(x, y, x_val, y_val, x_test), torch.tensor(expected))


def test_linear_scores_name_the_pair_first_and_then_the_direction():
    torch.manual_seed(1)
    labels = torch.arange(200) % 4
    x = torch.nn.functional.one_hot(labels // 2, 2).float() + 0.1 * torch.randn(200, 2)
    way = ((labels % 2) - 0.5) * (1 - 2 * (labels // 2))  # the other way round in the second pair
    x = torch.cat([x, way[:, None] + 0.1 * torch.randn(200, 1)], 1)
    z = evaluation.linear_scores(x[:120], labels[:120], x[120:160], labels[120:160], x[160:])
    assert evaluation.pair_scores(z, labels[160:]) == dict(overall=1.0, pair=1.0, within=1.0)
    assert (z[:, ::2] - z[:, 1::2]).abs().max() < 0.01 < (z[:, 0] - z[:, 2]).abs().min()


def test_nearest_scores_are_scipys_distances():
    torch.manual_seed(2)
    train, test, labels = torch.randn(50, 6), torch.randn(20, 6), torch.arange(50) % 4
    z = evaluation.nearest_scores(train, labels, test)
    distance = torch.tensor(cdist(test, train)).float()
    assert torch.equal(z.argmax(1), labels[distance.argmin(1)])
    torch.testing.assert_close(-z[:, 2], distance[:, 2::4].amin(1))


def test_within_each_counts_each_pair_by_itself():
    logits = torch.tensor(
        [[2.0, 1, 9, 0], [2, 1, 0, 0], [0, 0, 3, 3], [0, 5, 1, 2], [0, 5, 1, 2], [0, 5, 2, 1]]
    )
    labels = torch.tensor([0, 1, 2, 3, 3, 3])
    assert evaluation.within_each(logits, labels) == pytest.approx([0.5, (0.5 + 2) / 4])


def test_reversals_come_after_the_clips_with_the_twins_label():
    clips, labels = torch.rand(3, 4, 1, 2, 2), torch.tensor([0, 1, 4])
    both, names = evaluation.with_reversals(clips, labels)
    assert torch.equal(both[:3], clips) and torch.equal(both[4, 0], clips[1, 3])
    assert names.tolist() == [0, 1, 4, 1, 0, 5]


def test_table_prints_means_over_seeds_under_their_columns():
    labels = torch.arange(12)
    right, wrong = torch.eye(12), torch.eye(12)[labels ^ 1]
    lines = evaluation.ruler_table({"a": right, "bb": [right, wrong]}, labels).splitlines()
    assert lines[0].split() == [*rulers_module.COLUMNS] and {len(line) for line in lines} == {3 + 57}
    assert lines[1].split() == ["a"] + 9 * ["1.00"]
    assert lines[2].split() == ["bb", "0.50", "1.00"] + 7 * ["0.50"]


def test_thumbnails_average():
    clips = torch.rand(2, 3, 1, 32, 32)
    small = rulers_module.thumbnails(clips)
    assert small.shape == (2, 3, 256)
    assert small[1, 2, 17].item() == pytest.approx(clips[1, 2, 0, 2:4, 2:4].mean().item(), abs=1e-6)


def test_neighbors_do_not_see_a_still_background():
    train, val, test = (_clock(n, seed) for n, seed in ((300, 0), (10, 1), (100, 2)))
    behind = 3 * torch.rand(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(9))
    train = train[0] + behind[train[1]], train[1]  # the background names the class in training ...
    test = test[0] + behind[1 - test[1]], test[1]  # ... and the other one in the test
    for name, z in evaluation.ruler_scores(train, val, test).items():
        if name.startswith("pixel"):
            assert evaluation.pair_scores(z, test[1])["within"] > 0.98
