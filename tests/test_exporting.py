"""A step as an ONNX file: the same answers as the model's, for any batch, and nothing in it of the machine it was made on."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sora_nb.layers.frames import FrameCNN
from sora_nb.models import SoraGRU
from sora_nb.recipe.exporting import OPSET, export_step

TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SoraGRU(5, dim=8, center="causal", frames=FrameCNN(8, (4, 4), residual=True)).eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return export_step(model, tmp_path_factory.mktemp("step") / "step.onnx", TEMPERATURE, frame=(3, 16, 16))


def streamed(session, clips, start) -> np.ndarray:
    """Probabilities (T, B, classes), frame by frame, the state handed on."""
    state, answers = {name: value.numpy() for name, value in start._asdict().items()}, []
    for t in range(clips.shape[1]):
        answer, *new = session.run(None, {"frame": clips[:, t].numpy(), **state})
        answers.append(answer)
        state = dict(zip(state, new, strict=True))
    return np.stack(answers)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_answers_as_the_model_for_any_batch(model, file, batch):
    clips = torch.rand(batch, 7, 3, 16, 16, generator=torch.Generator().manual_seed(batch))
    session = onnxruntime.InferenceSession(file)
    got = streamed(session, clips, model.start(clips[:, 0]))
    with torch.no_grad():
        wanted = np.stack([(model(clips[:, : t + 1]) / TEMPERATURE).softmax(-1).numpy() for t in range(7)])
    assert np.abs(got - wanted).max() < 1e-5
    assert np.abs(wanted[0] - wanted[-1]).max() > 1e-3  # frames count


def test_the_file_names_its_parts_and_tells_nothing_of_the_machine(file):
    graph = onnx.load(file)
    state = ["gru", "pooled", "weight", "mean", "seen"]
    assert [value.name for value in graph.graph.input] == ["frame", *state]
    assert [value.name for value in graph.graph.output] == [
        "probabilities",
        *(f"{name}_next" for name in state),
    ]
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    onnx.checker.check_model(graph)
    data = file.read_bytes()
    assert b".py" not in data and b"stack_trace" not in data


def test_what_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        export_step(SoraGRU(5, dim=8, center="causal"), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="needs the mean of the whole clip"):
        export_step(SoraGRU(5, dim=8).eval(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
