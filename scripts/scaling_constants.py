"""Measure the constants that chapter 22 plans with, and write the receipt scaling_constants.

    python scripts/scaling_constants.py        # the CPU, and the GPU where there is one
    python scripts/scaling_constants.py --toy  # the same path in seconds; prints instead of writing

On a CPU with one thread the clock is the processor's, so that neighbours do not count; elsewhere it is the wall's, and the
machine should be idle.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from sora_nb import models
from sora_nb.layers.transformer import Encoder
from sora_nb.ledger import write_receipt
from sora_nb.settings import tier

DESIGNS = {
    "A": "SoraTransformer",
    "B": "SoraContrastive",
    "C": "SoraGRU",
    "D": "SoraFusion",
    "E": "SoraAutoencoder",
}
REAL = {"matrix": {"cpu": 1024, "cuda": 8192}, "batches": (1, 64), "least": 0.15}
REAL["vit"] = {"cuda": {"dim": 768, "depth": 12, "heads": 12, "tokens": 1568, "batch": 16}}
REAL["vit"]["cpu"] = {"dim": 192, "depth": 4, "heads": 3, "tokens": 392, "batch": 4}
TOY = {"matrix": {"cpu": 64, "cuda": 64}, "batches": (1, 2), "least": 0.0}
TOY["vit"] = dict.fromkeys(("cpu", "cuda"), {"dim": 48, "depth": 2, "heads": 2, "tokens": 32, "batch": 2})


def seconds(run: Callable, where: str, least: float) -> float:
    """Seconds a call takes, after two that do not count."""
    alone = where == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    wait = torch.cuda.synchronize if where == "cuda" else lambda: None
    for _ in range(2):
        run()
    wait()
    began, calls = clock(), 0
    while calls < 2 or clock() - began < least:
        run()
        wait()
        calls += 1
    return (clock() - began) / calls


def peaks(where: str, sizes: dict) -> dict[str, float]:
    """FLOP/s of a large matrix product, and bytes/s read and written by a copy that no cache holds."""
    n, found = sizes["matrix"][where], {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.rand(n, n, device=where, dtype=dtype) for _ in range(2))
        took = seconds(partial(torch.mm, a, b), where, sizes["least"])
        found[str(dtype).removeprefix("torch.")] = 2 * n**3 / took
    source = torch.rand(n * n * 16, device=where)
    target = torch.empty_like(source)
    took = seconds(partial(target.copy_, source), where, sizes["least"])
    return found | {"copy": 2 * source.nbytes / took}


def design(name: str, where: str) -> tuple[nn.Module, Callable[[int], torch.Tensor]]:
    """A design at its default size, and what makes a batch of clips for it."""
    torch.manual_seed(0)
    model = getattr(models, DESIGNS[name])(12).to(where)
    shape = (16, 3, 16, 16) if name == "E" else (8, 3, 32, 32)
    return model, lambda n: torch.rand(n, *shape, device=where)


def training_step(model: nn.Module, optimizer, clips: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(clips), labels).backward()
    optimizer.step()


@torch.no_grad()
def inference(model: nn.Module, clips: torch.Tensor) -> torch.Tensor:
    return model(clips)


def rates(where: str, sizes: dict) -> dict:
    """Clips a second of each design, in training and in inference, alone and in a batch."""
    found: dict = {}
    for name in DESIGNS:
        for n in sizes["batches"]:
            model, draw = design(name, where)
            clips, labels = draw(n), torch.arange(n, device=where) % 12
            optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
            model.train()
            for part in model.modules():
                if n == 1 and hasattr(part, "running_mean"):
                    part.eval()  # batch norm wants two clips; the rest stays: cuDNN wants recurrent layers in training
            step = partial(training_step, model, optimizer, clips, labels)
            train = n / seconds(step, where, sizes["least"])
            infer = n / seconds(partial(inference, model.eval(), clips), where, sizes["least"])
            found[f"{name} {n}"] = {"train": train, "infer": infer}
    return found


class Checkpointed(nn.Module):
    """An encoder whose blocks keep their inputs alone, and are computed again on the way back."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.encoder.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.encoder.norm(x)


def vit(where: str, sizes: dict) -> dict:
    """A Transformer, on a GPU of the size that papers on video train: a step in four ways, and how far its gradient is off."""
    set_up, found, first = sizes["vit"][where], {"sizes": sizes["vit"][where]}, None
    x = torch.rand(set_up["batch"], set_up["tokens"], set_up["dim"], device=where)
    for way in ("float32", "bfloat16", "bfloat16, checkpointed", "bfloat16, compiled"):
        torch.manual_seed(0)
        run = Encoder(set_up["dim"], set_up["depth"], set_up["heads"]).to(where)
        numbers = list(run.parameters())
        run = Checkpointed(run) if "checkpointed" in way else run
        run = torch.compile(run) if "compiled" in way else run
        step = partial(forward_and_back, run, x, where, way != "float32")
        try:
            step()
        except Exception as error:  # a compiler that is not there, or memory that does not suffice
            found[way] = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"}
            continue
        gradient = torch.cat([p.grad.flatten() for p in numbers])
        first = gradient if first is None else first  # float32's
        found[way] = measured(step, where, sizes["least"], "compiled" in way)
        found[way]["off"] = ((gradient - first).norm() / first.norm()).item()
    return found


def forward_and_back(run: nn.Module, x: torch.Tensor, where: str, half: bool) -> None:
    run.zero_grad()
    with torch.autocast(where, torch.bfloat16, enabled=half):
        loss = run(x).float().square().mean()
    loss.backward()


def measured(step: Callable, where: str, least: float, compiled: bool) -> dict[str, float]:
    """Seconds and memory of a step; its FLOPs where no compiler hides them."""
    if where == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = {"seconds": seconds(step, where, least)}
    if where == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated()
    if not compiled:
        with FlopCounterMode(display=False) as counter:
            step()
        found["flops"] = counter.get_total_flops()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="tiny sizes; print, do not write")
    toy = parser.parse_args().toy
    sizes, began = TOY if toy else REAL, time.perf_counter()
    numbers: dict = {}
    cores = os.cpu_count() or 1
    gpu = torch.cuda.is_available()
    for threads in (
        sorted({1, cores}) if gpu else [1]
    ):  # all cores are worth a measurement where the machine is idle
        torch.set_num_threads(threads)
        numbers[f"cpu, threads {threads}"] = peaks("cpu", sizes) | rates("cpu", sizes)
    if gpu:
        numbers["cuda"] = peaks("cuda", sizes) | rates("cuda", sizes)
    torch.set_num_threads(1)
    numbers["vit"] = vit("cuda" if gpu else "cpu", sizes)
    took = time.perf_counter() - began
    if toy:
        print(json.dumps(numbers, indent=1), f"\n{took:.0f} seconds")
    else:
        print(write_receipt("scaling_constants", seeds=[0], seconds=took, tier=tier(), numbers=numbers))


if __name__ == "__main__":
    main()
