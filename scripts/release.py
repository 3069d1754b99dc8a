"""Is this commit fit to be released and archived under a DOI? Says what is missing, one line each; changes nothing.

    python scripts/release.py

An archive takes its title, authors, licence and version from CITATION.cff, and its files from the tagged commit. So the
version must be the same everywhere, the change log must tell of it, and all that the page of setting up promises must be in
the commit.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("title", "abstract", "authors", "version", "date-released", "license", "keywords", "type")
FILES = ("LICENSE", "LICENSE-PROSE.md", "README.md", "requirements.lock", "environment.yml", "data/README.md")
LARGEST = 50  # MB of all files in the commit


def versions(root: Path) -> dict[str, str]:
    """The version as each file tells it."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    package = re.search(r'__version__ = "(.+)"', (root / "sora_nb" / "__init__.py").read_text())
    changes = re.search(r"(?m)^## ([\d.]+) \((\S+)\)", (root / "book" / "changes.md").read_text())
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    return {
        "pyproject.toml": project,
        "sora_nb/__init__.py": package[1] if package else "nothing",
        "book/changes.md": changes[1] if changes else "nothing",
        "CITATION.cff": str(citation.get("version")),
    }


def faults(root: Path) -> list[str]:
    """What the files themselves get wrong."""
    told, citation = versions(root), yaml.safe_load((root / "CITATION.cff").read_text())
    found = []
    if len(set(told.values())) > 1:
        found.append("the version differs: " + ", ".join(f"{v} in {file}" for file, v in told.items()))
    found += [f"CITATION.cff has no {key}" for key in NEEDED if not citation.get(key)]
    dated = re.search(r"(?m)^## [\d.]+ \((\S+)\)", (root / "book" / "changes.md").read_text())
    if dated and str(citation.get("date-released")) != dated[1]:
        found.append(f"CITATION.cff is of {citation.get('date-released')}, book/changes.md of {dated[1]}")
    return found + [f"{name} is missing" for name in FILES if not (root / name).exists()]


def git(root: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
    ).stdout


def commit_faults(root: Path) -> list[str]:
    """What the commit gets wrong: changes outside it, a tag that exists, receipts of other sources, too many bytes."""
    found = ["there are changes that are not committed"] if git(root, "status", "--porcelain").strip() else []
    tag = f"v{versions(root)['pyproject.toml']}"
    if git(root, "tag", "--list", tag).strip():
        found.append(f"the tag {tag} exists; raise the version")
    size = sum(int(line.split()[3]) for line in git(root, "ls-tree", "-rl", "HEAD").splitlines()) / 1e6
    return found + ([f"the commit holds {size:.0f} MB, more than {LARGEST}"] if size > LARGEST else [])


def main() -> int:
    found = faults(ROOT) + commit_faults(ROOT)
    tag = f"v{versions(ROOT)['pyproject.toml']}"
    print(
        "\n".join(found) or f"Fit for release: git tag {tag} && git push origin {tag}, then archive that tag."
    )
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
