"""A release tells one version everywhere, and the check of it sees each thing that may be forgotten."""

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)
TOLD = ("pyproject.toml", "sora_nb/__init__.py", "book/changes.md", "CITATION.cff")


@pytest.fixture
def copy(tmp_path):
    for name in {*TOLD, *release.FILES}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_this_edition_is_told_alike_everywhere():
    assert release.faults(ROOT) == []


@pytest.mark.parametrize("name", TOLD)
def test_a_forgotten_version_is_seen(copy, name):
    version = release.versions(copy)[name]
    text = (copy / name).read_text()
    (copy / name).write_text(text.replace(version, "9.9.9", 1))
    [fault] = release.faults(copy)
    assert f"9.9.9 in {name}" in fault


def test_what_an_archive_needs(copy):
    text = (copy / "CITATION.cff").read_text()
    (copy / "CITATION.cff").write_text("".join(x for x in text.splitlines(True) if "date-" not in x))
    (copy / "LICENSE").unlink()
    found = release.faults(copy)
    assert "CITATION.cff has no date-released" in found and "LICENSE is missing" in found


def test_a_commit_with_changes_a_tag_or_too_many_bytes(copy, monkeypatch):
    def git(*command):
        release.git(copy, "-c", "user.name=a", "-c", "user.email=a@b", *command)

    release.git(copy, "init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    assert release.commit_faults(copy) == []
    git("tag", "v" + release.versions(copy)["pyproject.toml"])
    (copy / "new").write_text("")
    monkeypatch.setattr(release, "LARGEST", 0)
    assert [fault.split()[0] for fault in release.commit_faults(copy)] == ["there", "the", "the"]
