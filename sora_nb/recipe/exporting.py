"""From a model that takes frames one by one to an ONNX file that other programs run. Derived in chapter 20."""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from sora_nb.files import atomic
from sora_nb.models import SoraGRU
from sora_nb.models.gru import GRUState

OPSET = 18  # what the exporter writes without converting, and what runtimes of 2023 and later read
FRAME = (3, 32, 32)


class _Step(nn.Module):
    """A model's step with the state laid out as tensors, and probabilities in place of scores."""

    def __init__(self, model: SoraGRU, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(
        self, frame: Tensor, gru: Tensor, pooled: Tensor, weight: Tensor, mean: Tensor, seen: Tensor
    ) -> tuple[Tensor, ...]:
        scores, state = self.model.step(frame, GRUState(gru, pooled, weight, mean, seen))
        return (scores / self.temperature).softmax(-1), *state


def export_step(
    model: SoraGRU,
    path: str | os.PathLike,
    temperature: float = 1.0,
    frame: tuple[int, int, int] = FRAME,
) -> Path:
    """Write ``model.step`` as one ONNX file; return its path.

    Inputs are ``frame`` (B, C, H, W) in [0, 1] and the state's tensors, named as `GRUState` names them; outputs are
    ``probabilities`` (B, classes) and the new state, each with ``_next`` behind its name. B is free. A stream begins with
    the numbers of ``model.start(frame)``: 0, and minus infinity for ``weight``. The file is opset 18 and holds its weights.
    Derived in chapter 20.

    Args:
        model: in evaluation mode; ``center`` must be "causal" or False, since a stream does not know its mean.
        path: the file to write.
        temperature: scores are divided by it before the softmax; a recipe has one.
        frame: channels, height and width of a frame.

    Raises:
        ValueError: the model is in training mode, or takes the mean of whole clips away.
    """
    if model.training:
        raise ValueError(
            "export_step got a model in training mode, whose batch norm follows the batch; call model.eval()."
        )
    step, example = _Step(model, temperature), torch.zeros(2, *frame)
    state = model.start(example)
    with torch.no_grad():
        step(example, *state)  # what the model refuses is refused here, in one sentence
    batch = torch.export.Dim("batch", min=1)
    axes = [
        {1: batch} if name == "gru" else {} if name == "seen" else {0: batch} for name in GRUState._fields
    ]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            step,
            (example, *state),
            input_names=["frame", *GRUState._fields],
            output_names=["probabilities", *(f"{name}_next" for name in GRUState._fields)],
            dynamic_shapes=({0: batch}, *axes),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    for part in (*program.model.graph, *program.model.graph.initializers.values()):
        part.metadata_props.clear()  # lines of source code and folders of this machine: nobody else's business
    path = Path(path)
    with atomic(path) as temporary:
        program.save(temporary, external_data=False)
    return path
