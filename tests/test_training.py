"""The training loop: it learns, it repeats itself exactly, it resumes exactly, and it stops when it must."""

import math
import multiprocessing
import os
import random
import signal
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate import PartialState
from torch import nn
from torch.utils.data import Subset, TensorDataset

from sora_nb import processes, training


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


def in_a_fork(work):
    """Run ``work`` in a process of its own, which has this one's libraries and nothing that it learned before; its exit code."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    return child.exitcode


def long_run(checkpoint, kill_at=None, out=None):
    """Eight epochs; from the third on the first layer is frozen; killed with no warning before one of them."""

    def begin(net, epoch):
        if epoch == 3:
            training.freeze(net[:2])
        if epoch == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def work():
        net, data = model(), (toy(), toy(seed=1))
        options = {"epochs": 8, "lr": 1e-2, "checkpoint": checkpoint, "progress": False}
        training.fit(net, *data, before_epoch=begin, **options)
        training.save_weights(net, out)

    return work


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed the POSIX way")
def test_a_killed_run_resumes_to_the_identical_result(tmp_path):
    files = [tmp_path / name for name in ("whole", "killed", "resumed")]
    assert in_a_fork(long_run(tmp_path / "a", out=files[0])) == 0
    assert in_a_fork(long_run(tmp_path / "b", kill_at=5, out=files[1])) == -signal.SIGKILL
    assert in_a_fork(long_run(tmp_path / "b", out=files[2])) == 0
    assert not files[1].exists() and not list(tmp_path.glob(".*"))
    whole, resumed = model(1), model(2)
    training.load_weights(whole, files[0])
    training.load_weights(resumed, files[2])
    assert equal(whole, resumed)


def without_a_number(net, batch):
    loss, score = training.classify(net, batch)
    return loss * math.nan, score


def without_a_gradient(net, batch):
    loss, score = training.classify(net, batch)
    return (loss - loss).sqrt() + 0.5, score  # its slope at 0 is infinite


def without_half_a_number(net, batch):
    loss, score = training.classify(net, batch)
    return loss * (math.nan if torch.is_autocast_enabled("cpu") else 1.0), score


def stopped(data=None, **options):
    """What fit says when it stops, and that the weights are still good."""
    net = model()
    with pytest.raises(FloatingPointError) as error:
        training.fit(net, data or toy(2), **{"epochs": 3, "progress": False} | options)
    assert all(weight.isfinite().all() for weight in net.parameters())
    return str(error.value)


def test_a_loss_that_is_not_finite_stops_with_the_files_and_the_checkpoint(tmp_path):
    data = toy(64)
    data.files = [f"clip{i}.mp4" for i in range(64)]

    def poisoned(m, epoch):
        if epoch == 1:
            data.tensors[0][7] = float("nan")

    said = stopped(data, checkpoint=tmp_path / "keep", before_epoch=poisoned)
    assert said.startswith("The loss became nan in epoch 1, step ")
    assert "clip7.mp4, " in said and "the last good weights are in " + str(tmp_path / "keep") in said
    part = Subset(data, [7, 5])
    assert stopped(part) == (
        "The loss became nan in epoch 0, step 0, on clip7.mp4 and clip5.mp4; no checkpoint was kept. "
        "Lower the learning rate or look at these clips."
    )


def test_without_files_the_clips_are_named_by_their_numbers():
    assert "on clips 0 and 1 of the data set;" in stopped(step=without_a_number)
    assert "on clips 0, 1 and 2 of the data set;" in stopped(toy(3), step=without_a_number)
    alone = {"step": without_a_number, "before_epoch": lambda m, epoch: m[1].eval()}  # batch norm needs two
    assert "on clip 0 of the data set;" in stopped(Subset(toy(3), [2]), **alone)


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights():
    said = stopped(step=without_a_gradient)
    assert said.startswith(
        "The loss is 0.5, but its gradient is not finite in epoch 0, step 0, on clips 0 and 1 "
    )


def test_the_clips_are_not_blamed_for_half_precision():
    said = stopped(step=without_half_a_number, precision="bf16")
    assert said.endswith('In float32 this step is finite: not the clips are at fault, use precision="no".')
    for step in (without_a_number, without_a_gradient):
        assert stopped(step=step, precision="bf16").endswith(
            "Lower the learning rate or look at these clips."
        )


def test_half_precision_in_three_dimensions_on_a_cpu_is_warned_of():
    class Volumes(nn.Sequential):
        def forward(self, clips):
            return super().forward(clips.transpose(1, 2))

    net = Volumes(nn.Conv3d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 2 * 4 * 4, 2))
    data = TensorDataset(torch.rand(4, 2, 3, 4, 4), torch.tensor([0, 1, 0, 1]))
    with pytest.warns(
        UserWarning, match='Conv3d in bf16 can give NaN or wrong gradients .* use precision="no"'
    ):
        training.fit(net, data, epochs=1, precision="bf16", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.fit(net, data, epochs=1, progress=False)
        training.fit(model(), toy(), epochs=1, precision="bf16", progress=False)


def test_an_empty_data_set_is_refused():
    empty = TensorDataset(torch.zeros(0, 6))
    with pytest.raises(ValueError, match="empty training set; check"):
        training.fit(model(), empty, epochs=1)
    with pytest.raises(ValueError, match="empty validation set; check"):
        training.fit(model(), toy(), empty, epochs=1)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([1.0, math.nan, 2.0, 3.0], 0),
        ([math.nan, 2.0, 1.0, 3.0], 2),
        ([math.inf, 2.0, 2.0, 1.5], 3),
        ([2.0, 1.0, 1.0, 3.0], 1),
        ([math.nan, math.inf, math.nan, math.inf], -1),
    ],
)
def test_the_least_validation_loss_wins_and_never_one_that_is_no_number(losses, best):
    net, left, seen = model(), iter(losses), []

    def step(net, batch):
        loss, score = training.classify(net, batch)
        if not net.training:
            loss = torch.tensor(next(left))
            seen.append(net[0].weight.clone())
        return loss, score

    history = training.fit(net, toy(), toy(seed=1), epochs=4, step=step, progress=False)
    assert history.best_epoch == best and len(seen) == 4
    assert torch.equal(net[0].weight, seen[best])
    assert not any(torch.equal(net[0].weight, w) for i, w in enumerate(seen) if i != best % 4)


def test_half_precision_wraps_the_step_and_leaves_no_trace():
    nets, seen = [model(), model(), model()], []

    def step(net, batch):
        seen.append((net.training, net[0](batch[0]).dtype))  # any method of the model, not its forward alone
        return training.classify(net, batch)

    for net, precision in zip(nets, ("no", "bf16", "no"), strict=True):
        options = {"epochs": 1, "batch_size": 96, "step": step, "precision": precision}
        training.fit(net, toy(), toy(seed=1), progress=False, **options)
    kinds = [torch.float32, torch.bfloat16, torch.float32]
    assert seen == [(training_, kind) for kind in kinds for training_ in (True, False)]
    fresh, x = model(1).eval(), toy().tensors[0]
    fresh.load_state_dict(nets[1].state_dict())
    assert vars(nets[1]).keys() == vars(fresh).keys() and nets[1].forward.__func__ is nn.Sequential.forward
    assert nets[1](x).dtype == torch.float32 and torch.equal(nets[1](x), fresh(x))
    assert equal(nets[0], nets[2]) and not equal(nets[0], nets[1])
    with pytest.raises(ValueError, match='precision=\'fp16\'; choose "no" or "bf16"'):
        training.fit(model(), toy(), epochs=1, precision="fp16")


def modes(seen):
    """A step that writes down which layers are in training mode."""

    def step(net, batch):
        seen.append([part.training for part in net])
        return training.classify(net, batch)

    return step


def test_a_frozen_part_keeps_its_weights_statistics_and_mode():
    net, seen, x = model(), [], toy().tensors[0]
    training.freeze(net[1:])
    training.freeze(net[4], False)
    start = {k: v.clone() for k, v in net.state_dict().items()}
    options = {
        "epochs": 2,
        "weight_decay": 0.5,
        "step": modes(seen),
        "before_epoch": lambda m, e: training.predict(m, x),
    }
    training.fit(net, toy(), progress=False, **options)
    assert seen == [[True, False, False, False, True]] * 6
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, start[k])}
    assert changed == {"0.weight", "0.bias", "4.weight", "4.bias"}


def test_a_part_can_be_thawed_on_the_way():
    net, seen = model(), []
    first = net[0].weight.clone()

    def begin(m, epoch):
        training.freeze(m, epoch < 2)
        training.freeze(m[4], False)
        seen.append(torch.equal(m[0].weight, first))

    training.fit(net, toy(), epochs=4, before_epoch=begin, progress=False)
    assert seen == [True, True, True, False]
    assert training.parameters(net) == sum(p.numel() for p in net.parameters())


def test_before_epoch_may_put_a_part_in_evaluation_mode_but_not_the_whole_by_mistake():
    part, whole = [], []
    training.fit(
        model(), toy(), epochs=2, step=modes(part), before_epoch=lambda m, e: m[1].eval(), progress=False
    )
    training.fit(
        model(), toy(), epochs=2, step=modes(whole), before_epoch=lambda m, e: m.eval(), progress=False
    )
    assert part == [[True, False, True, True, True]] * 6 and whole == [[True] * 5] * 6


def test_processes_part_every_batch_and_count_by_their_share():
    data, chunks = TensorDataset(torch.arange(9)), [[3, 1, 4, 0], [5, 2, 6, 7, 8], [8, 0], [7]]
    worlds = [
        Mock(spec=PartialState, process_index=r, num_processes=3, device=torch.device("cpu"))
        for r in range(3)
    ]
    parts = [list(processes.loader(data, chunks, 0, world)) for world in worlds]
    for chunk, *seen in zip(chunks, *parts, strict=True):
        assert all(whole == chunk for whole, _, _ in seen)
        shares, held = [share for _, share, _ in seen], [batch[0].tolist() for _, _, batch in seen]
        assert sum(shares) == pytest.approx(1)
        if len(chunk) >= 3:
            assert sorted(sum(held, [])) == sorted(chunk)
            assert shares == [len(part) / len(chunk) for part in held]
        else:
            assert held == [chunk] * 3 and shares == [1 / 3] * 3


def test_every_process_draws_its_own_numbers_but_the_same_order(monkeypatch):
    seen = {}

    def step(net, batch):
        seen[rank].append((torch.rand(()).item(), batch[1].tolist()))
        return training.classify(net, (batch[0], batch[1] % 2))

    data = TensorDataset(toy().tensors[0], torch.arange(96))
    for rank in (0, 1):
        world = Mock(
            spec=PartialState,
            process_index=rank,
            num_processes=1,
            device=torch.device("cpu"),
            is_main_process=True,
        )
        monkeypatch.setattr(processes, "join", lambda world=world: world)
        seen[rank] = []
        training.fit(model(), data, epochs=2, step=step, progress=False)
    for (drawn, labels), (drawn_there, labels_there) in zip(seen[0], seen[1], strict=True):
        assert drawn != drawn_there and labels[1:] == labels_there  # whose share begins with the second clip


def test_processes_that_are_each_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match="2 processes were started, but Accelerate does not join them on cpu; set"
    ):
        training.fit(model(), toy(), epochs=1)


def test_a_model_that_is_frozen_altogether_is_refused():
    net = model()
    training.freeze(net)
    with pytest.raises(ValueError, match="without a trainable number"):
        training.fit(net, toy(), epochs=1, progress=False)


def test_seeds_of_64_bits_are_taken_and_differ():
    seeds, ends = (-1, 0, 4295, 2**32, 2**63 - 1, 2**63), []
    for seed in seeds:
        net = model()
        training.fit(net, toy(), epochs=1, seed=seed, progress=False)
        ends.append(net[0].weight.sum().item())
    assert len(set(ends)) == len(seeds)


def test_each_epoch_of_each_seed_draws_its_own_numbers():
    seen = []

    def begin(m, epoch):
        seen.append((torch.initial_seed(), np.random.rand(), random.random()))

    for seed in (0, 1, 4295):
        training.fit(model(), toy(), epochs=2, seed=seed, before_epoch=begin, progress=False)
    assert [first for first, _, _ in seen[:4]] == [0, 1, 1_000_003, 1_000_004]
    assert len({first for first, _, _ in seen}) == 6 and all(first < 2**32 for first, _, _ in seen)
    for first, *drawn in seen:
        assert drawn == [np.random.RandomState(first).rand(), random.Random(first).random()]
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3 * 1_000_003 + 1)).tolist()
    assert training.batches(6, 3, seed=3, epoch=1) == [order[:3], order[3:]]
