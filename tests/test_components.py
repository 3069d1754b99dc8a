"""Principal components: those of scikit-learn, the best linear code, and a way back."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.testing import assert_close

from sora_nb.layers.components import Components


def data(n=300, dim=12):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(n, dim, generator=generator) @ torch.randn(dim, dim, generator=generator)
    return mixed.double() * torch.linspace(3, 0.1, dim) + 5


def fitted(count=4):
    layer = Components(12, count).double()
    layer.fit(data())
    return layer


def test_components_are_those_of_scikit_learn():
    layer, reference = fitted(), PCA(4).fit(data().numpy())
    ours, theirs = layer(data()), torch.from_numpy(reference.transform(data().numpy()))
    assert_close(ours.abs(), theirs.abs())  # directions have no sign
    assert_close(layer.mean, torch.from_numpy(reference.mean_))
    assert_close(layer.spread, torch.from_numpy(np.sqrt(reference.explained_variance_ * 299 / 300)))
    assert_close(layer(data()).std(0, correction=0), layer.spread)


def test_back_undoes_what_the_directions_span_and_keeps_distances():
    layer, all_of_it = fitted(), fitted(12)
    assert_close(all_of_it.back(all_of_it(data())), data())
    y = torch.randn(2, 5, 4).double()
    assert_close(layer(layer.back(y)), y)
    assert_close((layer.back(y) - layer.back(0 * y)).norm(dim=-1), y.norm(dim=-1))


def test_nothing_linear_of_the_same_width_does_better():
    layer, x = fitted(), data()
    best = (layer.back(layer(x)) - x).square().mean()
    for seed in range(20):
        torch.manual_seed(seed)
        other = Components(12, 4).double()
        other.mean.copy_(x.mean(0))
        assert (other.back(other(x)) - x).square().mean() > best
        near = layer.directions + 0.05 * torch.randn(12, 4).double()
        other.directions.copy_(torch.linalg.qr(near).Q)
        assert (other.back(other(x)) - x).square().mean() > best


def test_before_fitting_directions_are_orthonormal_and_nothing_is_trained():
    layer = Components(12, 4)
    assert_close(layer.directions.T @ layer.directions, torch.eye(4))
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"mean", "directions", "spread"}


def test_a_direction_without_any_spread_does_not_divide_by_zero():
    layer = Components(12, 4)
    layer.fit(torch.ones(20, 12))
    assert layer.spread.gt(0).all() and layer(torch.ones(3, 12)).eq(0).all()


def test_errors():
    for count in (0, 13):
        with pytest.raises(ValueError, match=f"got count={count} for vectors of width 12; choose 1 to 12"):
            Components(12, count)
    for bad in (torch.zeros(4, 12), torch.zeros(9, 11), torch.zeros(3, 3, 12)):
        with pytest.raises(ValueError, match="expects more than 4 rows of width 12"):
            Components(12, 4).fit(bad)
