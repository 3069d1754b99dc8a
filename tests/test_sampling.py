"""Properties of the rules that choose frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_nb import video
from sora_nb.video import sampling
from sora_nb.video.sampling import (
    sample_dense,
    sample_multi_clip,
    sample_random_clip,
    sample_segments,
    sample_uniform,
)

frames, wanted, strides, seeds = (
    st.integers(1, 400),
    st.integers(1, 64),
    st.integers(1, 9),
    st.integers(0, 99),
)


@given(frames, wanted, strides, seeds)
def test_every_rule_stays_in_the_video(n, k, stride, seed):
    for indices in (
        sample_uniform(n, k),
        sample_segments(n, k, seed),
        sample_dense(n, k, stride),
        sample_dense(n, k, stride, generator=seed),
        sample_random_clip(n, k, stride, seed),
        sample_multi_clip(n, k, stride, 3),
    ):
        assert indices.dtype == np.int64 and indices.shape[-1] == k
        assert indices.min() >= 0 and indices.max() < n
        assert (np.diff(indices, axis=-1) >= 0).all()


@given(frames, wanted)
def test_uniform_is_even_and_symmetric(n, k):
    indices = sample_uniform(n, k)
    parts = np.arange(k + 1) * n / k
    assert (parts[:-1] - 1 < indices).all() and (indices < parts[1:]).all()
    mirror = n - 1 - indices[::-1]
    assert np.abs(mirror - indices).max() <= 1  # the middle of an even part is rounded to one side
    if k <= n:
        assert (np.diff(indices) > 0).all()
    np.testing.assert_array_equal(sample_uniform(n, n), np.arange(n))


def test_uniform_by_hand():
    assert sample_uniform(10, 3).tolist() == [1, 5, 8]
    assert sample_uniform(3, 6).tolist() == [0, 0, 1, 1, 2, 2]  # too short: frames repeat evenly


@given(frames, wanted, seeds)
def test_segments_take_one_frame_of_each(n, k, seed):
    indices = sample_segments(n, k, seed)
    edges = np.arange(k + 1) * n // k
    assert (indices >= np.minimum(edges[:-1], n - 1)).all()
    assert (indices < np.maximum(edges[1:], edges[:-1] + 1)).all()
    np.testing.assert_array_equal(indices, sample_segments(n, k, seed))


def test_segments_reach_every_frame():
    drawn = np.stack([sample_segments(12, 3, seed) for seed in range(200)])
    assert [sorted(set(column.tolist())) for column in drawn.T] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


@given(frames, wanted, strides)
def test_dense_keeps_its_stride_and_holds_the_last_frame(n, k, stride):
    start = n // 3
    indices = sample_dense(n, k, stride, start)
    expected = start + stride * np.arange(k)
    np.testing.assert_array_equal(indices, np.where(expected < n, expected, n - 1))


def test_dense_is_centered_without_a_start():
    assert sample_dense(10, 4).tolist() == [3, 4, 5, 6]
    assert sample_dense(10, 4, 2).tolist() == [1, 3, 5, 7]
    assert sample_dense(3, 5).tolist() == [0, 1, 2, 2, 2]


def test_random_clips_start_everywhere_that_fits():
    starts = {int(sample_random_clip(10, 4, 2, seed)[0]) for seed in range(200)}
    assert starts == {0, 1, 2, 3}
    generator = np.random.default_rng(0)  # which moves on
    assert len({int(sample_random_clip(1000, 4, 1, generator)[0]) for _ in range(20)}) > 10
    assert np.diff(sample_random_clip(1000, 4, generator=0)).tolist() == [1, 1, 1]


@given(frames, wanted, strides, st.integers(2, 12))
def test_multi_clips_run_from_the_first_frame_to_the_last(n, k, stride, clips):
    indices = sample_multi_clip(n, k, stride, clips)
    assert indices.shape == (clips, k) and indices[0, 0] == 0
    if n > (k - 1) * stride:
        assert indices[-1, -1] == n - 1
        assert np.ptp(np.diff(indices[:, 0])) <= 1
    np.testing.assert_array_equal(sample_multi_clip(n, k, stride, 1)[0], sample_dense(n, k, stride))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_uniform(0, 3),
        lambda: sample_segments(4, 0),
        lambda: sample_dense(4, 2, 0),
        lambda: sample_dense(4, 2, 1, start=4),
        lambda: sample_dense(4, 2, 1, start=-1),
        lambda: sample_multi_clip(4, 2, 1, 0),
        lambda: sample_uniform(4.5, 2),
    ],
)
def test_nonsense_raises_one_sentence(call):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_video_offers_the_rules():
    for name in ("uniform", "segments", "dense", "random_clip", "multi_clip"):
        assert getattr(video, f"sample_{name}") is getattr(sampling, f"sample_{name}")
