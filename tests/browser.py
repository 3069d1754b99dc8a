"""Chromium for the tests that look at pages: where it lies, how it starts, and what its console says."""

import os
import re
import shutil
from pathlib import Path

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
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
            found.append(said.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: found.append(str(error.stack)))
    page.on(
        "response", lambda answer: answer.status >= 400 and found.append(f"{answer.status} for {answer.url}")
    )
    return found
