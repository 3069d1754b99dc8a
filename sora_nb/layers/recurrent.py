"""Recurrence over time: GRU and LSTM cells, a residual GRU stack, and pooling over time. Derived in chapter 08."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Weights = Sequence[Tensor]  # input, hidden, input bias, hidden bias: the order of nn.GRU.all_weights


def gru_cell(
    x: Float[Tensor, "batch dim"], h: Float[Tensor, "batch hidden"], weights: Weights, form: str = "torch"
) -> Float[Tensor, "batch hidden"]:
    r"""One step of a gated recurrent unit, :math:`h' = z \odot h + (1 - z) \odot n`.

    The reset gate r acts on the past either before or after the matrix product; the same weights give different answers:

    * ``"cho"`` (Cho et al. 2014, arXiv 1406.1078): :math:`n = \tanh(W x + b + U (r \odot h) + c)`
    * ``"torch"`` (``nn.GRU``, cuDNN): :math:`n = \tanh(W x + b + r \odot (U h + c))`

    Args:
        x: input at this step.
        h: state after the last step.
        weights: ``(3·hidden, dim)``, ``(3·hidden, hidden)`` and two biases ``(3·hidden,)``; rows in the order reset,
            update, candidate. ``nn.GRU(...).all_weights[layer]`` fits.
        form: ``"torch"`` or ``"cho"``.

    Raises:
        ValueError: the form is unknown, or the widths of x and h do not fit the weights.

    Derived in chapter 08.
    """
    if form not in ("torch", "cho"):
        raise ValueError(
            f'gru_cell got form="{form}"; choose "torch" (reset after the product) or "cho" (before it).'
        )
    _check_cell("gru_cell", x, h, weights, gates=3)
    w, u, b, c = weights
    xr, xz, xn = F.linear(x, w, b).chunk(3, -1)  # (B, D) -> 3 × (B, H)
    ur, uz, un = u.chunk(3)  # 3 × (H, H)
    cr, cz, cn = c.chunk(3)  # 3 × (H,)
    r = torch.sigmoid(xr + F.linear(h, ur, cr))
    z = torch.sigmoid(xz + F.linear(h, uz, cz))
    past = r * F.linear(h, un, cn) if form == "torch" else F.linear(r * h, un, cn)
    n = torch.tanh(xn + past)
    return z * h + (1 - z) * n


def lstm_cell(
    x: Float[Tensor, "batch dim"], state: tuple[Tensor, Tensor], weights: Weights
) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
    r"""One step of a long short-term memory: :math:`c' = f \odot c + i \odot g`, :math:`h' = o \odot \tanh(c')`.

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; the same as ``nn.LSTM``.

    Args:
        x: input at this step.
        state: ``(h, c)``, each (batch, hidden).
        weights: ``(4·hidden, dim)``, ``(4·hidden, hidden)`` and two biases; rows in the order input, forget, candidate,
            output. ``nn.LSTM(...).all_weights[layer]`` fits.

    Returns:
        The new ``(h, c)``.

    Raises:
        ValueError: the widths of x and h do not fit the weights.

    Derived in chapter 09.
    """
    h, c = state
    _check_cell("lstm_cell", x, h, weights, gates=4)
    w, u, b, d = weights
    i, f, g, o = (F.linear(x, w, b) + F.linear(h, u, d)).chunk(4, -1)  # (B, 4H) -> 4 × (B, H)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def scan(
    cell: Callable, x: Float[Tensor, "batch time dim"], state
) -> tuple[Float[Tensor, "batch time hidden"], object]:
    """Run ``state = cell(x_t, state)`` over time; return every h and the last state.

    A state is h itself or a tuple that starts with h. Derived in chapter 08.
    """
    outputs = []
    for x_t in x.unbind(1):  # (B, T, D) -> T × (B, D)
        state = cell(x_t, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs, 1), state  # T × (B, H) -> (B, T, H)


class GRUCell(nn.GRUCell):
    """:func:`gru_cell` with weights of its own; the same names and sizes as ``nn.GRUCell``. Derived in chapter 08."""

    def __init__(self, dim: int, hidden: int, form: str = "torch"):
        super().__init__(dim, hidden)
        self.form = form

    def forward(
        self, x: Float[Tensor, "batch dim"], h: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        return gru_cell(x, h, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh), self.form)


class ResidualGRU(nn.Module):
    r"""A stack of GRU layers, each reading a normalised copy of its input and adding to it.

    :math:`x \leftarrow x + \mathrm{GRU}_l(\mathrm{LN}_l(x))`. With ``residual=False`` it is ``nn.GRU`` with ``depth`` layers.

    Args:
        dim: width of the input; a linear map brings it to ``hidden`` where they differ (residual form only).
        hidden: width of every state.
        depth: number of layers.
        residual: add each layer's output to its input.

    Derived in chapter 08.
    """

    def __init__(self, dim: int, hidden: int = 128, depth: int = 2, residual: bool = True):
        super().__init__()
        if depth < 1:
            raise ValueError(f"ResidualGRU got depth={depth}; it needs at least one layer.")
        self.dim, self.hidden, self.residual = dim, hidden, residual
        self.project = nn.Linear(dim, hidden) if residual and dim != hidden else nn.Identity()
        widths = [hidden if residual or i else dim for i in range(depth)]
        self.layers = nn.ModuleList(nn.GRU(width, hidden, batch_first=True) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) if residual else nn.Identity() for _ in widths)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        lengths: Int[Tensor, " batch"] | None = None,
        state: Float[Tensor, "depth batch hidden"] | None = None,
    ) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "depth batch hidden"]]:
        """Return the features at every frame and the state of each layer after the last (valid) frame.

        Args:
            x: feature sequences, padded at the end.
            lengths: valid frames of each sequence; features behind them come out as 0. None: all frames are valid.
            state: states to go on from, as returned by an earlier call.

        Raises:
            ValueError: the width differs from ``dim``, or lengths are not within 1..T.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(
                f"ResidualGRU got features of width {x.shape[-1]}; it was built with dim={self.dim}."
            )
        padding = None if lengths is None else ~time_mask(lengths, x.shape[1])[..., None]  # (B, T, 1)
        x = x if padding is None else x.masked_fill(padding, 0)  # whatever is there must not reach a gradient
        x, last = self.project(x), []  # (B, T, D) -> (B, T, H)
        states = [None] * len(self.layers) if state is None else [h[None] for h in state]  # each (1, B, H)
        for layer, norm, h in zip(self.layers, self.norms, states, strict=True):
            y, h = layer(norm(x), h)
            x = x + y if self.residual else y
            # A GRU's state is its output: that of the last valid frame, which no padding behind it can change.
            last.append(h[0] if lengths is None else pool_last(y, lengths))
        return x if padding is None else x.masked_fill(padding, 0), torch.stack(last)  # -> (depth, B, H)

    def step(
        self, x: Float[Tensor, "batch dim"], state: Float[Tensor, "depth batch hidden"] | None = None
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "depth batch hidden"]]:
        """Take one frame; return its features, equal to those of :meth:`forward`, and the new state. Used in chapter 20."""
        y, state = self(x[:, None], state=state)  # (B, D) -> (B, 1, H)
        return y[:, 0], state


def time_mask(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "batch time"]:
    """True at the valid frames of each sequence.

    Raises:
        ValueError: a length is not within 1..time.

    Derived in chapter 08.
    """
    # A compiler, an exporter and the meta device see shapes only; everywhere else a wrong length is caught.
    if not (torch.compiler.is_compiling() or lengths.is_meta) and (lengths.min() < 1 or lengths.max() > time):
        raise ValueError(
            f"lengths run from {lengths.min()} to {lengths.max()}; the sequences allow 1 to {time}."
        )
    return torch.arange(time, device=lengths.device) < lengths[:, None]  # (B, T)


def pool_mean(
    x: Float[Tensor, "batch time dim"], lengths: Tensor | None = None
) -> Float[Tensor, "batch dim"]:
    """Mean over the valid frames. Derived in chapter 08."""
    if lengths is None:
        return x.mean(1)  # (B, T, D) -> (B, D)
    return x.masked_fill(~time_mask(lengths, x.shape[1])[..., None], 0).sum(1) / lengths[:, None]


def pool_max(x: Float[Tensor, "batch time dim"], lengths: Tensor | None = None) -> Float[Tensor, "batch dim"]:
    """Maximum over the valid frames, channel by channel. Derived in chapter 08."""
    if lengths is not None:
        x = x.masked_fill(~time_mask(lengths, x.shape[1])[..., None], -torch.inf)
    return x.amax(1)  # (B, T, D) -> (B, D)


def pool_last(
    x: Float[Tensor, "batch time dim"], lengths: Tensor | None = None
) -> Float[Tensor, "batch dim"]:
    """The last valid frame. Derived in chapter 08."""
    if lengths is None:
        return x[:, -1]
    time_mask(lengths, x.shape[1])  # refuses lengths that would pick a wrong frame
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]  # (B, T, D) -> (B, D)


def pool_attention(
    x: Float[Tensor, "batch time dim"], query: Float[Tensor, "dim"], lengths: Tensor | None = None
) -> Float[Tensor, "batch dim"]:
    r"""Average of the valid frames with weights :math:`\mathrm{softmax}_t(q \cdot x_t)`. Derived in chapter 08."""
    scores = x @ query  # (B, T, D) · (D,) -> (B, T)
    if lengths is not None:
        scores = scores.masked_fill(~time_mask(lengths, x.shape[1]), -torch.inf)
    return torch.einsum("bt,btd->bd", scores.softmax(1), x)


def _check_cell(name: str, x: Tensor, h: Tensor, weights: Weights, gates: int) -> None:
    w, u = weights[:2]
    if (
        x.shape[-1] != w.shape[1]
        or h.shape[-1] != u.shape[1]
        or len(w) != gates * u.shape[1]
        or len(u) != len(w)
    ):
        raise ValueError(
            f"{name} got x of width {x.shape[-1]} and h of width {h.shape[-1]}; the weights {tuple(w.shape)} and "
            f"{tuple(u.shape)} expect {w.shape[1]} and {u.shape[1]}, with {gates} gates in the rows."
        )
