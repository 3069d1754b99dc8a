"""What a release must tell and hold: one version everywhere, licences, the names of the package with their chapters."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load(name: str):
    """Import a script."""
    sys.path.insert(0, str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release, names_page = load("release"), load("names_page")
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


def test_the_page_of_names_tells_use_from_mere_mention(tmp_path):
    (tmp_path / "05_x.py").write_text(
        "from sora_nb import training\nfrom sora_nb.data import motion\nfrom sora_nb.layers import door as d\n"
        "# training.predict\ntraining.fit(1)\nd.centered(2)\nother.save(3)\nmotion.load(4)\n"
    )
    taken, package = names_page.chapters(tmp_path), ROOT / "sora_nb"
    used = {"training.py": "fit", "layers/door.py": "centered", "data/motion.py": "load"}
    assert all(names_page.users(name, package / file, taken) == ["05"] for file, name in used.items())
    unused = {"training.py": "predict", "checkpoints.py": "save", "data/long.py": "load"}
    assert not any(names_page.users(name, package / file, taken) for file, name in unused.items())


def test_a_docstring_s_first_sentence_as_markdown():
    shown = names_page.sentence("Return :func:`sora_nb.x.y` of *z* $a$. Derived in chapter 03.")
    assert shown == "Return `sora_nb.x.y` of \\*z\\* \\$a\\$."


def test_vendored_files_carry_their_licenses():
    for name in ("mathjax", "mermaid", "onnxruntime"):
        assert (ROOT / "book" / "_static" / "vendor" / name / "LICENSE").stat().st_size > 500


def test_times_file_if_any_is_well_formed():
    path = ROOT / "book" / "results" / "chapter_times.json"
    times = json.loads(path.read_text()) if path.exists() else {}
    assert all("tier" in run and run.keys() & {"processor_seconds", "seconds"} for run in times.values())
