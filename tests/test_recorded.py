"""What recorded runs share: rates away from the edge, results kept, pairs on the same clips, clips drawn in parts."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import recorded

from sora_nb.data import motion


def test_a_search_goes_on_until_the_best_rate_lies_inside():
    asked = []

    def loss(rate):
        asked.append(rate)
        return abs(rate - 0.11)

    losses = recorded.search(loss, [1e-3, 3e-3, 9e-3])
    assert len(asked) == len(set(asked)) == len(losses) and list(losses) == sorted(losses)
    assert min(losses) < recorded.best_of(losses) < max(losses)
    assert recorded.best_of(losses) == pytest.approx(0.081)


def test_a_search_among_equals_goes_down_and_one_without_an_end_stops():
    assert len(recorded.search(lambda rate: -rate, [1e-3, 2e-3], most=5)) == 5
    assert min(recorded.search(lambda rate: rate, [1e-3, 2e-3, 4e-3], most=6)) == pytest.approx(1e-3 / 8)


def test_a_finished_result_is_read_and_not_made_again(tmp_path):
    path = tmp_path / "runs" / "one.json"
    first = recorded.kept(path, lambda: {"right": [1, 0]})
    assert first == json.loads(path.read_text()) == recorded.kept(path, lambda: pytest.fail("made again"))


def test_a_paired_difference_is_over_the_same_clips_and_reversals():
    ours = [{"right": [1, 1, 0, 1, 1, 0]}, {"right": [1, 1, 0, 1, 1, 0]}]
    theirs = [{"right": [0, 1, 0, 0, 1, 0]}, {"right": [1, 1, 0, 1, 1, 0]}]
    gap = recorded.paired(ours, theirs, copies=2)  # clip 0 gains half of the seeds, twice; the others nothing
    assert gap["difference"] == pytest.approx(1 / 6) and gap["low"] == 0 < gap["high"] <= 0.5


def test_drawn_clips_are_halved_frames_of_the_set_whatever_the_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "DRAWN", tmp_path)
    monkeypatch.setattr(recorded, "PART", 2)
    spec = motion.MotionSpec(level=1, train=0, take=1)
    clips = recorded.drawn(spec, "train", 3)
    frames = motion.render(motion.MotionSpec(level=1, train=9, take=1), "train", 2)[0]
    wanted = F.avg_pool2d(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), 2)
    assert clips.shape == (3, 16, 3, 16, 16) and (clips[2].float() - wanted).abs().max() <= 0.5
    assert torch.equal(recorded.drawn(spec, "train", 3), clips) and len(list(tmp_path.iterdir())) == 2
