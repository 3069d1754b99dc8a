"""What the training loop is made of: the order of batches, the learning rate, what decays, prediction."""

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
    net[1].eval()
    x = toy(50).tensors[0]
    whole = training.predict(net, x, batch_size=7)
    assert [part.training for part in net] == [True, False, True, True, True] and net.training
    torch.testing.assert_close(whole, net.eval()(x))
    torch.testing.assert_close(training.predict(net, toy(50), batch_size=50), whole)


def test_only_matrices_decay():
    groups = training._decay_groups(model(), 0.1)
    assert {p.ndim for p in groups[0]["params"]} == {2} and groups[0]["weight_decay"] == 0.1
    assert {p.ndim for p in groups[1]["params"]} == {1} and groups[1]["weight_decay"] == 0.0


def test_parameters_counts_what_trains():
    net = nn.Linear(3, 4)
    net.bias.requires_grad_(False)
    assert training.parameters(net) == 12
