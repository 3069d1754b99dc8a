"""What the training loop does differently in several processes, and does not do in one. Explained in chapter 03."""

import os
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, send_to_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset


def join() -> PartialState:
    """This process among those that were started together, and its device, as Accelerate sees them.

    On a CPU Accelerate joins processes only when told that they are to run there.

    Raises:
        ValueError: several processes were started, but each of them is alone.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state, started = PartialState(cpu=cpu), int(os.environ.get("WORLD_SIZE", 1))
    if started > 1 and state.num_processes == 1:
        raise ValueError(
            f"{started} processes were started, but Accelerate does not join them on {state.device}; set "
            "ACCELERATE_USE_CPU=1, and do not call PartialState() before sora_nb does."
        )
    return state


class Runner(nn.Module):
    """A step as a module: whatever it calls of the model happens inside, for DistributedDataParallel and for autocast."""

    def __init__(self, model: nn.Module, step: Callable, precision: str):
        super().__init__()
        self.model, self.step = model, step
        self.precision = {"device_type": join().device.type, "enabled": precision == "bf16"}

    def forward(self, batch: object) -> tuple[Tensor, Tensor]:
        with torch.autocast(dtype=torch.bfloat16, **self.precision):
            loss, score = self.step(self.model, batch)
        return loss, torch.as_tensor(score).detach()


def runner(model: nn.Module, step: Callable, precision: str, world: PartialState) -> nn.Module:
    """A :class:`Runner` whose gradients are the mean over processes; every process gets the first one's weights."""
    run = Runner(model, step, precision)
    if world.num_processes == 1:
        return run
    ids = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(run, device_ids=ids, find_unused_parameters=True)


def loader(
    data: Dataset, chunks: list[list[int]], workers: int, world: PartialState
) -> Iterator[tuple[list[int], float, object]]:
    """Each batch: the indices of all its items, how much this process's part of it counts, and that part.

    Every process takes a part; of a batch smaller than their number, each takes all.
    """
    rank, n = world.process_index, world.num_processes
    parts = [chunk[rank::n] if len(chunk) >= n else chunk for chunk in chunks]
    loaded = DataLoader(data, batch_sampler=parts, num_workers=workers, timeout=60 if workers else 0)
    for chunk, part, batch in zip(chunks, parts, loaded, strict=True):
        share = len(part) / len(chunk) if len(chunk) >= n else 1 / n
        yield chunk, share, send_to_device(batch, world.device)


def shard(items: Sequence, world: PartialState) -> list:
    """This process's items of a list that all processes have: every ``n``-th one, from its rank on.

    Each item goes to one process and none is repeated to fill up, so the first processes may get one more than the last.
    Derived in chapter 22.
    """
    return list(items[world.process_index :: world.num_processes])


def gathered(part: list, world: PartialState) -> list:
    """The parts of all processes in the order of the list that :func:`shard` dealt out.

    Every process waits here for the slowest, and gets the whole. Derived in chapter 22.
    """
    if world.num_processes == 1:
        return part
    parts = [None] * world.num_processes
    dist.all_gather_object(parts, part)
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


def mean(values: list[float], share: float, world: PartialState) -> list[float]:
    """The mean over processes that count by their share, known to each of them."""
    if world.num_processes == 1:
        return values
    total = torch.tensor(values, dtype=torch.double, device=world.device) * share
    dist.all_reduce(total)
    return total.tolist()


def same_buffers(model: nn.Module, world: PartialState) -> None:
    """Give every process the first one's buffers, which each gathered from its own clips."""
    for buffer in model.buffers() if world.num_processes > 1 else ():
        dist.broadcast(buffer, 0)


def same_epoch(epoch: int, checkpoint: object, world: PartialState) -> None:
    """See that all processes go on from the same epoch, for else they would wait for each other.

    Raises:
        ValueError: they do not.
    """
    if abs(mean([epoch], 1 / world.num_processes, world)[0] - epoch) > 1e-6:
        raise ValueError(
            f"The processes found different checkpoints at {checkpoint}; put it where all of them see it."
        )
