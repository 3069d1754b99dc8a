"""One visible training loop, with exact resume. Derived in chapter 03."""

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from sora_nb.files import atomic


@dataclass
class History:
    """What happened in a run: one entry per epoch in each list, and the seconds it took."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). Derived in chapter 03."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def device() -> torch.device:
    """Return the device Accelerate picks: CUDA, then Apple's MPS, then the CPU. Derived in chapter 03.

    Set ``ACCELERATE_USE_CPU=1`` to stay on the CPU.
    """
    return PartialState().device


def parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a model. Derived in chapter 03."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


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
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch)).tolist()
    chunks = [order[i : i + size] for i in range(0, n, size)]
    return chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) < size else chunks


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
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
    same ``checkpoint``. Under ``accelerate launch`` each process takes its share of every batch.

    Args:
        model: maps float clips (B, T, C, H, W) to whatever ``step`` expects; changed in place.
        train: data set of (clip, label) items.
        val: data set that chooses the epoch; without it the last epoch's weights are kept.
        epochs: passes over the data.
        lr: peak learning rate (see :func:`learning_rate`).
        batch_size: clips a step, over all processes.
        weight_decay: AdamW's decoupled decay, on matrices and kernels only.
        seed: decides the batch order and any dropout or augmentation.
        step: ``step(model, batch) -> (loss, score)``; the score is averaged into ``val_accuracy``.
        before_epoch: called as ``before_epoch(model, epoch)`` before each pass.
        checkpoint: file written after each epoch; if it exists, training goes on from there.
        precision: "no" or "bf16".
        workers: DataLoader worker processes.
        progress: show a bar.

    Raises:
        FloatingPointError: the loss is not finite; names the epoch, step, files of the batch and last checkpoint.
        ValueError: the data set is empty, or the checkpoint belongs to another run.
    """
    if len(train) == 0:
        raise ValueError("fit got an empty training set; check the folder or list it was made from.")
    accelerator = Accelerator(mixed_precision=precision)
    seed_everything(seed)
    optimizer = torch.optim.AdamW(_decay_groups(model, weight_decay), lr=lr)
    plan = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "items": len(train)}
    run, optimizer = accelerator.prepare(model, optimizer)
    history, best = _resume(checkpoint, model, optimizer, plan)
    steps = len(batches(len(train), batch_size, seed, 0))
    bar = tqdm(range(len(history.train_loss), epochs), disable=not (progress and accelerator.is_main_process))
    for epoch in bar:
        started = time.perf_counter()
        seed_everything(1_000_003 * seed + epoch)  # makes an epoch independent of how the run got there
        if before_epoch:
            before_epoch(model, epoch)
        run.train()
        losses = []
        for i, (indices, batch) in enumerate(_loader(train, batch_size, seed, epoch, workers, accelerator)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(epoch * steps + i, epochs * steps, lr)
            loss, _ = step(run, batch)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(_not_finite(losses[-1], epoch, i, train, indices, checkpoint))
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        history.train_loss.append(float(np.mean(losses)))
        best = _validate(run, model, val, step, batch_size, history, best, accelerator)
        history.seconds += time.perf_counter() - started
        bar.set_postfix(
            loss=f"{losses[-1]:.3f}", val=f"{history.val_accuracy[-1]:.3f}" if val else "-"
        )  # no mutate
        if checkpoint and accelerator.is_main_process:
            _save_checkpoint(checkpoint, model, optimizer, history, best, plan)
    if best:
        model.load_state_dict(best)
    model.eval()
    return history


@torch.no_grad()
def predict(
    model: nn.Module, clips: Float[Tensor, "n time channel height width"] | Dataset, batch_size: int = 100
) -> Tensor:
    """Run a model in evaluation mode over many clips and gather its outputs on the CPU. Derived in chapter 03.

    Args:
        model: maps clips (B, T, C, H, W) to a tensor (B, …).
        clips: one float tensor, or a data set whose items are clips or (clip, label) pairs.
        batch_size: clips a step.
    """
    was_training, where = model.training, next(model.parameters()).device
    model.eval()
    outputs = []
    for batch in DataLoader(clips, batch_size=batch_size):
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        outputs.append(model(batch.to(where)).cpu())
    model.train(was_training)
    return torch.cat(outputs)


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a model's weights and buffers as safetensors, atomically. Derived in chapter 03."""
    _write(Path(path), dict(model.state_dict()), {})


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights written by :func:`save_weights` into a model of the same shape. Derived in chapter 03.

    Raises:
        ValueError: the file's tensors do not fit the model; names the first that differ.
    """
    stored, wanted = load_file(path), model.state_dict()
    wrong = sorted(
        k
        for k in stored.keys() | wanted.keys()
        if k not in stored or k not in wanted or stored[k].shape != wanted[k].shape
    )
    if wrong:
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}: {wrong[:3]} differ; build the model as it was saved."
        )
    model.load_state_dict(stored)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Biases, norms and other vectors are not pulled towards zero."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _loader(train, batch_size, seed, epoch, workers, accelerator) -> Iterator[tuple[list[int], list[Tensor]]]:
    rank, world = accelerator.process_index, accelerator.num_processes
    shares = [chunk[rank::world] for chunk in batches(len(train), batch_size, seed, epoch)]
    loader = DataLoader(train, batch_sampler=shares, num_workers=workers, timeout=60 if workers else 0)
    for indices, batch in zip(shares, loader, strict=True):
        yield indices, [item.to(accelerator.device) if isinstance(item, Tensor) else item for item in batch]


@torch.no_grad()
def _validate(run, model, val, step, batch_size, history, best, accelerator) -> dict | None:
    """Append the validation loss and score; return the best weights so far."""
    if val is None:
        return None
    run.eval()
    totals = np.zeros(3)
    for batch in DataLoader(val, batch_size=max(batch_size, 100)):
        batch = [item.to(accelerator.device) if isinstance(item, Tensor) else item for item in batch]
        loss, score = step(run, batch)
        totals += len(batch[0]) * np.array([loss.item(), float(score), 1.0])
    history.val_loss.append(totals[0] / totals[2])
    history.val_accuracy.append(totals[1] / totals[2])
    if history.val_loss[-1] > min(history.val_loss):
        return best
    history.best_epoch = len(history.val_loss) - 1
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _not_finite(loss, epoch, i, train, indices, checkpoint) -> str:
    files = getattr(train, "files", None)
    batch = [str(files[k]) for k in indices] if files else f"items {indices}"
    saved = (
        f"the last good weights are in {checkpoint}"
        if checkpoint and Path(checkpoint).exists()
        else "no checkpoint was kept"
    )
    return f"The loss became {loss} in epoch {epoch}, step {i}, on {batch}; {saved}. Lower the learning rate or look at these clips."


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write beside the target and rename, so that a killed process never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {k: json.dumps(v) for k, v in metadata.items()})


def _save_checkpoint(path, model, optimizer, history, best, plan) -> None:
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
    _write(Path(path), tensors, {"history": asdict(history), "plan": plan})


def _resume(path, model, optimizer, plan) -> tuple[History, dict | None]:
    """Load a checkpoint if there is one: weights, AdamW's moments, the history and the best weights."""
    if path is None or not Path(path).exists():
        return History(), None
    with safe_open(path, "pt") as file:
        metadata = {k: json.loads(v) for k, v in file.metadata().items()}
        tensors = {k: file.get_tensor(k) for k in file.keys()}
    if metadata["plan"] != plan:
        raise ValueError(
            f"{path} belongs to a run with {metadata['plan']}, not {plan}; delete it or name another file."
        )
    part = lambda name: {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + ".")}  # noqa: E731
    model.load_state_dict(part("model"))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in part("optimizer").items():
        i, name = key.split(".", 1)
        moments.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return History(**metadata["history"]), part("best") or None
