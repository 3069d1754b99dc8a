# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["hide-input", "protocol"]
import time

import faiss
import numpy as np
import torch
from torch.nn import functional as F

from sora_nb import recipe
from sora_nb.data import motion
from sora_nb.evaluation.retrieval import neighbor_recall
from sora_nb.ledger import ROOT
from sora_nb.settings import settings
from sora_nb.transforms import evaluation_transform

sizes = settings(
    T0=dict(codes=(10_000, 100_000), queries=200, originals=60, films=12),
    T1=dict(codes=(10_000, 100_000, 1_000_000), queries=1000, originals=240, films=40),
)
faiss.omp_set_num_threads(1)  # one thread everywhere: times then compare
DIM = 64


def vectors(made, clips):
    """Embeddings of length 1 of clips uint8 (N, T, H, W, 3), read as a recipe reads a file."""
    at = made.reading.indices(clips.shape[1], 1, "")[0]
    frames = clips[:, at].movedim(-1, 2)  # (N, t, 3, H, W)
    small = evaluation_transform(made.reading.size)(frames.flatten(0, 1))
    return F.normalize(made.embeddings(small.unflatten(0, frames.shape[:2])), dim=1)


# %% tags=["protocol"]
def gaussians(codes, labels, count, seed=0):
    """Generated codes of length 1: for each class a Gaussian with the mean and covariance of its real codes."""
    rng, made = np.random.default_rng(seed), []
    for label in labels.unique():
        own = codes[labels == label].double().numpy()
        size = -(-count // len(labels.unique()))
        made.append(rng.multivariate_normal(own.mean(0), np.cov(own.T), size, method="eigh"))
    made = np.concatenate(made)[rng.permutation(size * len(labels.unique()))[:count]]
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


# %% tags=["protocol"]
def kinds(count):
    """What is compared, in FAISS's words, and the knob that trades time for recall."""
    cells = round(2 * count**0.5)
    probes, breadth = ("nprobe", (1, 4, 16, 32, 64)), ("efSearch", (16, 32, 64, 128))
    return {
        "flat": ("Flat", (None, (0,))),
        "inverted lists": (f"IVF{cells},Flat", probes),
        "inverted lists, 8-bit": (f"IVF{cells},SQ8", probes),
        "inverted lists, PQ": (f"IVF{cells},PQ16np", probes),
        "HNSW": ("HNSW16,Flat", breadth),
    }


def built(kind, codes):
    """An index that holds the codes, and the processor seconds that it took."""
    index, began = faiss.index_factory(codes.shape[1], kind), time.process_time()
    if kind.startswith("IVF"):
        index.cp.max_points_per_centroid = 64  # of k-means' sample
        if hasattr(index, "pq"):
            index.pq.cp.max_points_per_centroid = 64
    index.train(codes)
    index.add(codes)
    return index, time.process_time() - began


# %% tags=["protocol"]
def searched(index, queries, knob, value, k=10):
    """Neighbours of each query, asked one at a time as users come, and milliseconds a query."""
    if knob:
        faiss.ParameterSpace().set_index_parameter(index, knob, value)
    began = time.process_time()
    found = np.concatenate([index.search(q[None], k)[1] for q in queries])
    return torch.from_numpy(found), (time.process_time() - began) / len(queries) * 1e3


def compared(codes, queries, names=None):
    """For each kind of index: bytes a code, seconds to build, and for each setting the recall of 10 and the time."""
    rows, exact = {}, None
    for name, (kind, (knob, values)) in kinds(len(codes)).items():
        if names and name not in names:
            continue
        index, seconds = built(kind, codes)
        size = faiss.serialize_index(index).nbytes / len(codes)
        runs = [(value, *searched(index, queries, knob, value)) for value in values]
        exact = runs[0][1] if exact is None else exact  # the flat index comes first
        settings = [[v, round(neighbor_recall(f, exact), 4), round(ms, 4)] for v, f, ms in runs]
        rows[name] = {"bytes": round(size), "seconds": round(seconds, 1), "settings": settings}
    return rows


# %% tags=["protocol"]
RECEIPT = "indexes"


def real_codes(split):
    """D's codes of a split of level 2 of the motion set, and their labels."""
    clips = motion.load(motion.MotionSpec(level=2), split, progress=False)
    return vectors(recipe.load(ROOT / "data" / "checkpoints" / "D"), clips.clips), clips.labels


def record():
    """A million codes like real ones, and 100,000 without any structure. A graph of a million takes minutes to build."""
    codes, labels = real_codes("train")
    codes = codes @ torch.linalg.svd(codes - codes.mean(0), full_matrices=False)[2][:DIM].T
    noise = np.random.default_rng(0).standard_normal((100_000 + sizes.queries, DIM), np.float32)
    made = gaussians(codes, labels, 1_000_000 + sizes.queries)
    lists = ("flat", "inverted lists")
    numbers = {}
    for name, drawn, names in (
        ("noise", noise, lists),
        ("1000000", made, (*lists, "inverted lists, 8-bit")),
    ):
        numbers[name] = compared(drawn[sizes.queries :], drawn[: sizes.queries], names)
        print(name, numbers[name], flush=True)
    return [0], numbers
