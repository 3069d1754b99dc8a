"""What is committed under data/: worlds and people are what their cards say, and each checkpoint is small, whole and accounted for."""

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
WORLDS, PEOPLE, CHECKPOINTS = DATA / "worlds", DATA / "people", DATA / "checkpoints"
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


def test_each_setting_films_every_action_once_and_all_people_fit_into_four_megabytes():
    record = json.loads((PEOPLE / "manifest.json").read_text())
    names = [name.replace("_", "-") for name in record["takes"]]
    for split, settings in (("train", 18), ("val", 6), ("test", 10)):
        videos = from_folder(PEOPLE / split)
        assert videos.classes == names and len(names) == 15
        seen = Counter((path.stem, label) for path, label in videos.items)
        there = {setting.removeprefix(f"{split}/") for setting in record["settings"] if split in setting}
        assert set(seen) == {(setting, label) for setting in there for label in range(15)}
        assert set(seen.values()) == {1} and len(there) == settings
    assert sum(path.stat().st_size for path in PEOPLE.rglob("*") if path.is_file()) <= 4_000_000


def test_people_move_and_the_camera_stands_or_pans():
    """Somebody who walks on the spot of the picture changes its middle more than its corners."""
    ratios = []
    for path in sorted((PEOPLE / "test").glob("dance-*/*.mp4")):
        frames = read_video(path).astype(float)
        assert frames.shape == (16, 48, 64, 3)
        change = np.abs(np.diff(frames, axis=0)).mean((0, 3))  # (48, 64)
        ratios.append(change[12:40, 20:44].mean() / change[:, [0, 1, 62, 63]].mean())
    assert np.median(ratios) > 1.5


def test_films_of_the_street_hold_what_the_truth_says():
    record = json.loads((PEOPLE / "manifest.json").read_text())
    films = {path.stem: path for path in (PEOPLE / "street").glob("*.mp4")}
    assert set(films) == set(record["doing"]) == set(record["films"])
    assert Counter(name.split("_")[0] for name in films) == {"train": 8, "quiet": 4, "test": 12, "calm": 4}
    for name, spans in record["doing"].items():
        assert [a for _, a, _ in spans] == [0, *(b for _, _, b in spans[:-1])] and spans[-1][2] == 320
        unusual = {doing for doing, _, _ in spans} - {"walk", "nobody"}
        assert bool(unusual) == name.startswith("test")
    still, moving = [], []
    for name in ("test_00", "calm_00"):
        frames = read_video(films[name]).astype(float)
        assert frames.shape == (320, 48, 64, 3)
        change = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
        for doing, a, b in record["doing"][name]:
            (still if doing == "nobody" else moving).extend(change[a + 1 : b - 1])
    assert np.mean(moving) > 2 * np.mean(still)


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
