"""Drawings: the numbers drawn are those given, each in its cell, with y down."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Rectangle

from sora_nb.plots import BLUE, GRAY, ORANGE
from sora_nb.schematics import arrow, box, canvas, cells, label


@pytest.fixture
def ax():
    ax = canvas(8, 5)
    yield ax
    plt.close(ax.figure)


def drawn(ax) -> dict[tuple[float, float], str]:
    """Every text by its place, in cells."""
    return {tuple(round(float(v), 2) for v in text.get_position()): text.get_text() for text in ax.texts}


def shading(ax) -> dict[tuple[int, int], float]:
    """How dense each cell is, by (row, column)."""
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    return {(int(patch.get_y()), int(patch.get_x())): patch.get_alpha() for patch in found}


def pixels(ax, x: float, y: float) -> np.ndarray:
    """Where a point of the drawing lands on the page, with y up as pixels are counted here."""
    ax.figure.canvas.draw()
    return ax.transData.transform((x, y))


def test_canvas_counts_in_cells_from_the_upper_left(ax):
    right, down = pixels(ax, 1, 0) - pixels(ax, 0, 0), pixels(ax, 0, 1) - pixels(ax, 0, 0)
    assert right[0] > 0 and down[1] < 0 and abs(right[1]) < 1e-6 and abs(down[0]) < 1e-6
    assert right[0] == pytest.approx(-down[1])  # square cells
    assert ax.get_xlim() == (0, 8) and ax.get_ylim() == (5, 0) and not ax.axison
    assert tuple(ax.figure.get_size_inches()) == pytest.approx((8 * 0.42, 5 * 0.42))
    assert canvas(2, 2, ax=ax) is ax and ax.get_xlim() == (0, 2)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_each_number_stands_in_its_own_cell(ax, kind):
    cells(ax, kind([[1, -2.5, 3], [4, 0, 0.25]]), at=(2, 1))
    expected = {(2.5, 1.52): "1", (3.5, 1.52): "-2.5", (4.5, 1.52): "3",
                (2.5, 2.52): "4", (3.5, 2.52): "0", (4.5, 2.52): "0.25"}  # fmt: skip
    assert drawn(ax) == expected
    squares = [(p.get_y(), p.get_x(), p.get_width(), p.get_height(), p.get_fill()) for p in ax.patches]
    assert sorted(squares) == [
        (y, x, 1, 1, fill) for y in (1, 2) for x in (2, 3, 4) for fill in (False, True)
    ]


@pytest.mark.parametrize("values", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2])])
def test_one_row_needs_no_second_list(ax, values):
    cells(ax, values)
    assert drawn(ax) == {(0.5, 0.52): "1", (1.5, 0.52): "2"}


def test_words_gaps_and_formats(ax):
    cells(ax, [["cat", None, 0.5, float("nan")]], form="{:.2f}")
    assert [text for _, text in sorted(drawn(ax).items())] == ["cat", "", "0.50", "nan"]


def test_larger_numbers_are_denser_whatever_their_sign(ax):
    cells(ax, [[0, -4, 2], [1, None, float("inf")]])
    dense = shading(ax)
    assert dense[0, 1] > dense[0, 2] > dense[1, 0] > dense[0, 0] == dense[1, 1] == dense[1, 2] > 0
    assert dense[0, 1] - dense[0, 0] == pytest.approx(2 * (dense[0, 2] - dense[0, 0]))
    assert dense[0, 1] < 0.5  # the number in it stays legible


def test_a_table_of_zeros_is_drawn_pale(ax):
    cells(ax, [0, 0])
    assert len(set(shading(ax).values())) == 1


def test_marked_cells_have_a_heavy_edge_in_their_color(ax):
    cells(ax, [[1, 2], [3, 4]], mark=[(1, 0)], color=ORANGE)
    edges = {
        (p.get_y(), p.get_x()): (p.get_linewidth(), to_hex(p.get_edgecolor()))
        for p in ax.patches
        if not p.get_fill()
    }
    assert edges.pop((1, 0)) == (2, ORANGE.lower())
    assert set(edges.values()) == {(0.6, GRAY)}


def test_titles_stand_outside_the_table_on_their_sides(ax):
    cells(ax, [[1, 2, 3], [4, 5, 6]], at=(2, 2), title="scores", rows=["a", "b"], columns=["x", "y", "z"])
    place = {text: at for at, text in drawn(ax).items()}
    assert place["a"][0] == place["b"][0] == 1.85
    assert [place[word][1] for word in "ab"] == [2.52, 3.52]
    assert [place[word][0] for word in "xyz"] == [2.5, 3.5, 4.5]
    assert place["x"][1] < 2 and place["scores"] == (3.5, 1.25) and place["scores"][1] < place["x"][1]
    aligned = {text.get_text(): (text.get_ha(), text.get_va()) for text in ax.texts}
    assert aligned["a"] == ("right", "center") and aligned["x"] == aligned["scores"] == ("center", "bottom")
    cells(ax, [1], title="alone")
    assert [text.get_position()[1] for text in ax.texts if text.get_text() == "alone"] == [-0.15]


def test_a_box_holds_its_word_in_the_middle(ax):
    box(ax, "softmax", at=(1, 2), size=(4, 1.5), color=ORANGE)
    assert drawn(ax) == {(3, 2.75): "softmax"}
    for patch in ax.patches:
        assert (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) == (1, 2, 4, 1.5)
    filled, edge = ax.patches
    assert filled.get_alpha() < 0.5 and to_hex(edge.get_edgecolor()) == ORANGE.lower() and not edge.get_fill()


def halfway(ax, patch: FancyArrowPatch) -> np.ndarray:
    """The middle of an arrow's line, in cells: a quadratic Bézier curve lies there at (start + 2 control + end) / 4."""
    ax.figure.canvas.draw()
    start, control, end = patch.get_path().vertices[:3]
    return (start + 2 * control + end) / 4


def test_an_arrow_leads_from_start_to_end(ax):
    arrow(ax, (1, 1), (5, 3), "then")
    (patch,) = ax.patches
    (start, end), style = patch._posA_posB, patch.get_arrowstyle()
    assert (start, end) == ((1, 1), (5, 3))
    assert style.arrow == "-|>"  # the head is at the end
    assert drawn(ax) == {(3, 1.88): "then"}
    arrow(ax, (0, 0), (1, 0))
    assert len(ax.texts) == 1


@pytest.mark.parametrize("bend", [0.3, -0.3])
@pytest.mark.parametrize("end", [(6, 1), (2, 4), (0.5, 0.5)])
def test_the_word_of_a_bent_arrow_is_where_the_arrow_bends_to(ax, bend, end):
    start = (2, 1)
    arrow(ax, start, end, "skip", bend=bend)
    ((x, y),) = drawn(ax)
    assert np.abs(halfway(ax, ax.patches[0]) - (x, y + 0.12)).max() < 0.1
    aside = np.hypot(x - (start[0] + end[0]) / 2, y + 0.12 - (start[1] + end[1]) / 2)
    assert aside == pytest.approx(abs(bend) * np.hypot(end[0] - start[0], end[1] - start[1]) / 2, abs=0.02)


def test_label_is_centered_unless_told_otherwise(ax):
    label(ax, "here", (1, 2))
    label(ax, "there", (3, 2), ha="left", va="top", color=BLUE, fontsize=7)
    one, two = ax.texts
    assert drawn(ax) == {(1, 2): "here", (3, 2): "there"}
    assert (one.get_ha(), one.get_va(), one.get_fontsize()) == ("center", "center", 9)
    assert (two.get_ha(), two.get_va(), two.get_fontsize(), two.get_color()) == ("left", "top", 7, BLUE)
