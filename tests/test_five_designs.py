"""The command of chapter 13: it runs the chapter's own cells, goes on where it was, and chooses nothing on test."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("five_designs", ROOT / "scripts" / "five_designs.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["five_designs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def protocol(command):
    return command.protocol()


def test_the_protocol_is_the_chapters(command, protocol):
    source = command.CHAPTER.read_text()
    assert len(protocol.DESIGNS) == 6 and all(f'"{name}"' in source for name in protocol.DESIGNS)
    assert {design for design, _ in protocol.ABLATIONS.values()} <= set(protocol.DESIGNS)


def test_every_design_gets_the_same_number_of_runs_and_no_seed_is_tuned_on(command, protocol):
    rates = dict.fromkeys(protocol.DESIGNS, 1e-3)
    for kind in ("tuning", "designs", "fractions"):
        runs = command.plan(protocol, kind, rates)
        counts = {name: sum(run["design"] == name for run in runs) for name in protocol.DESIGNS}
        assert len(set(counts.values())) == 1 and min(counts.values()) >= 3
        assert all((run["seed"] == command.TUNING_SEED) == (kind == "tuning") for run in runs)
        assert len({command.label(run) for run in runs}) == len(runs)


def test_a_finished_run_is_read_back_and_half_a_file_is_none(command, tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"overall": 0.5}

    (tmp_path / "a_run.123").write_text('{"overall": 0.')  # what a killed call leaves
    first, again = command.cached(tmp_path, "a run", make), command.cached(tmp_path, "a run", make)
    assert len(calls) == 1 and first == again and first["overall"] == 0.5
    assert json.loads((tmp_path / "a_run.json").read_text())["cpu_seconds"] >= 0


def test_tuning_never_sees_the_test_split(command, protocol):
    tiny = torch.utils.data.TensorDataset(torch.rand(24, 8, 3, 32, 32), torch.arange(24) % 12)
    run = command.plan(protocol, "tuning")[0] | {"fraction": 1.0}
    found = command.work(protocol, {"train": tiny, "val": tiny}, None, run)  # None would fail if it were used
    assert set(found) == {"parameters", "validation"}


@pytest.mark.parametrize(
    "name", ["mean pool", "A Transformer", "B contrastive", "C GRU", "D fusion", "E autoencoder"]
)
def test_every_design_trains_and_all_its_weights_move_or_rest_by_design(protocol, name):
    tiny = torch.utils.data.TensorDataset(torch.rand(24, 8, 3, 32, 32), torch.arange(24) % 12)
    torch.manual_seed(0)
    before = {k: v.clone() for k, v in protocol.DESIGNS[name]().named_parameters()}
    model, history = protocol.train_design(name, {"train": tiny, "val": None}, 0, 1e-3, 2)
    assert len(history.train_loss) == (1 if name in protocol.PRETRAIN else 2)
    still = [k for k, v in model.named_parameters() if torch.equal(v, before[k])]
    assert not [k for k in still if "decoder" not in k or name != "E autoencoder"]


def test_macs_and_kept_bytes_by_hand(protocol):
    lstm = nn.LSTM(10, 20, 2, batch_first=True)
    assert protocol.macs(lstm, torch.rand(1, 8, 10)) == 8 * 4 * (10 * 20 + 20 * 20 + 20 * 20 + 20 * 20)
    two = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    assert protocol.kept_bytes(two, torch.rand(64, 100)[:32]) == 4 * (100 + 50)


def test_lost_frames_are_repeats_of_the_last_one_shown(protocol):
    clips = torch.arange(8.0).view(1, 8, 1, 1, 1).expand(500, 8, 1, 1, 1)
    shown = protocol.dropped(clips)[:, :, 0, 0, 0]
    lost = shown != torch.arange(8.0)
    assert not lost[:, 0].any() and 0.2 < lost[:, 1:].float().mean() < 0.3
    assert torch.equal(shown[:, 1:][lost[:, 1:]], shown[:, :-1][lost[:, 1:]])


def test_recall_counts_the_nearest_other_clip(protocol):
    z, labels = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), torch.tensor([0, 0, 1, 2])
    assert protocol.recall_at_1(z, labels) == 0.5


@pytest.mark.parametrize("name", ["r3d-18, narrow", "TimeSformer", "VideoMAE"])
def test_the_peers_have_about_as_many_parameters_as_the_designs(command, protocol, name):
    peer = command.peers()[name]()
    assert peer(torch.rand(2, 8, 3, 32, 32)).shape == (2, 12)
    ours = sorted(command.parameters(make()) for make in protocol.DESIGNS.values())
    assert ours[0] < command.parameters(peer) < ours[-1]
