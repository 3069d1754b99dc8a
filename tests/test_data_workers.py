"""Clips of folders in workers and in training: draws that repeat, and clips that survive a pickle."""

import itertools
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from sora_nb.data.folders import VideoClips, from_folder
from sora_nb.training import fit
from sora_nb.transforms import evaluation_transform
from sora_nb.video import sample_dense, sample_random_clip, write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three readable files of two classes; frame i of file k has brightness 10 i + k."""
    root = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(("cat/a.mp4", "cat/deep/b.mp4", "dog/c.mp4")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        levels = k + 10 * np.arange(20, dtype=np.uint8)
        write_video(root / name, np.broadcast_to(levels[:, None, None, None], (20, 32, 32, 3)))
    return root


RANDOM = partial(sample_random_clip, k=2)


def _starts(clips: torch.Tensor) -> list[int]:
    """The frame each clip (B, T, 3, H, W) of the first file begins with, read off its brightness."""
    return (clips[:, 0].mean((1, 2, 3)) * 25.5).round().int().tolist()


def _epochs(data, epochs: int, workers: int) -> list[list[int]]:
    loader = DataLoader(data, batch_size=4, num_workers=workers, timeout=60 if workers else 0)
    return [list(itertools.chain.from_iterable(_starts(clips) for clips, _ in loader)) for _ in range(epochs)]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_epochs_draw_differently_and_a_seed_decides(videos, workers):
    data = VideoClips([(videos / "cat" / "a.mp4", 0)] * 8, sample=RANDOM)
    torch.manual_seed(3)
    first, second = _epochs(data, 2, workers)
    assert first[:4] != first[4:] and first != second  # batch 0 and batch 1 come from two workers
    assert set(first + second) <= set(range(19)) and len(set(first + second)) > 6
    torch.manual_seed(3)
    assert _epochs(data, 2, workers) == [first, second]
    torch.manual_seed(4)
    assert _epochs(data, 1, workers) != [first]


def test_a_sampler_without_chance_draws_nothing(videos):
    data = VideoClips([(videos / "cat" / "a.mp4", 0)], sample=partial(sample_dense, k=2))
    state = torch.get_rng_state()
    assert _starts(data[0][0][None]) == [9]  # the middle
    assert torch.equal(torch.get_rng_state(), state)


class Linear(nn.Linear):
    """The smallest model that `fit` can train, on the brightness of a clip."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return super().forward(clips.mean((1, 2, 3, 4))[:, None])  # (B, T, 3, H, W) -> (B, 2)


def _drawn(data, seed: int, checkpoint=None, stop: int | None = None) -> list[list[int]]:
    """The starts of each batch that `fit` trained on; the run dies before epoch ``stop``."""
    seen = []
    torch.manual_seed(0)

    def step(model, batch):
        seen.append(_starts(batch[0]))
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        return loss, loss.detach()

    def die(model, epoch):
        if epoch == stop:
            raise KeyboardInterrupt

    try:
        fit(Linear(1, 2), data, epochs=3, batch_size=3, seed=seed, step=step, before_epoch=die,
            checkpoint=checkpoint, progress=False)  # fmt: skip
    except KeyboardInterrupt:
        pass
    return seen


def test_the_seed_of_fit_decides_and_a_resumed_run_draws_alike(videos, tmp_path):
    """Also when a file fails: the resumed run meets it once more, the uninterrupted one does not."""
    bad = tmp_path / "bad.mp4"
    whole = (videos / "cat" / "a.mp4").read_bytes()
    place = whole.index(b"mdat") + 900
    bad.write_bytes(whole[:place] + b"\xff" * 200 + whole[place + 200 :])  # opens, but does not decode
    items = [(videos / "cat" / "a.mp4", 0), (bad, 1)] * 3

    def data():
        return VideoClips(items, sample=partial(sample_random_clip, k=16), on_error="skip")

    whole_run = _drawn(data(), seed=1)
    assert len(whole_run) == 6 and len({tuple(starts) for starts in whole_run}) > 3
    assert _drawn(data(), seed=1) == whole_run and _drawn(data(), seed=2) != whole_run
    assert _drawn(data(), 1, tmp_path / "run.safetensors", stop=1) == whole_run[:2]
    resumed = data()
    assert _drawn(resumed, 1, tmp_path / "run.safetensors") == whole_run[2:]
    assert list(resumed.skipped) == [bad]


# ------------------------------------------------------------------------------------- processes that do not fork


def test_clips_survive_a_pickle(videos):
    data = VideoClips(from_folder(videos), transform=evaluation_transform(16), on_error="skip")
    again = pickle.loads(pickle.dumps(data))
    assert (
        torch.equal(again[1][0], data[1][0]) and again.classes == data.classes and again.items == data.items
    )


def test_spawned_workers_read_the_same_clips(videos):
    """As on Windows, on macOS and, from Python 3.14 on, on Linux; forkserver pickles in the same way."""
    data = VideoClips(from_folder(videos))
    loader = DataLoader(data, batch_size=2, num_workers=2, timeout=120, multiprocessing_context="spawn")
    clips, labels = (torch.cat(parts) for parts in zip(*loader))
    assert labels.tolist() == [0, 0, 1] and torch.equal(clips, torch.stack([clip for clip, _ in data]))
