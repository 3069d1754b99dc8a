"""What is committed under data/: the worlds are what their card says, and each checkpoint is small, whole and accounted for."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_nb import ledger, recipe, training
from sora_nb.checkpoints import load_weights
from sora_nb.data import from_folder, motion
from sora_nb.data.listing import VideoList
from sora_nb.models.flow import FlowTransformer, LatentVideo
from sora_nb.models.fusion import SoraFusion
from sora_nb.objectives.flow import integrate
from sora_nb.video import read_video

DATA = Path(__file__).resolve().parent.parent / "data"
WORLDS, OBJECTS, CHECKPOINTS = DATA / "worlds", DATA / "world_objects", DATA / "checkpoints"
DESIGNS = sorted(
    path.parent.name for path in CHECKPOINTS.glob("[A-E]/recipe.json")
)  # `live`: tests/test_live.py


def test_no_world_is_in_two_splits_and_each_class_has_as_many_clips_in_each_world():
    record = json.loads((WORLDS / "manifest.json").read_text())
    seen = []
    for split, each in (("train", 6), ("val", 5), ("test", 8)):
        videos = from_folder(WORLDS / split)
        counts = Counter((path.stem.split("_")[0], label) for path, label in videos.items)
        worlds = {world for world, _ in counts}
        assert sorted(worlds) == sorted(record["maps"][split]) and not worlds & set(seen)
        assert set(counts.values()) == {each} and len(counts) == 6 * len(worlds)
        seen += worlds
    assert set(seen) == set(record["raw frames"])


def test_the_twin_of_a_class_stands_beside_it_and_clips_hold_what_the_card_says():
    videos = from_folder(WORLDS / "test")
    assert videos.classes == ["backward", "forward", "strafe-left", "strafe-right", "turn-left", "turn-right"]
    for path, _ in videos.items[::40]:
        assert read_video(path).shape == (16, 48, 64, 3)


def test_turning_left_moves_the_picture_to_the_right():
    def shift(path: Path) -> int:
        frames = read_video(path).mean((1, 3))  # brightness of each column: (16, 64)
        a, b = frames[7] - frames[7].mean(), frames[8] - frames[8].mean()
        errors = {s: np.square(a[16:-16] - b[16 + s : 48 + s]).mean() for s in range(-12, 13)}
        return min(errors, key=errors.get)

    for name, sign in (("turn-left", 1), ("turn-right", -1)):
        moves = [sign * shift(path) for path in sorted((WORLDS / "test" / name).glob("*.mp4"))]
        assert np.mean(np.array(moves) > 0) > 0.8


def test_objects_lie_in_their_frames_with_one_number_each_and_no_map_is_in_two_splits():
    record, clips = (json.loads((OBJECTS / f"{name}.json").read_text()) for name in ("manifest", "boxes"))
    assert record["maps"] == json.loads((WORLDS / "manifest.json").read_text())["maps"]
    assert sum(file.stat().st_size for file in OBJECTS.rglob("*.*") if file.is_file()) < 4_000_000
    assert {clip["file"] for clip in clips} == {
        str(path.relative_to(OBJECTS)) for path in OBJECTS.rglob("*.mp4")
    }
    maps = Counter((clip["file"].split("/")[0], clip["file"].split("/")[1][:5]) for clip in clips)
    each = {"train": 24, "val": 20, "test": 32}
    assert maps == {(split, name): each[split] for split, names in record["maps"].items() for name in names}
    for clip in clips:
        things = clip["objects"]
        assert len({thing["id"] for thing in things}) == len(things)
        assert max(8 - thing["boxes"].count(None) for thing in things) >= 6
        x0, y0, x1, y1 = np.array([box for thing in things for box in thing["boxes"] if box]).T
        assert min(x0.min(), y0.min()) >= 0 and max(x1.max(), y1.max()) <= 64
        assert (x1 - x0).min() >= 5 and (y1 - y0).min() >= 8
    common = sorted(record["count"], key=record["count"].get, reverse=True)
    assert all(common.index(name) < 12 for name in record["classes"]) and common[0] in record["classes"]


def test_a_box_goes_where_its_object_goes():
    """What an object's last box shows is more like its first than what the last frame shows in the first box's place."""

    def patch(frame: np.ndarray, box: list[float]) -> np.ndarray:
        rows, columns = (np.linspace(a, b - 1, 10).round().astype(int) for a, b in (box[1::2], box[::2]))
        gray = frame.mean(-1)[np.ix_(rows, columns)]
        return (gray - gray.mean()) / (gray.std() + 1e-6)

    better = []
    for clip in json.loads((OBJECTS / "boxes.json").read_text())[::3]:
        frames = read_video(OBJECTS / clip["file"])
        assert frames.shape == (8, 64, 64, 3)
        for thing in clip["objects"]:
            first, last = thing["boxes"][0], thing["boxes"][7]
            if first and last and abs(first[0] + first[2] - last[0] - last[2]) > 24:  # 12 pixels to a side
                one = patch(frames[0], first)
                better.append((one * (patch(frames[7], last) - patch(frames[7], first))).mean() > 0)
    assert len(better) > 30 and np.mean(better) > 0.7


@pytest.mark.parametrize("design", DESIGNS)
def test_a_checkpoint_is_small_whole_and_in_the_receipt(design):
    assert sum(file.stat().st_size for file in (CHECKPOINTS / design).iterdir()) < 1_000_000
    made = recipe.load(CHECKPOINTS / design)
    assert made.design == design and made.classes == list(motion.CLASSES)
    assert ledger.read_receipt("checkpoints")["numbers"][design] == made.facts


@pytest.mark.parametrize("design", DESIGNS)
def test_a_checkpoint_scores_what_its_receipt_says(design, tmp_path):
    from sora_nb.video import write_video

    made, items = recipe.load(CHECKPOINTS / design), []
    for i in range(72):  # the first test clips, drawn anew: no need of the whole set
        clip, truth = motion.render(motion.MotionSpec(level=2), "test", i)
        items.append((write_video(tmp_path / f"{i}.mp4", clip, intra=True), truth["label"]))
    report = made.evaluate(VideoList(items, made.classes), progress=False)
    assert abs(report.accuracy - made.facts["test accuracy"]) < 0.15


def test_the_flow_checkpoint_is_small_fits_and_makes_what_its_receipt_says():
    """The judge finds the motion asked for about as often as recorded, in new clips made with another seed."""
    run = "making_video" if (ledger.RESULTS / "making_video.json").exists() else "making_video_small"
    folder, numbers = CHECKPOINTS / "flow", ledger.read_receipt(run)["numbers"]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_700_000
    classes = len(motion.CLASSES)
    parts = {
        "code": LatentVideo(width=32),
        "judge": SoraFusion(classes, dim=32),
        "flow": FlowTransformer(classes, hidden=192),
    }
    for name, part in parts.items():
        load_weights(part.eval(), folder / f"{name}.safetensors")
        assert training.parameters(part) == numbers["parameters"][name]
    labels = torch.arange(48) % classes
    noise = torch.randn(48, 4, 8, 8, 8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        latents = integrate(lambda x, t: parts["flow"](x, t, labels), noise, 8)
        found = parts["judge"](parts["code"].decode(latents).clamp(0, 1)[:, ::2]).argmax(1)
    recorded = numbers["flow"]["0"]["by guidance"]["1.0"]["overall"]  # 16 steps; 8 do nearly as well
    assert abs((found == labels).float().mean().item() - recorded) < 0.25
