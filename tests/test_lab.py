"""JupyterLab as a runner meets it: `make lab` in a real browser, on a copy of a chapter and of a short notebook.

The extensions of JupyterLab load only in the JupyterLab they were built for and say so in the browser's console
alone, so that is where we look.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from browser import complaints

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("sora_nb_chapters_in_lab", ROOT / "scripts" / "chapters.py")
chapters = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chapters)

SHORT = """FRONT
# %% [markdown]
# # Short
#
# :::{note}
# Drawn by an extension.
# :::

# %% tags=["hide-input"]
import sys

from ipywidgets import IntSlider

import sora_nb

# %%
print(sora_nb.__name__, "in", sys.prefix)

# %% mystnb={"figure": {"name": "fig-00-slider", "caption": "A slider."}}
IntSlider()

# %%
print("the answer is", 6 * 7)
""".replace("FRONT", chapters.FRONT)
# Where JupyterLab keeps what it remembers: nothing of this machine's user comes in, nothing of the test stays.
STATE = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
EXTENSIONS = [
    "jupyterlab-jupytext:plugin",
    "jupyterlab-myst:mime-renderer",
    "@jupyter-widgets/jupyterlab-manager:plugin",
]

# The notebook in front, once it has been read and its kernel waits for work.
READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  return panel?.context?.isReady && panel.sessionContext?.session?.kernel?.status === "idle";
}"""
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].map(cell => ({
  source: cell.sharedModel.getSource(),
  number: cell.executionCount ?? null,
  outputs: cell.type === "code" ? cell.outputs.toJSON() : [],
}))"""


def command() -> list[str]:
    """What `make lab` runs, in the environment of this test."""
    make = subprocess.run(
        ["make", "--dry-run", "lab", f"VENV={sys.prefix}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return shlex.split(make.stdout.strip().splitlines()[-1])


def until(found, process, log, seconds: float = 180):
    """Wait for ``found()`` to be true; the server must live meanwhile."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that looks like the repository to JupyterLab: the settings, chapter 01, and a short notebook."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path in (ROOT / "notebooks").glob("01_*.*"):
        shutil.copy(path, folder / "notebooks")
    source = folder / "notebooks" / "00_short.py"
    source.write_text(SHORT)
    chapters.write(chapters.read_source(source), source.with_suffix(".ipynb"))
    return folder


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The running JupyterLab: what its own files say of it, and the page that it opens in a runner's browser."""
    state, log = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("log") / "server.log"
    places = {f"JUPYTER{name}": str(state / name) for name in STATE}
    options = ["--no-browser", "--ServerApp.port=0", "--expose-app-in-browser"]
    with open(log, "w") as file:
        process = subprocess.Popen(
            [*command(), *options], cwd=folder, env=os.environ | places, stdout=file, stderr=file
        )
    try:
        runtime = state / "_RUNTIME_DIR"
        opens = until(lambda: next(runtime.glob("jpserver-file-to-run-*-open.html"), None), process, log)
        yield json.loads(next(runtime.glob("jpserver-*.json")).read_text()) | {"opens": opens}
    finally:
        process.kill()  # asked to end, it may wait a minute for its kernels; they end when they miss it
        process.wait()


@pytest.fixture
def page(browser):
    """A new page that remembers what its console complains of; nothing must be left there at the end."""
    page = browser.new_page(viewport={"width": 1400, "height": 1600})
    page.set_default_timeout(180_000)  # a busy machine is slow, and not wrong
    page.said = complaints(page)
    yield page
    page.close()


@pytest.fixture
def short(page, server):
    """The short notebook, open in JupyterLab, which has forgotten what was open before."""
    page.goto(f"{server['url']}lab/tree/notebooks/00_short.ipynb?reset&token={server['token']}")
    page.wait_for_function(READY)
    return page


def cells(page) -> list[dict]:
    """Source, number and outputs of each cell of the notebook in front."""
    return page.evaluate(CELLS)


def save(page) -> None:
    """Press Ctrl+S and wait until the server has written the pair."""
    with page.expect_response(
        lambda answer: answer.request.method == "PUT" and "/api/contents" in answer.url
    ):
        page.keyboard.press("Control+s")


def test_make_lab_opens_chapter_01_without_a_complaint(page, server):
    page.goto(server["opens"].as_uri())
    page.wait_for_function(READY)
    assert "/notebooks/01_" in page.url and "A video is not a stack of frames" in cells(page)[0]["source"]
    active = page.evaluate("all => all.filter(name => jupyterapp.isPluginActivated(name))", EXTENSIONS)
    assert active == EXTENSIONS and page.said == []
    page.evaluate("console.error('a complaint is heard')")
    assert len(page.said) == 1 and "a complaint is heard" in page.said[0]


def test_run_all_runs_a_notebook_to_its_end(short):
    short.locator(".myst aside", has_text="Drawn by an extension.").wait_for()
    short.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    short.get_by_text("Run All Cells", exact=True).click()
    short.locator(".jp-OutputArea-output", has_text="the answer is 42").wait_for()
    short.locator(".jp-OutputArea-output .widget-slider").wait_for()
    assert short.locator(".jp-InputPlaceholder").count() == 1
    assert not short.locator(".cm-line", has_text="import sora_nb").is_visible()
    code = cells(short)[1:]
    assert [cell["number"] for cell in code] == [1, 2, 3, 4]
    name, prefix = code[1]["outputs"][0]["text"].split(" in ")
    assert name == "sora_nb" and Path(prefix.strip()).samefile(sys.prefix)  # this environment's kernel
    assert short.said == []


def test_an_edit_reaches_the_other_half_of_the_pair(short, folder):
    source = folder / "notebooks" / "00_short.py"
    short.locator(".jp-CodeCell .cm-content", has_text="the answer is").click()
    short.keyboard.press("Control+End")
    short.keyboard.insert_text("  # from the notebook")
    save(short)
    assert source.read_text() == SHORT.replace("6 * 7)", "6 * 7)  # from the notebook")
    assert chapters.problems(chapters.read_source(source), read(source)) == [
        f"code cell {n} was never executed: {cell['source'][:60]!r}"
        for n, cell in enumerate(cells(short)[1:], 1)
    ]
    source.write_text(source.read_text().replace("6 * 7)  # from the notebook", "6 * 8)"))
    short.reload()  # the menu's "Reload Notebook from Disk" does it too, and then JupyterLab's cell toolbar throws
    short.wait_for_function(READY)
    assert cells(short)[-1]["source"] == 'print("the answer is", 6 * 8)'
    assert short.said == []


def test_who_starts_jupyterlab_by_hand_starts_it_where_the_pairing_is_set():
    """From a folder below, JupyterLab does not see pyproject.toml, and the halves of a pair drift apart."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "book" / "setup.md"]
    started = [rest for page in pages for rest in re.findall(r"jupyter lab\b([^\n`]*)", page.read_text())]
    assert len(started) > 3 and set(started) == {""}


def test_what_the_book_folds_is_folded_in_the_pair_and_the_source_need_not_say_so(tmp_path):
    source = tmp_path / "00_tags.py"
    source.write_text(
        '# %% tags=["hide-input"]\n1\n\n# %% tags=["x", "hide-cell"]\n2\n\n# %% tags=["x"]\n3\n\n# %%\n4\n'
    )
    folded = [cell.metadata.get("jupyter") for cell in chapters.read_source(source).cells]
    assert folded == [{"source_hidden": True}] * 2 + [None] * 2
    notebook = chapters.read_source(source)
    del notebook.cells[1].metadata["jupyter"]
    chapters.write(notebook, source.with_suffix(".ipynb"))
    assert any(problem.startswith("cell 2 differs") for problem in chapters.check(source))


@pytest.mark.parametrize("front", ["", chapters.FRONT.replace(" (ipykernel)", "") + "\n"])
def test_every_source_gets_the_front_matter_that_jupyterlab_writes(front, tmp_path):
    source = tmp_path / "00_front.py"
    body = "# %%\n1  # ---\n\n# %% [markdown]\n# # Title\n#\n# ---\n"
    source.write_text(front + body)
    chapters.write(chapters.read_source(source), source.with_suffix(".ipynb"))
    assert "its front matter is not JupyterLab's: run 'make sync'" in chapters.check(source)
    for _ in range(2):
        chapters.lay_front(source)
        assert source.read_text() == f"{chapters.FRONT}\n{body}"
    assert not any("front matter" in problem for problem in chapters.check(source))


def read(source: Path):
    """The executed half of a pair."""
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)
