"""Trainings whose end must not depend on the number of processes. tests/test_distributed.py runs them in one and in two.

Usage: accelerate launch … distributed_fit.py FOLDER, where each process leaves what it found.
"""

import random
import sys
from pathlib import Path

import distributed_loss
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import models, objectives, processes, training
from sora_nb.features import cache_features
from sora_nb.layers.frames import FrameCNN

SILENT = {"epochs": 1, "lr": 1e-2, "progress": False}
# The designs, and what they want to be told about clips of 8 frames of 16 × 16.
DESIGNS = {name: {} for name in models.__all__} | {"SoraAutoencoder": {"group": 8, "hop": 2}}


def clips(n=10, seed=0, dtype=torch.double):
    """Clips with labels, the same in every process; doubles, so that rounding cannot hide a wrong gradient."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.rand(n, 8, 3, 16, 16, generator=generator, dtype=torch.double)
    return TensorDataset(data.to(dtype), torch.randint(3, (n,), generator=generator))


def still(model):
    """Without what batch norm takes from a batch, which is another one in each process."""
    for part in model.modules():
        if hasattr(part, "running_mean"):
            training.freeze(part)
    return model


def design(name):
    """One of the package's designs, the same in every process."""
    torch.manual_seed(0)
    return still(getattr(models, name)(3, **DESIGNS[name]).double())


def speaking():
    """The Transformer with words, whose codebook follows the clips of all processes. No restarts: those are drawn."""
    model = still(models.SoraTransformer(3, words=4, groups=2).double())
    model.start_words(clips().tensors[0])
    for part in model.quantizer.parts:
        part.restart = 0.0
    return model


def with_words(model, batch):
    """A step that adds the codebook's loss."""
    scores, loss = model(batch[0], losses=True)
    return F.cross_entropy(scores, batch[1]) + loss, 0.0


class Small(nn.Module):
    """Two layers, of which a step may use what it likes."""

    def __init__(self, noisy=False):
        super().__init__()
        torch.manual_seed(0)
        norm, drop = (nn.BatchNorm1d(6), nn.Dropout(0.3)) if noisy else (nn.Identity(), nn.Identity())
        self.body = nn.Sequential(nn.Linear(8 * 3, 6), norm, nn.Tanh(), drop)
        self.head = nn.Linear(6, 3)

    def embed(self, clips):
        return self.body(clips.mean((-1, -2)).flatten(1))

    def forward(self, clips):
        return self.head(self.embed(clips))


def by_embedding(model, batch):
    """A step that never calls forward, and leaves the head without a gradient."""
    z = model.embed(batch[0])
    loss = (z @ torch.linspace(-1, 1, z.shape[1], dtype=z.dtype) - batch[1]).square().mean()
    return loss, -loss


def reconstruct(model, batch):
    """A step that uses the decoder."""
    loss = F.mse_loss(model.reconstruct(batch[0]), batch[0])
    return loss, -loss


def unturned(clips):
    """A view that is not drawn."""
    return clips + clips.flip(1) / 2


def run(model, train=None, val=None, **options):
    """Fit, and tell how it ended; an error is told, too."""
    try:
        history = training.fit(model, train or clips(), val, **SILENT | options)
    except (FloatingPointError, ValueError) as error:
        return {"error": str(error)}
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "losses": {
            k: torch.tensor(v, dtype=torch.double) for k, v in vars(history).items() if k != "seconds"
        },
    }


def equal_to_one():
    """Cases that must end as in one process, whether two processes divide the batch or not."""
    val, found = clips(7, seed=1), {}
    for name in DESIGNS:
        for size in (4, 5):
            found[f"{name}, batches of {size}"] = run(design(name), val=val, batch_size=size)
        found[f"{name}, by embed"] = run(design(name), val=val, batch_size=5, step=by_embedding)
    for loss in (objectives.nt_xent, objectives.vicreg):
        for size in (4, 5):
            step = objectives.contrast_step(unturned, loss)  # compares clips across processes
            ended = run(design("SoraContrastive"), val=val, batch_size=size, step=step)
            found[f"{loss.__name__}, batches of {size}"] = ended
    found["codes"] = run(design("SoraAutoencoder"), val=val, batch_size=5, step=reconstruct)
    torch.manual_seed(0)
    found["words"] = run(speaking(), val=val, batch_size=5, step=with_words)
    found["single precision"] = run(
        Small(), clips(dtype=torch.float), clips(7, dtype=torch.float), batch_size=5
    )
    found["one clip"] = run(Small().double(), clips(1), clips(1, seed=1))
    found["another start in each epoch"] = run(
        Small().double(), val=val, batch_size=5, epochs=2, before_epoch=restart
    )
    found["thawed on the way"] = run(frozen(), val=val, batch_size=5, epochs=3, before_epoch=thaw)
    found["not finite"] = run(Small().double(), spoilt(), batch_size=4)
    return found


def restart(model, epoch):
    """Draws numbers, which each process does for itself: those of the first one count."""
    nn.init.normal_(model.head.weight)


def frozen():
    """A model of which only the head learns at first."""
    model = Small().double()
    training.freeze(model.body)
    return model


def thaw(model, epoch):
    """Later all of it learns."""
    training.freeze(model.body, epoch < 1)


def spoilt():
    """One clip is not a number."""
    data = clips()
    data.tensors[0][3] = torch.nan
    return data


def drawn():
    """What each step draws at random in this process, and the labels of its batch."""
    seen = []

    def step(model, batch):
        seen.append([torch.rand(()).item(), np.random.rand(), random.random(), *batch[1].tolist()])
        return F.cross_entropy(model(batch[0]), batch[1]), 0.0

    data = TensorDataset(clips(8).tensors[0], torch.arange(8))
    run(WideHead().double(), data, batch_size=4, epochs=2, step=step)
    return seen


class WideHead(Small):
    """A score for each clip."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 8)


def noisy(checkpoint, stop=None):
    """A training in which everything is drawn, four epochs or broken off before one."""

    def break_off(model, epoch):
        if epoch == stop:
            raise ValueError("broken off")

    options = {"epochs": 4, "batch_size": 5, "before_epoch": break_off, "checkpoint": checkpoint}
    return run(Small(noisy=True).double(), **options)


def resumed(folder):
    """A training as it is, and one that was broken off and went on."""
    found = {"whole": noisy(folder / "a"), "broken off": noisy(folder / "b", stop=2)}
    return found | {"resumed": noisy(folder / "b")}


def apart(folder, rank):
    """Processes that find different checkpoints: only the first has one."""
    path = folder / f"process {rank}"
    if rank == 0:
        path.write_bytes((folder / "a").read_bytes())
    return noisy(path)


def films(n=7):
    """Clips of different lengths, the same in every process."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (3 + i, 16, 16, 3), np.uint8) for i in range(n)]


def kept(folder):
    """Features of all films, and how many of them this process computed."""
    torch.manual_seed(0)
    network, calls = FrameCNN(4, (2, 2)), []
    network.register_forward_hook(lambda *_: calls.append(1))
    features = cache_features(network, films(), folder, "test", progress=False)
    return {"features": [torch.tensor(f) for f in features], "calls": len(calls)}


def main(folder):
    rank = processes.join().process_index
    found = {"loss": distributed_loss.cases(), "equal": equal_to_one(), "drawn": drawn()}
    found |= {"resumed": resumed(folder), "apart": apart(folder, rank)}
    found |= {"features": kept(folder / "features"), "and again": kept(folder / "features")}
    torch.save(found, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
