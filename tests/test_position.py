import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_nb.layers.position import (
    LearnedPosition,
    apply_rotary,
    rotary_angles,
    rotary_angles_3d,
    sinusoidal,
    sinusoidal_3d,
    split_axes,
)

PAIRINGS = ["interleaved", "half"]


def test_sinusoidal_is_vaswanis_formula():
    code = sinusoidal(50, 6)
    for p in range(50):
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            assert code[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-5)
            assert code[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-5)


def test_sinusoidal_similarity_depends_on_distance_alone():
    similarity = sinusoidal(40, 32) @ sinusoidal(40, 32).T
    for distance in (0, 1, 7):
        diagonal = similarity.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4, rtol=0)
    assert similarity[0, 0] > similarity[0, 1] > similarity[0, 3]


@pytest.mark.parametrize("make", [sinusoidal, rotary_angles])
def test_odd_width_is_refused(make):
    with pytest.raises(ValueError, match="must be even and at least 2, got 7"):
        make(4, 7)


def test_learned_position_adds_its_own_row_to_each_position():
    layer = LearnedPosition(8, 4)
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(layer(x) - x, layer.table[:5].expand(2, -1, -1))
    layer(x).sum().backward()
    assert layer.table.grad[:5].eq(2).all() and layer.table.grad[5:].eq(0).all()


def test_learned_codes_start_about_as_large_as_sinusoidal_ones():
    assert LearnedPosition(64, 64).table.std().item() == pytest.approx(0.5, rel=0.1)
    assert sinusoidal(64, 64).square().mean().sqrt().item() == pytest.approx(0.7, rel=0.1)


def test_learned_position_refuses_a_longer_sequence():
    with pytest.raises(ValueError, match="9 positions but the learned table holds 8"):
        LearnedPosition(8, 4)(torch.zeros(1, 9, 4))


def scores(q, k, pairing_q, pairing_k, shift, length=6):
    """Products of one query and one key vector placed at all pairs of positions, moved by `shift`."""
    angles = rotary_angles(length + shift, q.shape[-1])[shift:]
    turned_q = apply_rotary(q.expand(length, -1), angles, pairing_q)
    return turned_q @ apply_rotary(k.expand(length, -1), angles, pairing_k).T


@pytest.mark.parametrize("pairing", PAIRINGS)
@settings(max_examples=25, deadline=None)
@given(shift=st.integers(1, 200), seed=st.integers(0, 10_000), half=st.integers(1, 16))
def test_rotary_products_do_not_change_with_a_shift(pairing, shift, seed, half):
    q, k = torch.randn(2, 2 * half, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        scores(q, k, pairing, pairing, 0), scores(q, k, pairing, pairing, shift), atol=2e-3, rtol=1e-3
    )


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_rotary_products_do_change_with_the_distance(pairing):
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    products = scores(q, k, pairing, pairing, 0)
    assert (products[0, 1:] - products[0, 0]).abs().min() > 1e-2
    assert (products - products.T).abs().max() > 1e-2  # and with its sign: past and future differ


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_rotary_keeps_lengths_and_leaves_position_zero_alone(pairing):
    x = torch.randn(2, 3, 10, 8)
    turned = apply_rotary(x, rotary_angles(10, 8), pairing)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[..., 0, :], x[..., 0, :])


def test_rotary_turns_the_pair_it_says_by_the_angle_it_says():
    x, angles = torch.zeros(2, 8), rotary_angles(2, 8)
    x[:, 0] = 1  # the first of pair 0, which turns by one radian a position
    for pairing, partner in (("interleaved", 1), ("half", 4)):
        turned = apply_rotary(x, angles, pairing)[1]
        assert turned[0] == pytest.approx(math.cos(1)) and turned[partner] == pytest.approx(math.sin(1))


def test_the_two_pairings_are_one_permutation_apart():
    x, angles = torch.randn(10, 8), rotary_angles(10, 8)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # interleaved -> half
    torch.testing.assert_close(
        apply_rotary(x, angles, "interleaved")[:, order], apply_rotary(x[:, order], angles, "half")
    )


def test_mixing_the_two_pairings_breaks_shift_invariance():
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    mixed = scores(q, k, "interleaved", "half", 0) - scores(q, k, "interleaved", "half", 9)
    assert mixed.abs().max() > 0.1


def test_tiling_the_angles_of_one_pairing_over_the_other_breaks_shift_invariance():
    """The mistake that ships in a well-known model: neighbours paired, angles laid out as for halves."""

    def wrong(x, angles):
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        partner = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
        return x * cos + partner * sin

    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    angles = rotary_angles(20, 16)
    products = wrong(q.expand(20, -1), angles) @ wrong(k.expand(20, -1), angles).T
    assert (products.diagonal(3) - products[0, 3]).abs().max() > 0.1


def test_rotary_keeps_the_dtype():
    assert apply_rotary(torch.randn(4, 8, dtype=torch.bfloat16), rotary_angles(4, 8)).dtype == torch.bfloat16


def test_rotary_errors():
    with pytest.raises(ValueError, match='"interleaved" or "half", got \'neox\''):
        apply_rotary(torch.zeros(4, 8), rotary_angles(4, 8), "neox")
    with pytest.raises(ValueError, match=r"do not fit 4 positions of width 8: expected \(4, 4\)"):
        apply_rotary(torch.zeros(4, 8), rotary_angles(5, 8))


@pytest.mark.parametrize("dim, parts", [(6, (2, 2, 2)), (64, (24, 20, 20)), (96, (32, 32, 32))])
def test_axes_share_the_width(dim, parts):
    assert split_axes(dim) == parts


@pytest.mark.parametrize("dim", [4, 9])
def test_three_axes_need_an_even_width_of_six(dim):
    with pytest.raises(ValueError, match="even dim of at least 6"):
        sinusoidal_3d(2, 2, 2, dim)


def test_3d_axes_come_in_the_order_time_height_width():
    code = sinusoidal_3d(2, 3, 4, 64)
    assert code.shape == (2, 3, 4, 64)
    for t in range(2):
        for h in range(3):
            for w in range(4):
                expected = torch.cat([sinusoidal(2, 24)[t], sinusoidal(3, 20)[h], sinusoidal(4, 20)[w]])
                torch.testing.assert_close(code[t, h, w], expected)


def test_3d_rotary_products_depend_on_displacement_alone():
    q, k = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    angles = rotary_angles_3d(4, 5, 6, 32)
    products = apply_rotary(q.expand(120, -1), angles) @ apply_rotary(k.expand(120, -1), angles).T
    products = products.view(4, 5, 6, 4, 5, 6)
    assert products[0, 1, 2, 2, 2, 5] == pytest.approx(products[1, 3, 0, 3, 4, 3].item(), abs=1e-4)
    # … and each axis counts.
    for cell in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        assert (products[(0, 0, 0, *cell)] - products[0, 0, 0, 0, 0, 0]).abs() > 1e-2
