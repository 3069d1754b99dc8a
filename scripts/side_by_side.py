"""Many models of one kind, trained side by side: their weights stacked, one call of each operation for all of them."""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from sora_nb import training

HERE = training.device()


class Loss(nn.Module):
    """A model's loss as a module's forward, which is what `functional_call` calls."""

    def __init__(self, model: nn.Module, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *inputs):
        return self.loss(self.model, *inputs)


class Many:
    """Models of one kind, their weights stacked: (models, …) each.

    Args:
        models: alike in all but their weights.
    """

    def __init__(self, models: list[nn.Module]):
        self.weights, self.buffers = stack_module_state([model.eval() for model in models])
        self.weights = {
            k: v.detach().to(HERE).requires_grad_(v.requires_grad) for k, v in self.weights.items()
        }
        self.buffers = {k: v.to(HERE) for k, v in self.buffers.items()}
        self.kind = models[0]  # its own weights are never used

    def __call__(self, loss, *inputs, alike=()) -> Tensor:
        """``loss(model, *inputs)`` for each: of inputs (models, …) its own, of those whose place is in ``alike`` the same."""
        module = Loss(self.kind, loss)
        state = [{f"model.{k}": v for k, v in part.items()} for part in (self.weights, self.buffers)]
        dims = tuple(None if i in alike else 0 for i in range(len(inputs)))
        one = lambda weights, buffers, *x: functional_call(module, (weights, buffers), x)  # noqa: E731
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(one, in_dims=(0, 0, *dims))(*state, *inputs)

    def unstack(self, i: int) -> nn.Module:
        """Model i by itself, on this process's device."""
        model = copy.deepcopy(self.kind).to(HERE)
        model.load_state_dict({k: v[i].detach() for k, v in self.weights.items()}, strict=False)
        return model.eval()


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) on stacked weights, with a peak rate for each model."""

    def __init__(self, many: Many, rates: list[float], decay: float = 0.05, betas=(0.9, 0.999)):
        self.weights = [w for w in many.weights.values() if w.requires_grad]
        self.rates = torch.tensor(rates, device=HERE)
        self.decay, self.betas, self.count = decay, betas, 0
        self.first, self.second = ([torch.zeros_like(w) for w in self.weights] for _ in range(2))

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One update at ``share`` of each peak rate."""
        self.count += 1
        a, b = self.betas
        for w, m, v in zip(self.weights, self.first, self.second, strict=True):
            if w.grad is None:  # a head that this loss does not read
                continue
            rate = (self.rates * share).view(-1, *[1] * (w.ndim - 1))
            m.lerp_(w.grad, 1 - a)
            v.mul_(b).addcmul_(w.grad, w.grad, value=1 - b)
            if w.ndim > 2:  # matrices decay, vectors do not
                w.mul_(1 - rate * self.decay)
            w.sub_(rate * (m / (1 - a**self.count)) / ((v / (1 - b**self.count)).sqrt() + 1e-8))
            w.grad = None


def train(
    many: Many, rates: list[float], updates: int, loss, inputs, alike=(), after=None
) -> list[list[float]]:
    """Train all at once; each model's mean loss in each tenth of the updates.

    Args:
        inputs: makes the inputs of one update, each (models, …) unless its place is in ``alike``.
        after: called after each update.
    """
    optimizer = AdamW(many, rates)
    losses = torch.zeros(updates, len(rates), device=HERE)
    for i in range(updates):
        found = many(loss, *inputs(), alike=alike)
        found.sum().backward()
        optimizer.step(training.learning_rate(i, updates, 1.0))
        losses[i] = found.detach()
        if after:
            after()
    return [part.mean(0).tolist() for part in losses.chunk(10)]
