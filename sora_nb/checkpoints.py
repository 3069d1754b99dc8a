"""Weights and checkpoints on disk: they appear whole, and what does not fit is refused in one sentence. See chapter 03."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, Subset

from sora_nb.features import fingerprint
from sora_nb.files import atomic, digest


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a model's weights and buffers as safetensors, atomically. Derived in chapter 03."""
    _write(Path(path), dict(model.state_dict()), {})


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load weights written by :func:`save_weights` into a model of the same shape. Derived in chapter 03.

    Raises:
        ValueError: the file is damaged, or its tensors do not fit the model; names the first that differ.
    """
    stored, wanted = _read(path)[0], model.state_dict()
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


def save(
    path: str | Path,
    model: nn.Module,
    optimizer: Optimizer,
    history: dict,
    best: dict[str, Tensor] | None,
    start: str | None,
    plan: dict,
) -> None:
    """Write all that :func:`resume` needs: weights, AdamW's moments, best weights, what is frozen, history and plan."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
    frozen = [[name for name, p in model.named_parameters() if not p.requires_grad]]
    frozen += [[name for name, part in model.named_modules() if getattr(part, "_frozen", False)]]
    _write(Path(path), tensors, {"history": history, "frozen": frozen, "start": start, "plan": plan})


def resume(
    path: str | Path | None, model: nn.Module, optimizer: Optimizer, plan: dict
) -> tuple[dict, dict[str, Tensor] | None, str | None]:
    """Go on where a checkpoint ends, if there is one: return its history, its best weights and how its run began.

    Warns if that run began from other weights than the model holds, for those are then replaced.

    Raises:
        ValueError: the file is damaged, no checkpoint, or belongs to a run with another plan.
    """
    if path is None:
        return {}, None, None
    start = fingerprint(model)
    if not Path(path).exists():
        return {}, None, start
    tensors, metadata = _read(path)
    if not {"history", "frozen", "start", "plan"} <= metadata.keys():
        raise ValueError(f"{path} is no checkpoint of a training run; delete it or name another file.")
    _compare(path, metadata["plan"], plan)
    if metadata["start"] != start:
        warnings.warn(
            f"{path} holds a run that began from other weights than this model has; it goes on, from the checkpoint's.",
            stacklevel=3,
        )
    model.load_state_dict(_part(tensors, "model"))
    _load_moments(optimizer, _part(tensors, "optimizer"))
    _load_frozen(model, *map(set, metadata["frozen"]))
    return metadata["history"], _part(tensors, "best") or None, metadata["start"]


def model_digest(model: nn.Module) -> str:
    """Digest of a model as built, whatever its weights: its layers, their plain settings and shapes, and what is frozen."""
    found = []
    for name, part in model.named_modules():
        plain = {k: v for k, v in vars(part).items() if k not in ("training", "_frozen") and _is_plain(v)}
        frozen = getattr(part, "_frozen", False)
        found.append(f"{name} {type(part).__qualname__} {sorted(plain.items())} {frozen}")
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad}")
    return digest("\n".join(found))


def data_digest(data: Dataset) -> str:
    """Digest of a data set's length, of the names and sizes of its files, and of its first, middle and last item."""
    n, files = len(data), [Path(file) for file in files_of(data) or []]
    named = [
        f"{file.parent.name}/{file.name} {file.stat().st_size if file.exists() else ''}" for file in files
    ]
    items = (part for i in (0, n // 2, n - 1) for part in _parts(data[i]))
    return digest(f"{n}\n", *(f"{line}\n" for line in named), *items)


def files_of(data: Dataset) -> list | tuple | None:
    """The file of each item, where a data set tells it in ``files``."""
    if isinstance(data, Subset):
        files = files_of(data.dataset)
        return files and [files[i] for i in data.indices]
    files = getattr(data, "files", None)
    return files if isinstance(files, list | tuple) and len(files) == len(data) else None


def _compare(path: str | Path, theirs: dict, ours: dict) -> None:
    """Name the arguments in which two runs differ."""
    names = [k for k in theirs | ours if theirs.get(k) != ours.get(k)]
    if names:
        first, second = (" and ".join(f"{k} {plan.get(k)}" for k in names) for plan in (theirs, ours))
        raise ValueError(
            f"{path} belongs to a run with {first}, not {second}; delete it or name another file."
        )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | None)


def _parts(item: object) -> Iterator[bytes | str]:
    """What a data set's item is made of, as bytes."""
    if isinstance(item, dict | list | tuple):
        for part in item.items() if isinstance(item, dict) else item:
            yield from _parts(part)
    elif isinstance(item, Tensor | np.ndarray):
        tensor = torch.as_tensor(item).detach().cpu().contiguous()
        yield f"{tensor.dtype} {tuple(tensor.shape)} "
        yield tensor.view(-1).view(torch.uint8).numpy().tobytes()
    else:
        yield f"{item} "


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write beside the target and rename, so that a killed process never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {k: json.dumps(v) for k, v in metadata.items()})


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metadata of a safetensors file; metadata of other programs, which is no JSON, counts as none."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name a file in it.")
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file, or not a whole one ({error}); delete it or name another file."
        ) from None
    try:
        return tensors, {k: json.loads(v) for k, v in metadata.items()}
    except json.JSONDecodeError:
        return tensors, {}


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}


def _load_moments(optimizer: Optimizer, stored: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in stored.items():
        i, name = key.split(".", 1)
        moments.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})


def _load_frozen(model: nn.Module, parameters: set[str], modules: set[str]) -> None:
    """Freeze what was frozen, and only that: ``before_epoch`` may have done it in an epoch that is not repeated."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in parameters)
    for name, part in model.named_modules():
        part._frozen = name in modules
