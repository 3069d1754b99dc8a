"""Cells equal to torch in value and gradient; the stack streams, packs and pools without seeing padding."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from sora_nb.layers.recurrent import (
    GRUCell,
    ResidualGRU,
    gru_cell,
    lstm_cell,
    pool_attention,
    pool_last,
    pool_max,
    pool_mean,
    scan,
    time_mask,
)

POOLS = {
    "mean": pool_mean,
    "max": pool_max,
    "last": pool_last,
    "attention": lambda x, n=None: pool_attention(x, x[0, 0], n),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(module: nn.Module) -> nn.Module:
    """float64 with large weights, so that a wrong gate shows."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.8)
    return module.double()


def gradients(output, inputs):
    return torch.autograd.grad(
        (output * torch.linspace(-1, 1, output.numel()).to(output).view_as(output)).sum(), inputs
    )


def test_gru_scan_equals_nn_gru_in_value_and_gradient():
    gru = double(nn.GRU(5, 7, batch_first=True))
    x, h = torch.randn(3, 6, 5).double().requires_grad_(), torch.randn(3, 7).double()
    ours, last = scan(partial(gru_cell, weights=gru.all_weights[0]), x, h)
    theirs, theirs_last = gru(x, h[None])
    assert_close(ours, theirs)
    assert_close(last, theirs_last[0])
    inputs = [x, *gru.parameters()]
    for a, b in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert_close(a, b)


def test_lstm_scan_equals_nn_lstm_in_value_and_gradient():
    lstm = double(nn.LSTM(5, 7, batch_first=True))
    x, h, c = (
        torch.randn(3, 6, 5).double().requires_grad_(),
        torch.randn(3, 7).double(),
        torch.randn(3, 7).double(),
    )
    ours, last = scan(partial(lstm_cell, weights=lstm.all_weights[0]), x, (h, c))
    theirs, theirs_last = lstm(x, (h[None], c[None]))
    assert_close(ours, theirs)
    for a, b in zip(last, theirs_last, strict=True):
        assert_close(a, b[0])
    inputs = [x, *lstm.parameters()]
    for a, b in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("form", ["torch", "cho"])
def test_gru_cell_passes_gradcheck(form):
    cell = double(GRUCell(3, 4, form))
    x, h = torch.randn(2, 3).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(cell, (x, h))


def test_gru_cell_module_equals_nn_gru_cell():
    cell, reference = GRUCell(5, 7), nn.GRUCell(5, 7)
    cell.load_state_dict(reference.state_dict())
    x, h = torch.randn(3, 5), torch.randn(3, 7)
    assert_close(cell(x, h), reference(x, h))


def test_cho_resets_before_the_product_and_torch_after():
    """With U a swap of two units and only unit 0 reset, Cho's form hides unit 0's past and torch's form unit 1's."""
    hidden, off, on = 2, -50.0, 50.0
    weights = (
        torch.zeros(6, 1),
        torch.zeros(6, 2),
        torch.tensor([off, on, off, off, 0.0, 0.0]),
        torch.zeros(6),
    )
    weights[1][4:] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # candidate reads the other unit
    h, x = torch.tensor([[0.3, 0.9]]), torch.zeros(1, 1)
    assert_close(gru_cell(x, h, weights, "cho"), torch.tanh(torch.tensor([[0.9, 0.0]])))
    assert_close(gru_cell(x, h, weights, "torch"), torch.tanh(torch.tensor([[0.0, 0.3]])))
    assert len(h[0]) == hidden


@pytest.mark.parametrize("form", ["torch", "cho"])
def test_update_gate_near_one_keeps_the_state(form):
    weights = tuple(torch.randn(*s) for s in [(12, 3), (12, 4), (12,), (12,)])
    weights[2][4:8] = 1e4  # update gate open: h' = h
    h = torch.randn(2, 4)
    assert_close(gru_cell(torch.randn(2, 3), h, weights, form), h)


def test_plain_stack_is_nn_gru():
    plain, reference = ResidualGRU(5, 6, 3, residual=False), nn.GRU(5, 6, 3, batch_first=True)
    for i, layer in enumerate(plain.layers):
        for name, p in layer.named_parameters():
            p.data.copy_(getattr(reference, name.replace("l0", f"l{i}")))
    x = torch.randn(2, 9, 5)
    for ours, theirs in zip(plain(x), reference(x), strict=True):
        assert_close(ours, theirs)


def test_residual_stack_is_the_identity_when_its_layers_are_silent():
    stack = ResidualGRU(6, 6, 3)
    for layer in stack.layers:
        for p in layer.parameters():
            nn.init.zeros_(p)
    x = torch.randn(2, 5, 6)
    assert_close(stack(x)[0], x)


def test_residual_layer_reads_a_normalized_copy():
    """What a layer adds does not change with the scale of its input."""
    stack, x = ResidualGRU(6, 6, 1), torch.randn(2, 5, 6)
    assert_close(stack(100 * x)[0] - 100 * x, stack(x)[0] - x, rtol=1e-3, atol=1e-3)


def test_residual_keeps_the_gradient_to_early_frames_in_a_deep_stack():
    x = torch.randn(4, 3, 16, requires_grad=True)
    size = {}
    for residual in (True, False):
        y, _ = ResidualGRU(16, 16, 8, residual)(x)
        size[residual] = torch.autograd.grad(y[:, 0].sum(), x)[0][:, 0].norm()
    assert size[True] > 10 * size[False]


@pytest.mark.parametrize("residual", [True, False])
def test_step_equals_the_batch_result_frame_by_frame(residual):
    stack = ResidualGRU(5, 8, 3, residual).eval()
    x = torch.randn(2, 7, 5)
    batch, last = stack(x)
    state = None
    for t in range(7):
        y, state = stack.step(x[:, t], state)
        assert_close(y, batch[:, t])
    assert_close(state, last)


@pytest.mark.parametrize("residual", [True, False])
def test_lengths_give_what_each_sequence_gives_alone(residual):
    stack = ResidualGRU(5, 8, 2, residual).eval()
    x, lengths = torch.randn(3, 7, 5), torch.tensor([4, 7, 1])
    y, last = stack(x, lengths)
    for i, n in enumerate(lengths):
        alone, alone_last = stack(x[i : i + 1, :n])
        assert_close(y[i, :n], alone[0])
        assert_close(last[:, i], alone_last[:, 0])
        assert torch.all(y[i, n:] == 0)


@hypothesis_settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", POOLS)
def test_pooling_ignores_padding_and_equals_pooling_alone(name, lengths, seed):
    x = (
        torch.randn(len(lengths), 6, 3, generator=torch.Generator().manual_seed(seed)) - 2
    )  # negative: a 0 would win a max
    pooled = POOLS[name](x, torch.tensor(lengths))
    for i, n in enumerate(lengths):
        alone = x[i : i + 1, :n]
        expected = pool_attention(alone, x[0, 0]) if name == "attention" else POOLS[name](alone)
        assert_close(pooled[i : i + 1], expected)


@pytest.mark.parametrize("name", POOLS)
def test_pooling_on_known_numbers(name):
    x = torch.tensor([[[1.0, 4.0], [3.0, -2.0], [2.0, 1.0]]])
    w = torch.softmax(torch.tensor([17.0, -5.0, 6.0]), 0)  # x · x[0]
    expected = {"mean": [2.0, 1.0], "max": [3.0, 4.0], "last": [2.0, 1.0], "attention": (w @ x[0]).tolist()}
    assert_close(POOLS[name](x), torch.tensor([expected[name]]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: gru_cell(
                torch.zeros(1, 3), torch.zeros(1, 4), GRUCell(3, 4)._parameters.values(), "keras"
            ),
            'form="keras"',
        ),
        (lambda: GRUCell(3, 4)(torch.zeros(1, 5), torch.zeros(1, 4)), "x of width 5"),
        (lambda: GRUCell(3, 4)(torch.zeros(1, 3), torch.zeros(1, 2)), "h of width 2"),
        (
            lambda: lstm_cell(torch.zeros(1, 3), (torch.zeros(1, 4),) * 2, nn.GRU(3, 4).all_weights[0]),
            "4 gates",
        ),
        (lambda: ResidualGRU(3, 4)(torch.zeros(1, 2, 5)), "dim=3"),
        (lambda: ResidualGRU(3, 4, 0), "depth=0"),
        (lambda: ResidualGRU(3, 4)(torch.zeros(1, 2, 3), torch.tensor([3])), "1 to 2"),
        (lambda: pool_last(torch.zeros(1, 2, 3), torch.tensor([0])), "lengths run from 0"),
        (lambda: time_mask(torch.tensor([1, 9]), 8), "1 to 8"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()


def test_state_dict_round_trip():
    a, b = ResidualGRU(5, 8, 2), ResidualGRU(5, 8, 2)
    x = torch.randn(2, 4, 5)
    assert not torch.equal(a(x)[0], b(x)[0])
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x)[0], b(x)[0])
