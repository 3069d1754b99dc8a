"""The book is built strictly and opened in a browser: the real one, and a sample in which each check finds something."""

import functools
import http.server
import importlib.util
import shutil
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from book_sample import FIRST, RECORD, SECOND, claim_cell, code, write_chapter, write_sample
from browser import search, visit
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.xdist_group("book")  # one worker builds and looks


def load(path: Path):
    """Import a file that is in no package."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


build_book = load(ROOT / "scripts" / "build_book.py")
chapter_bar = load(ROOT / "book" / "_ext" / "chapter_bar.py")
ledger = load(ROOT / "book" / "_ext" / "ledger.py")
receipts = load(ROOT / "book" / "_ext" / "receipts.py")


# --- building -------------------------------------------------------------------------------------------------------


def make(folder: Path, notebooks: Path) -> Path:
    """Build a book in a folder and return the folder of its pages."""
    assert (
        build_book.main(
            ["--notebooks", str(notebooks), "--stage", str(folder / "stage"), "--output", str(folder)]
        )
        == 0
    )
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def chapters(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("chapters"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory, chapters):
    return make(tmp_path_factory.mktemp("sample"), chapters)


@pytest.fixture(scope="session")
def books(tmp_path_factory, sample):
    return {"sample": sample, "real": make(tmp_path_factory.mktemp("real"), ROOT / "notebooks")}


def pages_of(folder: Path) -> list[Path]:
    """Return the pages of a built book, without the redirect at its root and the theme's own files."""
    found = [*folder.glob("*.html"), *folder.glob("notebooks/*.html")]
    found = sorted(path for path in found if path.name not in ("index.html", "genindex.html", "search.html"))
    assert len(found) >= 8
    return found


@pytest.fixture(params=["sample", "real"])
def pages(request, books):
    return pages_of(books[request.param])


@pytest.fixture
def chapter(tmp_path):
    return functools.partial(write_chapter, tmp_path, FIRST)


def test_refuses_a_chapter_that_was_not_executed(chapter):
    path = chapter([new_markdown_cell("# A"), new_code_cell("1 + 1")])
    with pytest.raises(build_book.BookError, match=r"not been executed \(code cell 1, '1 \+ 1'\)"):
        build_book.check_executed(path)


def test_refuses_a_chapter_with_an_error_output(chapter, capsys):
    failed = code("1 / 0")
    failed.outputs.append(new_output("error", ename="ZeroDivisionError", evalue="", traceback=[]))
    path = chapter([new_markdown_cell("# A"), failed])
    folder = path.parent
    assert (
        build_book.main(["--notebooks", str(folder), "--stage", str(folder / "s"), "--output", str(folder)])
        == 1
    )
    assert "holds a ZeroDivisionError in code cell 1" in capsys.readouterr().err


def test_refuses_what_is_no_notebook(tmp_path):
    path = tmp_path / "01_text.ipynb"
    path.write_text("no json")
    with pytest.raises(build_book.BookError, match="is not a notebook"):
        build_book.check_executed(path)


def test_toc_keeps_what_exists_and_refuses_what_it_does_not_list():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    pruned = build_book.prune_toc(toc, {FIRST})
    files = [entry["file"] for part in pruned["parts"] for entry in part["chapters"]]
    assert [name for name in files if name.startswith("notebooks/")] == [f"notebooks/{FIRST}"]
    assert "claims" in files and not any(part["caption"].startswith("II") for part in pruned["parts"])
    with pytest.raises(build_book.BookError, match="does not list 42_unlisted"):
        build_book.prune_toc(toc, {"42_unlisted"})


def test_stages_only_what_changed(tmp_path):
    notebooks, target = tmp_path / "chapters", tmp_path / "stage"
    notebooks.mkdir()
    write_sample(notebooks)
    assert f"notebooks/{FIRST}.ipynb" in build_book.stage(notebooks, target)
    assert build_book.stage(notebooks, target) == set()
    write_chapter(notebooks, SECOND, [new_markdown_cell("# Other words")])
    assert build_book.stage(notebooks, target) == {
        f"notebooks/{SECOND}.ipynb",
        f"_extra/notebooks/{SECOND}.ipynb",
    }
    (notebooks / f"{SECOND}.ipynb").unlink()
    assert f"notebooks/{SECOND}.ipynb" in build_book.stage(notebooks, target)
    assert not (target / "notebooks" / f"{SECOND}.ipynb").exists()


def test_second_build_does_nothing_and_a_missing_reference_fails(sample, chapters, tmp_path, capsys):
    folder = sample.parents[1]
    again = ["--stage", str(folder / "stage"), "--output", str(folder)]
    assert build_book.main(["--notebooks", str(chapters), *again]) == 0
    assert "up to date" in capsys.readouterr().out
    shutil.copytree(chapters, tmp_path / "chapters")
    write_chapter(
        tmp_path / "chapters", SECOND, [new_markdown_cell("# A second chapter\n\n{numref}`fig-nowhere`")]
    )
    wrong = ["--stage", str(tmp_path / "stage"), "--output", str(tmp_path)]
    assert build_book.main(["--notebooks", str(tmp_path / "chapters"), *wrong]) == 1
    assert "strict build failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/group/book.git", "https://example.org/group/book"),
        ("https://name:secret@example.org/book", ""),
        ("https://token@example.org/book", ""),
        ("git@example.org:group/book.git", ""),
        ("/srv/git/book", ""),
        ("", ""),
    ],
)
def test_repository_is_shown_only_without_credentials(monkeypatch, url, shown):
    monkeypatch.setenv("SORA_NB_REPOSITORY_URL", url)
    assert build_book.repository_url() == shown


def test_launch_links_fit_the_host():
    path = "notebooks/01_a.ipynb"
    assert chapter_bar.launch_links("", path) == []
    [(name, address)] = chapter_bar.launch_links("https://example.org/group/book", path)
    assert name == "Open in Binder" and "git/https%3A%2F%2Fexample.org%2Fgroup%2Fbook/HEAD" in address
    both = dict(chapter_bar.launch_links("https://github.com/group/book", path))
    assert both["Open in Colab"].endswith("/github/group/book/blob/HEAD/notebooks/01_a.ipynb")


def test_run_time_is_read_not_typed():
    times = {"03_x": {"processor_seconds": 51.2, "tier": "T0"}, "05_z": {"seconds": 99.0, "tier": "T0"}}
    assert chapter_bar.run_time(times, "03_x") == "Takes <strong>51 s</strong> of one CPU core (T0)"
    assert chapter_bar.run_time(times, "04_y") == chapter_bar.run_time(times, "05_z") == ""


def test_receipts_show_every_number():
    rows = dict(receipts.flatten({"accuracy": {"A": [0.25, 0.5]}, "runs": [{"seed": 3}]}))
    assert rows == {"accuracy.A": "0.25, 0.5", "runs[0].seed": "3"}


# --- the ledger -----------------------------------------------------------------------------------------------------

CLAIMS = ledger.load_claims(ROOT / "book" / "claims.yml")


def test_claims_cover_the_five_articles_and_name_chapters():
    assert {name[0] for name in CLAIMS} == set("ABCDE")
    assert all(1 <= claim["chapter"] <= 23 for claim in CLAIMS.values() if claim["chapter"] is not None)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([{**RECORD, "id": "Z9"}], "which book/claims.yml does not list"),
        ([{**RECORD, "verdict": "pending"}], "unknown verdict 'pending'"),
        ([RECORD, {**RECORD, "verdict": "holds"}], "chapter 01 says refuted; chapter 02 says holds"),
    ],
)
def test_ledger_refuses(tmp_path, records, complaint):
    (tmp_path / "notebooks").mkdir()
    for name, record in zip((FIRST, SECOND), records, strict=False):
        write_chapter(tmp_path / "notebooks", name, [claim_cell(record)])
    with pytest.raises(ledger.ExtensionError, match=complaint):
        ledger.collect(tmp_path, CLAIMS)


def test_claims_page_carries_the_recorded_verdict_and_leads_to_its_cell(sample):
    page = soup(sample / "claims.html")
    row = page.find(id="claim-A2")
    assert RECORD["evidence"] in row.text and row.find(class_="verdict-refuted")
    path, anchor = row.find("a")["href"].split("#")
    assert soup(sample / path).find(id=anchor)
    assert page.find(id="claim-A1").find(class_="verdict-pending")
    assert page.find(id="claim-D5").find(class_="verdict-untestable")


# --- pages as files -------------------------------------------------------------------------------------------------


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def broken_links(path: Path) -> list[str]:
    """Return the links of a page that lead to no file or to no place in it."""
    broken = []
    for tag in soup(path).find_all("a", href=True):
        parts = urlsplit(tag["href"])
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if not target.is_file() or (anchor and target.suffix == ".html" and not soup(target).find(id=anchor)):
            broken.append(tag["href"])
    return broken


def test_links_lead_somewhere(pages):
    assert {
        path.name: found
        for path in pages
        if (found := [url for url in broken_links(path) if url not in ("#", "")])
    } == {}


def test_sample_chapter_has_all_its_parts(sample):
    page = soup(sample / "notebooks" / f"{FIRST}.html")
    assert [tag.text.strip() for tag in page.select(".caption-number")][:2] == ["Figure 1.1", "Figure 1.2"]
    assert page.select_one("article h1").text.startswith("1. A first chapter")
    assert [link.text for link in page.select(".chapter-bar a")] == ["Notebook (.ipynb)", "Source (.py)"]
    assert (
        page.select("div.solution.dropdown")
        and page.find(class_="chapter-to-come").text == "the reach of attention"
    )
    assert "Vaswani" in page.select_one("div.citation").text
    assert page.select(".prev-next-area a")


# --- pages in the browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def visits(browser, books):
    """Every page of both books, in light and in dark."""
    seen = {}
    for book, folder in books.items():
        for path in pages_of(folder):
            for scheme in ("light", "dark"):
                seen[f"{book}/{path.relative_to(folder)} {scheme}"] = visit(browser, path.as_uri(), scheme)
    return seen


def every(visits, find) -> dict:
    """Return page to finding, for pages where there is one."""
    return {name: found for name, seen in visits.items() if (found := find(seen))}


def test_pages_load_without_complaint(visits):
    assert every(visits, lambda seen: seen.noise) == {}


def test_pages_ask_nothing_of_the_network(visits):
    assert every(visits, lambda seen: seen.asked) == {}


def test_maths_is_drawn(visits):
    assert every(visits, lambda seen: seen.badMath or seen.math != seen.drawnMath) == {}
    assert sum(seen.drawnMath for seen in visits.values()) > 20


def test_diagrams_are_drawn(visits):
    assert every(visits, lambda seen: seen.diagrams != seen.drawnDiagrams) == {}
    assert visits["real/intro.html light"].drawnDiagrams == 1


def test_images_are_there_and_described(visits):
    assert every(visits, lambda seen: seen.noAlt + seen.brokenImages) == {}


def test_pages_fit_narrow_and_wide_windows(visits):
    assert every(visits, lambda seen: seen.wider) == {}


def test_videos_play(visits):
    assert every(visits, lambda seen: seen.still) == {}


def test_figures_show_the_page_behind_them(visits):
    assert every(visits, lambda seen: seen.opaque) == {}


def luminance(color: str) -> float:
    return sum(int(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]) / 765


def test_dark_is_dark_and_light_is_light(visits):
    for name, seen in visits.items():
        contrast = luminance(seen.text) - luminance(seen.background)
        assert contrast > 0.5 if name.endswith("dark") else contrast < -0.5, name


def test_search_from_disk(browser, sample):
    found = search(browser, (sample / "search.html").as_uri() + "?q=permutation")
    assert any("claims.html" in link for link in found)
    assert search(browser, (sample / "search.html").as_uri() + "?q=xylophone") == []


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_search_from_a_server(browser, sample):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=sample))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = search(browser, f"http://127.0.0.1:{server.server_port}/search.html?q=permutation")
    server.shutdown()
    assert any("claims.html" in link for link in found)


def test_solution_unfolds_and_diagram_follows_the_colors(browser, sample):
    page = browser.new_page(color_scheme="light")
    page.goto((sample / "notebooks" / f"{FIRST}.html").as_uri())
    hidden = page.locator("div.solution .highlight")
    assert not hidden.is_visible()
    page.locator("div.solution .admonition-title").first.click()
    hidden.wait_for(state="visible")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_selector("pre.mermaid[data-drawn=dark]")
    page.close()


def test_a_dark_page_prints_light_and_whole(browser, sample):
    page = browser.new_page(color_scheme="dark", viewport={"width": 700, "height": 900})
    page.goto((sample / "notebooks" / f"{FIRST}.html").as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    color = page.eval_on_selector("h1", "node => getComputedStyle(node).color")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminance(ground) - luminance(color) > 0.5
    cut = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length"
    page.eval_on_selector("div.highlight pre", "node => { node.textContent = 'wide '.repeat(100) }")
    assert page.eval_on_selector_all("pre", cut) == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.close()


def test_every_public_name_is_listed_and_found_by_the_search(browser, sample):
    text = BeautifulSoup((sample / "names.html").read_text(), "html.parser").get_text()
    assert all(
        name in text for name in ("nt_xent", "attention_weights", "VideoReader", "sora_nb.recipe.model")
    )
    assert "names.html" in search(browser, (sample / "search.html").as_uri() + "?q=attention_weights")


WRONG = """<!DOCTYPE html><html><body><article class="bd-article">
<script>console.error("a complaint")</script><script src="http://127.0.0.1:9/x.js"></script>
<div style="width: 3000px">wide</div><img src="data:image/png;base64,AA" style="background: white">
<span class="math">x</span><pre class="mermaid" data-drawn="light">flowchart</pre>
<video src="data:video/mp4;base64,AAAA"></video><a href="nowhere.html">lost</a><a href="#nowhere">lost</a></article></body></html>"""


def test_a_wrong_page_is_found_out(browser, tmp_path):
    path = tmp_path / "wrong.html"
    path.write_text(WRONG)
    seen = visit(browser, path.as_uri(), "light")
    assert any("a complaint" in line for line in seen.noise) and seen.asked == ["http://127.0.0.1:9/x.js"]
    assert len(seen.wider) == 2 and seen.noAlt and seen.brokenImages and seen.opaque
    assert seen.math > seen.drawnMath and seen.diagrams > seen.drawnDiagrams and seen.still == ["a video"]
    assert broken_links(path) == ["nowhere.html", "#nowhere"]
