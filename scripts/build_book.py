#!/usr/bin/env python3
"""Build the HTML book from executed notebooks.

The pages of ``book/`` and the executed chapters are staged in ``build/book``, copying only what changed, and
``jupyter-book`` builds that tree strictly: a warning, a missing reference or an unexecuted cell fails. With nothing
changed since the last good build, nothing is built.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import names_page
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = re.compile(r"\d\d_\w+\.ipynb")


class BookError(Exception):
    """The book cannot be built; the message says what to do."""


def find_chapters(folder: Path) -> list[Path]:
    """Return the chapters of a folder in order: files named ``NN_slug.ipynb``."""
    if not folder.is_dir():
        raise BookError(f"{folder} is no folder; give --notebooks a folder of executed NN_slug.ipynb files.")
    return sorted(path for path in folder.iterdir() if CHAPTER.fullmatch(path.name))


def check_executed(path: Path) -> None:
    """Refuse a notebook that was not run to its end without an error.

    Raises:
        BookError: it is no notebook, a code cell was not executed, or an output is an error.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError) as error:
        raise BookError(
            f"{path} is not a notebook ({error}); write it again with jupytext and execute it."
        ) from error
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    for number, cell in enumerate(code, 1):
        first = "".join(cell["source"]).strip().splitlines()[0]
        if cell.get("execution_count") is None:
            raise BookError(
                f"{path} has not been executed (code cell {number}, {first!r}); run `make refresh` first."
            )
        failed = [output["ename"] for output in cell["outputs"] if output["output_type"] == "error"]
        if failed:
            raise BookError(
                f"{path} holds a {failed[0]} in code cell {number}, {first!r}; mend the cell and execute again."
            )


def prune_toc(toc: dict, present: set[str]) -> dict:
    """Return the table of contents without chapters that do not exist and parts left empty.

    Raises:
        BookError: a chapter exists that the table of contents does not list.
    """
    listed = {Path(entry["file"]).name for part in toc["parts"] for entry in part["chapters"]}
    if present - listed:
        raise BookError(
            f"book/_toc.yml does not list {', '.join(sorted(present - listed))}; add the chapter to its part."
        )
    parts = []
    for part in toc["parts"]:
        kept = [
            e
            for e in part["chapters"]
            if not e["file"].startswith("notebooks/") or Path(e["file"]).name in present
        ]
        if kept:
            parts.append({**part, "chapters": kept})
    return {**toc, "parts": parts}


def repository_url() -> str:
    """Return the web address of the repository, or "" when none is known or it holds a user name or a password.

    The variable SORA_NB_REPOSITORY_URL comes first, then the address of the git remote ``origin``.
    """
    url = os.environ.get("SORA_NB_REPOSITORY_URL")
    if url is None:
        git = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
        url = subprocess.run(git, capture_output=True, text=True, check=False).stdout
    url = url.strip().removesuffix("/").removesuffix(".git")
    parts = urlsplit(url)
    usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return url if usable else ""


def wanted_files(notebooks: Path) -> dict[str, bytes]:
    """Return what the staged tree must hold: relative path to content."""
    book, chapters = ROOT / "book", find_chapters(notebooks)
    files = {}
    for pattern in ("*.md", "*.bib", "claims.yml", "_static/**/*", "_ext/*.py", "results/*.json"):
        files |= {
            str(path.relative_to(book)): path.read_bytes() for path in book.glob(pattern) if path.is_file()
        }
    # Jupyter Book loads every script of a folder called _static on every page; under another name it asks us which.
    files = {re.sub("^_static/", "assets/", name): data for name, data in files.items()}
    for path in chapters:
        check_executed(path)
        files[f"notebooks/{path.name}"] = files[f"_extra/notebooks/{path.name}"] = path.read_bytes()
        source = next(
            (p for p in (path.with_suffix(".py"), ROOT / "notebooks" / f"{path.stem}.py") if p.exists()), None
        )
        if source:
            files[f"_extra/notebooks/{source.name}"] = source.read_bytes()
    files |= {f"_extra/{name}": data for name, data in list(files.items()) if name.startswith("results/")}
    files["_extra/.nojekyll"] = b""  # code hosts otherwise drop folders that begin with an underscore
    files["names.md"] = names_page.page().encode()
    toc = yaml.safe_load((book / "_toc.yml").read_text())
    files["_toc.yml"] = yaml.safe_dump(prune_toc(toc, {path.stem for path in chapters})).encode()
    config = yaml.safe_load((book / "_config.yml").read_text())
    config["sphinx"]["config"]["sora_repository_url"] = repository_url()
    edition = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    config["sphinx"]["config"]["html_theme_options"]["extra_footer"] = f"Edition {edition}"
    files["_config.yml"] = yaml.safe_dump(config).encode()
    return files


def stage(notebooks: Path, target: Path) -> set[str]:
    """Make ``target`` hold exactly the wanted files, and return the names of those that changed or went."""
    wanted = wanted_files(notebooks)
    there = {
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    gone = there - wanted.keys()
    for name in gone:
        (target / name).unlink()
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    changed = {
        name for name, data in wanted.items() if name not in there or (target / name).read_bytes() != data
    }
    for name in changed:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(wanted[name])
    return changed | gone


def build(staged: Path, output: Path, fresh: bool) -> None:
    """Run jupyter-book strictly. Raises BookError when it finds anything to complain of."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    command += ["-W", "-n", "-q", "--keep-going"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [*command, "--path-output", str(output), *["--all"] * fresh], cwd=staged, env=environment, check=False
    )
    if run.returncode:
        raise BookError(
            "The strict build failed; each line with WARNING or ERROR above names a page to mend."
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--notebooks", type=Path, default=ROOT / "notebooks", help="folder of executed chapters"
    )
    parser.add_argument(
        "--stage", type=Path, default=ROOT / "build" / "book", help="folder for the staged tree"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "book", help="folder that gets _build/html")
    options = parser.parse_args(argv)
    start, page, stamp = (
        time.time(),
        options.output / "_build/html/index.html",
        options.output / "_build/built",
    )
    try:
        changed = stage(options.notebooks, options.stage)
        tools = hashlib.sha256(
            Path(__file__).read_bytes() + (ROOT / "requirements.lock").read_bytes()
        ).hexdigest()
        known = page.exists() and stamp.exists() and stamp.read_text() == f"{tools} {options.stage.resolve()}"
        if known and not changed:
            print(f"The book is up to date: {page}")
            return 0
        # After a failed build Sphinx has forgotten the warnings it gave, and it does not watch extensions: start afresh.
        stamp.unlink(missing_ok=True)
        build(
            options.stage.resolve(),
            options.output.resolve(),
            not known or any(name.startswith("_") for name in changed),
        )
        stamp.write_text(f"{tools} {options.stage.resolve()}")
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Built {len(find_chapters(options.notebooks))} chapters in {time.time() - start:.0f} s: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
