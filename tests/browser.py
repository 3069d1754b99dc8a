"""Chromium for the tests that look at pages: where it lies, how it starts, and what its console says."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

WIDTHS = (400, 1400)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a camera that films a test picture, and nobody who is asked first
    "--use-fake-ui-for-media-stream",
]


def browser_path() -> str:
    """The Chromium that SORA_NB_CHROMIUM names, or the one installed; without one the test fails."""
    named = os.environ.get("SORA_NB_CHROMIUM")
    found = named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found or not Path(found).exists():
        pytest.fail(
            "No Chromium to look at the pages with: install the package chromium, or set SORA_NB_CHROMIUM to one."
        )
    return found


def complaints(page) -> list[str]:
    """A list that fills with what goes wrong in a page: errors in its console, exceptions, answers of 400 and over.

    Of the warnings only those count that say a script was made for other versions; others say that the machine is slow.
    """
    found = []
    versions = re.compile(r"satisf|Failed to create module")

    def listen(said):
        if said.type == "error" or (said.type == "warning" and versions.search(said.text)):
            found.append(f"{said.text} {said.location['url'][:200]}")

    page.on("console", listen)
    page.on("pageerror", lambda error: found.append(str(error.stack)))
    page.on(
        "response", lambda answer: answer.status >= 400 and found.append(f"{answer.status} for {answer.url}")
    )
    return found


DRAWN = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const end = Date.now() + 8000;
  while (document.querySelector("pre.mermaid:not([data-drawn])") && Date.now() < end) await new Promise(r => setTimeout(r, 50));
}"""

LOOK = """() => ({
  math: document.querySelectorAll(".math").length,
  drawnMath: document.querySelectorAll(".math mjx-container > svg").length,
  badMath: document.querySelectorAll("[data-mjx-error], mjx-merror").length,
  diagrams: document.querySelectorAll("pre.mermaid").length,
  drawnDiagrams: [...document.querySelectorAll("pre.mermaid svg")].filter(s => s.querySelector("title, desc") && !s.querySelector(".error-text")).length,
  noAlt: [...document.querySelectorAll("img")].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 80)),
  brokenImages: [...document.querySelectorAll("img")].filter(i => i.complete && !i.naturalWidth && i.offsetParent).map(i => i.src.slice(0, 80)),
  opaque: [...document.querySelectorAll(".bd-article img")].filter(i => getComputedStyle(i).filter !== "none" || !/, 0\\)$/.test(getComputedStyle(i).backgroundColor)).length,
  background: getComputedStyle(document.body).backgroundColor,
  text: getComputedStyle(document.body).color,
})"""

# Side bars slide when a window changes, so an overflow counts only if it stays.
OVERFLOW = """async () => {
  const over = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
  for (const end = Date.now() + 3000; over() > 0 && Date.now() < end; ) await new Promise(r => setTimeout(r, 50));
  return over();
}"""

PLAY = """async () => {
  const still = [];
  for (const v of document.querySelectorAll("video")) {
    v.muted = true;
    await v.play().catch(() => {});
    const from = v.currentTime, end = Date.now() + 4000;
    while ((v.readyState < 2 || v.currentTime === from) && Date.now() < end) await new Promise(r => setTimeout(r, 30));
    if (v.readyState < 2 || v.currentTime === from) still.push(v.getAttribute("aria-label") || "a video");
    v.pause();
  }
  return still;
}"""


def visit(browser, address: str, scheme: str) -> SimpleNamespace:
    """Open a page and report what it asked for, complained of and drew."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTHS[-1], "height": 900})
    noise, asked = complaints(page), []
    page.on("requestfailed", lambda request: noise.append(f"failed: {request.url[:120]}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.evaluate(DRAWN)
    seen = SimpleNamespace(
        noise=noise,
        asked=[url for url in asked if urlsplit(url).scheme not in ("file", "data", "blob")],
        still=page.evaluate(PLAY) if scheme == "light" else [],
        **page.evaluate(LOOK),
    )
    seen.wider = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        over = page.evaluate(OVERFLOW)
        seen.wider += [f"{over} px over {width}"] if over > 0 else []
    page.close()
    return seen


def search(browser, address: str) -> list[str]:
    """Open a page of search results and return where they lead."""
    page = browser.new_page()
    noise = complaints(page)
    page.goto(address)
    page.wait_for_function(
        "/found|did not match/.test(document.querySelector('.search-summary, #search-results p')?.textContent)"
    )
    found = page.eval_on_selector_all(
        "ul.search li a", "links => links.map(link => link.getAttribute('href'))"
    )
    page.close()
    assert noise == []
    return found
