#!/usr/bin/env python3
"""Write what the page "The model in the page" and the landing page load: the exported network, digits, clips.

    python scripts/live_page.py                        # after scripts/live_model.py --plan page
    python scripts/live_page.py --runtime package/dist # wrap the runtime of an unpacked npm package onnxruntime-web

A page that is opened from disk may load scripts and nothing else, so everything becomes a script that sets one variable:
bytes are gzipped and written as base64.
"""

import argparse
import base64
import gzip
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from sora_nb import recipe
from sora_nb.data import motion
from sora_nb.data.motion_render import coverage, digit_images, digit_range
from sora_nb.files import atomic
from sora_nb.ledger import ROOT
from sora_nb.recipe.exporting import FRAME, export_step
from sora_nb.transforms import to_clip

STATIC, GLYPH, SAMPLES = ROOT / "book" / "_static", 40, 12
QUERIES, NEIGHBORS = [0, 3, 4, 7, 8, 11], 3  # the first test clip of one class of each pair
RUNTIME = {
    "runtime.js": ("SORA_RUNTIME", "ort.wasm.bundle.min.mjs"),
    "wasm.js": ("SORA_WASM", "ort-wasm-simd-threaded.wasm"),
}


def packed(data: bytes) -> str:
    """Gzip as base64; without the time, so that the same bytes give the same text."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def write(path: Path, name: str, value) -> None:
    """A script that sets one variable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(f"window.{name} = {json.dumps(value)};\n")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def wrap(dist: Path) -> None:
    """The runtime's two files, unchanged but for their packing."""
    for file, (name, source) in RUNTIME.items():
        write(STATIC / "vendor" / "onnxruntime" / file, name, packed((dist / source).read_bytes()))


def steps(clips: np.ndarray) -> bytes:
    """Each frame's difference from the one before, as bytes modulo 256: what stands still packs to nothing."""
    return np.diff(clips, axis=1, prepend=np.zeros_like(clips[:, :1])).tobytes()


def glyphs() -> np.ndarray:
    """Opacity (10, 40, 40) in 0..255 of the first test image of each digit, upright and as large as the grid."""
    labels, middle = digit_images()[1], np.array([0.5])
    upright = dict(x=middle, y=middle, side=np.array([1.0]), angle=np.array([0.0]), opacity=np.array([1.0]))
    images = [next(i for i in digit_range("test") if labels[i] == digit) for digit in range(10)]
    return np.rint(255 * np.concatenate([coverage(i, upright, GLYPH) for i in images])).astype(np.uint8)


def rendered(split: str, indices) -> tuple[np.ndarray, list[int]]:
    """Clips of level 1 over photographs, as they are before a codec has seen them, and their labels."""
    made = [motion.render(motion.MotionSpec(), split, int(i)) for i in indices]
    return np.stack([frames for frames, _ in made]), [truth["label"] for _, truth in made]


def exported(made: recipe.Recipe) -> bytes:
    """The ONNX file of a recipe's step."""
    with tempfile.TemporaryDirectory() as folder:
        return export_step(made.model, Path(folder) / "step.onnx", made.temperature).read_bytes()


def model_script(made: recipe.Recipe) -> None:
    """The network, how its state begins, digits to drag, and the first test clip of each class."""
    clips, labels = rendered("test", range(SAMPLES))
    start = made.model.start(torch.zeros(1, *FRAME))
    state = {
        name: {"shape": list(value.shape), "lowest": bool(value.numel() and value.flatten()[0] < 0)}
        for name, value in start._asdict().items()
    }
    value = {"onnx": packed(exported(made)), "classes": made.classes, "state": state}
    value |= {"glyphs": packed(glyphs().tobytes()), "samples": packed(steps(clips)), "labels": labels}
    write(STATIC / "live" / "model.js", "SORA_MODEL", value)


def codes(model, clips: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, T, D) after every frame."""
    with torch.no_grad():
        return torch.stack([model.embed(clips[:, : t + 1]) for t in range(clips.shape[1])], 1)


def landing_script(made: recipe.Recipe) -> None:
    """Six test clips, the code that grows with their frames, and the training clips whose codes are nearest."""
    train = motion.load(motion.MotionSpec(), "train")
    with torch.no_grad():
        gallery = torch.cat([made.model.embed(to_clip(part)) for part in train.clips.split(200)])
    clips, labels = rendered("test", QUERIES)
    code = codes(made.model, to_clip(torch.from_numpy(clips)))  # (Q, T, D)
    unit = torch.nn.functional.normalize
    found = (unit(code[:, -1], dim=-1) @ unit(gallery, dim=-1).T).topk(NEIGHBORS).indices  # (Q, K)
    near, near_labels = rendered("train", found.flatten())
    spread = code.abs().max()
    value = {"classes": made.classes, "labels": labels, "near": near_labels, "frames": clips.shape[1]}
    value |= {"clips": packed(steps(np.concatenate([clips, near])))}
    value |= {"codes": packed((code / spread * 127).round().to(torch.int8).numpy().tobytes())}
    write(STATIC / "live" / "landing_data.js", "SORA_LANDING", value | {"width": code.shape[-1]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", type=Path, help="folder with the runtime's files, to wrap them anew")
    options = parser.parse_args()
    if options.runtime:
        wrap(options.runtime)
    made = recipe.load(ROOT / "data" / "checkpoints" / "page")
    model_script(made)
    landing_script(made)


if __name__ == "__main__":
    main()
