"""Folders and lists of videos: labels that mean the same in every split, clips that workers read, draws that repeat."""

import logging
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import sora_nb.data
from sora_nb.data.folders import MOST_CLASSES, VideoClips, from_folder, from_list
from sora_nb.data.listing import SUFFIXES, VideoList
from sora_nb.video import VideoReadError, read_video, sample_random_clip, write_video


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _relative(video_list: VideoList, root: Path) -> list[tuple[str, int]]:
    return [(path.relative_to(root).as_posix(), label) for path, label in video_list.items]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three readable files of two classes; frame i of file k has brightness 10 i + k."""
    root = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(("cat/a.mp4", "cat/deep/b.mp4", "dog/c.mp4")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        levels = k + 10 * np.arange(20, dtype=np.uint8)
        write_video(root / name, np.broadcast_to(levels[:, None, None, None], (20, 32, 32, 3)))
    return root


# ------------------------------------------------------------------------------------------------------- folders


def test_from_folder(videos, tmp_path):
    (videos / "cat" / "._a.mp4").write_bytes(b"what a Mac leaves behind")
    found = from_folder(videos)
    assert found.classes == ["cat", "dog"] and found.skipped == []
    assert _relative(found, videos) == [("cat/a.mp4", 0), ("cat/deep/b.mp4", 0), ("dog/c.mp4", 1)]
    assert _relative(from_folder(str(videos)), videos) == _relative(found, videos)


def test_every_suffix_of_a_video_is_read_and_the_rest_is_listed(tmp_path, caplog):
    listed = ".mp4 .avi .mkv .mov .webm .m4v .mpg .mpeg .wmv .flv .3gp .ts .ogv .MP4".split()
    _touch(*(tmp_path / "cat" / f"{i}{suffix}" for i, suffix in enumerate(listed)))
    _touch(tmp_path / "cat" / "notes.txt", tmp_path / "cat" / "more.txt", tmp_path / "cat" / "README")
    _touch(tmp_path / "loose.mp4", tmp_path / ".DS_Store")
    with caplog.at_level(logging.WARNING):
        found = from_folder(tmp_path)
    assert len(found.items) == len(listed) and set(listed) - {".MP4"} <= set(SUFFIXES)
    assert {path.name for path in found.skipped} == {"notes.txt", "more.txt", "README", "loose.mp4"}
    assert "left out 4 files" in caplog.text and "2 .txt" in caplog.text and "1 .mp4" in caplog.text


def test_a_class_missing_in_one_split_shifts_no_label(tmp_path):
    _touch(*(tmp_path / "train" / name / "a.mp4" for name in ("cat", "dog", "owl")))
    _touch(*(tmp_path / "val" / name / "a.mp4" for name in ("cat", "owl")))
    (tmp_path / "val" / "annotations").mkdir()  # no class, and without videos no harm
    train = from_folder(tmp_path / "train")
    val = from_folder(tmp_path / "val", classes=train.classes)
    assert val.classes == ["cat", "dog", "owl"]
    assert _relative(val, tmp_path / "val") == [("cat/a.mp4", 0), ("owl/a.mp4", 2)]
    with pytest.raises(ValueError, match="names the class 'owl', which is not among the 2"):
        from_folder(tmp_path / "val", classes=["cat", "dog"])


def test_folders_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        from_folder(tmp_path / "none")
    _touch(tmp_path / "loose.mp4")
    with pytest.raises(ValueError, match="Found no videos in the folders"):
        from_folder(tmp_path)
    _touch(tmp_path / "train" / "cat" / "a.mp4", tmp_path / "Test" / "cat" / "a.mp4")
    with pytest.raises(ValueError, match="holds the splits Test, train, not classes"):
        from_folder(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(
        ValueError, match="'annotations' .* is a folder without videos; remove it, or give classes="
    ):
        from_folder(tmp_path)
    for classes in ("cat", [], ["cat", "cat"], ["", "cat"]):
        with pytest.raises(ValueError, match="expected a list of different names"):
            from_folder(tmp_path, classes=classes)


def test_links_are_followed_and_loops_are_not(tmp_path):
    _touch(tmp_path / "store" / "a.mp4", tmp_path / "root" / "cat" / "b.mp4")
    for name in ("cat", "dog"):
        (tmp_path / "root" / name).mkdir(exist_ok=True)
        (tmp_path / "root" / name / "more").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "store" / "back").symlink_to(tmp_path / "root" / "cat", target_is_directory=True)
    found = _relative(from_folder(tmp_path / "root"), tmp_path / "root")
    assert found == [
        ("cat/b.mp4", 0),
        ("cat/more/a.mp4", 0),
        ("dog/more/a.mp4", 1),
        ("dog/more/back/b.mp4", 1),
    ]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    _touch(tmp_path / "cat" / "a.mp4", tmp_path / "dog" / "a.mp4")
    scandir = sora_nb.data.listing.os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(sora_nb.data.listing.os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"dog' cannot be read \(Permission denied\)"):
        from_folder(tmp_path)


# --------------------------------------------------------------------------------------------------------- lists

LISTS = {
    "numbers after blanks": ("# path label\nb.mp4 2\n\nmy clip.mp4 0\n", [("b.mp4", 2), ("my clip.mp4", 0)], "012"),
    "names after commas": ("b.mp4,walk\na.mp4, brush hair\n", [("b.mp4", 1), ("a.mp4", 0)], ["brush hair", "walk"]),
    "tabs": ("my clip.mp4\tbrush hair\na,b.mp4\twalk\n", [("my clip.mp4", 0), ("a,b.mp4", 1)], ["brush hair", "walk"]),
    "semicolons": ("a.mp4;1\nb.mp4;0\n", [("a.mp4", 1), ("b.mp4", 0)], "01"),
    "quotes": ('"a, b.mp4",1\n"say ""hi"".mp4",0\n', [("a, b.mp4", 1), ('say "hi".mp4', 0)], "01"),
    "quotes and blanks": ('"my clip.mp4" "brush hair"\nb.mp4   walk\n', [("my clip.mp4", 0), ("b.mp4", 1)],
                          ["brush hair", "walk"]),
    "some commas among blanks": ("a,b.mp4 1\nc.mp4 0\nd.mp4 1\n", [("a,b.mp4", 1), ("c.mp4", 0), ("d.mp4", 1)], "01"),
    "header": ("path,label\na.mp4,1\nb.mp4,0\n", [("a.mp4", 1), ("b.mp4", 0)], "01"),
    "header of another name": ("video\taction\na.mp4\twalk\n", [("a.mp4", 0)], ["walk"]),
    "header with a point": ("file.name,class\na.mp4,walk\n", [("a.mp4", 0)], ["walk"]),
    "one line without a suffix": ("clip walk\n", [("clip", 0)], ["walk"]),
    "no header": ("label.mp4,class\na.mp4,walk\n", [("label.mp4", 0), ("a.mp4", 1)], ["class", "walk"]),
    "a name that begins with #": ("#20_x.avi 1\n#\n# note\nb.avi 0\n", [("#20_x.avi", 1), ("b.avi", 0)], "01"),
    "Windows, with a mark": ("\ufeffa.mp4,1\r\nb.mp4,0\r\n", [("a.mp4", 1), ("b.mp4", 0)], "01"),
    "two files joined, each with a mark": ("\ufeffa.mp4,1\n\ufeffb.mp4,0\n", [("a.mp4", 1), ("b.mp4", 0)], "01"),
    "other letters": ("Füße.mp4,gehen\n", [("Füße.mp4", 0)], ["gehen"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_from_list(tmp_path, name):
    text, items, classes = LISTS[name]
    (tmp_path / "list.txt").write_bytes(text.encode())
    found = from_list(tmp_path / "list.txt")
    assert _relative(found, tmp_path) == items and found.classes == list(classes)
    elsewhere = from_list(tmp_path / "list.txt", root=tmp_path / "else")
    assert _relative(elsewhere, tmp_path / "else") == items


@pytest.mark.parametrize("text, message", [
    ("", "lists no videos"), ("path,label\n", "lists no videos"), ("a.mp4\n", "Line 1"), ("a.mp4 0\nb.mp4,\n", "Line 2"),
    ("a.mp4,1\nb.mp4,walk,train\n", "Line 2 .* reads 'b.mp4,walk,train'; expected a path and a label"),
    ('a.mp4,1\n"b.mp4,0\n', "Line 2"), ("a.mp4,1\n,0\n", "Line 2"),
    ("a.mp4 -1\n", "label '-1'"), ("a.mp4 1\nb.mp4 dog\n", "label '1'"), ("a.mp4 1.0\nb.mp4 0.0\n", "label '1.0'"),
    ("a.mp4 900000000\n", "label 900000000, but labels must lie below 100000"),
    (f"a.mp4 {'9' * 5000}\n", "label 99999999999999999999, but"),
    ("walk,a.mp4\nrun,b.mp4\n", "columns the wrong way round"), ("a.mp4,0\0\n", "zero bytes"),
])  # fmt: skip
def test_from_list_refuses(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    began = time.process_time()
    with pytest.raises(ValueError, match=message) as error:
        from_list(tmp_path / "list.txt")
    assert "list.txt" in str(error.value) and time.process_time() - began < 1


@pytest.mark.parametrize("data, message", [("Füße.mp4,0\n".encode("latin-1"), "is not UTF-8 text .byte 1 "),
                                           ("a.mp4,0\n".encode("utf-16"), "is not UTF-8 text"),
                                           ("a.mp4,0\n".encode("utf-16-le"), "zero bytes")])  # fmt: skip
def test_a_list_in_another_encoding_is_named(tmp_path, data, message):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(ValueError, match=f"list.txt' .*{message}|list.txt' {message}"):
        from_list(tmp_path / "list.txt")
    for wrong in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            from_list(wrong)


def test_the_largest_label_is_the_last_below_the_bound(tmp_path):
    (tmp_path / "list.txt").write_text(f"a.mp4 {MOST_CLASSES - 1}\n")
    assert len(from_list(tmp_path / "list.txt").classes) == MOST_CLASSES
    (tmp_path / "list.txt").write_text(f"a.mp4 {MOST_CLASSES}\n")
    with pytest.raises(ValueError, match="must lie below"):
        from_list(tmp_path / "list.txt")


def test_classes_of_one_list_hold_for_another(tmp_path):
    file = tmp_path / "list.txt"

    def labels(text, classes):
        file.write_text(text)
        found = from_list(file, classes=classes)
        assert found.classes == classes
        return [label for _, label in found.items]

    assert labels("a.mp4,walk\nb.mp4,cry\n", ["cry", "run", "walk"]) == [2, 0]
    assert labels("a.mp4,2\nb.mp4,0\n", ["cry", "run", "walk"]) == [2, 0]
    assert labels("a.mp4,20\nb.mp4,10\n", ["10", "20"]) == [1, 0]  # classes that are called by numbers
    assert labels("a.mp4,1\n", ["0", "1", "2"]) == [1]
    for text, classes, message in (
        ("a.mp4,walk\n", ["cry", "run"], "names the class 'walk'"),
        ("a.mp4,2\n", ["cry", "run"], "must lie below 2"),
        ("a.mp4,1\nb.mp4,cry\n", ["cry", "run"], "names the class '1'"),
        ("a.mp4,0\n", ["10", "20"], "names the class '0'"),
    ):
        with pytest.raises(ValueError, match=message):
            labels(text, classes)


def test_looking_up_a_class_costs_the_same_among_many(tmp_path):
    file = tmp_path / "list.txt"

    def seconds(classes: int) -> float:
        file.write_text("".join(f"{i}.mp4,c{i % classes}\n" for i in range(4000)))
        began = time.process_time()
        from_list(file, classes=[f"c{i}" for i in range(classes)])
        return time.process_time() - began

    seconds(10)
    assert seconds(200_000) < 5 * seconds(10)


# --------------------------------------------------------------------------------------------------------- clips


def test_clips_are_the_frames_the_sampler_asked_for(videos):
    data = VideoClips(
        from_folder(videos), sample=lambda n: np.array([n - 1, 0, 3]), transform=lambda clip: clip * 255
    )
    clip, label = data[2]
    assert clip.shape == (3, 3, 32, 32) and clip.dtype == torch.float32 and label == 1 and len(data) == 3
    expected = torch.as_tensor(read_video(videos / "dog" / "c.mp4", [19, 0, 3])).permute(0, 3, 1, 2)
    assert torch.equal(clip.round().to(torch.uint8), expected)
    assert (
        data[-1][1] == 1
        and torch.equal(data[-3][0], data[0][0])
        and data.classes == ["cat", "dog"]
        and data.files[2] == videos / "dog" / "c.mp4"
    )
    pairs = VideoClips([(str(path), np.int64(label)) for path, label in data.items])
    assert pairs[0][0].shape == (16, 3, 32, 32) and pairs.classes is None and pairs.items == data.items


@pytest.fixture
def broken(videos, tmp_path) -> list[tuple[Path, int]]:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes((videos / "dog" / "c.mp4").read_bytes()[:200])
    good = [(videos / "cat" / "a.mp4", 0), (videos / "dog" / "c.mp4", 2)]
    return [good[0], (bad, 1), good[1], (tmp_path / "gone.mp4", 3)]


def test_evaluation_raises_and_reports(broken):
    data = VideoClips(broken, sample=partial(sample_random_clip, k=2))
    assert data[0][1] == 0
    for index, name in ((1, "bad.mp4"), (3, "gone.mp4")):
        with pytest.raises(VideoReadError, match=name):
            data[index]
    assert data.skipped == {}
    state = torch.get_rng_state()
    assert {path.name for path in data.unreadable()} == {"bad.mp4", "gone.mp4"}
    assert torch.equal(torch.get_rng_state(), state)  # a report changes no draw


def test_training_skips_counts_logs_and_lists(broken, caplog):
    data = VideoClips(broken, on_error="skip")
    with caplog.at_level(logging.WARNING):
        labels = [data[i][1] for i in range(4)]
        labels += [data[1][1]]
    assert labels == [0, 2, 2, 0, 2]  # the next readable file stands in, round the end of the list
    assert [path.name for path in data.skipped] == ["bad.mp4", "gone.mp4"]
    assert "bad.mp4" in data.skipped[broken[1][0]]
    logged = [record.getMessage() for record in caplog.records]
    assert [message.count("Skipped unreadable file") for message in logged] == [1, 1]  # once each
    nothing = VideoClips(broken[1::2], on_error="skip")
    for _ in range(2):
        with pytest.raises(VideoReadError, match="none of the 2 files"):
            nothing[0]


@pytest.mark.parametrize("items, arguments, message", [
    ([], {}, "empty list"), (VideoList([], ["cat"]), {}, "empty list"),
    ("videos", {}, "got the item 'v'; expected a .path, label. pair"), ([("a.mp4", "cat")], {}, "whole number"),
    ([("a.mp4", 1.5)], {}, "whole number"), ([(None, 1)], {}, "pair"), ([("a.mp4", 1, 2)], {}, "pair"),
    ([("a.mp4", 0)], {"on_error": "ignore"}, "on_error is 'ignore', but it must be 'raise' or 'skip'"),
    ([("a.mp4", 0)], {"sample": partial(sample_random_clip, k=2, generator=0)}, "a generator of its own"),
])  # fmt: skip
def test_wrong_arguments(items, arguments, message):
    with pytest.raises(ValueError, match=message):
        VideoClips(items, **arguments)


def test_a_clip_beyond_the_list(videos):
    data = VideoClips(from_folder(videos))
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"no clip {index}; the list holds 3"):
            data[index]
