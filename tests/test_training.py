"""The training loop: it learns, it repeats itself exactly, it resumes exactly, and it stops when it must."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sora_nb import training


def toy(n=96, seed=0):
    """Two classes that a linear layer can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    return TensorDataset(x, (x[:, 0] + 0.5 * x[:, 1] > 0).long())


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def equal(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_fit_learns_and_reports_each_epoch():
    net = model()
    history = training.fit(net, toy(), toy(seed=1), epochs=20, lr=3e-2, progress=False)
    assert len(history.train_loss) == len(history.val_loss) == len(history.val_accuracy) == 20
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert history.val_accuracy[-1] > 0.85 and history.seconds > 0
    assert not net.training


def test_weights_go_into_a_folder_that_is_not_there_yet(tmp_path):
    training.save_weights(model(), tmp_path / "new" / "weights.safetensors")
    fresh = model(seed=1)
    training.load_weights(fresh, tmp_path / "new" / "weights.safetensors")
    assert equal(fresh, model())


def test_fit_takes_32_items_a_step_unless_told():
    sizes = []

    def step(net, batch):
        sizes.append(len(batch[0]))
        return training.classify(net, batch)

    training.fit(model(), toy(), epochs=1, step=step, progress=False)
    assert sizes == [32, 32, 32]


def test_same_seed_is_bit_identical_and_another_seed_is_not():
    nets = [model(), model(), model()]
    for net, seed in zip(nets, (3, 3, 4), strict=True):
        training.fit(net, toy(), epochs=2, seed=seed, progress=False)
    assert equal(nets[0], nets[1]) and not equal(nets[0], nets[2])


def test_the_kept_weights_are_those_of_the_lowest_validation_loss():
    net, seen = model(), []
    val = toy(seed=1)

    def remember(m, epoch):
        seen.append({k: v.clone() for k, v in m.state_dict().items()})

    history = training.fit(net, toy(16), val, epochs=25, lr=0.3, before_epoch=remember, progress=False)
    best = history.val_loss.index(min(history.val_loss))
    assert history.best_epoch == best < 24, (
        "a high rate on few items overfits, so the best epoch is not the last"
    )
    assert torch.equal(seen[best + 1]["0.weight"], net.state_dict()["0.weight"])


KILLED = """
    import sys, os, signal, torch
    sys.path.insert(0, {tests!r})
    from test_training import model, toy
    from sora_nb import training
    def stop(m, epoch):
        if epoch == 4 and {kill}:
            os.kill(os.getpid(), signal.SIGKILL)
    net = model()
    training.fit(net, toy(), toy(seed=1), epochs=8, lr=1e-2, checkpoint={checkpoint!r}, before_epoch=stop, progress=False)
    training.save_weights(net, {out!r})
"""


def run(tmp_path, name, checkpoint, kill):
    code = KILLED.format(
        tests=os.path.dirname(__file__),
        checkpoint=str(tmp_path / checkpoint),
        kill=kill,
        out=str(tmp_path / name),
    )
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=120).returncode


def test_a_killed_run_resumes_to_the_identical_result(tmp_path):
    assert run(tmp_path, "whole.safetensors", "a.safetensors", kill=False) == 0
    assert run(tmp_path, "resumed.safetensors", "b.safetensors", kill=True) == -signal.SIGKILL
    assert not (tmp_path / "resumed.safetensors").exists()
    assert run(tmp_path, "resumed.safetensors", "b.safetensors", kill=False) == 0
    whole, resumed = model(1), model(2)
    training.load_weights(whole, tmp_path / "whole.safetensors")
    training.load_weights(resumed, tmp_path / "resumed.safetensors")
    assert equal(whole, resumed)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    training.fit(model(), toy(), epochs=1, checkpoint=tmp_path / "c", progress=False)
    with pytest.raises(ValueError, match="belongs to a run"):
        training.fit(model(), toy(), epochs=2, checkpoint=tmp_path / "c", progress=False)


def test_a_loss_that_is_not_finite_stops_with_the_files_and_the_checkpoint(tmp_path):
    data = toy(64)
    data.files = [f"clip{i}.mp4" for i in range(64)]

    def poisoned(m, epoch):
        if epoch == 1:
            data.tensors[0][7] = float("nan")

    with pytest.raises(
        FloatingPointError, match=r"epoch 1, step \d.*clip7\.mp4.*last good weights are in .*keep"
    ):
        training.fit(
            model(), data, epochs=3, checkpoint=tmp_path / "keep", before_epoch=poisoned, progress=False
        )


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="empty training set"):
        training.fit(model(), TensorDataset(torch.zeros(0, 6)), epochs=1)


@pytest.mark.parametrize(("n", "size", "count"), [(10, 4, 2), (8, 4, 2), (3, 4, 1)])
def test_batches_cover_without_repeats_and_drop_only_an_incomplete_end(n, size, count):
    chunks = training.batches(n, size, seed=1, epoch=2)
    flat = [i for chunk in chunks for i in chunk]
    assert len(chunks) == count and len(set(flat)) == len(flat) and set(flat) <= set(range(n))
    assert chunks == training.batches(n, size, seed=1, epoch=2) != training.batches(n, size, seed=1, epoch=3)


def test_learning_rate_rises_to_the_peak_then_falls_to_zero():
    rates = [training.learning_rate(s, 100, peak=0.5) for s in range(101)]
    assert max(rates) == pytest.approx(0.5) and rates.index(max(rates)) == 19
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-12) and rates[60] == pytest.approx(0.25)


def test_predict_is_evaluation_mode_keeps_order_and_restores_the_mode():
    net = model().train()
    x = toy(50).tensors[0]
    whole = training.predict(net, x, batch_size=7)
    assert net.training
    torch.testing.assert_close(whole, net.eval()(x))
    torch.testing.assert_close(training.predict(net, toy(50), batch_size=50), whole)


def test_weights_survive_a_round_trip_and_a_wrong_model_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    net, other = model(0), model(1)
    training.save_weights(net, path)
    training.load_weights(other, path)
    assert equal(net, other)
    with pytest.raises(ValueError, match=r"does not fit this Linear.*'0\.bias'"):
        training.load_weights(nn.Linear(6, 2), path)


def test_only_matrices_decay():
    groups = training._decay_groups(model(), 0.1)
    assert {p.ndim for p in groups[0]["params"]} == {2} and groups[0]["weight_decay"] == 0.1
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0.0


def test_parameters_counts_what_trains():
    net = nn.Linear(3, 4)
    net.bias.requires_grad_(False)
    assert training.parameters(net) == 12
