"""The clips that the page's network learns from are what their labels say, also after they are turned into each other."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_nb.data import motion
from sora_nb.models import SoraGRU

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import live_model

NAMES = motion.CLASSES


def measures(clips: torch.Tensor) -> dict[str, np.ndarray]:
    """Of each frame (N, T): ink, its centre, its spread from side to side and in all, and the turn of its long axis."""
    ink = clips.double().mean(-1).numpy()  # (N, T, H, W)
    total = ink.sum((2, 3)) + 1e-9
    rows, columns = np.mgrid[:32, :32]
    x, y = (ink * columns).sum((2, 3)) / total, (ink * rows).sum((2, 3)) / total
    dx, dy = columns - x[..., None, None], rows - y[..., None, None]
    xx, yy, xy = ((ink * part).sum((2, 3)) / total for part in (dx * dx, dy * dy, dx * dy))
    axis = np.unwrap(0.5 * np.arctan2(-2 * xy, xx - yy), period=np.pi)  # counter-clockwise, rows go down
    return {"ink": total, "x": x, "y": y, "side": xx + yy, "turn": axis}


RISES = {
    "right": "x",
    "down": "y",
    "grow": "side",
    "counter-clockwise": "turn",
    "appear": "ink",
    "split": "side",
}


def share(clips: torch.Tensor, labels: torch.Tensor, name: str) -> float:
    """How many clips of a class and its twin go the way that its name says."""
    seen = measures(clips)[RISES[name]]
    change, odd = seen[:, -1] - seen[:, 0], labels.numpy() == NAMES.index(name)
    twin = labels.numpy() == NAMES.index(name) ^ 1
    return np.concatenate([change[odd] > 0, change[twin] < 0]).mean()


@pytest.fixture(scope="module")
def clips():
    return live_model.by_hand("train", 240)


@pytest.mark.parametrize("name", RISES)
def test_a_clip_made_by_hand_does_what_its_label_says(clips, name):
    assert share(*clips, name) > 0.85


@pytest.mark.parametrize("name", RISES)
def test_so_does_a_clip_that_was_turned(clips, name):
    torch.manual_seed(0)
    frames, labels = live_model.turned(clips[0].float().movedim(-1, 2), clips[1])
    assert (labels != clips[1]).any()
    assert share(frames.movedim(2, -1), labels, name) > 0.85


def test_a_walk_never_goes_back_and_pauses_now_and_then():
    torch.manual_seed(0)
    clips = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(200, 16, 1, 1, 1)
    at = live_model.walked(clips).flatten(1)
    steps = at.diff(dim=1)
    assert at.shape == (200, live_model.WALK) and (steps >= 0).all() and (steps == 0).any()
    assert at.min() == 0 and at.max() == 15


def test_scores_are_those_of_a_stream():
    torch.manual_seed(0)
    model, clips, state = SoraGRU(12, **live_model.OPTIONS).eval(), torch.rand(2, 5, 3, 32, 32), None
    with torch.no_grad():
        scores = live_model.scores(model, clips)
        for t in range(5):
            wanted, state = model.step(clips[:, t], state)
            assert torch.allclose(scores[:, t], wanted, atol=1e-5)


def test_a_split_has_its_own_digits():
    one, other = (live_model.by_hand(split, 12)[0] for split in ("train", "test"))
    assert not torch.equal(one, other)
    assert torch.equal(one, live_model.by_hand("train", 12)[0])
