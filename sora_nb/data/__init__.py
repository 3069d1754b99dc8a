"""Data: the generated motion set, folders and lists of videos, and real footage that packages ship."""

from importlib import import_module

_HOMES = {
    "sora_nb.data.motion": ("CLASSES", "PAIRS", "MotionSpec", "MotionSplit", "caption", "generate", "load",
                            "render", "tone"),
    "sora_nb.data.folders": ("VideoClips", "from_folder", "from_list"),
    "sora_nb.data.listing": ("VideoList",),
    "sora_nb.data.datasets": ("hmdb51", "kinetics", "something_something", "ucf101"),
    "sora_nb.data.real": ("photographs", "real_clips"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    # Looked up when asked for: the worker processes that write the motion set must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
