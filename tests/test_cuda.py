"""On a GPU: every design answers as on the CPU, learns, streams, resumes, and its files travel between the two."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from compile_models import build
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sora_nb import recipe, training
from sora_nb.checkpoints import load_weights, save_weights
from sora_nb.layers.attention import attention
from sora_nb.layers.frames import FrameCNN
from sora_nb.models import SoraGRU
from sora_nb.objectives import nt_xent

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CHECKPOINTS = Path(__file__).resolve().parents[1] / "data" / "checkpoints"


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """cuDNN's convolutions otherwise round their input to ten bits (TF32), and nothing could be compared."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)


def largest(here, there):
    return (here - there.cpu()).abs().max().item()


def test_every_design_answers_as_on_the_cpu():
    """Scores and the gradient of one weight, in evaluation mode (a code's nearest word may flip otherwise)."""
    for name, (model, shape) in build().items():
        clips = torch.rand(3, *shape)
        here, there = model.eval(), deepcopy(model).eval().cuda()
        # cuDNN's recurrent layers differentiate in training mode only.
        with torch.backends.cudnn.flags(enabled=False):
            scores = here(clips), there(clips.cuda())
            for out in scores:
                F.cross_entropy(out, torch.arange(3, device=out.device)).backward()
        assert largest(*scores) < 1e-4, name
        assert largest(here.head.weight.grad, there.head.weight.grad) < 1e-4, name


def dots(n, seed=0):
    """A dot that walks to the left or to the right: clips (n, 4, 3, 16, 16) and labels."""
    drawn = torch.Generator().manual_seed(seed)
    labels, rows = torch.randint(2, (n,), generator=drawn), torch.randint(2, 14, (n,), generator=drawn)
    clips = torch.zeros(n, 4, 3, 16, 16)
    for i, (label, row) in enumerate(zip(labels.tolist(), rows.tolist(), strict=True)):
        for t in range(4):
            clips[i, t, :, row - 1 : row + 2, 3 + 3 * (t if label else 3 - t)] = 1
    return TensorDataset(clips, labels)


def small():
    torch.manual_seed(0)
    return SoraGRU(2, dim=16, frames=FrameCNN(16, (8, 8)), center="causal")


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_fit_learns_on_the_gpu(precision):
    model = small()
    history = training.fit(
        model, dots(256), dots(64, seed=1), epochs=8, lr=5e-3, precision=precision, progress=False
    )
    assert next(model.parameters()).is_cuda
    assert history.val_accuracy[history.best_epoch] > 0.95


def test_a_run_that_was_cut_goes_on(tmp_path):
    cut = True

    def killed(model, epoch):
        if cut and epoch == 2:
            raise KeyboardInterrupt

    plan = dict(epochs=4, lr=5e-3, before_epoch=killed, progress=False)
    with pytest.raises(KeyboardInterrupt):
        training.fit(small(), dots(128), checkpoint=tmp_path / "run", **plan)
    cut = False
    training.fit(whole := small(), dots(128), **plan)
    training.fit(again := small(), dots(128), checkpoint=tmp_path / "run", **plan)
    pairs = zip(whole.parameters(), again.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) < 1e-4  # sums of many threads, in another order


def test_weights_travel_both_ways(tmp_path):
    there = small().cuda()
    save_weights(there, tmp_path / "w.safetensors")
    load_weights(here := small().double().float(), tmp_path / "w.safetensors")
    assert not next(here.parameters()).is_cuda and largest(here.head.weight, there.head.weight) == 0
    load_weights(back := small().cuda(), tmp_path / "w.safetensors")
    assert back.head.weight.is_cuda and torch.equal(back.head.weight, there.head.weight)


@pytest.mark.parametrize("name", "ABCDE")
def test_trained_recipes_say_the_same(name, monkeypatch):
    made = recipe.load(CHECKPOINTS / name)
    clips = torch.randint(256, (6, made.reading.frames, 3, made.reading.size, made.reading.size)).byte()
    on_the_gpu = made.logits(clips)
    monkeypatch.setattr(training, "device", lambda: torch.device("cpu"))
    assert largest(recipe.load(CHECKPOINTS / name).logits(clips), on_the_gpu) < 1e-3


def test_frame_by_frame_on_the_gpu():
    model, state = small().eval().cuda(), None
    clips = dots(4).tensors[0].cuda()
    with torch.no_grad():
        for t in range(4):
            scores, state = model.step(clips[:, t], state)
        assert largest(model(clips).cpu(), scores) < 1e-5


def test_losses_and_attention_equal_the_cpu():
    a, b = torch.randn(2, 32, 16)
    assert largest(nt_xent(a, b), nt_xent(a.cuda(), b.cuda())) < 1e-5
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    assert largest(F.scaled_dot_product_attention(q, k, v), attention(q.cuda(), k.cuda(), v.cuda())) < 1e-5
