"""The command of chapter 13: it runs the chapter's own cells, goes on where it was, and chooses nothing on test."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sora_nb import ledger

ROOT = Path(__file__).resolve().parents[1]
RECEIPT = ROOT / "book" / "results" / "five_designs.json"


@pytest.fixture(scope="module")
def command():
    sys.path.insert(0, str(ROOT / "scripts"))  # where it finds what the scripts share
    spec = importlib.util.spec_from_file_location("five_designs", ROOT / "scripts" / "five_designs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["five_designs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def protocol(command):
    return command.protocol()


@pytest.fixture(scope="module")
def tiny():
    """Training and validation clips: bytes as files give them."""
    bytes_ = torch.randint(
        256, (120, 16, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    parts = (
        TensorDataset(bytes_[:96], torch.arange(96) % 12),
        TensorDataset(bytes_[96:], torch.arange(24) % 12),
    )
    return dict(zip(("train", "val"), parts, strict=True))


def test_the_protocol_is_the_chapters(command, protocol):
    source = command.CHAPTER.read_text()
    assert all(f'"{name}"' in source for name in protocol.CONTESTANTS)
    assert {design for design, _ in protocol.ABLATIONS.values()} <= set(protocol.CONTESTANTS)


def test_every_contestant_gets_the_same_runs_and_no_seed_is_tuned_on(command, protocol):
    names = {name: (name, {}) for name in protocol.CONTESTANTS}
    for kind, rates, seeds in (
        ("tuning", command.RATES, [command.TUNING_SEED]),
        ("level2", (1e-3,), range(3)),
    ):
        runs = command.plan(protocol, kind, names, 4, dict.fromkeys(names, rates), seeds)
        counts = {name: sum(run["design"] == name for run in runs) for name in names}
        assert set(counts.values()) == {3}
        assert all((run["seed"] == command.TUNING_SEED) == (kind == "tuning") for run in runs)
        assert len({command.label(run) for run in runs}) == len(runs)


def test_a_grid_grows_where_its_best_rate_is_the_outermost(command):
    assert command.beyond({1e-3: 0.2, 3e-3: 0.5, 9e-3: 0.4}) == []
    assert command.beyond({1e-3: 0.5, 3e-3: 0.4, 9e-3: 0.3}) == [pytest.approx(3e-4, rel=0.2)]
    assert command.beyond({1e-3: 0.1, 3e-3: 0.4, 9e-3: 0.5}) == [pytest.approx(0.03, rel=0.2)]
    assert command.best({1e-3: 0.5, 3e-3: 0.5}) == 1e-3


def test_only_the_runs_with_more_clips_get_more(command, monkeypatch):
    def small():
        sizes = SimpleNamespace(train=10)
        return SimpleNamespace(
            sizes=sizes, files=lambda level, split: (level, sizes.train if split == "train" else "val")
        )

    given = []
    monkeypatch.setattr(command, "protocol", small)
    monkeypatch.setattr(command, "P", None, raising=False)
    monkeypatch.setattr(command, "FOLDER", None, raising=False)
    monkeypatch.setattr(command, "do", lambda p, data, run, folder: given.append(data))
    command.data.cache_clear()
    for kind in ("more level2", "level2", "level1", "tuning"):
        command._one({"kind": kind})
    command.data.cache_clear()
    assert [data["train"] for data in given] == [(2, 10 * command.MORE), (2, 10), (1, 10), (2, 10)]
    assert given[0]["val"] == given[1]["val"]


def test_tuning_keeps_no_weights_and_a_finished_run_is_read_back(
    command, protocol, tiny, tmp_path, monkeypatch
):
    names = {"E": ("E", {})}
    (run,) = command.plan(protocol, "tuning", names, 2, {"E": (1e-3,)}, [100])
    (tmp_path / ".a.part").write_text('{"validation": 0.')  # what a killed call leaves
    first = command.do(protocol, dict(tiny), run, tmp_path)
    monkeypatch.setattr(command, "work", None)  # would fail if it were called
    assert command.do(protocol, dict(tiny), run, tmp_path) == first and 0 <= first["validation"] <= 1
    assert not list(tmp_path.glob("*.safetensors")) and len(first["curve"]) == 1


@pytest.mark.parametrize("name", ["mean pool", "A", "B", "C", "D", "E", "VideoMAE"])
def test_every_contestant_trains_all_its_weights_or_rests_by_design(protocol, tiny, name):
    torch.manual_seed(0)
    before = {k: v.clone() for k, v in protocol.CONTESTANTS[name]().named_parameters()}
    model, curve = protocol.train(name, dict(tiny), 0, 1e-3, 4)
    assert len(curve) == (2 if name in ("B", "E") else 4)  # the other passes had no labels
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    assert not [k for k in still if "mask_token" not in k]


def test_words_are_in_use_when_validation_begins_to_choose(protocol, tiny, passes=4):
    model, curve = protocol.train("A, one word a frame", dict(tiny), 0, 1e-3, passes)
    assert len(curve) == passes // 2 and model.quantizer.initialised
    assert model.words(protocol.eight(tiny["val"].tensors[0])).shape == (24, 8, 1, 1, 1)


def test_the_probe_is_a_logistic_regression_on_a_code_that_labels_never_touched(protocol, tiny):
    model, (share,) = protocol.train("E, probe", dict(tiny), 0, 1e-3, 1)
    clips, labels = protocol.eight(tiny["val"].tensors[0]), tiny["val"].tensors[1]
    found = protocol.evaluation.accuracy(protocol.training.predict(model, clips), labels)
    assert found == pytest.approx(share)
    again, _ = protocol.train("E, probe", {**tiny, "train": TensorDataset(tiny["train"].tensors[0], labels.repeat(4).flip(0))}, 0, 1e-3, 1)  # fmt: skip
    assert torch.equal(model.embed(clips), again.embed(clips))  # other labels, the same code
    assert not torch.equal(model.head.weight, again.head.weight)


def test_the_augmentation_does_not_care_for_the_direction(protocol):
    clips = torch.rand(4, 8, 3, 32, 32)
    outs = []
    for given in (clips, clips.flip(1)):
        torch.manual_seed(0)
        outs.append(protocol.augment(given))
    assert torch.equal(outs[0].flip(1), outs[1]) and not torch.equal(outs[0], clips)


def test_macs_and_kept_bytes_by_hand(protocol):
    lstm = nn.LSTM(10, 20, 2, batch_first=True)
    assert protocol.macs(lstm, torch.rand(1, 8, 10)) == 8 * 4 * (10 * 20 + 20 * 20 + 20 * 20 + 20 * 20)
    two = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    assert protocol.kept_bytes(two, torch.rand(64, 100)[:32]) == 4 * (100 + 50)


def test_macs_sees_fused_attention(protocol):
    class Attend(nn.Module):
        def forward(self, x):  # (B, N, D)
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    assert protocol.macs(Attend(), torch.rand(1, 6, 4)) == 2 * 6 * 6 * 4


def test_lost_frames_are_repeats_of_the_last_one_shown(protocol):
    clips = torch.arange(8.0).view(1, 8, 1, 1, 1).expand(500, 8, 1, 1, 1)
    shown = protocol.dropped(clips)[:, :, 0, 0, 0]
    lost = shown != torch.arange(8.0)
    assert not lost[:, 0].any() and 0.2 < lost[:, 1:].float().mean() < 0.3
    assert torch.equal(shown[:, 1:][lost[:, 1:]], shown[:, :-1][lost[:, 1:]])


def test_recall_counts_the_nearest_other_clip(protocol):
    z, labels = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), torch.tensor([0, 0, 1, 2])
    assert protocol.recall_at_1(z, labels) == 0.5


def test_the_last_step_draws_clips_of_another_seed_and_keeps_a_bit_a_clip(protocol, monkeypatch):
    monkeypatch.setattr(protocol.sizes, "fresh", 24)
    monkeypatch.setattr(protocol.sizes, "disturbed", 12)
    tests = protocol.fresh_tests(2)
    clips, labels = tests["fresh"]
    old = protocol.eight(
        torch.from_numpy(protocol.motion.render(protocol.motion.MotionSpec(level=2), "test", 0)[0])[None]
    )
    assert labels.tolist() == list(range(12)) * 2 and not torch.equal(clips[:1], old)

    class Knows(nn.Module):  # right on even classes, whatever it is shown; it has one weight, as models have
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            near = (x[:, None, 0].flatten(2) - clips[:, 0].flatten(1)).square().sum(2).argmin(1)
            said = torch.where(labels[near] % 2 == 0, labels[near], labels[near] ^ 1)
            return torch.nn.functional.one_hot(said, 12).float()

    found = protocol.measure(Knows(), {"fresh": tests["fresh"], "clean": tests["clean"]})
    bits = np.unpackbits(np.frombuffer(protocol.base64.b64decode(found["hits"]), np.uint8))[:24]
    assert bits.tolist() == [1, 0] * 12 and found["overall"] == 0.5 == found["under"]["clean"]
    assert found["pair"] == 1.0 and "recall" not in found


@pytest.mark.skipif(not RECEIPT.exists(), reason="the comparison was not recorded")
def test_the_receipt_is_of_this_protocol_and_tells_what_the_page_needs(protocol):
    recorded = ledger.read_receipt("five_designs")
    assert recorded["numbers"]["protocol"] == protocol.digest
    assert "+changes" not in recorded["commit"] and len(recorded["seeds"]) >= 3
    assert set(recorded["numbers"]["level2"]) == set(protocol.CONTESTANTS)
    numbers, updates = recorded["numbers"], recorded["numbers"]["level2"]["A"]["updates"][0]
    assert set(numbers["more level2"]) == set(protocol.CONTESTANTS)
    assert all(abs(row["updates"][0] / updates - 1) < 0.02 for row in numbers["more level2"].values())
    assert all(row["updates"][0] == 2 * updates for row in numbers["twice"].values())
    for row in recorded["numbers"]["level2"].values():
        bits = np.unpackbits(np.frombuffer(protocol.base64.b64decode(row["hits"][0]), np.uint8))
        assert abs(bits[: protocol.sizes.fresh].mean() - row["overall"][0]) < 1e-6
