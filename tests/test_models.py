"""One face for all designs: what any of them promises, tested on each."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sora_nb import models
from sora_nb.layers.frames import FrameCNN, FrameGrid
from sora_nb.training import classify

SIZE = {"SoraAutoencoder": 16}
CENTERED = ["SoraContrastive", "SoraFusion", "SoraGRU", "SoraTransformer"]
SWAPPED = ["MeanPool", "SoraContrastive", "SoraGRU", "SoraTransformer"]  # they have a frame network


def make(name: str, classes: int = 7, **options) -> nn.Module:
    torch.manual_seed(0)
    options = {"group": 8, "hop": 2} | options if name == "SoraAutoencoder" else options
    return getattr(models, name)(classes, **options)


def clips(name: str, batch: int = 3, **options) -> torch.Tensor:
    size = SIZE.get(name, 32)
    return torch.rand(batch, 8, 3, size, size, generator=torch.Generator().manual_seed(1), **options)


def warm(name: str, **options) -> nn.Module:
    """A model in evaluation whose batch norm has seen something."""
    model = make(name, **options)
    model(clips(name))
    return model.eval()


@pytest.mark.parametrize("name", models.__all__)
def test_face(name):
    model, x = warm(name), clips(name)
    assert list(inspect.signature(type(model)).parameters)[0] == "classes"
    kinds = [p.kind for p in inspect.signature(type(model)).parameters.values()]
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}
    z = model.embed(x)
    assert z.shape == (3, model.width) and model.head.weight.shape == (7, model.width)
    assert_close(model(x), z @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("name", models.__all__)
def test_samples_do_not_mix_and_a_clip_alone_answers_the_same(name):
    model, x = warm(name), clips(name).requires_grad_()
    gradient = torch.autograd.grad(model(x)[1].sum(), x)[0].flatten(1).abs().sum(1)
    assert (gradient > 0).tolist() == [False, True, False]
    assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CENTERED)
def test_a_still_background_is_taken_away_unless_told(name):
    x, size = clips(name), clips(name).shape[-1]
    still = torch.rand(3, 1, 3, size, size)
    assert_close(*(warm(name).embed(c) for c in (x, x + still)), rtol=1e-3, atol=1e-4)
    plain = warm(name, center=False)
    assert (plain.embed(x) - plain.embed(x + still)).abs().max() > 1e-3


@pytest.mark.parametrize("name", SWAPPED)
def test_another_frame_network_and_cached_features_fit(name):
    network = nn.Sequential(nn.Flatten(2), nn.Linear(3 * 32 * 32, 12))
    model = warm(name, dim=12, frames=network)
    assert model(clips(name)).shape == (3, 7)
    on_features = make(name, dim=12, frames=nn.Identity())
    rest = {key: value for key, value in model.state_dict().items() if "frames." not in key}
    on_features.load_state_dict(rest)
    if not getattr(model, "center", False):
        assert_close(on_features.eval()(network(clips(name))), model(clips(name)))
    with pytest.raises(ValueError, match=r"it expects features of frames \(batch, time, dim\)"):
        on_features(clips(name))


BAD = {
    "rank": (lambda x: x[0], r"got a tensor of shape \(8, 3, \d+, \d+\); it expects .*\(batch, time, 3"),
    "channels": (
        lambda x: x[:, :, :1],
        r"got a tensor of shape \(3, 8, 1, .*; it expects .*\(batch, time, 3",
    ),
    "channels last": (
        lambda x: x.movedim(2, -1),
        r"got a tensor of shape .*, 3\); it expects .*\(batch, time, 3",
    ),
    "no clip": (lambda x: x[:0], "got an empty tensor of shape"),
    "no frame": (lambda x: x[:, :0], "got an empty tensor of shape"),
    "uint8": (
        lambda x: x.mul(255).to(torch.uint8),
        "got torch.uint8 and has weights in torch.float32; transforms",
    ),
    "float64": (
        lambda x: x.double(),
        r"got torch.float64 and has weights in torch.float32; convert .*\.to\(",
    ),
    "float16": (lambda x: x.half(), "got torch.float16 and has weights in torch.float32"),
}


@pytest.mark.parametrize("name", models.__all__)
@pytest.mark.parametrize("bad", BAD)
def test_the_door(name, bad):
    change, words = BAD[bad]
    model = make(name)
    for door in (model, model.embed):
        with pytest.raises(ValueError, match=f"^{name} {words}"):
            door(change(clips(name)))


@pytest.mark.parametrize("network", [FrameCNN, FrameGrid])
def test_a_frame_network_has_the_same_door(network):
    with pytest.raises(ValueError, match=f"{network.__name__} got torch.uint8"):
        network()(torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8))


def test_a_frame_network_says_how_many_colours_it_takes():
    gray = clips("MeanPool")[:, :, :1]
    model = make("MeanPool", frames=FrameCNN(128, in_channels=1))
    assert model(gray).shape == (3, 7)
    with pytest.raises(ValueError, match=r"it expects clips \(batch, time, 1, height, width\)"):
        model(clips("MeanPool"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", models.__all__)
def test_other_precisions(name, dtype):
    model = warm(name)
    expected, answer = model(clips(name)), model.to(dtype)(clips(name).to(dtype))
    assert answer.dtype == dtype
    near = 1e-5 if dtype == torch.float64 else 0.03
    assert (answer.float() - expected).abs().max() < near * max(1, expected.abs().max())


@pytest.mark.parametrize("name", models.__all__)
def test_autocast_takes_what_it_converts(name):
    model = warm(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, low = model(clips(name)), model(clips(name).bfloat16())
    expected = model(clips(name))
    assert (mixed.float() - expected).abs().max() < 0.05 * max(1, expected.abs().max())
    assert low.shape == (3, 7)


@pytest.mark.parametrize("name", models.__all__)
def test_a_copy_after_a_training_step(name):
    """Nothing of the step's graph stays on the model."""
    model, labels = make(name), torch.tensor([0, 1, 2])
    options = {"words": 4, "groups": 2} if name == "SoraTransformer" else {}
    model = make(name, **options)
    if options:
        model.start_words(clips(name))
    loss, _ = classify(model, (clips(name), labels))
    loss.backward()
    twin = copy.deepcopy(model)
    assert_close(twin.eval()(clips(name)), model.eval()(clips(name)))


@pytest.mark.parametrize("name", models.__all__)
def test_every_parameter_learns_from_the_labels(name):
    model = make(name)
    if name == "SoraAutoencoder":
        nn.init.normal_(model.to_code.weight)  # silent at the start
    model(clips(name)).square().sum().backward()
    idle = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    expected = {
        "SoraContrastive": {"projection"},
        "SoraAutoencoder": {"decoder", "from_code", "linear", "out"},
    }
    assert idle == expected.get(name, set())


@pytest.mark.parametrize("name", models.__all__)
def test_shapes_are_known_without_numbers(name):
    """On the meta device a model has shapes and no values: a branch on a value would fail."""
    with torch.device("meta"):
        model = make(name).eval()
        assert model(torch.rand(*clips(name).shape)).shape == (3, 7)
