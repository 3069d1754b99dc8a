"""Splits by source, and what a report says: interval over sources, calibration, area under the ROC curve."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sora_nb.data.listing import VideoList
from sora_nb.data.splits import split_by_source
from sora_nb.evaluation.report import Report, auroc, clustered_wilson, fit_temperature, reliability
from sora_nb.evaluation.scores import wilson


def films(counts: dict[str, list[int]]) -> VideoList:
    """A list with, for each class, films of so many clips: ``class/film_clip.mp4``."""
    items = [
        (Path(f"{name}/f{film}_{clip}.mp4"), label)
        for label, (name, sizes) in enumerate(counts.items())
        for film, size in enumerate(sizes)
        for clip in range(size)
    ]
    return VideoList(items, list(counts))


def film(path: Path) -> str:
    return str(path).rpartition("_")[0]


# ------------------------------------------------------------------------------------------------- splits


def test_parts_share_no_source_hold_all_files_and_every_class():
    videos = films({"a": [3] * 20, "b": [1, 5, 2], "c": [4] * 7})
    parts = split_by_source(videos, film)
    held = [{film(path) for path, _ in part.items} for part in parts]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert sorted(item for part in parts for item in part.items) == sorted(videos.items)
    for part in parts:
        assert {label for _, label in part.items} == {0, 1, 2} and part.classes == ["a", "b", "c"]
        assert part.items == [item for item in videos.items if item in part.items]  # in their old order
    assert [len({film(p) for p, label in part.items if label == 0}) for part in parts] == [14, 3, 3]


def test_shares_are_of_sources_and_the_seed_decides():
    videos = films({"a": [1] * 40, "b": [2] * 40})
    parts = split_by_source(videos, film, (0.5, 0.5))
    assert [len(part.items) for part in parts] == [60, 60]
    assert (
        parts
        == split_by_source(videos, film, (0.5, 0.5))
        != split_by_source(videos, film, (0.5, 0.5), seed=1)
    )
    alone = split_by_source(videos)  # each file a source of its own
    assert [len(part.items) for part in alone] == [84, 18, 18]


def test_a_film_with_several_classes_goes_to_one_part():
    items = [(Path(f"film{i}_{label}.mp4"), label) for i in range(9) for label in (0, 1)]
    parts = split_by_source(VideoList(items, ["a", "b"]), film)
    for part in parts:
        assert sorted(film(p) for p, label in part.items if label) == sorted(
            film(p) for p, label in part.items if not label
        )


def test_too_few_sources_and_wrong_shares_are_refused():
    with pytest.raises(ValueError, match="'b' has 2 sources of video, too few for 3 parts"):
        split_by_source(films({"a": [1] * 9, "b": [30, 30]}), film)
    for shares in ((1.0,), (0.5, 0.6), (1.2, -0.2), (0.25,) * 4):
        with pytest.raises(ValueError, match="two or three above 0 that add up to 1"):
            split_by_source(films({"a": [1] * 9}), film, shares)


# ------------------------------------------------------------------------------------------------- interval


def test_with_one_trial_a_source_the_interval_is_wilsons():
    right = [True] * 30 + [False] * 10
    n = len(right)
    effect = n / (n - 1)  # the variance between 40 sources, estimated
    assert clustered_wilson(right, range(n)) == pytest.approx(wilson(30 / effect, n / effect))


def test_copies_of_a_trial_add_nothing():
    right = [True] * 30 + [False] * 10
    once = clustered_wilson(right, range(40))
    five = clustered_wilson(np.repeat(right, 5).tolist(), np.repeat(range(40), 5).tolist())
    assert five == pytest.approx(once, abs=1e-9)
    assert clustered_wilson([True] * 50, [0, 1] * 25) == wilson(2, 2)
    assert clustered_wilson([True, False] * 25, [0] * 50) == wilson(0.5, 1)


def test_it_covers_the_truth_where_wilsons_interval_over_clips_does_not():
    rng, hit = np.random.default_rng(0), np.zeros(2)
    for _ in range(300):
        chances = rng.beta(1.4, 0.6, 30)  # of 30 films; mean 0.7
        right, sources = (
            (rng.random((30, 8)) < chances[:, None]).ravel().tolist(),
            np.repeat(range(30), 8).tolist(),
        )
        for i, (low, high) in enumerate([clustered_wilson(right, sources), wilson(sum(right), 240)]):
            hit[i] += low <= 0.7 <= high
    assert hit[0] / 300 > 0.9 and hit[1] / 300 < 0.75


def test_an_interval_of_nothing_is_refused():
    for right, sources in (([], []), ([True], [])):
        with pytest.raises(ValueError, match="expected one source an answer"):
            clustered_wilson(right, sources)


# ------------------------------------------------------------------------------------------------- calibration


def test_temperature_undoes_a_scale():
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(1, rel=0.08)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-3)
    best = fit_temperature(logits, labels)
    losses = [F.cross_entropy(logits / t, labels).item() for t in (best, 0.9 * best, 1.1 * best)]
    assert losses[0] == min(losses)
    assert fit_temperature(torch.eye(5), torch.arange(5)) == pytest.approx(0.25, abs=0.01)  # its bound


def test_reliability_equals_a_loop():
    rng = torch.Generator().manual_seed(0)
    sure = torch.rand(200, generator=rng)
    sure[:3] = torch.tensor([0.0, 0.1, 1.0])
    right = torch.rand(200, generator=rng) < sure
    bins, error = reliability(sure, right, 10)
    wanted = 0.0
    for b in range(10):
        at = [i for i in range(200) if (b / 10 < sure[i] <= (b + 1) / 10) or (b == 0 and sure[i] == 0)]
        gap = abs(sum(right[i].item() for i in at) / len(at) - sum(sure[i].item() for i in at) / len(at))
        assert bins[b].count == len(at)
        wanted += len(at) / 200 * gap
    assert error == pytest.approx(wanted, abs=1e-5)
    assert reliability(torch.full((10,), 0.75), torch.arange(10) < 5)[1] == pytest.approx(0.25)
    assert len(reliability(torch.full((10,), 0.75), torch.arange(10) < 5)[0]) == 1


def test_auroc_equals_scikit_learns_and_counts_ties_half():
    from sklearn.metrics import roc_auc_score

    rng = torch.Generator().manual_seed(0)
    known = (torch.rand(80, generator=rng) + 0.2).mul(10).round() / 10  # many ties
    unknown = torch.rand(50, generator=rng).mul(10).round() / 10
    wanted = roc_auc_score([1] * 80 + [0] * 50, torch.cat([known, unknown]))
    assert auroc(known, unknown) == pytest.approx(wanted, abs=1e-12)
    assert auroc(torch.ones(3), torch.zeros(2)) == 1 and auroc(torch.ones(3), torch.ones(2)) == 0.5


# ------------------------------------------------------------------------------------------------- the report


def report(**changes) -> Report:
    chances = torch.tensor(
        [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6], [0.1, 0.9, 0.0]]
    )
    given = {
        "classes": ["a", "b", "c"],
        "files": [Path(f"{i}.mp4") for i in range(5)],
        "labels": torch.tensor([0, 1, 1, 2, 0]),
        "logits": (chances + 1e-9).log(),
        "sources": list("vwxyz"),
    }
    return Report(**given | changes)


def test_a_report_counts_what_it_says():
    made = report()
    assert made.right == [True, False, False, True, False] and made.accuracy == 0.4
    assert made.interval == clustered_wilson(made.right, made.sources)
    assert made.confusion().tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 1]]
    assert [(m.file.name, m.truth, m.answer, round(m.confidence, 2)) for m in made.worst(2)] == [
        ("4.mp4", "a", "b", 0.9),
        ("1.mp4", "b", "a", 0.8),
    ]
    assert len(made.worst(9)) == 3
    assert (
        "2 of 5 right: accuracy 0.400" in str(made)
        and "b called c: 1" in str(made)
        and "5 sources" in str(made)
    )


def test_failed_files_count_as_wrong():
    made = report(failed={Path("x.mp4"): "Cannot read it."}, sources=list("uvwxyz"))
    assert made.accuracy == pytest.approx(2 / 6) and made.right[-1] is False
    assert "could not be read: Cannot read it." in str(made)
