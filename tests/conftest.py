"""Settings of every test run: threads for this process and for the kernels it starts, and which items go first."""

import os

import annotations
import hypothesis
import pytest

# Before torch is imported. Kernels and child processes inherit these.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

# The same examples in every run: red means that the code has changed. HYPOTHESIS_PROFILE=default draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Every annotation of the package is checked while the tests run. tests/test_annotations.py fails where that cannot be.
if annotations.AVAILABLE:
    annotations.install()

# Whole files are dealt to workers in this order, so the long ones start first and the short ones fill the gaps.
LONG_FIRST = ("test_book.py", ".ipynb", "test_mutations.py", "test_lab.py", "test_video", "test_data")


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests that look at pages: a process can hold one Playwright at a time."""
    from browser import FLAGS, browser_path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield browser
        browser.close()


def pytest_collection_modifyitems(items):
    """Sort files by LONG_FIRST; the order inside a file, which notebooks rely on, stays."""

    def rank(item):
        name = item.path.name
        return next((place for place, part in enumerate(LONG_FIRST) if part in name), len(LONG_FIRST))

    items.sort(key=rank)
