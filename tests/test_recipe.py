"""Recipes: what is saved comes back bit for bit, an answer is the model's on the reader's frames, the misfit is refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sora_nb import recipe, training, transforms
from sora_nb.data import from_folder
from sora_nb.data.listing import VideoList
from sora_nb.models import MeanPool, SoraGRU
from sora_nb.recipe import fitting
from sora_nb.video import VideoReadError, read_video, write_video

CLASSES = ["b-up", "a-down", "c-still"]  # not in alphabetical order, and kept so
SPEED = {"b-up": -1, "a-down": 1, "c-still": 0}
SMALL = {"dim": 16, "epochs": 6, "batch_size": 8, "frames": 4, "size": 16, "progress": False}
LONG = SMALL | {"epochs": 25, "lr": 5e-3, "shift": 0.05}


def scene(kind: str, seed: int, frames: int = 12) -> np.ndarray:
    """A bright bar that moves up, down or not at all over noise."""
    rng = np.random.default_rng(seed)
    clip = rng.integers(0, 40, (frames, 16, 24, 3), dtype=np.uint8)
    clip[:] = clip[:1]
    start = rng.integers(16)
    for t in range(frames):
        clip[t, (start + SPEED[kind] * t) % 16] = 230
    return clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for c, kind in enumerate(CLASSES):
        (root / kind).mkdir()
        for i in range(12):
            write_video(root / kind / f"film{i % 6}_{i}.mp4", scene(kind, 100 * c + i))
    return root


@pytest.fixture(scope="module")
def trained(folder) -> recipe.Recipe:
    return recipe.train(from_folder(folder, CLASSES), "C", depth=1, **LONG)


@pytest.fixture
def saved(trained, tmp_path) -> Path:
    return trained.save(tmp_path / "mine")


def test_a_clip_is_the_readers_frames_resized_and_cut(folder):
    path = next((folder / "b-up").iterdir())
    [clip] = recipe.Reading(4, 8).read(path)
    frames = torch.from_numpy(read_video(path)).movedim(-1, 1)[
        [1, 4, 7, 10]
    ]  # the middles of four quarters of 12
    small = F.interpolate(frames.float(), (8, 12), mode="bilinear", antialias=True)[..., 2:10]
    assert (clip.float() - small).abs().max() < 1  # torchvision rounds after each of two passes
    strided = recipe.Reading(4, 16, stride=3).read(path, clips=3)
    assert torch.equal(
        strided[0], frames.new_tensor(read_video(path)[[0, 3, 6, 9]]).movedim(-1, 1)[..., 4:20]
    )


def test_several_clips_are_spread_over_the_file():
    spread, dense = recipe.Reading(2, 8), recipe.Reading(3, 8, stride=2)
    assert spread.indices(8, 2, "x").tolist() == [[1, 5], [3, 7]]
    assert spread.indices(8, 1, "x").tolist() == [[2, 6]]
    assert dense.indices(9, 3, "x").tolist() == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]
    assert dense.indices(5, 1, "x").tolist() == [[0, 2, 4]]


@pytest.mark.parametrize("reading, frames", [(recipe.Reading(4, 8), 4), (recipe.Reading(3, 8, stride=2), 5)])
def test_a_file_with_one_frame_too_few_is_refused(reading, frames, tmp_path):
    write_video(tmp_path / "long.mp4", scene("b-up", 0, frames))
    write_video(tmp_path / "short.mp4", scene("b-up", 0, frames - 1))
    assert reading.read(tmp_path / "long.mp4").shape == (1, reading.frames, 3, 8, 8)
    with pytest.raises(
        VideoReadError, match=f"short.mp4.*has {frames - 1} frames, and a clip takes {frames}"
    ):
        reading.read(tmp_path / "short.mp4")


def test_a_reading_of_nothing_is_refused():
    for wrong in ({"frames": 0}, {"size": -1}, {"stride": 0}):
        with pytest.raises(ValueError, match="expected a whole number of at least 1"):
            recipe.Reading(**wrong)


def test_files_that_fail_are_told_with_their_reason(folder, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = next((folder / "b-up").iterdir())
    read = recipe.read_all(
        VideoList([(tmp_path / "broken.mp4", 0), (good, 1)], CLASSES), recipe.Reading(4, 8), "x", 2, False
    )
    assert read.files == [good] and read.labels.tolist() == [1] and read.clips.shape == (1, 2, 4, 3, 8, 8)
    assert list(read.failed) == [tmp_path / "broken.mp4"] and "broken.mp4" in str(list(read.failed.values()))
    with pytest.raises(VideoReadError, match="broken.mp4"):
        recipe.read_all(VideoList([(tmp_path / "broken.mp4", 0)], CLASSES), recipe.Reading(), "x", 1, False)


def test_it_learns_keeps_the_classes_in_order_and_reports_on_files_of_no_other_part(trained, folder):
    assert trained.classes == CLASSES == trained.report.classes
    assert (
        trained.report.accuracy > 0.6 and trained.evaluate(folder, progress=False).accuracy > 0.8
    )  # chance 1/3
    assert trained.facts["files"] == {"training": 24, "validation": 6, "test": 6}
    assert trained.facts["updates"] == 25 * 3 and trained.facts["best epoch"] >= 0
    again = trained.evaluate(
        VideoList(list(zip(trained.report.files, trained.report.labels.tolist())), CLASSES)
    )
    assert torch.equal(again.logits, trained.report.logits)


def test_the_same_seed_trains_the_same_weights(trained, folder):
    again = recipe.train(from_folder(folder, CLASSES), "C", depth=1, **LONG)
    pairs = zip(again.model.state_dict().values(), trained.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert (again.temperature, again.threshold) == (trained.temperature, trained.threshold)


def test_files_of_one_source_stay_together(folder, monkeypatch):
    parts = []
    monkeypatch.setattr(fitting, "_fit", lambda made, train, val, *_, **__: parts.extend([train, val]) or {})
    made = recipe.train(folder, "mean", source=lambda path: path.stem.split("_")[0], **SMALL)
    films = [{file.stem.split("_")[0] for file in part.files} for part in (*parts, made.report)]
    assert sum(map(len, films)) == len(set.union(*films)) == 6


def test_given_parts_are_used_as_they_are(folder, monkeypatch):
    parts = []
    monkeypatch.setattr(fitting, "_fit", lambda made, train, val, *_, **__: parts.extend([train, val]) or {})
    videos = from_folder(folder)
    held = [VideoList(videos.items[i::6], videos.classes) for i in (0, 1)]
    rest = VideoList([item for i in (2, 3, 4, 5) for item in videos.items[i::6]], videos.classes)
    made = recipe.train(rest, "mean", val=held[0], test=held[1], **SMALL)
    for part, wanted in zip((*parts, made.report), (rest, *held)):
        assert part.files == [path for path, _ in wanted.items]
    made = recipe.train(rest, "mean", test=held[1], **SMALL)
    assert (
        made.report.files == [path for path, _ in held[1].items] and sum(made.facts["files"].values()) == 30
    )


@pytest.mark.parametrize("design", ["mean", "A", "B", "D", "E"])
def test_every_design_trains_saves_and_loads(design, folder, tmp_path):
    options = {"code": 8, "hop": 2, "components": (12, 12), "dim": 8} if design == "E" else {}
    shape = {"frames": 4, "size": 16 if design != "A" else 32}
    made = recipe.train(folder, design, **SMALL | shape | {"epochs": 1} | options)
    new = next((folder / "b-up").iterdir())
    back = recipe.load(made.save(tmp_path))
    assert back.predict(new) == made.predict(new) and torch.equal(back.embed(new), made.embed(new))
    assert made.embed(new).shape == (made.model.width,) and back.facts == made.facts


def test_a_frozen_start_keeps_the_body_and_fits_the_head_by_logistic_regression(trained, folder):
    videos = VideoList(
        [(p, int(label > 0)) for p, label in from_folder(folder, CLASSES).items], ["up", "other"]
    )
    made = recipe.train(videos, start=trained, frozen=True, progress=False)
    body, old = made.model.state_dict(), trained.model.state_dict()
    assert all(torch.equal(body[k], old[k]) for k in body if not k.startswith("head."))
    assert made.design == "C" and made.reading == trained.reading
    thawed = recipe.train(videos, start=trained, epochs=1, progress=False)
    assert not torch.equal(thawed.model.gru.layers[0].weight_ih_l0, old["gru.layers.0.weight_ih_l0"])


def test_the_frozen_head_gives_scikit_learns_probabilities(trained, folder):
    from sklearn.linear_model import LogisticRegression

    read = recipe.read_all(from_folder(folder, CLASSES), trained.reading, "x", 1, False)
    for labels in (read.labels, (read.labels > 0).long()):
        model = SoraGRU(int(labels.max()) + 1, dim=16, depth=1)
        model.load_state_dict(
            {k: v for k, v in trained.model.state_dict().items() if "head" not in k}, strict=False
        )
        made = recipe.Recipe("C", {}, CLASSES, trained.reading, model.eval())
        part = recipe.reading.Read(read.clips, labels, read.files, {})
        fitting._fit_head(made, part, part, strengths=(0.1,))
        x = made.embeddings(read.clips[:, 0]).double()
        z = (x - x.mean(0)) / x.std(0)
        wanted = LogisticRegression(C=0.1, max_iter=2000).fit(z, labels).predict_proba(z)
        assert np.allclose(made.logits(read.clips[:, 0]).softmax(1), wanted, atol=1e-4)


def test_training_clips_are_moved_and_mirrored_and_others_are_not():
    model = MeanPool(2, dim=4).train()
    seen = []
    model.forward = lambda clips: seen.append(clips) or torch.zeros(len(clips), 2, requires_grad=True)
    clips, labels = torch.rand(64, 2, 3, 8, 8), torch.zeros(64, dtype=torch.long)
    torch.manual_seed(0)
    for shift, flip in ((0.0, False), (0.0, True), (0.2, False)):
        fitting._learn(model, (clips, labels), shift, flip)
    same, flipped, moved = seen
    assert torch.equal(same, clips)
    mirrored = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(flipped, clips)])
    assert 16 < mirrored.sum() < 48 and torch.equal(flipped[~mirrored], clips[~mirrored])
    assert (moved - clips).abs().mean() > 0.05
    fitting._learn(model.eval(), (clips, labels), 0.2, True)
    assert torch.equal(seen[-1], clips)


def test_what_cannot_be_trained_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="There is no design 'F'; choose one of mean, frozen, A, B"):
        recipe.train(folder, "F", progress=False)
    with pytest.raises(ValueError, match="does not take the options width .*SoraGRU"):
        recipe.train(folder, "C", width=3, progress=False)
    with pytest.raises(ValueError, match="one class, 'b-up'"):
        shutil.copytree(folder / "b-up", tmp_path / "one" / "b-up")
        recipe.train(tmp_path / "one", progress=False)
    with pytest.raises(ValueError, match="has 1 source of video, too few for 3 parts"):
        recipe.train(folder, source=lambda path: "film", progress=False)
    with pytest.raises(ValueError, match="is empty"):
        recipe.train(VideoList([], CLASSES), progress=False)


def test_an_answer_is_the_model_on_the_readers_frames(trained, folder):
    path = next((folder / "a-down").iterdir())
    frames = torch.from_numpy(read_video(path, [1, 4, 7, 10])).movedim(-1, 1)
    clip = transforms.evaluation_transform(16)(frames)[None].float() / 255
    chances = (trained.model(clip) / trained.temperature).softmax(1)[0]
    answer = trained.predict(path)
    assert list(answer.probabilities) == CLASSES
    assert torch.equal(torch.tensor(list(answer.probabilities.values())), chances.detach())
    assert answer.confidence == chances.max().item()
    assert torch.equal(trained.embed(path), trained.model.embed(clip)[0].detach())


def test_several_clips_are_averaged(trained, folder):
    path = next((folder / "a-down").iterdir())
    clips = trained.reading.read(path, 3)
    chances = (trained.logits(clips) / trained.temperature).softmax(1).mean(0)
    assert torch.equal(torch.tensor(list(trained.predict(path, clips=3).probabilities.values())), chances)
    assert torch.equal(trained.embed(path, clips=3), trained.embeddings(clips).mean(0))
    report = trained.evaluate(VideoList([(path, 1)], CLASSES), clips=3, progress=False)
    assert torch.allclose(report.probabilities[0], chances)


def test_below_the_threshold_it_is_none_of_these(trained, folder):
    path = next((folder / "a-down").iterdir())
    chances = trained.predict(path).probabilities
    name = max(chances, key=chances.get)
    for threshold, label in ((chances[name], name), (chances[name] + 1e-6, recipe.NONE)):
        limited = recipe.Recipe(**{**vars(trained), "threshold": threshold})
        assert limited.predict(path).label == label and limited.predict(path).confidence == chances[name]


def test_temperature_and_threshold_come_from_validation_clips(folder, monkeypatch):
    kept = {}
    monkeypatch.setattr(fitting, "_settle", partial(_spy, fitting._settle, kept))
    made = recipe.train(folder, "mean", **SMALL)
    sure = (made.logits(kept["val"].clips[:, 0]) / made.temperature).softmax(1).amax(1)
    assert (sure >= made.threshold).float().mean() >= 0.95 and made.threshold in sure.tolist()
    nll = [
        F.cross_entropy(made.logits(kept["val"].clips[:, 0]) / t, kept["val"].labels)
        for t in (1, made.temperature)
    ]
    assert nll[1] <= nll[0]


def _spy(settle, kept, made, val):
    kept["val"] = val
    settle(made, val)


def test_files_that_do_not_fit_are_refused_in_one_sentence(trained, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    whole = write_video(tmp_path / "whole.mp4", scene("b-up", 0, 40), options={"g": "40"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name in ("text.mp4", "cut.mp4", "missing.mp4"):
        for ask in (trained.predict, trained.embed):
            with pytest.raises(VideoReadError, match=f"Cannot read .*{name}"):
                ask(tmp_path / name)


def test_an_unreadable_test_file_is_a_wrong_answer(trained, folder, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"")
    right = [
        path for path in (folder / "a-down").iterdir() if trained.predict(path).probabilities["a-down"] > 0.5
    ][:3]
    report = trained.evaluate(
        VideoList([(p, 1) for p in [*right, tmp_path / "broken.mp4"]], CLASSES), progress=False
    )
    assert report.accuracy == 3 / 4 and len(report.sources) == 4
    assert "could not be read: Cannot read" in str(report) and "broken.mp4" in str(report)


def test_classes_in_another_order_are_refused(trained, folder):
    with pytest.raises(ValueError, match="read the list with classes=recipe.classes"):
        trained.evaluate(from_folder(folder), progress=False)
    assert (
        trained.evaluate(folder, progress=False).accuracy > 0.8
    )  # a folder is read with the recipe's classes


def test_what_is_saved_comes_back_bit_for_bit(trained, saved, folder):
    back = recipe.load(saved)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], tensor), name
    for name in ("design", "options", "classes", "reading", "temperature", "threshold", "facts"):
        assert getattr(back, name) == getattr(trained, name), name
    path = next((folder / "c-still").iterdir())
    assert back.predict(path) == trained.predict(path) and not back.model.training


def test_half_precision_is_stored_where_it_loses_nothing(trained, tmp_path):
    full = trained.save(tmp_path / "full")
    model = SoraGRU(3, dim=16, depth=1)
    model.load_state_dict(trained.model.state_dict())
    model.half().float()
    half = recipe.Recipe(**{**vars(trained), "model": model.eval()})
    small = half.save(tmp_path / "half")
    sizes = [sum(f.stat().st_size for f in place.glob("weights-*")) for place in (full, small)]
    assert 0.4 < sizes[1] / sizes[0] < 0.65
    for name, tensor in recipe.load(small).model.state_dict().items():
        assert tensor.dtype == model.state_dict()[name].dtype and torch.equal(
            tensor, model.state_dict()[name]
        )


def test_saving_again_replaces_both_files_and_a_killed_save_leaves_the_old_recipe(
    trained, saved, monkeypatch
):
    other = recipe.Recipe(**{**vars(trained), "model": SoraGRU(3, dim=16, depth=1).eval()})
    monkeypatch.setattr(recipe.model.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        other.save(saved)
    monkeypatch.undo()
    old = recipe.load(saved).model.state_dict()
    assert all(torch.equal(old[k], v) for k, v in trained.model.state_dict().items())
    other.save(saved)
    assert len(list(saved.iterdir())) == 2
    assert torch.equal(recipe.load(saved).model.head.weight, other.model.head.weight)


def spoil(saved: Path, **changes) -> None:
    """Change entries of a recipe on disk; None takes one out."""
    text = json.loads((saved / "recipe.json").read_text()) | changes
    (saved / "recipe.json").write_text(json.dumps({k: v for k, v in text.items() if v is not None}))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"format": "another"}, "a file of another program"),
        ({"version": 2}, "version 2 of the format and this program reads 1; update the package"),
        ({"design": "Z"}, "no design 'Z'"),
        ({"options": {"wide": 3}}, "does not take the options wide"),
        ({"options": {"dim": 24, "depth": 1}}, "does not fit this SoraGRU"),
        ({"classes": ["one", "one"]}, "expected a list of different names"),
        ({"classes": ["one", "two"]}, "does not fit this SoraGRU"),
        ({"reading": {"frames": 0}}, "expected a whole number of at least 1"),
        ({"reading": {"shutter": 1}}, "no recipe that fits this program"),
        ({"temperature": None}, "no recipe that fits this program .*temperature"),
        ({"weights": "0" * 64}, "missing or not those"),
        ({"weights": "../../elsewhere"}, "missing or not those"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(saved, changes, told):
    spoil(saved, **changes)
    with pytest.raises(ValueError, match=told):
        recipe.load(saved)


def test_damaged_and_absent_recipes_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="There is no recipe in"):
        recipe.load(tmp_path / "nowhere")
    [weights] = saved.glob("weights-*")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="not those that recipe.json was saved with"):
        recipe.load(saved)
    text = (saved / "recipe.json").read_bytes()
    for bad in (text[: len(text) // 2], b"\xff\xfe", b"[]", b""):
        (saved / "recipe.json").write_bytes(bad)
        with pytest.raises(
            ValueError, match="recipe.json' is (damaged or no JSON|a file of another program)"
        ):
            recipe.load(saved)


def test_nothing_is_ever_unpickled(saved, monkeypatch):
    import pickle

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert training.parameters(recipe.load(saved).model) > 0
