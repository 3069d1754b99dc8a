"""Export and compile every model in small; print how far each graph's answers are from the model's, as JSON.

Run by tests/test_models.py in a process of its own: the runtime checks of annotations are no part of a graph.
"""

import json
import warnings

import torch
import torch._dynamo
from torch import nn

from sora_nb import models
from sora_nb.layers.frames import FrameCNN

warnings.simplefilter("ignore")
torch._dynamo.config.allow_rnn = True  # torch's own switch for its own GRU and LSTM
SMALL = FrameCNN(8, (4, 4))


def build() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Small models, and the shape of a clip for each."""
    clip = (4, 3, 16, 16)
    small = {"dim": 8, "frames": SMALL}
    grid = {"dim": 24, "heads": 2, "depth": 1, "feature_dim": 8, "tubelet": (2, 4, 4)}
    words = models.SoraTransformer(5, words=4, groups=2, **grid)
    words.eval().start_words(torch.rand(2, *clip))
    return {
        "MeanPool": (models.MeanPool(5, **small), clip),
        "SoraTransformer": (models.SoraTransformer(5, position="rotary", **grid), clip),
        "SoraTransformer with words": (words, clip),
        "SoraContrastive": (models.SoraContrastive(5, **small), clip),
        "SoraGRU": (models.SoraGRU(5, **small), clip),
        "SoraGRU causal": (models.SoraGRU(5, pooling="attention", center="causal", **small), clip),
        "SoraFusion": (models.SoraFusion(5, dim=4, branches=(3,), channels=(4, 4)), clip),
        "SoraAutoencoder": (
            models.SoraAutoencoder(5, dim=4, code=6, group=4, hop=2, size=16, components=(9, 8)),
            clip,
        ),
    }


def gap(graph, model: nn.Module, clips: torch.Tensor) -> float:
    """Largest difference of the answers."""
    with torch.no_grad():
        return (graph(clips) - model(clips)).abs().max().item()


def gaps(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Differences of the exported and of the compiled model; the exported one answers a batch of another size."""
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export(model, (torch.rand(3, *shape),), dynamic_shapes=dynamic).module()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    return {
        "exported": max(gap(exported, model, torch.rand(n, *shape)) for n in (2, 5)),
        "compiled": gap(compiled, model, torch.rand(3, *shape)),
    }


if __name__ == "__main__":
    torch.manual_seed(0)
    print(json.dumps({name: gaps(model.eval(), shape) for name, (model, shape) in build().items()}))
