"""Write what torchmetrics says of boxes that come from a seed: the reference of tests/test_detection.py.

    pip install pycocotools==2.0.11     # nothing else of this repository needs it
    python scripts/map_reference.py

Boxes are in pixels, so that their areas lie in COCO's range "all" whatever a tool makes of its lower end.
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from torchmetrics.detection import MeanAveragePrecision

from sora_nb.files import atomic

FILE = Path(__file__).resolve().parent.parent / "tests" / "references" / "map.json"


def frame(seed: int) -> dict[str, list]:
    """Objects of three classes, and detections: moved a little or a lot, doubled, missed, of a wrong class, on nothing."""
    g = torch.Generator().manual_seed(seed)
    corner, size = 300 * torch.rand(6, 2, generator=g), 20 + 150 * torch.rand(6, 2, generator=g)
    there, labels = torch.cat([corner, corner + size], 1), torch.randint(3, (6,), generator=g)
    there, labels = there[: seed % 7], labels[: seed % 7]  # none to six
    moved = there + 12 * torch.rand(1, generator=g) * torch.randn(there.shape, generator=g)
    moved = torch.cat(
        [moved[:, :2], torch.maximum(moved[:, 2:], moved[:, :2] + 4)], 1
    )  # in order, with an area
    found = torch.cat([moved[1:], moved[-1:], 400 * torch.rand(1, 4, generator=g).sort().values])
    said = torch.cat([labels[1:], labels[-1:], torch.randint(3, (1,), generator=g)])
    wrong = torch.rand(len(said), generator=g) < 0.2
    said = torch.where(wrong, (said + 1) % 3, said)
    parts = dict(
        found=found, scores=torch.rand(len(found), generator=g), said=said, there=there, labels=labels
    )
    return {
        name: [round(x, 3) if isinstance(x, float) else x for x in part.flatten().tolist()]
        for name, part in parts.items()
    }


def main() -> None:
    frames = [frame(seed) for seed in range(24)]
    metric = MeanAveragePrecision(
        box_format="xyxy", iou_type="bbox", backend="pycocotools", class_metrics=True
    )
    for one in frames:
        found = dict(boxes=torch.tensor(one["found"]).view(-1, 4), scores=torch.tensor(one["scores"]))
        there = dict(boxes=torch.tensor(one["there"]).view(-1, 4), labels=torch.tensor(one["labels"]).long())
        metric.update([found | dict(labels=torch.tensor(one["said"]).long())], [there])
    result = metric.compute()
    kept = {name: result[name].tolist() for name in ("map", "map_50", "map_75", "map_per_class")}
    made = {name: version(name) for name in ("torchmetrics", "pycocotools", "torch")}
    with atomic(FILE) as path:
        text = json.dumps(
            {"made by": "scripts/map_reference.py", "versions": made, "result": kept, "frames": frames}
        )
        path.write_text(text.replace('{"found"', '\n{"found"') + "\n")


if __name__ == "__main__":
    main()
