"""The repository as a whole: pins, names that must not leak, lint, layout and spelling, the front door."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from pybtex.database import BibliographyDataError, parse_string
from pybtex.scanner import PybtexSyntaxError

ROOT = Path(__file__).resolve().parent.parent


def tracked() -> list[Path]:
    """Files that git holds or would take; without git, all but what is generated."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        skip = {".venv", "build", "_build", "cache", "__pycache__", ".git"}
        paths = [path for path in ROOT.rglob("*") if not skip & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """The text of a file, empty where it is binary."""
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------------------ pins


def lock(text: str) -> dict[str, list[Requirement]]:
    """Pins by normalised name; a name may be pinned twice under different markers."""
    pins = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(re.sub(r"[-_.]+", "-", pin.name).lower(), []).append(pin)
    return pins


def unmet(project: dict, pins: dict[str, list[Requirement]]) -> list[str]:
    """Requirements of pyproject.toml (package, book, test, course) that the lock does not satisfy."""
    wanted = list(project["dependencies"])
    for extra in ("book", "test", "course"):
        wanted += project["optional-dependencies"][extra]
    missing = []
    for need in map(Requirement, wanted):
        found = pins.get(re.sub(r"[-_.]+", "-", need.name).lower(), [])
        versions = [next(iter(pin.specifier)).version for pin in found]
        if not versions or not all(need.specifier.contains(v, prereleases=True) for v in versions):
            missing.append(str(need))
    return missing


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()


def test_the_lock_satisfies_pyproject_and_holds_only_pins():
    pins = lock(LOCK)
    assert unmet(PROJECT, pins) == [], "compile requirements.lock again: see CONTRIBUTING.md"
    assert "://" not in LOCK and "@" not in LOCK
    assert all(
        pin.specifier and str(pin.specifier).startswith("==") for found in pins.values() for pin in found
    )


def test_a_lock_out_of_step_is_refused():
    assert unmet(PROJECT, lock(re.sub(r"^torch==.*$", "torch==1.0", LOCK, flags=re.M))) == ["torch>=2.6"]
    assert unmet(PROJECT, lock(re.sub(r"^einops==.*\n", "", LOCK, flags=re.M))) == ["einops>=0.8"]


def test_conda_gets_the_same_pins():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [item for item in conda["dependencies"] if isinstance(item, str)]
    pip = [item["pip"] for item in conda["dependencies"] if isinstance(item, dict)]
    assert pip == [["-r requirements.lock", "-e ."]]
    assert {"pip", "ffmpeg"} < set(plain) and any(item.startswith("python=3.11") for item in plain)


def test_this_environment_holds_the_pins():
    from importlib.metadata import PackageNotFoundError, version

    here, wrong = default_environment(), []
    for name, pins in lock(LOCK).items():
        for pin in pins:
            if pin.marker is None or pin.marker.evaluate(here):
                try:
                    found = version(name)
                except PackageNotFoundError:
                    found = "nothing"
                if found == "nothing" or not pin.specifier.contains(found, prereleases=True):
                    wrong.append(f"{pin} but {found} is installed")
    assert wrong == [], "run 'make set-up' (or: uv pip sync requirements.lock)"


# ------------------------------------------------------------------------------------------------------------ leaks

# Spelled in pieces, because this file is searched too.
HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "deb." + "debian.org",
    "ana" + "conda.org",
]
PATHS = ["/" + "work/", "/" + "root/", "/" + "home/", "/" + "Users/", "/" + "opt/wheels", ".." + "/shared"]
LEAK = re.compile(
    "|".join(re.escape(word) for word in HOSTS)
    + "|"
    + "|".join(rf"(?<![\w./-]){re.escape(p)}" for p in PATHS)
)
SECRET = re.compile(
    r"://[^/\s:@\"'{}]+:[^/\s:@\"'{}]{8,}@|-----BEGIN [A-Z ]*PRIVATE" + " KEY|\\bgh[pousr]_[A-Za-z0-9]{30}"
)


def leaks(text: str) -> list[str]:
    """Registry hosts, folders of somebody's machine and credentials in a text; base64 is not searched."""
    text = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", " ", text)
    return [match[0] for pattern in (LEAK, SECRET) for match in pattern.finditer(text)]


def test_no_tracked_file_names_a_registry_or_a_machine():
    found = [
        f"{path.relative_to(ROOT)}: {leak}"
        for path in tracked()
        if "vendor" not in path.parts
        for leak in leaks(text_of(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "bad", ["see https://" + HOSTS[0] + "/x", f"'{PATHS[0]}main'", "http://me:correct-horse" + "@host/x"]
)
def test_a_leak_is_found(bad):
    assert leaks(bad)


def test_no_generated_or_large_file_is_tracked():
    generated = [
        p
        for p in tracked()
        if p.name == "uv.lock" or {"_build", "cache", ".venv", "__pycache__"} & set(p.parts)
    ]
    large = [p for p in tracked() if p.stat().st_size > 5_000_000]  # the runtime of the page live has 4.9 MB
    assert generated == [] and large == []


# ------------------------------------------------------------------------------------------------- lint and spelling


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command-line tool of this environment."""
    beside = Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else ""))
    command = str(beside) if beside.exists() else shutil.which(name)
    assert command, f"{name} is not installed"
    return subprocess.run([command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


CODE = ("sora_nb", "scripts", "tests", "book/_ext")


def test_ruff_finds_nothing():
    found = tool("ruff", "check", "--no-cache", "--output-format=concise", *CODE, "notebooks")
    assert found.returncode == 0, found.stdout + found.stderr


def test_code_is_laid_out_by_the_formatter():
    found = tool("ruff", "format", "--check", "--no-cache", *CODE)
    assert found.returncode == 0, f"run: .venv/bin/ruff format {' '.join(CODE)}\n{found.stdout}{found.stderr}"


def test_typos_finds_nothing():
    prose = ["book", "notebooks", "sora_nb", "scripts", "data", *map(str, ROOT.glob("*.md"))]
    found = tool("typos", "--format=brief", *prose)
    assert found.returncode == 0, found.stdout + found.stderr


def test_lint_and_spelling_can_fail(tmp_path):
    (tmp_path / "bad.py").write_text("import os\n")
    (tmp_path / "bad.md").write_text("Their is a mistkae and a recieved word.\n")
    assert tool("ruff", "check", "--no-cache", str(tmp_path)).returncode != 0
    (tmp_path / "bad.py").write_text("x = [ 1,2 ]\n")
    assert tool("ruff", "format", "--check", "--no-cache", str(tmp_path)).returncode != 0
    assert tool("typos", str(tmp_path)).returncode != 0


# --------------------------------------------------------------------------------------------------- the front door


def test_ci_runs_the_command_of_the_readme():
    runner = ROOT / ".ci" / "run"
    commands = [
        line for line in runner.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["exec make test"] and os.access(runner, os.X_OK)
    readme = (ROOT / "README.md").read_text()
    assert "make test" in readme and "make book" in readme
    assert "make test" in (ROOT / ".github" / "workflows" / "test.yml").read_text()


def test_local_links_of_the_front_pages_lead_somewhere():
    missing = []
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link and not link.startswith("mailto:") and not (ROOT / link).exists():
                missing.append(f"{page.name}: {link}")
    assert missing == []


MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
# `make x` as a command: in quotes or backticks, or at the start of a line of a script, a recipe or a code block.
COMMAND = re.compile(
    r"(?:[`'\"]|^[ \t]*(?:- run: |exec |\$ |@?)(?=make ))make ((?:[A-Z_]+=\S+ )*)([a-z][a-z-]*)(?![a-z-]* [a-z])",
    re.M,
)


def made(path: Path) -> set[str]:
    """Targets of make that a file tells its reader, or the machine, to make."""
    text = text_of(path)
    if path.suffix in (".md", ".ipynb"):
        spans = re.findall(r"^```\w*$.*?^```$|`[^`\n]+`", text, re.M | re.S)
        text = "\n".join(spans)
    return {match[2] for match in COMMAND.finditer(text)}


def test_every_make_target_is_explained():
    assert [name for name in TARGETS if not re.search(rf"^{name}:.*## \w", MAKEFILE, re.M)] == []


def test_every_make_target_that_is_named_exists():
    files = [path for path in tracked() if "vendor" not in path.parts and path != Path(__file__)]
    found = {str(path.relative_to(ROOT)): made(path) for path in files}
    assert {name: wrong for name, targets in found.items() if (wrong := targets - TARGETS)} == {}
    assert {"book", "test", "lab", "help"} <= found["README.md"]
    assert {"refresh", "sync", "mutate"} <= found["CONTRIBUTING.md"] and found["scripts/build_book.py"] == {
        "refresh"
    }


def test_a_target_that_does_not_exist_is_found(tmp_path):
    (tmp_path / "a.py").write_text(
        'raise E(f"{x} is stale; run `make chapters` first, or make sure it is.")\n'
    )
    (tmp_path / "b.md").write_text(
        "We make bread: `make JOBS=2 bread`.\n\n```bash\nmake cake  # sweet\n```\n"
    )
    (tmp_path / "c.yml").write_text("      - run: make pie\n")
    assert [made(tmp_path / name) for name in ("a.py", "b.md", "c.yml")] == [
        {"chapters"},
        {"bread", "cake"},
        {"pie"},
    ]


def test_the_references_can_be_read_and_none_comes_twice():
    text = (ROOT / "book" / "references.bib").read_text()
    entries = parse_string(text, "bibtex").entries  # raises where a brace is missing or a key comes twice
    assert len(entries) == len(re.findall(r"^@", text, re.M)) > 50
    with pytest.raises(BibliographyDataError):
        parse_string("@misc{a, title = {A}}\n@misc{a, title = {B}}", "bibtex")
    with pytest.raises(PybtexSyntaxError):
        parse_string("@misc{a, title = {A}\n@misc{b, title = {B}}", "bibtex")
