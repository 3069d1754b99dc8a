"""Attributions against captum, against their definitions, and on models whose truth is known."""

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from sora_nb.data import motion_render
from sora_nb.evaluation.attribution import (
    deletion,
    grad_cam,
    gradient,
    inside,
    integrated_gradients,
    occlusion,
    pointing,
)
from sora_nb.models import SoraFusion

CLASSES = torch.tensor([2, 0, 3])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SoraFusion(4, dim=8, branches=(3,), channels=(4, 6)).eval().double()


@pytest.fixture(scope="module")
def clips():
    return torch.rand(3, 6, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


class Weighted(nn.Module):
    """Two classes: the score of the second is a weighted sum of the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, clips):
        score = (clips * self.weight).sum((1, 2, 3, 4))
        return torch.stack([torch.zeros_like(score), score], 1)


def test_gradient_is_the_quotient_of_small_differences(model, clips):
    slope, place = gradient(model, clips, CLASSES), (1, 4, 2, 7, 9)
    up, down = clips.clone(), clips.clone()
    up[place] += 1e-6
    down[place] -= 1e-6
    quotient = (model(up) - model(down))[1, CLASSES[1]] / 2e-6
    torch.testing.assert_close(slope[place], quotient, atol=1e-6, rtol=1e-3)
    assert not slope.requires_grad and not clips.requires_grad


def test_integrated_gradients_equal_captums_and_are_complete(model, clips):
    base = clips.mean(1, keepdim=True).expand_as(clips)
    ours = integrated_gradients(model, clips, CLASSES, base, 50)
    theirs = captum.attr.IntegratedGradients(model).attribute(
        clips, base, target=CLASSES, n_steps=50, method="riemann_middle"
    )
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-6)
    gain = (model(clips) - model(base)).gather(1, CLASSES[:, None])[:, 0]
    assert (ours.sum((1, 2, 3, 4)) - gain).abs().max() < 0.05 * gain.abs().max()


def test_grad_cam_equals_captums_and_leaves_no_hook(model, clips):
    layer = model.branches[0].layers[-1]
    theirs = captum.attr.LayerGradCam(model, layer).attribute(clips, target=CLASSES, relu_attributions=True)
    ours = grad_cam(model, clips, CLASSES, layer)
    assert ours.shape == (3, 3, 4, 4) and ours.max() > 0
    torch.testing.assert_close(ours, theirs[:, 0].to(ours), atol=1e-8, rtol=1e-5)
    with pytest.raises(ValueError):
        grad_cam(model, clips[:, :, :1], CLASSES, layer)
    assert not layer._forward_hooks


@pytest.mark.parametrize("window, stride", [((2, 4, 4), (2, 4, 4)), ((3, 5, 7), (2, 3, 4))])
def test_occlusion_equals_captums(model, clips, window, stride):
    base = clips.mean(1, keepdim=True).expand_as(clips)
    sizes = [(n, 3, h, w) for n, h, w in (window, stride)]
    theirs = captum.attr.Occlusion(model).attribute(clips, sizes[0], sizes[1], base, target=CLASSES)
    ours = occlusion(model, clips, CLASSES, base, window, stride)
    torch.testing.assert_close(ours.float(), theirs[:, :, 0].float(), atol=1e-6, rtol=1e-5)


def test_every_method_finds_the_only_pixel_that_counts():
    weight = torch.zeros(4, 3, 8, 8)
    weight[2, :, 5, 6] = 1
    model, clips, second = Weighted(weight), torch.rand(2, 4, 3, 8, 8) + 0.5, torch.ones(2).long()
    black = torch.zeros_like(clips)
    maps = [
        gradient(model, clips, second).sum(2),
        integrated_gradients(model, clips, second, black, 3).sum(2),
        occlusion(model, clips, second, black, (1, 1, 1), (1, 1, 1)),
    ]
    boxes = torch.full((2, 4, 4), float("nan"))
    boxes[:, 2] = torch.tensor([6.0, 5, 7, 6])
    boxes[:, 1] = torch.tensor([0.0, 0, 2, 2])
    for heat in maps:
        hits, chance = pointing(heat, boxes)
        assert hits.tolist() == [1, 1]
        torch.testing.assert_close(chance, torch.full((2,), 5 / 128))


def test_inside_a_box():
    boxes = torch.tensor([[[1.0, 0, 3, 2], [float("nan")] * 4]])
    mask = inside(boxes, 4)
    assert mask[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]  # rows, columns
    assert not mask[0, 1].any()


def test_a_constant_map_earns_chance_and_frames_without_box_do_not_count():
    boxes = torch.full((1, 3, 4), float("nan"))
    boxes[0, 1] = torch.tensor([0.0, 0, 2, 4])
    heat = torch.ones(1, 3, 4, 4)
    heat[0, 0, 0, 0] = 9  # hottest, where there is no box
    hits, chance = pointing(heat, boxes)
    assert hits.item() == chance.item() == 0.5


def test_deletion_takes_the_hottest_cells_first():
    weight = torch.zeros(4, 1, 4, 4)
    weight[0, 0, :2, :2], weight[3, 0, 2:, 2:] = 0.5, -0.25  # one cell for the class, one against it
    model, clips, second = Weighted(weight), torch.ones(1, 4, 1, 4, 4), torch.ones(1).long()
    base, heat = torch.zeros_like(clips), torch.zeros(1, 4, 2, 2)
    heat[0, 0, 0, 0], heat[0, 3, 1, 1] = 5, -5
    scores = torch.tensor([2.0 - 1, -1, -1, -1, 0])
    torch.testing.assert_close(deletion(model, clips, second, base, heat, 4)[0], scores.sigmoid())
    back = torch.tensor([0.0, 2, 2, 2, 1])  # insertion: clip and baseline swapped
    torch.testing.assert_close(deletion(model, base, second, clips, heat, 4)[0], back.sigmoid())


def test_the_box_of_the_digit_that_stands_still():
    rng = np.random.default_rng(5)
    drawn = [motion_render.sample(rng, label, "test", level=2) for label in range(12)]
    assert {bool(p["distractor"]) for p in drawn} == {True, False}
    for params in drawn:
        box = motion_render.still_box(params, 64)
        if not params["distractor"]:
            assert np.isnan(box).all()
            continue
        with_it = motion_render.draw(params, 2, 64)[0].astype(int)
        without = motion_render.draw(params | {"distractor": None}, 2, 64)[0].astype(int)
        y, x = np.nonzero(
            np.abs(with_it - without).max((0, 3)) > 40
        )  # clear ink, where the other digit lets it be seen
        middle = (box[:2] + box[2:]) / 2
        assert abs(np.array([x.mean(), y.mean()]) + 0.5 - middle).max() < 8
        assert (
            x.min() + 2 >= box[0]
            and y.min() + 2 >= box[1]
            and x.max() - 1 <= box[2]
            and y.max() - 1 <= box[3]
        )
