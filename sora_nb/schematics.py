"""Drawings of mechanisms with numbers in them: cells, boxes and arrows on a grid, legible in light and dark.

Coordinates are cells: x to the right, y **down**, so that a drawing reads like the table or matrix that it shows.
Introduced in chapter 01.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from sora_nb.plots import BLUE, GRAY

Point = tuple[float, float]


def canvas(width: float, height: float, unit: float = 0.42, ax: Axes | None = None) -> Axes:
    """Open an empty drawing of ``width`` × ``height`` cells, ``unit`` inches a cell, without frame and ticks."""
    ax = ax or plt.subplots(figsize=(unit * width, unit * height))[1]
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax


def cells(
    ax: Axes,
    values: Sequence | np.ndarray | Tensor,
    at: Point = (0, 0),
    *,
    form: str = "{:g}",
    color: str = BLUE,
    title: str = "",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    mark: Sequence[tuple[int, int]] = (),
    fontsize: float = 9,
) -> None:
    """Draw a table of numbers (or words), one cell each, shaded by size.

    Args:
        ax: from `canvas`.
        values: one row, or a list of rows, or a tensor or array of one or two axes; numbers are written with ``form``,
            words as they are, None stays empty.
        at: upper left corner.
        form: format of a number.
        color: of the shading; larger numbers are denser.
        title: a line above.
        rows: a word left of each row.
        columns: a word above each column.
        mark: (row, column) of cells drawn with a heavy edge.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    table = values if all(isinstance(row, (list, tuple)) for row in values) else [values]
    numbers = [v for row in table for v in row if isinstance(v, (int, float, np.number))]
    largest = max((abs(v) for v in numbers if np.isfinite(v)), default=1) or 1
    x0, y0 = at
    for r, row in enumerate(table):
        for c, value in enumerate(row):
            number = isinstance(value, (int, float, np.number))
            share = min(1, abs(value) / largest) if number and np.isfinite(value) else 0
            ax.add_patch(Rectangle((x0 + c, y0 + r), 1, 1, facecolor=color, alpha=0.03 + 0.29 * share, lw=0))
            edge = dict(edgecolor=color if (r, c) in mark else GRAY, lw=2 if (r, c) in mark else 0.6)
            ax.add_patch(Rectangle((x0 + c, y0 + r), 1, 1, fill=False, **edge))
            shown = "" if value is None else form.format(value) if number else str(value)
            ax.text(x0 + c + 0.5, y0 + r + 0.52, shown, ha="center", va="center", fontsize=fontsize)
    for r, word in enumerate(rows):
        ax.text(x0 - 0.15, y0 + r + 0.52, word, ha="right", va="center", fontsize=fontsize)
    for c, word in enumerate(columns):
        ax.text(x0 + c + 0.5, y0 - 0.15, word, ha="center", va="bottom", fontsize=fontsize)
    if title:
        above = 0.75 if columns else 0.15
        middle = x0 + max(map(len, table)) / 2
        ax.text(middle, y0 - above, title, ha="center", va="bottom", fontsize=fontsize + 1)


def box(
    ax: Axes, text: str, at: Point, size: Point = (3, 1), *, color: str = BLUE, fontsize: float = 9
) -> None:
    """Draw a rounded box with a word or two in it; ``at`` is its upper left corner, ``size`` width and height."""
    (x, y), (w, h) = at, size
    style = "round,pad=0,rounding_size=0.15"
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, facecolor=color, alpha=0.2, lw=0))
    ax.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, fill=False, edgecolor=color, lw=1.2))
    ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=fontsize)


def arrow(
    ax: Axes,
    start: Point,
    end: Point,
    text: str = "",
    *,
    color: str = GRAY,
    bend: float = 0.0,
    fontsize: float = 8,
) -> None:
    """Draw an arrow from ``start`` to ``end``, bent by ``bend`` of its length, with a word beside its middle."""
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9,
            color=color,
            lw=1.1,
            shrinkA=1,
            shrinkB=1,
            connectionstyle=f"arc3,rad={bend}",
        )
    )
    if text:
        (x0, y0), (x1, y1) = start, end
        middle = ((x0 + x1) / 2 - bend * (y1 - y0) / 2, (y0 + y1) / 2 + bend * (x1 - x0) / 2 - 0.12)
        ax.text(*middle, text, ha="center", va="bottom", fontsize=fontsize)


def label(ax: Axes, text: str, at: Point, *, fontsize: float = 9, color: str | None = None, **align) -> None:
    """Write words at a place, centred unless ``ha`` and ``va`` say otherwise."""
    ax.text(
        *at,
        text,
        fontsize=fontsize,
        **{"ha": "center", "va": "center", **align},
        **({"color": color} if color else {}),
    )
