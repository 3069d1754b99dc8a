"""Time our Transformer next to torch's own and to Hugging Face's video models, in one run.

    .venv/bin/python scripts/benchmark_transformer.py            # CPU, one thread; CUDA as well where there is one
    .venv/bin/python scripts/benchmark_transformer.py --rounds 9 --json book/results/benchmark-transformer.json

Each row holds two models of the same width, depth, heads, tokens and number of parameters. They take turns, round by
round, so that a busy machine slows both; printed are the medians, and the median over rounds of the ratio theirs / ours
(1 or more: ours is not slower). On the CPU with one thread the time is the process's CPU time, on CUDA it is wall time after a synchronise,
in bfloat16, compiled. The last table grows the sequence and prints log–log slopes of time and of peak memory, for
attention that stores its weight matrix and for fused attention. The Hugging Face rows need `pip install transformers`.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
from einops import rearrange
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sora_nb.layers.attention import attention, naive_attention
from sora_nb.layers.transformer import DividedBlock, Encoder, EncoderBlock
from sora_nb.models.transformer import SoraTransformer

DIM, DEPTH, HEADS, FRAMES, SIDE, PATCH = 192, 4, 6, 8, 64, 8
SPACE = (SIDE // PATCH) ** 2


# The models that are compared


class PatchTransformer(nn.Module):
    """Patches → tokens → our encoder over all of them, with a class token: what ViViT (joint attention) is."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.first = nn.Parameter(torch.zeros(1, 1, DIM))
        self.position = nn.Parameter(torch.zeros(1, 1 + FRAMES * SPACE, DIM))
        self.encoder = Encoder(DIM, DEPTH, HEADS)

    def forward(self, clips):
        tokens = self.patches(clips.flatten(0, 1))  # (B, T, C, H, W) -> (B·T, D, h, w)
        tokens = rearrange(tokens, "(b t) d h w -> b (t h w) d", b=len(clips))
        return self.encoder(torch.cat([self.first.expand(len(clips), -1, -1), tokens], 1) + self.position)


class DividedTransformer(nn.Module):
    """Patches → tokens → our divided blocks: what TimeSformer is, without its class token (1 of 513 tokens)."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.space = nn.Parameter(torch.zeros(1, 1, SPACE, DIM))
        self.time = nn.Parameter(torch.zeros(1, FRAMES, 1, DIM))
        self.blocks = nn.Sequential(*(DividedBlock(DIM, HEADS) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, clips):
        tokens = rearrange(self.patches(clips.flatten(0, 1)), "(b t) d h w -> b t (h w) d", b=len(clips))
        return self.norm(self.blocks(tokens + self.space + self.time))


class TorchEncoder(nn.Module):
    """`nn.TransformerEncoder` behind the signature of our `Encoder`."""

    def __init__(self, dim, depth, heads):
        super().__init__()
        self.stack = nn.TransformerEncoder(
            torch_layer(dim, heads), depth, nn.LayerNorm(dim), enable_nested_tensor=False
        )

    def forward(self, x, angles=None):
        return self.stack(x)


class TorchDecoder(nn.Module):
    """`nn.TransformerDecoder` with learned queries, behind the signature of our `Decoder`."""

    def __init__(self, dim, depth, heads, queries):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, dim) * 0.02)
        self.stack = nn.TransformerDecoder(
            torch_layer(dim, heads, nn.TransformerDecoderLayer), depth, nn.LayerNorm(dim)
        )

    def forward(self, memory):
        return self.stack(self.queries.expand(len(memory), -1, -1), memory)


def torch_layer(dim, heads, cls=nn.TransformerEncoderLayer):
    return cls(dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)


def sora_with_torch_layers():
    model = SoraTransformer(12)
    model.encoder, model.decoder = TorchEncoder(64, 2, 4), TorchDecoder(64, 1, 4, 4)
    return model


def hugging_face():
    """Vivit and TimeSformer, built from a configuration with random weights; nothing is downloaded."""
    from transformers import TimesformerConfig, TimesformerModel, VivitConfig, VivitModel

    size = dict(image_size=SIDE, num_frames=FRAMES, hidden_size=DIM, num_hidden_layers=DEPTH, hidden_act="gelu",
                num_attention_heads=HEADS, intermediate_size=4 * DIM)  # fmt: skip
    vivit = VivitModel(VivitConfig(tubelet_size=[1, PATCH, PATCH], **size), add_pooling_layer=False)
    timesformer = TimesformerModel(TimesformerConfig(patch_size=PATCH, **size))
    return Output(vivit), Output(timesformer)


class Output(nn.Module):
    """Unwrap a Hugging Face model's answer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, clips):
        return self.model(clips).last_hidden_state


def rows(device):
    """Yield (name, ours, theirs, input)."""
    many = 4 if device == "cuda" else 1  # a GPU wants more to do
    tokens = torch.randn(8 * many, 128, DIM)
    yield "block / nn.TransformerEncoderLayer", EncoderBlock(DIM, HEADS), torch_layer(DIM, HEADS), tokens
    yield (
        "encoder / nn.TransformerEncoder",
        Encoder(DIM, DEPTH, HEADS),
        TorchEncoder(DIM, DEPTH, HEADS),
        tokens,
    )
    clips = torch.rand(32 * many, 16, 3, 32, 32)
    yield "SoraTransformer / same, torch layers", SoraTransformer(12), sora_with_torch_layers(), clips
    try:
        vivit, timesformer = hugging_face()
    except ImportError:
        print("transformers is not installed: no Hugging Face rows")
        return
    clips = torch.rand(2 * many, FRAMES, 3, SIDE, SIDE)
    yield "joint model / HF ViViT", PatchTransformer(), vivit, clips
    yield "divided model / HF TimeSformer", DividedTransformer(), timesformer, clips


# Measuring


def clock(device) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def forward(model, x):
    model.eval()
    with torch.inference_mode():
        model(x)


def forward_backward(model, x):
    model.train()
    model.zero_grad()
    model(x).float().square().mean().backward()


def take_turns(runs: dict, rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each run, one of each per round in alternating order, after two rounds to warm up."""
    seconds = {name: [] for name in runs}
    for i in range(rounds + 2):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            start = clock(device)
            runs[name]()
            if i >= 2:
                seconds[name].append(clock(device) - start)
    return seconds


def compare(device: str, rounds: int, only: str = "") -> list[dict]:
    results = []
    print(f"\n{device}: milliseconds, median of {rounds}{'; bfloat16, compiled' if device == 'cuda' else ''}")
    print(
        f"{'ours / theirs':38s} {'parameters':>21s} {'pass':>17s} {'ours':>8s} {'theirs':>8s} {'ratio':>6s}"
    )
    for name, ours, theirs, x in rows(device):
        if only not in name:
            continue
        sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
        models = {"ours": ours.to(device), "theirs": theirs.to(device)}
        x = x.to(device)
        if device == "cuda":
            models = {key: torch.compile(model.bfloat16()) for key, model in models.items()}
            x = x.bfloat16()
        for step in (forward, forward_backward):
            times = take_turns(
                {key: lambda m=m, s=step, x=x: s(m, x) for key, m in models.items()}, rounds, device
            )
            ours_s, theirs_s = statistics.median(times["ours"]), statistics.median(times["theirs"])
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
            results.append({"row": name, "pass": step.__name__, "parameters": sizes,
                            "ours": ours_s, "theirs": theirs_s, "ratio": ratio})  # fmt: skip
            shown = f"{ours_s * 1e3:8.2f} {theirs_s * 1e3:8.2f} {ratio:6.2f}"
            print(f"{name:38s} {sizes[0]:10,} {sizes[1]:10,} {step.__name__:>17s} {shown}", flush=True)
    return results


def peak_bytes(run, device: str) -> int:
    """Most bytes that were allocated at once during `run`, beyond those held before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = record.profiler.kineto_results.events()
    now = top = 0
    for _, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        now += size
        top = max(top, now)
    return top


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope of log y over log x: 1 is linear, 2 is quadratic."""
    x, y = [math.log(v) for v in x], [math.log(v) for v in y]
    return statistics.linear_regression(x, y).slope


def growth(device: str, rounds: int) -> list[dict]:
    lengths = [2048, 4096, 8192, 16384] if device == "cuda" else [512, 1024, 2048, 4096]
    results = []
    print(f"\n{device}: attention forward and backward, 4 heads of 32, over T = {lengths}")
    measured = {function: ([], []) for function in (naive_attention, attention)}
    for length in lengths:
        q = torch.randn(1, 4, length, 32, device=device, requires_grad=True)
        runs = {f: lambda f=f, q=q: torch.autograd.grad(f(q, q, q).sum(), q) for f in measured}
        times = take_turns(runs, max(3, rounds // 3), device)
        for function, (seconds, peaks) in measured.items():
            seconds.append(statistics.median(times[function]))
            peaks.append(peak_bytes(runs[function], device))
    for function, (seconds, peaks) in measured.items():
        result = {"row": function.__name__, "lengths": lengths, "seconds": seconds, "bytes": peaks}
        result |= {"time_slope": slope(lengths, seconds), "memory_slope": slope(lengths, peaks)}
        results.append(result)
        print(f"{function.__name__:16s} ms {[round(s * 1e3, 1) for s in seconds]} slope {result['time_slope']:.2f}   "
              f"MB {[round(p / 1e6, 1) for p in peaks]} slope {result['memory_slope']:.2f}", flush=True)  # fmt: skip
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    results = {"torch": torch.__version__, "threads": arguments.threads}
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        results[device] = compare(device, arguments.rounds, arguments.only) + growth(device, arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
