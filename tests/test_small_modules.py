"""Settings, ledger and plots."""

import json
import subprocess

import numpy as np
import pytest
import torch

from sora_nb import ledger, plots, settings


def test_larger_tiers_override_smaller_ones(monkeypatch):
    sizes = dict(T0={"clips": 1, "epochs": 2}, T1={"clips": 10}, T2={"epochs": 30})
    for name, expected in {"T0": (1, 2), "T1": (10, 2), "T2": (10, 30)}.items():
        monkeypatch.setenv("SORA_NB_TIER", name)
        chosen = settings.settings(**sizes)
        assert (chosen.clips, chosen.epochs) == expected
    monkeypatch.delenv("SORA_NB_TIER")
    assert settings.tier() == "T0"


def test_unknown_tier_and_unknown_setting_are_named(monkeypatch):
    monkeypatch.setenv("SORA_NB_TIER", "T9")
    with pytest.raises(ValueError, match="'T9'; expected one of T0, T1, T2"):
        settings.tier()
    monkeypatch.setenv("SORA_NB_TIER", "T1")
    with pytest.raises(ValueError, match=r"\['epoch'\], which T0 does not have"):
        settings.settings({"epochs": 1}, {"epoch": 2})


def test_claim_shows_text_and_carries_the_record(monkeypatch):
    shown = []
    monkeypatch.setattr(ledger, "display", lambda data, raw: shown.append(data))
    ledger.claim("A1", "refuted", "0.50 against 0.99.")
    (data,) = shown
    assert data[ledger.MIME] == {"id": "A1", "verdict": "refuted", "evidence": "0.50 against 0.99."}
    assert "refuted" in data["text/html"] and "0.50" in data["text/plain"]
    with pytest.raises(ValueError, match="'proved'; expected one of"):
        ledger.claim("A1", "proved", "")


def test_receipts_round_trip_and_say_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "RESULTS", tmp_path / "results")
    path = ledger.write_receipt(
        "run", seeds=[0, 1], seconds=1.25, tier="T0", numbers={"accuracy": [0.5, 0.6]}
    )
    receipt = ledger.read_receipt("run")
    assert (
        receipt["numbers"] == {"accuracy": [0.5, 0.6]}
        and receipt["seeds"] == [0, 1]
        and receipt["tier"] == "T0"
    )
    assert {"commit", "device", "versions", "seconds"} <= set(json.loads(path.read_text()))
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]
    with pytest.raises(FileNotFoundError, match=r"No receipt .*missing\.json"):
        ledger.read_receipt("missing")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one file of each kind, committed."""
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    assert ledger._commit() == "unknown"
    for name in (
        "sora_nb/x.py",
        "notebooks/01_a.py",
        "notebooks/01_a.ipynb",
        "scripts/run.py",
        "book/intro.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


@pytest.mark.parametrize("source", ["sora_nb/x.py", "notebooks/01_a.py", "scripts/run.py"])
def test_a_receipt_says_when_a_source_differs_from_its_commit(repository, source):
    commit = ledger._commit()
    assert len(commit) >= 7 and "+" not in commit
    (repository / source).write_text("2\n")
    assert ledger._commit() == commit + "+changes"
    (repository / source).write_text("1\n")
    assert ledger._commit() == commit
    (repository / source).with_name("new.py").write_text("")
    assert ledger._commit() == commit + "+changes"


def test_a_receipt_does_not_mind_what_no_number_comes_from(repository):
    commit = ledger._commit()
    for name in ("notebooks/01_a.ipynb", "book/intro.md", "sora_nb/__pycache__/x.pyc", "notes.txt"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("2\n")
    assert ledger._commit() == commit


@pytest.fixture
def clip():
    return torch.linspace(0, 1, 5 * 3 * 8 * 12).view(5, 3, 8, 12)


def test_filmstrip_draws_each_frame_where_it_belongs(clip):
    axes = plots.filmstrip([clip, clip.flip(0)], every=2, titles=["a", "b", "c"], ylabels=["one", "two"])
    assert axes.shape == (2, 3)
    shown = axes[0, 1].images[0].get_array()
    assert np.array_equal(shown, plots._frames(clip)[2]) and np.array_equal(
        axes[1, 0].images[0].get_array(), plots._frames(clip)[4]
    )
    assert axes[0, 2].get_title() == "c" and axes[1, 0].get_ylabel() == "two"


def test_show_video_embeds_playable_files_and_spoken_labels(clip, tmp_path):
    import base64
    import re

    from sora_nb.video import read_video

    shown = plots.show_video([clip, clip], labels=["<left>", "right"], height=32).data
    sources = re.findall(r"base64,([^\"]+)", shown)
    assert len(sources) == 2 and "&lt;left&gt;" in shown and 'aria-label="looping video: right"' in shown
    (tmp_path / "v.mp4").write_bytes(base64.b64decode(sources[0]))
    frames = read_video(tmp_path / "v.mp4")
    assert frames.shape == (5, 32, 48, 3)
    assert np.abs(frames.astype(int) - plots._frames(clip).repeat(4, 1).repeat(4, 2)).mean() < 6


def test_figures_have_no_background_of_their_own():
    plots.use_style()
    ax = plots.curves({"a": [1, 2]}, "epoch", "loss", chance=0.5)
    assert ax.figure.get_facecolor()[3] == 0 and ax.get_facecolor()[3] == 0


def test_intervals_and_confusion_show_the_numbers():
    ax = plots.intervals({"a": [0.5, 0.6], "b": [0.9]}, "accuracy", chance=0.1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.containers[0][0].get_xdata()[0] == pytest.approx(0.55)
    cells = plots.confusion(torch.tensor([[3, 1], [0, 4]]), ["x", "y"])
    assert {t.get_text() for t in cells.texts} == {"75", "25", "100"}


def test_a_clip_of_the_wrong_kind_is_named():
    with pytest.raises(ValueError, match=r"expected uint8 \(T, H, W, 3\)"):
        plots.filmstrip(np.zeros((4, 8, 8), np.uint8))
