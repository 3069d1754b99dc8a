# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Scaling out
#
# **Claim.** Many processes can do exactly what one does: the same gradient, every clip once, the same weights after a crash. What they cannot do is make a starved machine fast, and arithmetic on paper says which part starves.
#
# | | |
# |---|---|
# | **You will be able to** | average gradients by hand and equal DDP; gather negatives with their gradient; shard a list and resume after `kill -9`; say what accumulation, bf16, checkpointing and compilation change; plan a training run before you pay for it |
# | **You need** | chapters 3 and 11; chapter 14 for cached features |
# | **Data** | a few mp4 files of the motion set; two processes on your CPU; rates of a GPU from a receipt |
# | **Answers** | article C's word that a GPU makes training and inference faster |

# %% tags=["hide-input"]
import inspect
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import ledger, objectives, plots, processes, schematics, training, video
from sora_nb.data import VideoClips, motion, real
from sora_nb.features import cache_features
from sora_nb.layers.attention import block_macs
from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.transformer import Encoder
from sora_nb.models import SoraGRU, SoraTransformer

plots.use_style()
os.environ["ACCELERATE_USE_CPU"] = "1"  # processes of this page meet on the CPU
torch.set_num_threads(1)
torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
test = motion.load(motion.MotionSpec(level=2), "test", progress=False)
DAY = 24 * 3600


def pace(run, times=3):
    """Processor seconds a call takes, after one that does not count."""
    run()
    began = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - began) / times


# %% [markdown]
# ## See it first
#
# One core, three jobs: decode a clip, embed it with design A, train A on it. Measure each on a few clips, then draw the line to a billion.

# %% mystnb={"figure": {"name": "fig-22-first", "caption": "Core-days for one pass over so many small clips, from rates measured in this cell. What is seconds for 2,400 clips is weeks for a billion, and decoding costs more than half as much as training."}, "image": {"alt": "Three parallel rising lines on logarithmic axes; training highest, then decoding, then embedding; dotted lines mark 2,400, 650,000 and a billion clips"}}
model, clips = SoraTransformer(12), test.float()[:32, ::2]  # (32, 8, 3, 32, 32)
labels, embed = test.labels[:32], torch.no_grad()(model.embed)


def step(n=32):
    F.cross_entropy(model(clips[:n]), labels[:n]).backward()


cost = {"train A": pace(step) / 32, "embed with A": pace(partial(embed, clips)) / 32}
cost["decode"] = pace(lambda: [video.read_video(f) for f in test.files[:20]]) / 20
counts = np.array([1e3, 1e9])
for name, each in cost.items():
    plt.loglog(counts, counts * each / DAY, label=f"{name}: {1 / each:.0f} clips a second")
for n, word in ((2400, "motion set"), (650_000, "Kinetics-700"), (1e9, "a billion")):
    plt.axvline(n, color=plots.GRAY, ls=":")
    _ = plt.text(n * 0.9, 1.5e-5, word, rotation=90, ha="right", fontsize=7)
_ = plt.gca().set(xlabel="clips", ylabel="core-days"), plt.legend(fontsize=8)

# %% [markdown]
# These clips are 32 pixels wide. Real ones cost thirty times more (decoding) to ten thousand times more (arithmetic). So there are two questions: how do many machines act as one (the first half), and how many do you need, of what (the second)?
#
# ## Symbols and shapes
#
# | | |
# |---|---|
# | $n$, rank $r$ | processes, and the number of one of them, from 0 |
# | $B$, $B_r$ | clips of a batch; those of rank $r$, $\sum_r B_r = B$ |
# | $g$ | gradient of the mean loss over the whole batch, as one long vector |
# | $S$ | bytes of that vector |
# | $I$ | arithmetic intensity: FLOPs for each byte moved |
# | FLOP, MAC | one multiplication or addition; a multiply–accumulate is two |
#
# ## One gradient from many
#
# A mean over $B$ clips is a weighted mean of the means over its parts, and so is its gradient:
#
# $$g = \frac1B \sum_{i} \nabla \ell_i = \sum_r \frac{B_r}{B}\, g_r, \qquad g_r = \frac{1}{B_r} \sum_{i \in r} \nabla \ell_i .$$
#
# Only if all $B_r$ are equal is that the plain mean of the $g_r$, which is what `DistributedDataParallel` (DDP) {cite}`li2020ddp` takes. First in one process, so that nothing is hidden:


# %%
def toy():
    """A network of 83 numbers, the same wherever it is made; doubles, so that rounding hides no mistake."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batch():
    """Eight clips of six numbers each, and their labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 6, generator=generator, dtype=torch.double)
    return x, torch.arange(8) % 3


def gradient(net, loss):
    """The gradient of a loss in all of a network's numbers, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


# %% tags=["nbval-check-output"]
net, (x, y) = toy(), batch()
whole = gradient(net, F.cross_entropy(net(x), y))
for first in (4, 5):
    parts = [slice(0, first), slice(first, 8)]
    means = [gradient(net, F.cross_entropy(net(x[p]), y[p])) for p in parts]
    plain = sum(means) / 2
    weighted = first / 8 * means[0] + (8 - first) / 8 * means[1]
    torch.testing.assert_close(weighted, whole)
    off = (plain - whole).norm() / whole.norm()
    print(f"{first} + {8 - first} clips: plain mean equal {bool(off < 1e-9)}, weighted equal True")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-mean", "caption": "Two ranks with five and three clips. The plain mean of their gradients is not the gradient of eight clips; the mean weighted by clips is."}, "image": {"alt": "Two boxes with gradients 0.4 and 1.2, an arrow each to a box: plain mean 0.8, weighted mean 0.7"}}
ax = schematics.canvas(13, 4.6)
for row, (n, g) in enumerate(((5, 0.4), (3, 1.2))):
    schematics.box(ax, f"rank {row}: {n} clips", (0, 0.6 + 2 * row), (3.4, 1))
    schematics.cells(ax, [[g]], (4.6, 0.6 + 2 * row), columns=[f"$g_{row}$"])
    schematics.arrow(ax, (5.7, 1.1 + 2 * row), (8, 2.1), f"{n}/8", bend=0.1)
schematics.cells(ax, [[5 / 8 * 0.4 + 3 / 8 * 1.2]], (8.1, 1.6), color=plots.GREEN, columns=["$g$"])
schematics.label(ax, "plain mean: 0.8", (11.2, 2.1), color=plots.ORANGE)
schematics.label(
    ax, "ranks hold the same weights, so they take the same step", (6, 4.3), fontsize=8
)

# %% [markdown]
# ### All-reduce: everybody gets the sum
#
# Send all gradients to one rank and it becomes the bottleneck. In a **ring**, each rank cuts its vector into $n$ chunks and passes one chunk at a time to its right neighbour: $n-1$ rounds add chunks up, $n-1$ rounds hand the sums on. Each rank sends $2\,\frac{n-1}{n}\,S$ bytes, less than $2S$ *however many* ranks there are, and nothing can do with less {cite}`patarasuk2009`.


# %%
def ring(rows, turns=None):
    """All-reduce of one vector a rank; returns what each rank holds after so many turns, and how much each has sent."""
    n, sent = len(rows), 0
    held = [list(row.chunk(n)) for row in rows]  # held[rank][chunk]
    for turn in range(2 * (n - 1) if turns is None else turns):
        moving = [held[r][(r - turn) % n] for r in range(n)]
        for r in range(n):
            right, chunk = (r + 1) % n, (r - turn) % n
            add = held[right][chunk] if turn < n - 1 else 0  # first sums, then copies
            held[right][chunk] = add + moving[r]
        sent += len(moving[0])
    return [torch.cat(chunks) for chunks in held], sent


# %% tags=["nbval-check-output"]
for n in (2, 3, 8):
    rows = torch.randn(n, 24, dtype=torch.double)
    sums, sent = ring(rows)
    assert all(torch.allclose(total, rows.sum(0)) for total in sums)
    print(
        f"{n} ranks: each sends {sent} numbers of 24; 2 (n - 1) / n = {2 * (n - 1) / n:.2f} vectors"
    )

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-ring", "caption": "A ring of three ranks with three chunks each. After two rounds each rank holds one finished sum (marked), after two more it holds all three."}, "image": {"alt": "Three tables of three by three numbers, before, after adding with one marked sum a row, and after passing on with rows 6, 15, 24 thrice"}}
start = torch.tensor([[1.0, 4, 7], [2, 5, 8], [3, 6, 9]])
half, end = torch.stack(ring(start, 2)[0]), torch.stack(ring(start)[0])
ax = schematics.canvas(17, 5)
names = [f"rank {r}" for r in range(3)]
schematics.cells(ax, start, (2, 1), rows=names, title="before")
schematics.cells(ax, half, (7.5, 1), title="after 2 rounds", mark=[(0, 1), (1, 2), (2, 0)])
schematics.cells(ax, end, (13, 1), title="after 4 rounds", color=plots.GREEN)
for place in (5.2, 10.7):
    schematics.arrow(ax, (place, 2.5), (place + 2, 2.5), "add" if place < 6 else "copy")

# %% [markdown]
# ## Two real processes
#
# `accelerate launch` and `torchrun` start the same script $n$ times with a rank each; `sora_nb.processes.join()` finds the others. The functions below run there, as they stand. Each makes the same batch and takes its part.
#
# **DDP**: the same mean by hand and by the wrapper.


# %%
def ddp(world):
    """This rank's gradient averaged by hand, by DDP, and by DDP where the ranks hold 5 and 3 clips."""
    x, y = batch()
    mine = slice(world.process_index, None, world.num_processes)
    net = toy()
    by_hand = gradient(net, F.cross_entropy(net(x[mine]), y[mine]))
    dist.all_reduce(by_hand)  # in place: now the sum
    found = {"by hand": by_hand / world.num_processes}
    few = slice(0, 5) if world.process_index == 0 else slice(5, 8)
    for name, part, factor in (
        ("DDP", mine, 1.0),
        ("DDP, 5 + 3", few, 1.0),
        ("DDP, 5 + 3, weighted", few, len(x[few]) / 8 * world.num_processes),
    ):
        wrapped = DistributedDataParallel(toy())
        (F.cross_entropy(wrapped(x[part]), y[part]) * factor).backward()
        found[name] = torch.cat([p.grad.flatten() for p in wrapped.parameters()])
    return found


# %% [markdown]
# **Negatives.** A contrastive loss is no mean over clips: each clip is compared with all others ({chapter}`11`), so halves of the batch are another loss. The rows have to travel. `all_gather` hands them over as *constants*. Here are two ways to gather them, and none:


# %%
def contrast(first, second):
    """NT-Xent of {chapter}`11` on the rows given, wherever they came from."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = (z @ z.T / 0.15).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(first)))


def with_constants(z):
    """The rows of all ranks: one's own with their gradient, the others as numbers."""
    parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, z.detach())
    parts[dist.get_rank()] = z
    return torch.cat(parts)


def negatives(world):
    """Loss and averaged gradient of a contrastive loss over eight clips, gathered in two ways and not at all."""
    x, _ = batch()
    mine = slice(4 * world.process_index, 4 * world.process_index + 4)
    ways = {"gather with gradient": objectives.gather_with_gradient}
    ways |= {"others as constants": with_constants, "own clips only": lambda z: z}
    found = {}
    for name, gather in ways.items():
        net = toy()
        loss = contrast(gather(net(x[mine])), gather(net(x[mine] + 0.3)))
        g = gradient(net, loss)
        dist.all_reduce(g)
        found[name] = {"loss": loss.detach(), "gradient": g / world.num_processes}
    return found


# %% [markdown]
# **FSDP.** Where the weights themselves do not fit, *fully sharded* data parallelism {cite}`zhao2023fsdp` leaves each rank a slice of every matrix, gathers a layer when it is needed and drops it again; gradients come back as slices. It wants several devices; two CPU processes suffice to see that the code is right.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-fsdp", "caption": "A layer of three rows on two ranks. At rest rank 0 keeps two rows and rank 1 one; for the length of one layer both hold all three; of the gradient each gets the mean of its own rows."}, "image": {"alt": "Two ranks: slices of a table of numbers, an arrow labelled all-gather to the whole table twice, an arrow labelled reduce-scatter to slices of gradients"}}
weight = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
grads = [
    torch.tensor([[0.2, 0], [0.4, 0.2], [0, 0.6]]),
    torch.tensor([[0.4, 0.2], [0, 0], [0.8, 0]]),
]
ax = schematics.canvas(18, 8)
for rank, rows in enumerate((slice(0, 2), slice(2, 3))):
    top, mean = 0.8 + 3.8 * rank, sum(grads)[rows] / 2
    schematics.cells(ax, weight[rows], (2, top + rank), title="kept", rows=[f"rank {rank}"] * len(mean))  # fmt: skip
    schematics.arrow(ax, (4.3, top + 1.5), (6.6, top + 1.5), "all-gather")
    schematics.cells(ax, weight, (7, top), title="in use")
    schematics.cells(ax, grads[rank], (10, top), title="gradient", form="{:.1f}", color=plots.ORANGE)  # fmt: skip
    schematics.arrow(ax, (12.3, top + 1.5), (15, top + 1.5), "reduce-scatter")
    schematics.cells(ax, mean, (15.4, top + rank), title="kept", form="{:.1f}", color=plots.GREEN)


# %%
def sharded(world):
    """Gradient of the whole network from ranks that keep a slice of it each, and how many numbers each keeps."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    (x, y), net = batch(), toy()
    mine = slice(world.process_index, None, world.num_processes)
    mesh = init_device_mesh("cpu", (world.num_processes,))
    for part in (net[0], net[2], net):  # layers first, then what is left
        fully_shard(part, mesh=mesh)
    F.cross_entropy(net(x[mine]), y[mine]).backward()
    g = torch.cat([p.grad.full_tensor().flatten() for p in net.parameters()])
    return {"gradient": g, "kept": sum(p.to_local().numel() for p in net.parameters())}


def network(world):
    """Seconds for an all-reduce of so many bytes between the two, the best of many."""
    found = {}
    for _ in range(20):
        dist.all_reduce(torch.ones(10))  # the first messages open connections
    for n in (10, 1000, 100_000, 1_000_000, 10_000_000):
        vector, took = torch.ones(n), []
        for _ in range(50 if n <= 100_000 else 10):
            began = time.perf_counter()
            dist.all_reduce(vector)
            took.append(time.perf_counter() - began)
        found[4 * n] = min(took)
    return found


# %% [markdown]
# What starts them: a script made of these very functions, and a command. (Accelerate calls several processes `--multi_gpu`, GPUs or not.)

# %%
NAMES = "itertools json os signal time torch".split()
IMPORTS = (
    "\n".join(f"import {name}" for name in NAMES)
    + """
import torch.distributed as dist
from pathlib import Path
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset
from sora_nb import objectives, processes, training
"""
)
MAIN = """
world = processes.join()
found = {{case.__name__: case(world) for case in ({cases},)}}
torch.save(found, "{name}-" + str(world.process_index))
dist.destroy_process_group()
"""
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_machines=1"]
ACCELERATE += ["--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no"]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ledger.ROOT)}
ALONE["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # each restart gets a store of its own


def launch(command, name, cases, helpers=(), imports=""):
    """Run `cases` in two processes, started by `command`; return what each of them found, and what was printed."""
    sources = [inspect.getsource(f) for f in (*helpers, *cases)]
    main = MAIN.format(cases=", ".join(f.__name__ for f in cases), name=name)
    (folder / f"{name}.py").write_text("\n\n".join([IMPORTS + imports, *sources, main]))
    run = [sys.executable, "-m", *command, f"{name}.py"]
    said = subprocess.run(run, cwd=folder, env=os.environ | ALONE, capture_output=True, text=True, timeout=900)  # fmt: skip
    assert said.returncode == 0, said.stderr[-3000:]
    return [torch.load(folder / f"{name}-{r}") for r in (0, 1)], said.stdout + said.stderr


# %%
HELPERS = (toy, batch, gradient, contrast, with_constants)
two, _ = launch(ACCELERATE, "equal", (ddp, negatives, sharded, network), HELPERS)
print("files written by the ranks:", sorted(p.name for p in folder.glob("equal-*")))

# %% [markdown]
# **Prediction.** By hand, DDP and FSDP give one process's gradient to 1e-12; 5 + 3 clips do so only when weighted. Gathered with gradient, the contrastive loss does so to 1e-6; both other ways do not.

# %% tags=["nbval-check-output"]
for rank in (0, 1):
    found = two[rank]["ddp"] | {"FSDP": two[rank]["sharded"]["gradient"]}
    same = {name: bool((g - whole).abs().max() < 1e-12) for name, g in found.items()}
    assert same == {name: name != "DDP, 5 + 3" for name in same}
print("equal to one process:", "; ".join(n for n, ok in same.items() if ok))
print("not equal:", "; ".join(n for n, ok in same.items() if not ok))
off = (two[0]["ddp"]["DDP, 5 + 3"] - whole).norm() / whole.norm()
print(f"5 + 3 clips, plain mean: off by {off:.0%}")
kept = [two[r]["sharded"]["kept"] for r in (0, 1)]
print("FSDP: numbers kept by each rank", kept, "of", sum(p.numel() for p in net.parameters()))

# %% tags=["nbval-check-output"]
together = contrast(net(x), net(x + 0.3))
one = gradient(net, together)
print(f"{'':22s} loss   length  direction (cosine)")
for name in two[0]["negatives"]:
    of = [two[r]["negatives"][name] for r in (0, 1)]
    loss = sum(f["loss"] for f in of) / 2
    g = of[0]["gradient"]
    size, angle = g.norm() / one.norm(), F.cosine_similarity(g, one, dim=0)
    print(f"{name:22s} {loss - together.detach():+.2f}   {size:.3f}   {angle:.3f}")
right = two[0]["negatives"]["gather with gradient"]
torch.testing.assert_close(right["gradient"], one, rtol=1e-6, atol=1e-9)
torch.testing.assert_close(objectives.nt_xent(net(x), net(x + 0.3)), together)

# %% [markdown]
# *Others as constants* is the dangerous one. The loss is right, the direction is right, and the length is *half*: each rank brings the part of its own rows, the parts sum to the whole, and DDP divides by $n$. Adam is nearly blind to the length of a gradient, so the curves look fine; clipping, an L2 penalty and every other loss added to this one are then out of proportion by $n$ (the decoupled decay of AdamW is not). *Own clips only* is another, easier task with fewer negatives. Not all libraries' collectives have a gradient, and not all backends average: FSDP on the CPU once returned sums in place of means, in silence [until a reader compared](https://github.com/pytorch/pytorch/pull/162344). The check is two lines; make it before the long run.
#
# How fast was the network? On one machine it is memory copies; the figure to remember is the shape.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-network", "caption": "All-reduce between two processes on this machine: seconds against bytes. Small messages cost about the same whatever they hold; large ones pay by the byte (the best of many)."}, "image": {"alt": "A line on logarithmic axes, flatter at first, then rising in proportion to the bytes"}}
took = two[0]["network"]
fig, ax = plt.subplots(figsize=(5, 2.8))
ax.loglog(list(took), list(took.values()), "o-", color=plots.BLUE)
ax.set(xlabel="bytes", ylabel="seconds")
size = max(took)
loopback = size / took[size]  # for n = 2, each sends 2 (n - 1) / n = 1 vector
print(f"{size / 1e6:.0f} MB in {took[size] * 1e3:.0f} ms: {loopback / 1e9:.1f} GB/s")

# %% [markdown]
# ## Every clip once
#
# A list is dealt like cards: rank $r$ takes items $r, r+n, r+2n, …$ (`processes.shard`). PyTorch's `DistributedSampler` wants equal hands and *repeats* clips until they are. In training that hardly matters. In an evaluation the repeated clips vote twice:

# %% tags=["nbval-check-output"]


def world(r, n):
    """What a process knows of the others."""
    return type("World", (), {"process_index": r, "num_processes": n})


films = [f"film {i}" for i in range(7)]
dealt = [processes.shard(films, world(r, 3)) for r in range(3)]
assert sorted(sum(dealt, [])) == films  # each once, none twice
padded = [list(DistributedSampler(films, 3, r, shuffle=False)) for r in range(3)]
print("dealt: ", [[f[-1] for f in hand] for hand in dealt])
print("padded:", padded)
seen = np.bincount(sum(padded, []))
print("the sampler shows twice:", [films[i] for i in np.flatnonzero(seen > 1)])
right = np.array([1, 0, 0, 1, 1, 1, 0])
print(f"accuracy {right.mean():.2f}, with the repeated clips {right[sum(padded, [])].mean():.2f}")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-deal", "caption": "Seven films for three ranks. Left: dealt, the last two hands are shorter. Right: padded to equal hands, films 0 and 1 appear twice (marked)."}, "image": {"alt": "Two tables with a row for each rank: 0 3 6, 1 4, 2 5 on the left; 0 3 6, 1 4 0, 2 5 1 on the right with the last two marked"}}
ax = schematics.canvas(12, 4.2)
for r, hand in enumerate(dealt):
    schematics.cells(ax, [[int(f[-1]) for f in hand]], (2, 0.8 + r), rows=[f"rank {r}"])
schematics.cells(ax, padded, (7.5, 0.8), mark=[(1, 2), (2, 2)], color=plots.ORANGE)
for word, at in (("shard: once each", 3.5), ("padded", 9)):
    schematics.label(ax, word, (at, 0.3))

# %% [markdown]
# ### Break it: shard what is left
#
# A job that makes features was killed. Start it again, list what is missing, deal the missing films out: it looks economical. But the ranks do not list at the same moment; rank 1 looks when rank 0 has already finished one film.

# %% tags=["nbval-check-output"]
done, made = {"film 1"}, []
for r in range(3):
    missing = [f for f in films if f not in done]  # what this rank sees
    mine = processes.shard(missing, world(r, 3))
    made += mine
    done |= set(mine[:1])  # the first is written before the next rank looks
lost = sorted(set(films) - set(made) - {"film 1"})
print("made:", sorted(made), " never made:", lost)
assert lost

# %% [markdown]
# No error, no warning, and films that nobody made. `cache_features` deals out the *whole* list, which is the same for all, and then each rank skips what it finds of its own.
#
# ## Killed
#
# A thousand machines that fail once in three years each are a machine that fails once a day. So a job must be able to die at any moment. This one makes features of 24 films and trains a small recurrent model on them, in two processes; `kill -9` hits rank 1 in the middle of the features and, after the restart, rank 0 (who writes the checkpoints) in the middle of the training. `torchrun --max-restarts=4` starts both again. (With one more setting: torchrun lets the new ranks meet in the old ranks' store, where they may find the addresses of the dead; [that is known](https://github.com/pytorch/pytorch/issues/135712), here too a restart failed now and then, and `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` ends it.)


# %%
def job(world, place, kills=()):
    """Features, then training; a line for each event. The first time that (rank, event) is in `kills` is the last."""
    attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), world.process_index
    place.mkdir(exist_ok=True)

    def note(what):
        with open(place / "events", "a") as log:
            log.write(json.dumps([time.time(), rank, attempt, what]) + "\n")
        grave = place / f"{rank} {what}"
        if (rank, what) in kills and not grave.exists():
            grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # nothing is tidied up, no exception is seen

    films, labels = json.loads(Path("films").read_text())
    torch.manual_seed(0)
    frames, count = FrameCNN(32, (8, 16)), itertools.count()
    frames.register_forward_hook(lambda *_: note(f"film {next(count)}"))
    note("start")
    kept = cache_features(frames, films, place / "features", "frames", progress=False)
    data = TensorDataset(torch.stack([torch.tensor(f) for f in kept]), torch.tensor(labels))
    model = SoraGRU(12, dim=32, depth=1, frames=nn.Identity())
    options = {"epochs": 6, "batch_size": 8, "progress": False, "checkpoint": place / "checkpoint"}
    history = training.fit(model, data, before_epoch=lambda _, e: note(f"epoch {e}"), **options)
    note("end")
    return {"weights": model.state_dict(), "losses": history.train_loss}


# %%
def killed_twice(world):
    return job(world, Path("killed"), {(1, "film 4"), (0, "epoch 3")})


def unbroken(world):
    return job(world, Path("unbroken"))


(folder / "films").write_text(json.dumps([list(map(str, test.files[:24])), labels[:24].tolist()]))
more = "\nfrom sora_nb.features import cache_features\nfrom sora_nb.layers.frames import FrameCNN"
more += "\nfrom sora_nb.models import SoraGRU\n"
elastic = [*TORCHRUN, "--max-restarts=4"]
runs, said = launch(elastic, "crash", (killed_twice, unbroken), (job,), more)
found = re.findall(r"exitcode: (-9)\) local_rank: (\d)", said)
print("torchrun found dead:", ", ".join(f"rank {r} (exit code {code})" for code, r in found))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-killed", "caption": "What the two ranks did in each attempt, one event after the other: start (bars), films (small dots), epochs (large dots), the end (square), and the two deaths (crosses). The second attempt makes the films that are missing, the third none."}, "image": {"alt": "Three panels with two rows of dots each; the first has a cross on the lower row, the second a cross on the upper row, the third a square on both"}}
events = [json.loads(line) for line in (folder / "killed" / "events").read_text().splitlines()]
attempts = sorted({attempt for _, _, attempt, _ in events})
fig, axes = plt.subplots(1, len(attempts), figsize=(8, 1.7), sharey=True)
style = {"film": (".", 4), "epoch": ("o", 6), "start": ("|", 10), "end": ("s", 7)}
dead = {1: "film 4", 0: "epoch 3"}
for ax, attempt in zip(axes, attempts):
    mine = [e for e in events if e[2] == attempt]
    for place, (_, r, _, what) in enumerate(mine):
        mark, size = style[what.split()[0]]
        if dead.get(r) == what:  # the first time
            del dead[r]
            ax.plot(place, -r, "x", ms=14, mew=3, color=plots.ORANGE)
        ax.plot(place, -r, mark, ms=size, color=plots.BLUE)
    ax.set(yticks=[0, -1], yticklabels=["rank 0", "rank 1"], ylim=(-1.6, 0.6), xticks=[])
    ax.set_xlabel(f"attempt {attempt}: events in order")

# %% tags=["nbval-check-output"]
broken, plain = (runs[0][name] for name in ("killed_twice", "unbroken"))
assert {p.name for p in (folder / "killed").glob("? *")} == {"1 film 4", "0 epoch 3"}  # both died
assert [code for code, _ in found] == ["-9", "-9"]
equal = [torch.equal(broken["weights"][k], plain["weights"][k]) for k in plain["weights"]]
print("killed twice, weights bit for bit as unbroken:", all(equal))
print("losses of all six epochs too:", broken["losses"] == plain["losses"])
computed = sum(what.startswith("film") for *_, what in events)
print("films computed again, because they were cut off: at most two:", 24 <= computed <= 26)
assert 24 <= computed <= 26 and len(list((folder / "killed" / "features").rglob("*.npy"))) == 24

# %% [markdown]
# And one process, which never heard of ranks, with the same batches:

# %%
torch.manual_seed(0)
frames = FrameCNN(32, (8, 16))
kept = cache_features(frames, test.files[:24], folder / "unbroken" / "features", "frames", progress=False)  # fmt: skip
data = TensorDataset(torch.stack([torch.tensor(f) for f in kept]), labels[:24])
alone = SoraGRU(12, dim=32, depth=1, frames=nn.Identity())
training.fit(alone, data, epochs=6, batch_size=8, progress=False)
gap = max((alone.state_dict()[k] - w).abs().max() for k, w in plain["weights"].items())
print(f"largest difference between one process and two, after 18 updates: {gap:.0e}")
assert gap < 1e-5

# %% [markdown]
# What has to be in the checkpoint for that? Weights; both moments of Adam; the place in the schedule; the seed of the epoch's order. Leave one out and the run goes on, its loss goes down, and it is another run. And how often? If a checkpoint takes $\delta$ seconds and a failure comes every $M$ seconds, the time lost is least near $\sqrt{2\,\delta M}$ {cite}`young1974`.
#
# ## A batch that does not fit
#
# Cut it into micro-batches, let `backward` add the gradients up, step once. That is the same weighted mean as above, in time instead of in space, and has the same trap: the last micro-batch is often smaller.

# %% tags=["nbval-check-output"]
chunks = (slice(0, 3), slice(3, 6), slice(6, 8))
losses = [F.cross_entropy(net(x[c]), y[c]) for c in chunks]
plain = sum(gradient(net, loss) for loss in losses) / 3
losses = [F.cross_entropy(net(x[c]), y[c]) * len(x[c]) / 8 for c in chunks]
weighted = sum(gradient(net, loss) for loss in losses)
print("divided by the number of micro-batches:", bool(torch.allclose(plain, whole)))
print("each weighted by its clips:", bool(torch.allclose(weighted, whole)))

# %% [markdown]
# Where is accumulation *not* the big batch? Wherever clips of one batch see each other. Batch norm takes its statistics from three clips, then from three others. A contrastive loss has fewer negatives, as among ranks. For the second there is an exact way {cite}`gao2021gradcache`: embed everything without a graph, take the loss's gradient *in the embeddings*, then go through the micro-batches again and send each its part.

# %% tags=["nbval-check-output"]
noisy = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
big = gradient(noisy, F.cross_entropy(noisy(x), y))
small = [gradient(noisy, F.cross_entropy(noisy(x[c]), y[c]) * len(x[c]) / 8) for c in chunks]
print("with batch norm equal:", bool(torch.allclose(sum(small), big)))
parts = [gradient(net, contrast(net(x[c]), net(x[c] + 0.3)) * len(x[c]) / 8) for c in chunks]
print("contrastive, accumulated, equal:", bool(torch.allclose(sum(parts), one)))
with torch.no_grad():
    z = [net(x).requires_grad_(), net(x + 0.3).requires_grad_()]
pull = torch.autograd.grad(contrast(*z), z)  # what the loss asks of each embedding
parts = []
for c in chunks:
    asked = (net(x[c]) * pull[0][c]).sum() + (net(x[c] + 0.3) * pull[1][c]).sum()
    parts.append(gradient(net, asked))
print("contrastive, in two passes, equal:", bool(torch.allclose(sum(parts), one)))

# %% [markdown]
# ## Half the bits
#
# A `bfloat16` is the first half of a `float32`: the same range, 7 bits of fraction in place of 23. Products in it move half the bytes and run many times faster: 989 against 67 TFLOP/s on an H100, by its data sheet {cite}`nvidia2023h100`.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-bits", "caption": "The number 3.14159 in 32 bits and in 16. Sign and exponent are kept, of the fraction the first seven bits."}, "image": {"alt": "Two rows of cells with zeros and ones, the upper 32 long, the lower 16 long, exponent cells marked"}}
number = torch.tensor(np.pi, dtype=torch.float32)
bits = f"{number.view(torch.int32).item():032b}"
ax = schematics.canvas(35, 5.2, unit=0.24)
marked = [(0, i) for i in range(1, 9)]
schematics.cells(ax, [[int(b) for b in bits]], (3, 1), mark=marked, fontsize=6)
schematics.cells(ax, [[int(b) for b in bits[:16]]], (3, 3), mark=marked, fontsize=6, color=plots.ORANGE)  # fmt: skip
schematics.label(ax, "float32", (1.2, 1.5), fontsize=8)
schematics.label(ax, "bfloat16", (1.2, 3.5), fontsize=8)
schematics.label(ax, f"{number:.6f}, rounded {number.bfloat16():.6f}", (27, 3.5), fontsize=8)
for word, place in (("exponent", 8), ("fraction", 20)):
    schematics.label(ax, word, (place, 0.5), fontsize=7)

# %% tags=["nbval-check-output"]
half = partial(torch.tensor, dtype=torch.bfloat16)
print("1 + 1/256 =", (half(1.0) + 1 / 256).item(), "  256 + 1 =", (half(256.0) + 1).item())
total = half(0.0)
for _ in range(1000):
    total = total + 1
print("a thousand ones, one after the other:", total.item())
print("spacing above 1:", torch.finfo(torch.bfloat16).eps, "  largest:", f"{torch.finfo(torch.bfloat16).max:.0e}")  # fmt: skip

# %% [markdown]
# So weights stay in float32, and so do sums, norms and softmax; *autocast* {cite}`micikevicius2018` converts only what enters matrix products. Try the opposite: gradient descent on $(w - 1.5)^2/2$ from $w = 1$ with rate 0.005, the weight itself kept in bf16.
#
# % numbers: given
# **Prediction.** The first update is 0.0025, less than half the spacing above 1. The bf16 weight never moves, at any number of steps; the float32 one arrives.

# %% mystnb={"figure": {"name": "fig-22-stuck", "caption": "The same 1,000 updates on a weight in float32 (blue) and in bf16 (orange). Each update of the second is rounded away."}, "image": {"alt": "A blue curve that rises from 1 to 1.5 and a flat orange line at 1"}}
paths = {}
for dtype in (torch.float32, torch.bfloat16):
    w = torch.ones((), dtype=dtype)
    paths[dtype] = [w.item()] + [(w := w - 0.005 * (w - 1.5)).item() for _ in range(1000)]
fig, ax = plt.subplots(figsize=(5, 2.4))
for dtype, color in zip(paths, (plots.BLUE, plots.ORANGE)):
    ax.plot(paths[dtype], color=color, label=str(dtype)[6:])
_ = ax.set(xlabel="updates", ylabel="weight"), ax.legend(fontsize=8)
assert paths[torch.bfloat16][-1] == 1 and abs(paths[torch.float32][-1] - 1.5) < 0.01

# %% [markdown]
# With autocast, what does design A's gradient lose?

# %% tags=["nbval-check-output"]
full = gradient(model, F.cross_entropy(model(clips), labels))
with torch.autocast("cpu", torch.bfloat16):
    loss = F.cross_entropy(model(clips), labels)
cast = gradient(model, loss)
print("gradients stay float32:", cast.dtype == torch.float32)
print("cosine above 0.99:", bool(F.cosine_similarity(cast, full, dim=0) > 0.99))
print("equal to 1e-3:", bool(torch.allclose(cast, full, rtol=1e-3)))

# %% [markdown]
# ## Compute it again
#
# The way back needs what the way there computed: every block keeps its intermediate results. *Activation checkpointing* {cite}`chen2016checkpointing` keeps a block's input alone and runs the block again when its gradient is due.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-again", "caption": "Four blocks that keep 10 units each, or an input of 1 unit. Keep all: 40. Keep inputs: 4, and 10 more while one block is computed again; a third more arithmetic."}, "image": {"alt": "Two rows of four boxes; above, each labelled keeps 10; below, each labelled keeps 1 and an arrow back over one labelled again 10"}}
ax = schematics.canvas(15, 5.6)
for i in range(4):
    schematics.box(ax, f"block {i}", (0.5 + 3 * i, 0.6), (2.2, 0.9))
    schematics.label(ax, "keeps 10", (1.6 + 3 * i, 1.9), fontsize=8)
    schematics.box(ax, f"block {i}", (0.5 + 3 * i, 3.2), (2.2, 0.9), color=plots.GREEN)
    schematics.label(ax, "keeps 1" + (" + 10" if i == 2 else ""), (1.6 + 3 * i, 4.5), fontsize=8)
schematics.arrow(ax, (8.6, 3.2), (6.6, 3.2), "again", bend=0.6)
for word, place in (("40", 1.1), ("4 + 10", 3.7)):
    schematics.label(ax, word, (13.6, place))


# %%
class Again(torch.autograd.Function):
    """Run a block, keep its input alone; on the way back run it again, this time for its gradient."""

    @staticmethod
    def forward(ctx, block, x):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)  # inside a Function nothing is recorded

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = ctx.block(x)
        torch.autograd.backward(out, gradient)
        return None, x.grad


def kept_bytes(run):
    """Run something; return its result and the bytes that autograd keeps for the way back, each storage once."""
    seen = {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t  # held, so that no address is used twice
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = run()
    return result, sum(t.untyped_storage().nbytes() for t in seen.values() if not isinstance(t, nn.Parameter))  # fmt: skip


# %%
encoder = Encoder(64, 16, 4)
tokens = torch.randn(2, 128, 64, requires_grad=True)
inputs = tokens[:]  # what a layer before would hand over
ways = {
    "plain": lambda block, x: block(x),
    "by hand": Again.apply,
    "torch": partial(checkpoint, use_reentrant=False),
}


def through(way, every=1):
    """The encoder's blocks in groups of `every`, each group passed through `way`."""
    z = inputs
    for i in range(0, 16, every):
        z = ways[way](nn.Sequential(*encoder.blocks[i : i + every]), z)
    return z


grads, memory, work = {}, {}, {}
for way in ways:
    encoder.zero_grad()
    with FlopCounterMode(display=False) as counter:
        out, memory[way] = kept_bytes(partial(through, way))
        out.square().mean().backward(retain_graph=way == "plain")
    work[way] = counter.get_total_flops()
    grads[way] = torch.cat([p.grad.flatten() for p in encoder.blocks.parameters()])

# %% tags=["nbval-check-output"]
for way in ("by hand", "torch"):
    print(f"{way}: gradients equal {torch.equal(grads[way], grads['plain'])},", f"{work[way] / work['plain']:.2f} times the FLOPs")  # fmt: skip
print(f"kept: {memory['plain'] / 1e6:.0f} MB, by hand {memory['by hand'] / 1e6:.0f} MB")
assert memory["by hand"] * 8 < memory["plain"]

# %% [markdown]
# (FLOPs are those of matrix products, counted by `FlopCounterMode`. The way back is twice the way there, so a second way there makes four parts of three. Both lie below: the fused attention computes its scores again in any case, and torch's checkpoint stops its second run as soon as it has all it needs.) Checkpoint every block, or groups of $k$ of the $L$ blocks? With an input of $a$ bytes and a block that keeps $b$, the peak is about $\frac Lk a + k b$, least at $k = \sqrt{L a / b}$. The often quoted $\sqrt L$ is the case $a = b$. Here?

# %% mystnb={"figure": {"name": "fig-22-groups", "caption": "Bytes kept after the way there (blue), bytes one group needs while it is run again (orange), and their sum, for sixteen blocks in groups of 1 to 16, measured through autograd's own hooks. Group 16 is no saving at all."}, "image": {"alt": "A falling blue curve, a rising orange one, and their sum with its least value at small groups"}}
groups = [1, 2, 4, 8, 16]
stored = [kept_bytes(partial(through, "by hand", every))[1] / 1e6 for every in groups]
again = [kept_bytes(partial(nn.Sequential(*encoder.blocks[:g]), inputs))[1] / 1e6 for g in groups]  # fmt: skip
fig, ax = plt.subplots(figsize=(5, 2.8))
ax.plot(groups, stored, "o-", color=plots.BLUE, label="kept")
ax.plot(groups, again, "o-", color=plots.ORANGE, label="run again")
ax.plot(groups, np.add(stored, again), "s--", color=plots.GRAY, label="sum")
ax.set_xscale("log", base=2)
_ = ax.set(xlabel="blocks in a group", ylabel="MB", yscale="log"), ax.legend(fontsize=8)
best = groups[int(np.argmin(np.add(stored, again)))]
a, b = inputs.nbytes / 1e6, memory["plain"] / 16e6
print(
    f"a = {a:.2f} MB, b = {b:.1f} MB: best k by the formula {np.sqrt(16 * a / b):.1f}, measured {best}"
)
print(f"{min(np.add(stored, again)):.1f} MB at the peak against {memory['plain'] / 1e6:.0f} MB")

# %% [markdown]
# ## The roofline
#
# A processor can do $P$ FLOPs and move $b$ bytes a second. Work that does $I$ FLOPs for each byte runs at most at
#
# $$\min(P,\; b \cdot I)\ \text{FLOP/s}$$
#
# {cite}`williams2009roofline`. Left of the ridge $P/b$ memory is the limit and faster arithmetic changes nothing; right of it arithmetic is. Adding two vectors: one FLOP for 12 bytes. Multiplying $m × m$ matrices: $2m^3$ FLOPs for $12m^2$ bytes, $I = m/6$.

# %%
copied = torch.rand(2**24)  # 64 MB: no cache holds it
into = torch.empty_like(copied)
bandwidth = 2 * copied.nbytes / pace(lambda: into.copy_(copied))
points = {}
for m in (16, 32, 64, 128, 256, 512, 1024):
    a = torch.rand(m, m)
    points[f"m = {m}"] = (m / 6, 2 * m**3 / pace(partial(torch.mm, a, a), max(2, 10**7 // m**3)))
peak = max(rate for _, rate in points.values())
points["add"] = (1 / 12, len(copied) / pace(partial(torch.add, copied, into, out=into)))
bandwidth = max(bandwidth, 12 * points["add"][1])  # what has been reached can be reached
print(f"peak {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s, ridge at {peak / bandwidth:.0f} FLOP/byte")  # fmt: skip


# %%
class Traffic(TorchDispatchMode):
    """Count the bytes that each operation reads and writes, as if no cache and no fusion helped."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.nbytes for t in tensors)
        return out


def intensity(run):
    """FLOPs and bytes of a call."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        run()
    return flops.get_total_flops(), traffic.bytes


# %%
for n in (1, 8, 32):
    flops, moved = intensity(partial(step, n))
    points[f"A, batch {n}"] = (flops / moved, flops / pace(partial(step, n)))
forward = intensity(partial(model.embed, clips[:1]))[0]
per_clip = flops / 32
print(f"A: {forward / 1e6:.0f} MFLOP to embed a clip, {per_clip / 1e6:.0f} to train on it ({per_clip / forward:.1f} times)")  # fmt: skip
print(f"training reaches {points['A, batch 32'][1] / peak:.0%} of this core's peak")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-roofline", "caption": "The roofline of one core, with what was measured: matrix products from 16 to 1,024 wide, a sum of vectors, and training steps of A (green). Dashed: an H100's roof from its data sheet; its ridge lies much further right, so work that suits a CPU starves a GPU."}, "image": {"alt": "Logarithmic axes; a slanted line that becomes flat, points below it rising to it; a dashed second roof high above with its corner near 300"}}
fig, ax = plt.subplots(figsize=(6, 3.6))
at = np.logspace(-1.3, 3.5, 60)
H100 = {"bf16": 989e12, "bytes": 3.35e12}  # FLOP/s without sparsity, bytes/s
ax.loglog(at, np.minimum(peak, bandwidth * at), color=plots.BLUE)
ax.loglog(at, np.minimum(H100["bf16"], H100["bytes"] * at), "--", color=plots.GRAY)
for name, (i, rate) in points.items():
    ax.plot(i, rate, "o", color=plots.GREEN if name[0] == "A" else plots.ORANGE, ms=5)
    if name in ("add", "m = 16", "m = 1024", "A, batch 1"):
        ax.annotate(name, (i, rate), fontsize=7, xytext=(5, -10), textcoords="offset points")
_ = ax.set(xlabel="FLOP per byte", ylabel="FLOP/s", ylim=(1e8, 3e15))

# %% [markdown]
# The H100's numbers are its data sheet's {cite}`nvidia2023h100`: 989 TFLOP/s in bf16 without sparsity, 3.35 TB/s.
#
# ### Precision, checkpoints and the compiler, timed
#
# `python scripts/scaling_constants.py` measures the five designs and a Transformer on one core, and, where there is a GPU, on that and on all cores beside it. This is its receipt. *Off* is the relative error of the gradient against float32: `torch.compile` fuses operations and changes no result beyond the rounding of the precision it runs in (for all designs: `tests/test_model_graphs.py`).

# %%
receipt = ledger.read_receipt("scaling_constants")
measured = receipt["numbers"]
hosts = {name: of for name, of in measured.items() if name.startswith(("cpu", "cuda"))}
print(receipt["device"], "torch", receipt["versions"]["torch"])
for name, of in hosts.items():
    print(
        f"{name}: {of['float32'] / 1e9:.0f} GFLOP/s in float32, {of['bfloat16'] / 1e9:.0f} in bfloat16"
    )
    print("clips a second: training 1 and 64 at a time, inference 1 and 64 at a time")
    for design in "ABCDE":
        told = [f"{of[f'{design} {n}'][w]:8.0f}" for w in ("train", "infer") for n in (1, 64)]
        print(f"  {design}", *told)

# %%
ways = {way: of for way, of in measured["vit"].items() if way != "sizes"}
print("Transformer:", ", ".join(f"{k} {v}" for k, v in measured["vit"]["sizes"].items()))
for way, of in ways.items():
    if "error" in of:
        print(f"{way:24s}did not run: {of['error'][:50]}")
        continue
    work = of.get("flops", ways["bfloat16"]["flops"]) / of["seconds"]  # the compiler hides its own
    size = f", {of['memory'] / 2**30:.1f} GiB" if "memory" in of else ""
    print(f"{way:24s}{1e3 * of['seconds']:8.1f} ms{work / 1e12:8.2f} TFLOP/s, off by {of['off']:.4f}{size}")  # fmt: skip

# %% [markdown]
# On this core bf16 takes a quarter off, the compiler next to nothing, and checkpointing costs the third that it should. Do not carry these over to a GPU; carry over how they were measured.
#
# ### What a GPU really gave
#
# {chapter}`13` trains ten designs for equal updates, here on one core, each alone. The same function ran for 80 updates each on an NVIDIA H200 that *fourteen such processes shared*; its rates were read off the console and copied by hand into the receipt `gpu_updates`. On the GPU nothing but training was timed; the core's seconds include validation after each pass, about a tenth more. With NVIDIA's multi-process service (MPS) the kernels of several processes run side by side.

# %%
shared = ledger.read_receipt("gpu_updates")["numbers"]
theirs = ledger.read_receipt("five_designs")["numbers"]
gains, arithmetic = {}, {}
print("updates a second:       one core   a share of the GPU, without and with MPS")
for name, rates in shared["updates a second and process"].items():
    runs_ = theirs["level2"][name]
    core = np.mean(np.divide(runs_["updates"], runs_["cpu_seconds"]))
    gains[name] = {how: rate / core for how, rate in rates.items()}
    arithmetic[name] = rates["MPS"] * shared["clips an update"] * 6 * theirs["costs"][name]["macs"]
    print(f"{name:22s}{core:10.1f}{rates['alone']:12.1f}{rates['MPS']:12.1f}   {gains[name]['MPS']:.1f} times one core")  # fmt: skip
together = shared["together"]
print(f"all fourteen: {together['alone']}, with MPS {together['MPS']}")

# %%
busy = shared["processes"] * np.mean(list(arithmetic.values()))
print(f"arithmetic of the fourteen: about {busy / 1e12:.1f} TFLOP/s, {busy / H100['bf16']:.1%} of the bf16 peak")  # fmt: skip
utilisation = 0.4  # of the peak, for models of a hundred million numbers: an assumption

# %% [markdown]
# (An H200 computes like an H100, with more memory; the way back is counted as two ways there, views and decoders not at all.) So even fourteen at once leave nearly all of it idle (in float32, as they ran, the peak is 67 TFLOP/s {cite}`nvidia2023h100`), and letting their kernels overlap, which adds no arithmetic, doubles the rate: models this small wait for the launch of their kernels. It is the left side of the roofline, with latency in the place of bytes. No step of a large model was timed on a GPU here; the plan below therefore *assumes* 40 % of the peak for one, and you should look at what follows if it is 20.
#
# ## Plan before you pay
#
# FLOPs need no GPU and no memory: on PyTorch's *meta* device tensors have shapes and nothing else, and the counter counts all the same. A masked autoencoder {cite}`tong2022videomae` reads 16 frames of 224 × 224 as 1,568 tubelets, encodes a tenth of them and decodes all with a small decoder. Training is three times the way there.


# %%
@cache
def forward_flops(tokens, dim, depth, heads, hidden=None):
    """FLOPs of an encoder on one clip, and its numbers, without computing anything."""
    with torch.device("meta"):
        body, z = Encoder(dim, depth, heads, hidden), torch.empty(1, tokens, dim)
    with FlopCounterMode(display=False) as counter:
        body(z)
    return counter.get_total_flops(), sum(p.numel() for p in body.parameters())


VIT = {"B": (768, 12, 12), "L": (1024, 24, 16), "H": (1280, 32, 16), "g": (1408, 40, 16, 6144)}
SMALL = {"B": (384, 4, 6), "L": (512, 4, 8), "H": (512, 4, 8), "g": (512, 4, 8)}  # decoders


def masked_step(name, tokens=1568, shown=0.1):
    """FLOPs of one clip in masked pretraining: encoder on the shown tokens, decoder on all, there and back."""
    encoder, _ = forward_flops(round(shown * tokens), *VIT[name])
    decoder, _ = forward_flops(tokens, *SMALL[name])
    return 3 * (encoder + decoder)


# %%
by_formula = 2 * 12 * block_macs("joint", 8, 196, 768)
counted, _ = forward_flops(1568, *VIT["B"])
assert abs(counted / by_formula - 1) < 0.02
for name in VIT:
    whole_clip, size = forward_flops(1568, *VIT[name])
    print(f"ViT-{name}: {size / 1e6:5.0f} M numbers, {whole_clip / 1e9:5.0f} GFLOP to embed, {masked_step(name) / 1e9:5.0f} to train masked")  # fmt: skip

# %% [markdown]
# ### Do the papers' bills agree?
#
# Multiply, and compare with what people reported: VideoMAE's authors, ViT-B on Kinetics-400 (about 240,000 clips, 800 epochs), [27 hours on 64 V100](https://github.com/MCG-NJU/VideoMAE/issues/5); the same on UCF101 (9,500 clips, 3,200 epochs), [30 hours on 8 GPUs](https://github.com/MCG-NJU/VideoMAE/issues/48), taken here for V100 too; an independent [ViT-H on Kinetics-700](https://github.com/eminorhan/optimized-stmae) (536,000 clips, 160 epochs, 2,048 tokens), a week on 4 H100. Peaks by data sheet: V100 125, H100 989 TFLOP/s {cite}`nvidia2020v100,nvidia2023h100`.
#
# **Prediction.** If arithmetic were what they waited for, each would have reached 0.3 to 0.5 of the peak.

# %%
peers = {  # clips seen, FLOPs a clip, GPU-hours, peak
    "VideoMAE B, K400": (240e3 * 800, masked_step("B"), 64 * 27, 125e12),
    "VideoMAE B, UCF101": (9500 * 3200, masked_step("B"), 8 * 30, 125e12),
    "ST-MAE H, K700": (536e3 * 160, masked_step("H", 2048), 4 * 168, 989e12),
}
reached = {}
for name, (seen, flops, hours, top) in peers.items():
    reached[name] = seen * flops / (hours * 3600 * top)
    each = f"{seen / 1e6:4.0f} M clips, {hours:5.0f} GPU-hours, {seen / hours / 3600:3.0f} clips/s a GPU"
    print(f"{name:18s}{each}: {reached[name]:.1%} of peak")
print(
    "arithmetic was the limit (0.3 or more):", [n for n, r in reached.items() if r >= 0.3] or "none"
)
print(f"the last one, if its epochs are of films and each gives 16 clips: {16 * reached[name]:.0%}")

# %% [markdown]
# None was near, with one reservation: the third's command draws sixteen clips from each film that it decodes, and its page does not say whether an epoch counts films or clips. If films, it is the exception that shows the remedy. What the others waited for is not recorded; VideoMAE's author, in the first of these threads, names CPUs and I/O as what to relieve where a GPU is not busy. A masked encoder is so cheap that the *decoder of the video* becomes the price. Others trained a large video model on one machine in a day, once they had found and mended [three bottlenecks, reading, decoding and arithmetic](https://arxiv.org/abs/2309.16669) {cite}`zhao2023avion`.
#
# ### What a clip costs before the model sees it

# %%
bikes = real.real_clips()["bikes"]
times = []
for _ in range(3):
    began = time.process_time()
    film = video.read_video(bikes, range(64))  # (64, 272, 640, 3)
    times.append(time.process_time() - began)
pixels = film[..., 0].size / min(times)  # a core-second
kinds = {
    "mp4, motion set": np.mean([f.stat().st_size for f in test.files[:50]]),
    "bytes, motion set": test.clips[0].nbytes,
    "float32, motion set": 4 * test.clips[0].numel(),
    "float32, 16 × 224 × 224": 4 * 16 * 3 * 224**2,
    "a code of 64 floats": 4 * 64,
}
data = VideoClips([(f, 0) for f in test.files[:48]])
loader = pace(lambda: list(DataLoader(data, batch_size=16)), 1) / len(data)
print(f"decoding: {pixels / 1e6:.0f} million pixels a core-second ({bikes.name}, 640 × 272)")
print(f"motion set: {1 / cost['decode']:.0f} clips decoded, {1 / loader:.0f} loaded as batches, a core-second")  # fmt: skip
print(", ".join(f"{name}: {size / 1e3:.1f} kB" for name, size in list(kinds.items())[:3]))
print(", ".join(f"{name}: {size / 1e3:.1f} kB" for name, size in list(kinds.items())[3:]))

# %% [markdown]
# The coding itself can be chosen. Here is the same film at the size the model takes, once with key frames as the encoder likes, once every frame for itself; both are asked for every fourth frame:

# %%
shrunk = F.interpolate(torch.tensor(film).movedim(-1, 1).float(), (224, 224), mode="area")
shrunk = shrunk.round().byte().movedim(1, -1).numpy()
stored = {}
for name, options in (("as usual", {}), ("every frame a key frame", {"g": "1"})):
    path = video.write_video(folder / f"{name}.mp4", shrunk, 25, options={"crf": "23", **options})
    took = pace(partial(video.read_video, path, range(0, 64, 4)))
    stored[name] = {"bytes": path.stat().st_size * 250 / 64, "decode": took}  # 10 s at 25 frames/s
    print(f"{name}: {stored[name]['bytes'] / 1e6:.2f} MB for ten seconds, {1e3 * took:.0f} core-ms for 16 frames")  # fmt: skip

# %% [markdown]
# Kinetics-700 {cite}`carreira2019kinetics700`: about 650,000 clips of 10 seconds, 536,000 of them for training, [about 700 GB](https://huggingface.co/datasets/iejMac/CLIP-Kinetics700) as collected. To see 16 frames, four apart, a decoder makes 64 and half the distance between key frames (say 30 more). The node on paper: 8 H100, 96 cores, disks that read 5 GB/s, 900 GB/s between the GPUs of a node (both ways together) and 50 GB/s for each GPU between nodes; clips of 340 × 256.
#
# **Prediction.** ViT-B, masked, 800 epochs: decoding binds, by more than a factor of two over arithmetic. ViT-g on all tokens, 30 passes over the same clips: arithmetic binds.

# %%
NODE = {"gpus": 8, "cores": 96, "disk": 5e9, "inside": 450e9, "outside": 50e9}  # 900 = both ways
CLIP = {"bytes": 700e9 / 650e3, "decode": (64 + 30) * 340 * 256 / pixels}  # core-seconds


def plan(clips, flops, numbers, batch, nodes=1, clip=CLIP):
    """Hours that each resource of so many nodes needs by itself; gradients travel in float32, once a batch."""
    gpus = nodes * NODE["gpus"]
    link = NODE["inside"] if nodes == 1 else NODE["outside"] * NODE["gpus"]
    seconds = {
        "arithmetic": clips * flops / (gpus * utilisation * H100["bf16"]),
        "decoding": clips * clip["decode"] / (nodes * NODE["cores"]),
        "disk": clips * clip["bytes"] / (nodes * NODE["disk"]),
        "network": clips / batch * 2 * (gpus - 1) / gpus * 4 * numbers / link if batch else 0.0,
    }
    return {name: s / 3600 for name, s in seconds.items()}


# %%
size = {name: forward_flops(1568, *VIT[name]) for name in VIT}
small = stored["every frame a key frame"]
jobs = {
    "K700, masked B, 800 passes": plan(536e3 * 800, masked_step("B"), size["B"][1], 1024),
    "the same, stored for training": plan(
        536e3 * 800, masked_step("B"), size["B"][1], 1024, clip=small
    ),  # fmt: skip
    "K700, ViT-g in full, 30 passes": plan(536e3 * 30, 3 * size["g"][0], size["g"][1], 1024),
    "10⁹ clips, embedded with B, 16 nodes": plan(1e9, size["B"][0], 0, None, 16),
    "10⁹ clips, masked g once, 16 nodes": plan(1e9, masked_step("g"), size["g"][1], 4096, 16),
}
for name, hours in jobs.items():
    binds = max(hours, key=hours.get)
    told = ", ".join(f"{r} {h:.1f}" for r, h in hours.items())
    print(f"{name}\n   hours: {told}   → {binds}")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-22-plan", "caption": "Hours that each resource would need by itself, for five jobs. The longest bar of a group is the time of the job, if all overlap perfectly; the rest is paid for and idle."}, "image": {"alt": "Five groups of four horizontal bars on a logarithmic axis; which of the four is longest differs from job to job"}}
fig, ax = plt.subplots(figsize=(7, 4.2))
colors = dict(zip(("arithmetic", "decoding", "disk", "network"), (plots.BLUE, plots.ORANGE, plots.GREEN, plots.GRAY)))  # fmt: skip
for group, hours in enumerate(jobs.values()):
    for bar, (resource, h) in enumerate(hours.items()):
        ax.barh(5 * group + bar, max(h, 1e-3), color=colors[resource], label=resource if not group else None)  # fmt: skip
ax.set_yticks([5 * g + 1.5 for g in range(len(jobs))], [n.replace(", ", ",\n", 1) for n in jobs], fontsize=7)  # fmt: skip
_ = ax.set(xscale="log", xlim=(1e-2, None), xlabel="hours"), ax.invert_yaxis(), ax.legend(fontsize=7)  # fmt: skip

# %%
first, _, full_g = list(jobs.values())[:3]
outcome = {
    "masked B: decoding binds, twice arithmetic": first["decoding"] > 2 * first["arithmetic"],
    "ViT-g in full: arithmetic binds": max(full_g, key=full_g.get) == "arithmetic",
}
for name, ok in outcome.items():
    print(f"{name}:", "holds" if ok else "REFUTED")
need = CLIP["decode"] * utilisation * H100["bf16"] / masked_step("B")
print(f"cores that feed one H100 with clips for masked B: {need:.0f}; the node has {NODE['cores'] // NODE['gpus']}")  # fmt: skip

# %% [markdown]
# A plan by resource is a lower bound. How much lower? Clips a second and GPU, by the first row and by the papers:

# %%
planned = 536e3 * 800 / (max(first.values()) * 3600 * NODE["gpus"])
paid = [seen / hours / 3600 for seen, _, hours, _ in peers.values()]
print(f"by the plan {planned:.0f}, in the papers {min(paid):.0f} to {max(paid):.0f}: {planned / max(paid):.0f} times fewer")  # fmt: skip

# %% [markdown]
# Three set-ups, two generations of GPU, models of 85 and 630 million numbers, and (if epochs count clips) nearly *one* rate: what they had in common was that films had to be read. Real films are larger than 340 × 256, nodes have fewer cores a GPU, and between the decoder and the GPU lie crops, colour, collating and Python. Trust a plan for which resource binds, measure your loader for how long.

# %%
billion = {
    "clips of 10 s as collected": 1e9 * CLIP["bytes"],
    "codes of 64 floats": 1e9 * 4 * 64,
    "the same by product quantisation, 16 bytes and an id": 1e9 * 24,
}
for name, size_ in billion.items():
    print(f"{name}: {size_ / 1e12:.2f} TB")
print("GPU-hours, and energy of the GPUs alone at 700 W:")
longest = {name: max(hours.values()) for name, hours in jobs.items()}
nodes_of = [1, 1, 1, 16, 16]
for (name, hours), nodes in zip(longest.items(), nodes_of):
    gpu_hours = hours * nodes * NODE["gpus"]
    print(f"{name}: {hours / 24:.1f} days, {gpu_hours:.0f} GPU-hours, {gpu_hours * 0.7 / 1000:.1f} MWh")  # fmt: skip

# %% [markdown]
# For comparison: V-JEPA 2 saw 252,000 batches of 3,072 clips and images, three quarters of a billion views, from 22 million sources {cite}`assran2025vjepa2`. Our last row is that order of magnitude, done once.
#
# What to do about it, in the order of price: store films at the size you train on and with key frames close together, which trades disk for decoding (0.21 against 0.45 MB above; in the second row both fall, because the small picture saves more bytes than the key frames cost); decode once and take several crops; decode on the GPU's own video engines {cite}`nvidia2024nvdec`; keep features instead of frames where the frame network is frozen ({chapter}`14`); and only then buy.
#
# ## What the article said, and what is true
#
# | printed | true |
# |---|---|
# | a GPU makes training and inference faster | by how much depends on size, batch and who feeds it; below, measured |
#
# Training holds where every design's share of the GPU was faster than a core, is partly true where some were, refuted where none was. Inference counts the same, from the receipt of `scaling_constants.py`; where that saw no GPU, the claim as a whole is at best partly shown:

# %%
faster = [gain["alone"] > 1 for gain in gains.values()]
gpu, cases = hosts.get("cuda"), [f"{design} {n}" for design in "ABCDE" for n in (1, 64)]
cpus = [of for name, of in hosts.items() if name != "cuda"]
asked = [gpu[c]["infer"] > max(of[c]["infer"] for of in cpus) for c in cases] if gpu else []
some, all_ = any(faster) or any(asked), all(faster) and all(asked) and bool(asked)
low, high = (f([g["MPS"] for g in gains.values()]) for f in (min, max))
told = f"in {sum(asked)} of {len(asked)} cases too" if asked else "was not timed on a GPU"
ledger.claim(
    "C14",
    "holds" if all_ else "partly" if some else "refuted",
    f"In training, {sum(faster)} of {len(faster)} designs ran faster on a fourteenth of an H200 than on one core: {low:.1f} to {high:.1f} times with MPS. Inference {told}.",
)

# %% [markdown]
# ## What you should know
#
# - A gradient over ranks is a mean weighted by clips. A loss that compares clips has to gather them, with their gradient.
# - Deal out the whole list, then skip what is done. Padding counts clips twice.
# - A checkpoint holds weights, moments, schedule and seeds, and appears whole or not at all. Prove it with `kill -9`.
# - Accumulation is the big batch only where clips do not see each other.
# - bf16 for products, float32 for weights and sums. Checkpointing pays a third more arithmetic for a fraction of the memory.
# - Count FLOPs, bytes and pixels first. In masked video pretraining the GPU is rarely what you wait for.
#
# **Recall.** Answer before you unfold.
#
# 1. Ranks hold 5 and 3 clips. By which factor does each multiply its loss so that DDP's mean is right?
# 2. Why does Adam hide a gradient that is half as long as it should be?
# 3. Sixteen ranks instead of eight: how does the number of bytes that each sends in a ring change?
# 4. Why can `loss.backward()` on micro-batches not replace a large contrastive batch?
# 5. Your GPU shows 20 % utilisation with a masked autoencoder. What do you measure first?
#
# ```{admonition} Answers
# :class: dropdown
# 1. $2 \cdot 5/8$ and $2 \cdot 3/8$: share times number of ranks.
# 2. It divides by the root of the mean square, which halves too.
# 3. From 7/4 to 15/8 of a vector: hardly.
# 4. Each clip sees only the negatives of its micro-batch. Two passes with cached gradients repair it.
# 5. Clips a second of the loader alone, without a model.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: three ranks
# :label: ex-22-ranks
# Ten clips on three ranks, dealt by `shard`. How many has each, and what are the three factors of the loss?
# ```
#
# ```{solution} ex-22-ranks
# :class: dropdown
# 4, 3, 3. Factors $3 \cdot 4/10$, $3 \cdot 3/10$, $3 \cdot 3/10$; their mean is 1.
# ```
#
# ```{exercise} Warm-up: how often to save
# :label: ex-22-young
# A checkpoint takes 60 seconds; 1,000 machines fail once in 10,000 hours each. How often do you save? What share of the time goes into saving?
# ```
#
# ```{solution} ex-22-young
# :class: dropdown
# A failure every 10 hours, $M = 36{,}000$ s. $\sqrt{2 \cdot 60 \cdot 36000} \approx 2078$ s, every 35 minutes; 60 of 2,078 seconds, about three in a hundred.
# ```
#
# ```{exercise} Build: stochastic rounding
# :label: ex-22-rounding
# Round $w$ up or down to the next bf16 with probabilities that make the mean right, and repeat the descent of {numref}`fig-22-stuck`. Test to pass: after 1,000 updates the mean of 50 such weights is within 0.05 of 1.5.
# ```
#
# ```{hint}
# :class: dropdown
# Add a random integer from 0 to 65,535 to the int32 view of the float32 result, then clear the lower 16 bits.
# ```
#
# ```{exercise} Build: overlap
# :label: ex-22-overlap
# DDP sends gradients in buckets while the rest of the way back still runs. With measured seconds for the way back and {numref}`fig-22-network`, compute the time of a step for buckets of 0.1, 1, 10 and 100 MB for a model of 100 MB. Where is the best size, and why is it neither end?
# ```
#
# ```{hint}
# :class: dropdown
# A bucket costs its latency plus bytes over bandwidth, and can start when its layers are done. One bucket cannot overlap; a thousand pay the latency a thousand times.
# ```
#
# ```{exercise} Build: a queue between two speeds
# :label: ex-22-queue
# Simulate a loader with 4 workers of random decode times and a GPU with a fixed step time. How large must the queue be so that the GPU waits less than one step in a hundred?
# ```
#
# ```{hint}
# :class: dropdown
# If the mean rates are equal no queue is large enough. Plot waiting against the ratio of the rates first.
# ```
#
# ```{exercise} Explore: your own plan
# :label: ex-22-plan
# Put your films, your machine and your model into `plan`. Measure the three rates of {numref}`fig-22-first` for them. Which resource binds, and what is the cheapest thing that would change it?
# ```
#
# ```{hint}
# :class: dropdown
# `ffprobe` or `video.probe` tells the distance between key frames; re-encoding a sample at 256 pixels tells the rest.
# ```
#
# ```{exercise} Explore: kill it elsewhere
# :label: ex-22-kill
# Kill a rank *while* it writes the checkpoint (in `files.atomic`, before the rename), and while validation runs. Which of the assertions of this page still hold?
# ```
#
# ```{hint}
# :class: dropdown
# All of them should. What is left behind is a file that ends in `.part`.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
