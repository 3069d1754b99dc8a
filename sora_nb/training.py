"""One visible training loop, with exact resume, in one process or several. Derived in chapter 03."""

import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from sora_nb import checkpoints, processes
from sora_nb.checkpoints import load_weights as load_weights
from sora_nb.checkpoints import save_weights as save_weights
from sora_nb.files import digest


@dataclass
class History:
    """What happened in a run: one entry per epoch in each list, and the seconds it took."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy (which takes the last 32 bits) and torch (the last 64, all devices). Derived in chapter 03."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**64)


def device() -> torch.device:
    """Return the device Accelerate picks: CUDA, then Apple's MPS, then the CPU. Derived in chapter 03.

    Set ``ACCELERATE_USE_CPU=1`` to stay on the CPU.
    """
    return processes.join().device


def parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a model. Derived in chapter 03."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def freeze(module: nn.Module, frozen: bool = True) -> None:
    """Keep a part of a model as it is; ``freeze(part, False)`` lets it learn again. Used in chapter 14.

    Its parameters get no gradient, and it stays in evaluation mode, which :func:`fit` respects: batch norm keeps the
    statistics it has, dropout is off. Call it before ``fit``, or in ``before_epoch`` to thaw a model part by part.
    """
    module.requires_grad_(not frozen)
    for part in module.modules():
        part._frozen = frozen
        part.training = not frozen


def learning_rate(step: int, total: int, peak: float, warmup: float = 0.2) -> float:
    """Rise linearly to ``peak`` over the first fifth of the steps, then fall to 0 on a half cosine. Derived in chapter 03."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def batches(n: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffle ``range(n)`` into batches; the same seed and epoch always give the same order. Derived in chapter 03.

    An incomplete last batch is left out (batch norm suffers from tiny batches), unless it is the only one.
    """
    generator = torch.Generator().manual_seed(_epoch_seed(seed, epoch))
    chunks = _chunks(torch.randperm(n, generator=generator).tolist(), size)
    return chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) < size else chunks


def classify(model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (mean cross-entropy, share of right answers) on a batch (clips, labels). Derived in chapter 03."""
    clips, labels = batch
    logits = model(clips)  # (B, T, C, H, W) -> (B, classes)
    return F.cross_entropy(logits, labels), (logits.argmax(-1) == labels).float().mean()


def fit(
    model: nn.Module,
    train: Dataset,
    val: Dataset | None = None,
    *,
    epochs: int,
    lr: float = 2e-3,
    batch_size: int = 32,
    weight_decay: float = 0.05,
    seed: int = 0,
    step: Callable = classify,
    before_epoch: Callable[[nn.Module, int], None] | None = None,
    checkpoint: str | Path | None = None,
    precision: str = "no",
    workers: int = 0,
    progress: bool = True,
) -> History:
    """Train with AdamW; keep the weights of the epoch with the lowest validation loss. Derived in chapter 03.

    Two runs with the same seed on a CPU end bit-identical, also when one of them was killed and started again with the
    same ``checkpoint``.

    Under ``accelerate launch`` each process takes its share of every batch, and its loss counts by that share, whether
    or not the batch divides (each process computes the whole of a batch that has fewer clips than there are processes):
    gradients, losses and scores are those of one process up to rounding, and so are the weights at the end. Three things
    differ by construction. What batch norm in training mode takes from its batch it takes from its share, and the buffers
    of the first process are kept; each process draws its own dropout
    and augmentation; and a loss that compares clips must gather them (:func:`sora_nb.objectives.nt_xent` does), or it
    compares those of one process. ``before_epoch`` runs in every process, and what it makes of the first one's model
    counts.

    Args:
        model: maps float clips (B, T, C, H, W) to whatever ``step`` expects; changed in place, never patched or wrapped.
        train: data set of (clip, label) items.
        val: data set that chooses the epoch; without it the last epoch's weights are kept, and also if no validation
            loss is finite (``best_epoch`` is then -1).
        epochs: passes over the data.
        lr: peak learning rate (see :func:`learning_rate`).
        batch_size: clips a step, over all processes.
        weight_decay: AdamW's decoupled decay, on matrices and kernels only.
        seed: decides the batch order and any dropout or augmentation.
        step: ``step(model, batch) -> (loss, score)``, both means over the batch, from whatever methods of the model; the
            score is averaged into ``val_accuracy``.
        before_epoch: called as ``before_epoch(model, epoch)`` before each pass, when the model is in training mode. Parts
            that it puts in evaluation mode stay so for this pass; :func:`freeze` does it for all passes.
        checkpoint: file written after each epoch; if it exists, training goes on from there. It must come from a run
            with the same arguments, model and data: checked are the model's layers, settings, shapes and frozen parts,
            and of the data their number, names and sizes of files, and three items.
        precision: "no", or "bf16" to run ``step`` under autocast (whatever ``accelerate launch`` was told). On a CPU with
            AVX-512, PyTorch 2.15's bf16 Conv3d gives NaN or wrong weight gradients where its kernel is longer than the
            clip: a warning says so.
        workers: DataLoader worker processes.
        progress: show a bar.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; names the epoch, step, clips of the batch and last
            checkpoint, and tells whether it is half precision's fault. The weights are those before that step.
        ValueError: a data set is empty, all of the model is frozen, the precision is unknown, or the checkpoint is
            damaged or belongs to another run.
    """
    world = processes.join()
    _check(model, train, val, precision, world.device)
    model.to(world.device)
    optimizer = torch.optim.AdamW(_decay_groups(model, weight_decay), lr=lr)
    plan = {"epochs": int(epochs), "lr": float(lr), "batch_size": int(batch_size), "seed": int(seed)}
    plan |= {"weight_decay": float(weight_decay), "step": _name(step), "before_epoch": _name(before_epoch)}
    plan |= {"precision": precision, "workers": int(workers), "processes": world.num_processes}
    plan |= _fingerprints(model, train, val, seed) if checkpoint else {}
    past, best, start = checkpoints.resume(checkpoint, model, optimizer, plan)
    history = History(**past)
    processes.same_epoch(len(history.train_loss), checkpoint, world)
    steps = len(batches(len(train), batch_size, seed, 0))
    bar = tqdm(range(len(history.train_loss), epochs), disable=not (progress and world.is_main_process))
    for epoch in bar:
        started = time.perf_counter()
        seed_everything(_epoch_seed(seed, epoch, world.process_index))  # however the run got there
        _begin(model, epoch, before_epoch)
        run = processes.runner(model, step, precision, world)
        losses = []
        chunks = batches(len(train), batch_size, seed, epoch)
        for i, (chunk, share, batch) in enumerate(processes.loader(train, chunks, workers, world)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * steps + i, epochs * steps, lr)
            loss, _ = run(batch)
            losses.append(processes.mean([loss.item()], share, world)[0])
            optimizer.zero_grad()
            (loss * (share * world.num_processes)).backward()  # of which several processes take the mean
            if not (math.isfinite(losses[-1]) and _gradient_norm(model).isfinite()):
                at = f"in epoch {epoch}, step {i}, on {_named(train, chunk)}; {_saved(checkpoint)}"
                raise FloatingPointError(_not_finite(losses[-1], at, model, step, batch, precision))
            optimizer.step()
        history.train_loss.append(float(np.mean(losses)))
        processes.same_buffers(model, world)
        if val is not None:
            chunks = _chunks(list(range(len(val))), max(batch_size, 100))
            best = _validate(run, model, processes.loader(val, chunks, workers, world), history, best, world)
        history.seconds += time.perf_counter() - started
        shown = {
            "loss": f"{losses[-1]:.3f}",
            "val": f"{history.val_accuracy[-1]:.3f}" if val is not None else "-",
        }
        bar.set_postfix(shown)  # no mutate
        if checkpoint and world.is_main_process:
            checkpoints.save(checkpoint, model, optimizer, asdict(history), best, start, plan)
        processes.same_epoch(epoch, checkpoint, world)  # wait until it is written
    if best:
        model.load_state_dict(best)
    model.eval()
    return history


@torch.no_grad()
def predict(model: nn.Module, clips: Float[Tensor, "n *clip"] | Dataset, batch_size: int = 100) -> Tensor:
    """Run a model in evaluation mode over many clips and gather its outputs on the CPU. Derived in chapter 03.

    Args:
        model: maps clips (B, T, C, H, W) to a tensor (B, …).
        clips: one float tensor, or a data set whose items are clips or (clip, label) pairs.
        batch_size: clips a step.
    """
    modes, where = [(part, part.training) for part in model.modules()], next(model.parameters()).device
    model.eval()
    outputs = []
    for batch in DataLoader(clips, batch_size=batch_size):
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        outputs.append(model(batch.to(where)).cpu())
    for part, training in modes:
        part.training = training
    return torch.cat(outputs)


def _check(
    model: nn.Module, train: Dataset, val: Dataset | None, precision: str, where: torch.device
) -> None:
    for name, data in (("training", train), ("validation", val)):
        if data is not None and len(data) == 0:
            raise ValueError(f"fit got an empty {name} set; check the folder or list it was made from.")
    if precision not in ("no", "bf16"):
        raise ValueError(f'fit got precision={precision!r}; choose "no" or "bf16".')
    volumes = any(isinstance(part, nn.Conv3d) for part in model.modules())
    if precision == "bf16" and where.type == "cpu" and volumes:
        warnings.warn(
            "On a CPU, Conv3d in bf16 can give NaN or wrong gradients where its kernel is longer than the clip (seen with "
            'PyTorch 2.15); use precision="no".',
            stacklevel=3,
        )


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Biases, norms and other vectors are not pulled towards zero. AdamW leaves alone what has no gradient."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """32 bits for each epoch of each seed and process: NumPy and torch's CPU generator take no more, far seeds would meet."""
    number = 1_000_003 * seed + epoch
    return number if rank == 0 and 0 <= number < 2**32 else int(digest(f"{number} {rank}")[:8], 16)


def _name(function: Callable | None) -> str | None:
    """A function's name; of a `partial` or an object that can be called, its type's."""
    return function and getattr(function, "__qualname__", type(function).__qualname__)


def _fingerprints(model: nn.Module, train: Dataset, val: Dataset | None, seed: int) -> dict[str, str]:
    found = {"model": f"{type(model).__name__} {checkpoints.model_digest(model)[:12]}"}
    for name, data in (("train", train), ("val", val)):
        digests = set()
        for _ in range(2 if data is not None else 0):
            seed_everything(seed)  # for items that are augmented
            digests.add(checkpoints.data_digest(data)[:12])
        told = digests.pop() if len(digests) == 1 else "each time different"
        found[name] = f"{len(data)} items {told}" if data is not None else "none"
    return found


def _begin(model: nn.Module, epoch: int, before_epoch: Callable | None) -> None:
    """Training mode, but for what is frozen or what ``before_epoch`` puts, in part, in evaluation mode."""
    model.train()
    _hold(model)
    if before_epoch:
        before_epoch(model, epoch)
    if not model.training:  # it looked at the whole model, and left it so
        model.train()
    _hold(model)
    if not parameters(model):
        raise ValueError(
            "fit got a model without a trainable number; thaw a part of it: freeze(part, False)."
        )


def _hold(model: nn.Module) -> None:
    for part in model.modules():
        if getattr(part, "_frozen", False):
            part.training = False


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[i : i + size] for i in range(0, len(order), size)]


@torch.no_grad()
def _validate(run, model, loader, history, best, world) -> dict | None:
    """Append the validation loss and score; return the best weights so far."""
    run.eval()
    totals, least = np.zeros(3), history.val_loss[history.best_epoch] if best else math.inf
    for chunk, share, batch in loader:
        loss, score = run(batch)
        totals += len(chunk) * np.array([*processes.mean([loss.item(), float(score)], share, world), 1.0])
    history.val_loss.append(float(totals[0] / totals[2]))
    history.val_accuracy.append(float(totals[1] / totals[2]))
    if not history.val_loss[-1] < least:  # NaN is less than nothing
        return best
    history.best_epoch = len(history.val_loss) - 1
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _gradient_norm(model: nn.Module) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _named(data: Dataset, chunk: list[int]) -> str:
    """The items of a batch, as files where the data set has files."""
    files = checkpoints.files_of(data)
    names = [str(files[i] if files else i) for i in sorted(chunk)]
    listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
    return listed if files else f"clip{'s' * (len(names) > 1)} {listed} of the data set"


def _saved(checkpoint: str | Path | None) -> str:
    there = checkpoint and Path(checkpoint).exists()
    return f"the last good weights are in {checkpoint}" if there else "no checkpoint was kept"


def _not_finite(loss: float, at: str, model, step, batch, precision) -> str:
    """What became of a step, and whether half precision is to blame: the weights are still good, so try without."""
    what = f"is {loss:.4g}, but its gradient is not finite" if math.isfinite(loss) else f"became {loss}"
    advice = "Lower the learning rate or look at these clips."
    if precision == "bf16":
        model.zero_grad()
        again, _ = processes.Runner(model, step, "no")(batch)
        again.backward()
        if again.isfinite() and _gradient_norm(model).isfinite():
            advice = 'In float32 this step is finite: not the clips are at fault, use precision="no".'
    return f"The loss {what} {at}. {advice}"
