"""Losses and gradients of a share of a batch: in several processes they must be those of one with the whole batch."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sora_nb import objectives
from sora_nb.models.contrastive import SoraContrastive


class Flat(nn.Module):
    """An encoder without batch norm, whose statistics would differ between processes."""

    width = 8

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(4 * 3 * 4 * 4, 8)

    def embed(self, clips):
        return torch.tanh(self.read(clips.flatten(1)))


class Projected(nn.Module):
    """What DistributedDataParallel runs: the model's projection as a forward pass."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clips):
        return self.model.project(clips)


def views():
    """Two views of eight clips, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(8, 4, 3, 4, 4, generator=generator, dtype=torch.double) for _ in range(2)]


def make():
    """The same model in every process."""
    torch.manual_seed(0)
    model = SoraContrastive(3, encoder=Flat(), projection=5, queue=16).double()
    model.head.requires_grad_(False)  # no objective here has a use for it
    return model


def results(model, run, first, second):
    """Loss and gradients by name of each objective, and the queue after these keys."""
    found = {}
    for name in ("nt_xent", "vicreg"):
        model.zero_grad()
        loss = getattr(objectives, name)(*run(torch.cat([first, second])).chunk(2))
        loss.backward()
        found[name] = loss.detach()
        found |= {f"{name} {n}": p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.enqueue(model.keys(second))
    return found | {"queue": model.queue.clone()}


def cases():
    """In two processes: results where the first holds 4 of the 8 clips, and where it holds 5. In one: of all clips."""
    if not dist.is_initialized():
        model = make()
        return {"whole": results(model, Projected(model), *views())}
    found = {}
    for split in (4, 5):
        model, mine = make(), slice(0, split) if dist.get_rank() == 0 else slice(split, 8)
        run = DistributedDataParallel(Projected(model))
        found[f"{split} clips here"] = results(model, run, *(view[mine] for view in views()))
    return found
