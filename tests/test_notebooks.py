"""The chapters: pairs in step, every part of the chapter standard there, and no number in the prose without a source.

The cells themselves are run by nbval (see the Makefile); here the stored pairs are read.
"""

import copy
import importlib.util
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
# Loaded by path: other folders hold modules of common names too.
SPEC = importlib.util.spec_from_file_location("sora_nb_chapters", ROOT / "scripts" / "chapters.py")
chapters = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(chapters)

SOURCES = chapters.sources()
IDS = [path.stem for path in SOURCES]

# ---------------------------------------------------------------------------------------------- numbers in the prose

# What is no measurement: maths, code, roles, directive lines and options, links, addresses, arXiv and DOI names, versions.
NOT_PROSE = re.compile(
    r"\$\$.*?\$\$|\$[^$\n]+\$|```\{?(?:mermaid|math|code|python)\b.*?```|^\s*(?:```|:::).*$|^\s*:[\w-]+:.*$"
    r"|``[^`]+``|\{[\w:-]+\}`[^`]*`|`[^`]*`|\]\([^)]*\)|<[^>]+>|https?://\S+|\b10\.\d{4,}/\S+|\d+\.\d+\.\d+\S*"
    r"|(?:arXiv:?|Python|version|v|H|chapters?|sections?|figures?|tables?|eq(?:uation)?s?)[ .\u00a0]?\d+(?:\.\d+)+\b",
    re.S | re.M | re.I,
)
# A paragraph with a citation quotes someone else's number; "% numbers: given" exempts a paragraph that states a convention.
QUOTED = re.compile(r"\{cite|numbers:\s*given")
DECIMAL = re.compile(r"(?<![\w.,])(\d*\.\d+)(?![\w]|\.\d)(\s?%)?")
PERCENT = re.compile(r"(?<![\w.,])(\d+)\s?%")
EVIDENCE = re.compile(r"(?<![\w.])(\d*\.?\d+(?:e[+-]?\d+)?)(\s?%)?")


def quoted_numbers(markdown: str) -> list[tuple[str, bool]]:
    """Decimals and percentages that the prose of one cell states: (digits, whether a percentage)."""
    found = []
    for paragraph in re.split(r"\n\s*\n", markdown):
        if not QUOTED.search(paragraph):
            text = NOT_PROSE.sub(" ", paragraph)
            found += [(m[1], bool(m[2])) for m in DECIMAL.finditer(text)]
            found += [(m[1], True) for m in PERCENT.finditer(text)]
    return found


def evidence(notebook, receipts=()) -> list[tuple[float, bool]]:
    """Numbers that the code holds, its outputs show, or receipts record: (value, whether it may stand for a percentage)."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source)
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                html = re.sub(r"data:[\w/;+-]+base64,[\w+/=]+", " ", data.get("text/html", ""))
                texts += [output.get("text", ""), data.get("text/plain", ""), re.sub(r"<[^>]+>", " ", html)]
    found = [(float(m[1]), bool(m[2]) or "." in m[1]) for text in texts for m in EVIDENCE.finditer(text)]
    return found + [(value, True) for receipt in receipts for value in numbers_in(receipt)]


def numbers_in(value) -> list[float]:
    """All numbers of a receipt, however deep."""
    if isinstance(value, dict | list):
        return [
            n for item in (value.values() if isinstance(value, dict) else value) for n in numbers_in(item)
        ]
    return [] if isinstance(value, bool) or not isinstance(value, int | float) else [abs(float(value))]


def supported(digits: str, percent: bool, known: list[tuple[float, bool]]) -> bool:
    """Whether some known number rounds to the quoted one; a percentage may also be the hundredfold of a fraction."""
    places = len(digits.partition(".")[2])
    said, slack = float(digits), 0.5 * 10**-places * (1 + 1e-9) + 1e-12
    for value, strong in known:
        if (strong or not percent) and abs(value - said) <= slack:
            return True
        if percent and value <= 1.5 and abs(100 * value - said) <= slack:
            return True
    return False


def unsupported(notebook, receipts=()) -> list[str]:
    """Each number that the prose quotes and nothing shows, with the words around it."""
    known, missing = evidence(notebook, receipts), []
    for place, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            for digits, percent in quoted_numbers(cell.source):
                if not supported(digits, percent, known):
                    around = re.search(rf".{{0,40}}{re.escape(digits)}.{{0,25}}", cell.source)
                    missing.append(
                        f"cell {place}: {digits}{' %' if percent else ''} in {around[0] if around else ''!r}"
                    )
    return missing


# ------------------------------------------------------------------------------------------------ the chapter standard


def shortcomings(notebook) -> list[str]:
    """What the chapter standard asks for and this chapter lacks."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    whole, first = "\n\n".join(prose), prose[0] if prose else ""
    bare = re.sub(r"^(```+).*?^\1", "", whole, flags=re.S | re.M)
    found = []
    if not first.startswith("# ") or len(re.findall(r"^# ", bare, re.M)) != 1:
        found.append("the first cell must begin with the chapter's one title ('# …')")
    if "**Claim" not in first:
        found.append("the first cell must state the claim ('**Claim.** …')")
    exercises = re.split(r"^\s*(?:`{3,}|:{3,})\{exercise(?:-start)?\}", whole, flags=re.M)[1:]
    if len(exercises) < 5:
        found.append(f"it has {len(exercises)} exercises; five is the least")
    found += [
        f"the exercise {text.splitlines()[0].strip()!r} has neither a solution nor a hint"
        for text in exercises
        if not re.search(r"^\s*(?:`{3,}|:{3,})\{(?:solution(?:-start)?|hint)\}", text, re.M)
    ]
    if "{bibliography}" not in whole:
        found.append("it has no list of references ('{bibliography}')")
    return found + [
        f"cell {n}: {what}" for n, cell in enumerate(notebook.cells, 1) for what in without_alt(cell)
    ]


def too_wide(notebook, page: int = 88) -> list[str]:
    """Printed lines that the page would break. Errors that a cell raises are left out: their text is not the chapter's."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            drawn = {"image/png", "image/svg+xml", "text/html"} & set(output.get("data", {}))
            text = "" if drawn else output.get("text", output.get("data", {}).get("text/plain", ""))
            found += [f"cell {number}: {line!r}" for line in text.splitlines() if len(line) > page]
    return found


def without_alt(cell) -> list[str]:
    """Pictures of a cell that a screen reader could not describe."""
    if cell.cell_type == "markdown":
        blank = re.findall(r"!\[\s*\]\([^)]*\)", cell.source)
        for directive in re.findall(
            r"^\s*(?:`{3,}|:{3,})\{(?:figure|image)\}.*?(?=^\s*(?:`{3,}|:{3,})\s*$)", cell.source, re.S | re.M
        ):
            blank += (
                [] if re.search(r"^\s*:alt:\s*\S", directive, re.M) else [directive.strip().splitlines()[0]]
            )
        return [f"no alternative text for {picture}" for picture in blank]
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if {"image/png", "image/svg+xml", "image/jpeg"} & set(data) and "text/html" not in data:
            if not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip():
                found.append("its figure has no alternative text (mystnb.image.alt)")
        for tag in re.findall(r"<(?:img|video)\b[^>]*>", data.get("text/html", "")):
            if not re.search(r"\b(?:alt|aria-label)\s*=\s*[\"'][^\"']", tag):
                found.append(f"no alternative text for {tag[:40]}…")
    return found


# --------------------------------------------------------------------------------------------- the rules, applied


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_pair_is_in_step_executed_and_small(path):
    assert chapters.check(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_chapter_meets_the_standard(path):
    assert shortcomings(pair(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_every_number_in_the_prose_has_a_source(path):
    receipts = [json.loads(file.read_text()) for file in sorted((ROOT / "book" / "results").glob("*.json"))]
    assert unsupported(pair(path), receipts) == []


def test_no_pair_lacks_its_source_and_every_chapter_has_its_time():
    assert {p.stem for p in chapters.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")} == set(IDS)
    timed = json.loads(chapters.TIMES.read_text()) if chapters.TIMES.exists() else {}
    assert set(timed) == set(IDS), "run 'make refresh'"


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_no_printed_line_is_wider_than_the_page(path):
    assert too_wide(pair(path)) == []


def pair(path):
    """The executed pair of a chapter."""
    target = path.with_suffix(".ipynb")
    assert target.exists(), f"{target.name} is missing: run 'make refresh'"
    return nbformat.read(target, as_version=4)


# ---------------------------------------------------------------------------------------- the rules, seen to refuse


def good():
    """A tiny chapter that breaks no rule."""
    exercises = "\n\n".join(
        f"```{{exercise}} E{n}\n:label: ex-{n}\nDo it.\n```\n\n```{{hint}}\nThus {n}.\n```" for n in range(5)
    )
    figure = [new_output("display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"})]
    cells = [
        new_markdown_cell("# Title\n\n**Claim.** Order matters: .84, 84 % or 84.1 %, where chance is 50%."),
        new_code_cell(
            "print(0.8412)",
            execution_count=1,
            outputs=[new_output("stream", name="stdout", text="0.8412, 0.5\n")],
        ),
        new_code_cell(
            "plot()", execution_count=2, outputs=figure, metadata={"mystnb": {"image": {"alt": "a line"}}}
        ),
        new_markdown_cell(f"![a clip](x.png)\n\n{exercises}\n\n```{{bibliography}}\n```"),
    ]
    for place, cell in enumerate(cells):
        cell.id = str(place)
    return new_notebook(cells=cells)


def test_a_good_chapter_passes_every_rule():
    assert shortcomings(good()) == unsupported(good()) == chapters.problems(good(), good()) == []


def no_execution(nb):
    nb.cells[1].execution_count = None


def out_of_order(nb):
    nb.cells[1].execution_count, nb.cells[2].execution_count = 2, 1


def other_source(nb):
    nb.cells[1].source += "\n"


def other_metadata(nb):
    nb.cells[2].metadata = nbformat.from_dict({})


def lost_cell(nb):
    nb.cells.pop(1)


def stored_error(nb):
    nb.cells[1].outputs = [new_output("error", ename="E", evalue="", traceback=[])]


def too_large(nb):
    nb.cells[1].outputs[0].text = "x" * (chapters.OUTPUT_BUDGET + 1)


@pytest.mark.parametrize(
    "harm", [no_execution, out_of_order, other_source, other_metadata, lost_cell, stored_error, too_large]
)
def test_a_pair_out_of_step_is_refused(harm):
    broken = good()
    harm(broken)
    assert len(chapters.problems(good(), broken)) >= 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Title", "Title"),
        ("# Title", "# Title\n\n# Another"),
        ("**Claim.** ", ""),
        ("```{exercise} E3", "```{note}"),
        ("```{hint}\nThus 3", "```{note}\nThus 3"),
        ("{bibliography}", "{note}"),
        ("![a clip]", "![]"),
        ("![a clip](x.png)", "```{figure} x.png\n:name: f\n```"),
    ],
)
def test_a_chapter_short_of_the_standard_is_refused(old, new):
    broken = good()
    for cell in broken.cells:
        cell.source = cell.source.replace(old, new)
    assert len(shortcomings(broken)) == 1


@pytest.mark.parametrize("html", ["", '<video src="a">', '<img alt="" src="a">'])
def test_a_picture_without_words_is_refused(html):
    broken = good()
    broken.cells[2].metadata = nbformat.from_dict({})
    if html:
        broken.cells[2].outputs[0].data["text/html"] = html
    assert len(shortcomings(broken)) == 1


@pytest.mark.parametrize("place", ["stream", "result"])
def test_a_line_that_the_page_would_break_is_refused(place):
    for width, refused in ((88, 0), (89, 1)):
        broken, line = good(), "x" * width
        output = new_output("stream", name="stdout", text=f"1\n{line}\n2\n")
        if place == "result":
            output = new_output("execute_result", data={"text/plain": line})
        broken.cells[1].outputs = [output]
        assert len(too_wide(broken)) == refused


@pytest.mark.parametrize("false", [".85", "0.85", "85 %", "84.2 %", "0.842", "a mean of 84.13", "12%"])
def test_a_number_that_no_output_shows_is_refused(false):
    broken = good()
    broken.cells[0].source += f"\n\nThe model reaches {false} here."
    assert len(unsupported(broken)) == 1


@pytest.mark.parametrize(
    "fine",
    [
        "It scores 0.8 and 84.12 %.",
        "The setting $x = 0.37$ and `lr=0.37` and {numref}`fig-0.37`.",
        "Python 3.12, version 2.15.0, H.264, arXiv:2104.11178, [a](x/0.37.png), section 3.7.",
        "They report 92.5 % {cite:p}`someone2020`.",
        "% numbers: given\nVideo at 29.97 frames a second.",
        "```{mermaid}\nA --> |0.37| B\n```",
        "In 2,400 clips; 1,000.",
    ],
)
def test_what_is_no_measurement_is_left_alone(fine):
    chapter = good()
    chapter.cells[0].source += f"\n\n{fine}"
    assert unsupported(chapter) == []


def test_a_receipt_is_a_source():
    chapter = good()
    chapter.cells[0].source += "\n\nAt T1 it reaches 0.93."
    assert unsupported(chapter) and not unsupported(chapter, [{"numbers": {"accuracy": [0.9312, True]}}])


def test_outputs_stay_with_their_cells_and_noise_goes(tmp_path, monkeypatch):
    source = tmp_path / "01_toy.py"
    source.write_text('# %% [markdown]\n# # Toy\n\n# %% tags=["x"]\nprint(1)\n')
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    notebook = chapters.read_source(source)
    bar = new_output(
        "stream", name="stderr", text="\r  0%|          | 0/3 [00:00<?, ?it/s]\r100%|###| 3/3 [00:00<00:00]\n"
    )
    text = new_output("stream", name="stdout", text=f"1 <A at 0x7f0011223344> {chapters.ROOT}/data\n")
    notebook.cells[1].update(execution_count=1, outputs=[bar, text])
    assert len(chapters.clean(copy.deepcopy(notebook)).cells[1].outputs) == 1
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    source.write_text(source.read_text() + "\n# %%\nprint(2)\n")
    chapters.command_sync()
    synced = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [len(cell.get("outputs", [])) for cell in synced.cells] == [0, 1, 0]
    assert synced.cells[1].outputs[0].text == "1 <A at 0x…> data\n"
    assert chapters.check(source) == ["code cell 2 was never executed: 'print(2)'"]


def test_a_failing_cell_is_named_with_its_traceback(tmp_path, monkeypatch, capsys):
    (tmp_path / "01_bad.py").write_text("# %%\nx = 1\n\n# %%\nx / 0\n")
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    assert chapters.run_all(chapters.sources(), save=None, jobs=1) == 1
    shown = capsys.readouterr().err
    assert "01_bad.py: code cell 2 failed" in shown and "x / 0" in shown and "ZeroDivisionError" in shown
    assert (tmp_path / "build" / "failed" / "01_bad.ipynb").exists()


def test_a_chapter_s_time_is_the_processor_s_and_its_children_s(tmp_path, monkeypatch):
    child = "import time; t = time.process_time()\nwhile time.process_time() < t + 4: pass"
    (tmp_path / "01_a.py").write_text(
        f"# %%\nimport subprocess, sys, time\ntime.sleep(6)\n_ = subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    notebook, seconds = chapters.execute(tmp_path / "01_a.py")
    assert 4 < seconds < 10 and chapters.problems(chapters.read_source(tmp_path / "01_a.py"), notebook) == []


def test_a_chapter_is_stale_when_anything_it_depends_on_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "TIMES", tmp_path / "book" / "results" / "chapter_times.json")
    for folder in ("sora_nb", "data/cache", "book/results"):
        (tmp_path / folder).mkdir(parents=True)
    source = tmp_path / "01_a.py"
    source.write_text('# %%\nread_receipt("run")\n')
    seen = [chapters.fingerprint(source)]
    for name in (
        "sora_nb/a.py",
        "requirements.lock",
        "data/manifest.json",
        "book/results/run.json",
        "01_a.py",
    ):
        (tmp_path / name).write_text(f"{name}\n")
        seen.append(chapters.fingerprint(source))
    assert len(set(seen)) == len(seen)
    for name in ("data/cache/x.mp4", "book/results/other.json", "data/README.md"):
        (tmp_path / name).write_text("x")
        assert chapters.fingerprint(source) == seen[-1]
