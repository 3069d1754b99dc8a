"""Time our recurrent and convolutional parts against the torch and torchvision parts they are measured by.

    python scripts/benchmark_recurrent_conv.py [--rounds 15] [--threads 1] [--device cpu] [--only gru] [--quick]

Each group holds one reference and the candidates for its place. They take turns, in an order that rotates, so that a
busy machine hits all alike; a row gives the median time of a forward pass and of a forward and backward pass, and the
median over the rounds of the candidate's time by the reference's. On a CPU the time is the process's own.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, Conv3DSimple

from sora_nb.layers.convolution import ResidualBlock3d
from sora_nb.layers.frames import FrameCNN
from sora_nb.layers.recurrent import ResidualGRU, gru_cell, scan
from sora_nb.models.fusion import SoraFusion
from sora_nb.models.gru import SoraGRU

BF16 = "bf16"
LAST = "channels last 3d"


class Scan(nn.Module):
    """The readable cell, run over time: what reading costs."""

    def __init__(self, width: int):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x):
        return scan(
            partial(gru_cell, weights=self.gru.all_weights[0]), x, x.new_zeros(len(x), self.gru.hidden_size)
        )[0]


class TorchGRUModel(nn.Module):
    """SoraGRU without its own stack: frame CNN, ``nn.GRU``, mean, linear."""

    def __init__(self, hidden: int = 128):
        super().__init__()
        self.frames, self.head = FrameCNN(hidden, (8, 16, 32), residual=True), nn.Linear(hidden, 12)
        self.gru = nn.GRU(hidden, hidden, 2, batch_first=True)

    def forward(self, x):
        return self.head(self.gru(self.frames(x))[0].mean(1))


class TorchFusionModel(nn.Module):
    """SoraFusion's parts from ``torch.nn`` alone, without a check, a switch or a class of ours."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(*self.conv(3, 16, k, 2), *self.conv(16, 32, k, 1)) for k in (3, 5)
        )
        self.pool, self.head = nn.AdaptiveMaxPool3d((8, 2, 2)), nn.Linear(128, 12)
        self.lstms = nn.ModuleList(nn.LSTM(128, 64, batch_first=True) for _ in (3, 5))

    @staticmethod
    def conv(channels, out, k, s):
        return (
            nn.Conv3d(channels, out, k, (s, 2, 2), k // 2, bias=False),
            nn.BatchNorm3d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        x = x.transpose(1, 2)
        maps = [self.pool(conv(x)).transpose(1, 2).flatten(2) for conv in self.convs]
        return self.head(
            torch.tanh(torch.cat([lstm(m)[0].mean(1) for lstm, m in zip(self.lstms, maps, strict=True)], 1))
        )


def block_group(channels: int, out: int, stride: int, factorised: bool) -> dict[str, tuple[nn.Module, str]]:
    kind, builder = ("r2plus1d_18", Conv2Plus1D) if factorised else ("r3d_18", Conv3DSimple)
    down = None
    if stride != 1 or channels != out:
        down = nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out))
    ours = partial(ResidualBlock3d, channels, out, stride, factorised)
    return {
        f"torchvision {kind} block": (BasicBlock(channels, out, builder, stride, down), ""),
        "ours": (ours(), ""),
        f"ours, {LAST}": (ours(), LAST),
        f"ours, {BF16}": (ours(), BF16),
    }


def groups(quick: bool) -> dict[str, tuple[tuple[int, ...], dict[str, tuple[nn.Module, str]]]]:
    """Name -> (shape of the input, {row: (module, variant)}); the first row is the reference."""
    batch = 2 if quick else 16
    clip, sequence = (batch, 16, 3, 32, 32), (batch, 16, 128)
    stacks = {
        "nn.GRU × 2": (nn.GRU(128, 128, 2, batch_first=True), ""),
        "ours, plain": (ResidualGRU(128, 128, 2, False), ""),
        "ours, residual": (ResidualGRU(128, 128, 2), ""),
        f"ours, residual, {BF16}": (ResidualGRU(128, 128, 2), BF16),
    }
    cells = {"nn.GRU × 1": (nn.GRU(128, 128, batch_first=True), ""), "gru_cell, scanned": (Scan(128), "")}
    gru = {
        "FrameCNN + nn.GRU": (TorchGRUModel(), ""),
        "SoraGRU, plain": (SoraGRU(12, residual=False, center=False), ""),
        "SoraGRU": (SoraGRU(12, center=False), ""),
        f"SoraGRU, {BF16}": (SoraGRU(12, center=False), BF16),
    }
    fusion = {
        "torch.nn parts": (TorchFusionModel(), ""),
        "SoraFusion": (SoraFusion(12, center=False), ""),
        f"SoraFusion, {LAST}": (SoraFusion(12, center=False), LAST),
        f"SoraFusion, {BF16}": (SoraFusion(12, center=False), BF16),
    }
    return {
        "gru stack 128": (sequence, stacks),
        "gru cell 128": (sequence, cells),
        "r3d block 32": ((batch, 32, 8, 16, 16), block_group(32, 32, 1, False)),
        "r3d block 32-64, stride 2": ((batch, 32, 8, 16, 16), block_group(32, 64, 2, False)),
        "r(2+1)d block 32": ((batch, 32, 8, 16, 16), block_group(32, 32, 1, True)),
        "gru model": (clip, gru),
        "conv3d model": (clip, fusion),
    }


def passes(module: nn.Module, variant: str, x: torch.Tensor) -> tuple[Callable, Callable]:
    """A forward pass without a graph, and a training step's forward and backward pass."""
    if variant == LAST:
        module = module.to(memory_format=torch.channels_last_3d)
        x = (
            x if x.shape[2] == 3 else x.contiguous(memory_format=torch.channels_last_3d)
        )  # clips are (B, T, 3, H, W)
    cast = (lambda: torch.autocast(x.device.type, torch.bfloat16)) if variant == BF16 else nullcontext

    def run():
        with cast():
            y = module(x)
        return y[0] if isinstance(y, tuple) else y

    def forward():
        with torch.no_grad():
            run()

    return forward, lambda: run().float().sum().backward()


def seconds(function: Callable, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def measure(functions: list[Callable], rounds: int, device: str) -> list[tuple[float, float]]:
    """Median seconds and median ratio to the first, of functions that take turns."""
    for function in functions * 2:
        seconds(function, device)  # warm-up
    times = [[0.0] * len(functions) for _ in range(rounds)]
    for r in range(rounds):
        for k in range(len(functions)):
            i = (r + k) % len(functions)
            times[r][i] = seconds(functions[i], device)
    return [
        (statistics.median(row[i] for row in times), statistics.median(row[i] / row[0] for row in times))
        for i in range(len(functions))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="groups whose name holds this")
    parser.add_argument("--quick", action="store_true", help="batches of 2, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), {args.rounds} rounds")
    print(f"{'':42s}{'forward ms':>11s}{'ratio':>8s}{'both ms':>11s}{'ratio':>8s}")
    for name, (shape, rows) in groups(args.quick).items():
        if args.only not in name:
            continue
        x = torch.rand(shape, device=args.device)
        functions = [passes(module.to(args.device), variant, x) for module, variant in rows.values()]
        forward, both = (
            measure(list(side), args.rounds, args.device) for side in zip(*functions, strict=True)
        )
        print(f"{name} {tuple(shape)}")
        for row, (f, fr), (b, br) in zip(rows, forward, both, strict=True):
            print(f"  {row:40s}{1e3 * f:11.2f}{fr:8.2f}{1e3 * b:11.2f}{br:8.2f}")


if __name__ == "__main__":
    main()
