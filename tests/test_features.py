"""Feature caching: the same features as the model gives, kept by content, made once."""

import os
import shutil

import numpy as np
import pytest
import torch
from accelerate import PartialState
from torch import nn

from sora_nb import processes
from sora_nb.features import cache_features, fingerprint
from sora_nb.layers.frames import FrameCNN
from sora_nb.transforms import to_clip
from sora_nb.video import VideoReadError, read_video, write_video


class Counting(FrameCNN):
    """A frame network that counts the frames it has seen and can be told to fail at one."""

    def __init__(self, fail_at: int | None = None):
        super().__init__(8, channels=(4, 4))
        self.seen, self.fail_at = 0, fail_at

    def forward(self, clips):
        if self.fail_at is not None and self.seen >= self.fail_at:
            raise KeyboardInterrupt
        self.seen += clips.shape[1]
        return super().forward(clips)


def clips(count=3, frames=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (frames + i, 16, 16, 3), np.uint8) for i in range(count)]


def keep(model, sources, folder, **options):
    return cache_features(model, sources, folder, "test", progress=False, **options)


def direct(model, frames):
    with torch.no_grad():
        return model.eval()(to_clip(frames)[None])[0].numpy()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Counting()


def test_arrays_and_files_give_what_the_model_gives(model, tmp_path):
    path = write_video(tmp_path / "clip.mp4", clips(1, 11)[0])
    for batch_size in (1, 4, 100):
        kept = keep(model, [*clips(), path], tmp_path / str(batch_size), batch_size=batch_size)
        assert len(kept) == 4 and [len(f) for f in kept] == [5, 6, 7, 11]
        for features, frames in zip(kept, [*clips(), read_video(path)], strict=True):
            np.testing.assert_allclose(features, direct(model, frames), atol=1e-5)
            assert features.dtype == np.float32


def test_every_stride_th_frame(model, tmp_path):
    (frames,) = clips(1, 10)
    thinned = keep(model, [frames], tmp_path, stride=3)[0]
    np.testing.assert_allclose(thinned, direct(model, frames[::3]), atol=1e-5)
    assert len(keep(model, [frames], tmp_path)[0]) == 10  # another stride is another file


def test_a_second_call_runs_nothing_and_a_longer_list_only_what_is_new(model, tmp_path):
    first = keep(model, clips(2), tmp_path)
    assert model.seen == 11
    again = keep(model, clips(2), tmp_path)
    assert model.seen == 11 and again.files == first.files
    more = keep(model, [clips(3)[2], *clips(2), clips(3)[2]], tmp_path)
    assert model.seen == 18 and more.files[1:3] == first.files and more.files[0] == more.files[3]


def test_content_counts_and_not_the_name(model, tmp_path):
    path = write_video(tmp_path / "a.mp4", clips(1)[0])
    first = keep(model, [path], tmp_path / "cache")
    moved = shutil.move(path, tmp_path / "b.mp4")
    assert keep(model, [moved], tmp_path / "cache").files == first.files and model.seen == 5
    write_video(tmp_path / "b.mp4", clips(1, seed=1)[0])
    changed = keep(model, [str(moved)], tmp_path / "cache")
    assert changed.files != first.files and model.seen == 10
    assert abs(changed[0] - first[0]).max() > 1e-3
    a, b = np.zeros((2, 4, 8, 3), np.uint8), np.zeros((2, 8, 4, 3), np.uint8)  # the same bytes, another shape
    assert len(set(keep(model, [a, b], tmp_path).files)) == 2


def test_a_weight_a_buffer_or_a_setting_makes_another_model(model):
    same = Counting()
    same.load_state_dict(model.state_dict())
    assert fingerprint(same) == fingerprint(model)
    digests = {fingerprint(model)}
    same.out.bias.data[3] += 1e-6
    digests.add(fingerprint(same))
    same.stages[1].running_mean[0] += 1  # a buffer, which no optimiser sees and which changes every feature
    digests.add(fingerprint(same))
    same.stages[1].eps = 1e-3  # no weight at all
    digests.add(fingerprint(same))
    digests.add(fingerprint(same.double()))
    assert len(digests) == 5


def test_features_of_other_weights_are_not_served(model, tmp_path):
    before = keep(model, clips(1), tmp_path)[0]
    model.out.weight.data.neg_()
    after = keep(model, clips(1), tmp_path)[0]
    assert model.seen == 10 and abs(before - after).max() > 1e-3


def test_a_killed_call_goes_on_where_it_was(model, tmp_path):
    model.fail_at = 11  # before the third clip
    with pytest.raises(KeyboardInterrupt):
        keep(model, clips(3), tmp_path)
    (place,) = tmp_path.iterdir()
    assert len(list(place.iterdir())) == 2  # two whole files, nothing half done
    (place / ".half.123.part").write_bytes(b"what a power cut leaves")
    model.fail_at, model.seen = None, 0
    kept = keep(model, clips(3), tmp_path)
    assert model.seen == 7
    np.testing.assert_allclose(kept[2], direct(model, clips(3)[2]), atol=1e-5)


def test_a_file_appears_whole_or_not_at_all(model, tmp_path, monkeypatch):
    def full(out, features):
        out.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        keep(model, clips(1), tmp_path)
    (place,) = tmp_path.iterdir()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("size", [0, 40, 150])
def test_a_damaged_file_is_made_anew(model, tmp_path, size):
    file = keep(model, clips(1), tmp_path).files[0]
    os.truncate(file, size)
    np.testing.assert_allclose(keep(model, clips(1), tmp_path)[0], direct(model, clips(1)[0]), atol=1e-5)


def test_evaluation_mode_and_the_mode_is_given_back(model, tmp_path):
    frames = clips(1, 8)[0]
    running = model.stages[1].running_mean.clone()
    model.train()
    kept = keep(model, [frames], tmp_path, batch_size=3)[0]
    assert model.training and torch.equal(model.stages[1].running_mean, running)
    np.testing.assert_allclose(kept, direct(model, frames), atol=1e-5)
    model.train()
    model.fail_at = 0
    with pytest.raises(KeyboardInterrupt):
        keep(model, clips(1, seed=2), tmp_path)
    assert model.training


def test_mapped_into_memory_and_writing_leaves_the_file_alone(model, tmp_path):
    kept = keep(model, clips(1), tmp_path)
    features = kept[0]
    assert isinstance(features, np.memmap)
    features[:] = 7
    assert abs(kept[0] - 7).min() > 0 and torch.from_numpy(kept[0]).shape == (5, 8)


def test_more_videos_than_files_may_be_open(model, tmp_path):
    resource = pytest.importorskip("resource")
    frames = [np.full((1, 16, 16, 3), i, np.uint8) for i in range(80)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        kept = keep(model, frames, tmp_path)
        assert np.concatenate([np.array(f) for f in kept]).shape == (80, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_bar_is_shown_only_where_there_is_work(model, tmp_path, capsys):
    cache_features(model, clips(2), tmp_path, "photos")
    assert "features photos" in capsys.readouterr().err
    cache_features(model, clips(2), tmp_path, "photos")
    assert capsys.readouterr().err == ""


class Pooled(nn.Module):
    def forward(self, clips):
        return clips.mean((1, 2, 3, 4))[:, None]


class Broken(nn.Module):
    def forward(self, clips):
        return clips.flatten(2).mean(2, keepdim=True) / 0


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        ([], {}, "at least one"),
        ("clip.mp4", {}, r"put a single one in \[ \]"),
        (clips(1)[0], {}, r"put a single one in \[ \]"),
        (
            [clips(1)[0].astype(np.float32)],
            {},
            r"Source 0 is float32 \(5, 16, 16, 3\); expected a path or a uint8",
        ),
        ([clips(1)[0], clips(1)[0].transpose(0, 3, 1, 2)], {}, r"Source 1 is uint8 \(5, 3, 16, 16\)"),
        ([clips(1)[0][:0]], {}, "with a frame in it"),
        ([None], {}, "Source 0 is NoneType"),
        (clips(1), {"name": "a/b"}, "plain word"),
        (clips(1), {"name": ""}, "plain word"),
        (clips(1), {"stride": 0}, "stride 0 and batch_size 32"),
        (clips(1), {"batch_size": 0}, "both must be 1 or more"),
        (
            clips(1),
            {"model": Pooled()},
            r"5 frames into a tensor of shape \(1, 1\); expected one feature a frame, \(1, 5, D\)",
        ),
        (clips(1), {"model": Broken()}, r"features of a clip of shape \(5, 16, 16, 3\) are not all finite"),
    ],
)
def test_bad_input_is_named(model, tmp_path, sources, options, said):
    call = {
        "model": model,
        "sources": sources,
        "folder": tmp_path,
        "name": "test",
        "progress": False,
    } | options
    with pytest.raises(ValueError, match=said):
        cache_features(**call)


def test_an_unreadable_video_is_named_and_earlier_work_stays(model, tmp_path):
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(write_video(tmp_path / "whole.mp4", clips(1)[0]).read_bytes()[:300])
    with pytest.raises(VideoReadError, match=r"torn\.mp4"):
        keep(model, [*clips(1), torn], tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*/*.npy"))) == 1
    with pytest.raises(VideoReadError, match=r"absent\.mp4.*cannot be opened"):
        keep(model, [tmp_path / "absent.mp4"], tmp_path)


class World(PartialState):
    """What process ``rank`` of ``n`` would be told."""

    def __init__(self, rank, n):
        self.process_index, self.num_processes = rank, n


def in_turn(monkeypatch, rank, n):
    """As in process ``rank`` of ``n``, where the others are not waited for."""
    monkeypatch.setattr(processes, "join", lambda: World(rank, n))
    monkeypatch.setattr(processes, "gathered", lambda part, world: part)


@pytest.mark.parametrize("done", [(), (0,), (3, 4)])
def test_each_process_makes_its_own_videos_whenever_it_looks(monkeypatch, tmp_path, model, done):
    """Also where some are there already, and where the others have made theirs before this one looks."""
    sources = clips(7)
    if done:
        keep(model, [sources[i] for i in done], tmp_path)
    seen = []
    for rank in range(3):
        in_turn(monkeypatch, rank, 3)
        model.seen = 0
        mine = keep(model, sources, tmp_path)
        assert len(mine) == len(range(rank, 7, 3))
        seen.append(model.seen)
    assert seen == [sum(5 + i for i in range(rank, 7, 3) if i not in done) for rank in range(3)]
    in_turn(monkeypatch, 0, 1)
    model.seen = 0
    for features, frames in zip(keep(model, sources, tmp_path), sources, strict=True):
        np.testing.assert_allclose(features, direct(model, frames), atol=1e-5)
    assert model.seen == 7 * 5 + sum(range(7))  # direct's; nothing was missing
