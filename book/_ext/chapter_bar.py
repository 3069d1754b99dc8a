"""The line under a chapter's title: measured run time, downloads, and launch links where a repository is known."""

import json
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from chapters import CHAPTER


def launch_links(repository: str, path: str) -> list[tuple[str, str]]:
    """Return (label, address) for hosted notebooks: Colab reads GitHub only, Binder any git host."""
    parts = urlsplit(repository)
    if not repository:
        return []
    links = [
        (
            "Open in Binder",
            f"https://mybinder.org/v2/git/{quote(repository, safe='')}/HEAD?urlpath=lab/tree/{path}",
        )
    ]
    if parts.hostname == "github.com":
        links.insert(
            0, ("Open in Colab", f"https://colab.research.google.com/github{parts.path}/blob/HEAD/{path}")
        )
    return links


def run_time(times: dict, stem: str) -> str:
    """Return the measured processor time in words, or "" where none was recorded."""
    run = times.get(stem, {})
    if "processor_seconds" not in run:  # an older record holds seconds by the clock on the wall
        return ""
    return f"Takes <strong>{run['processor_seconds']:.0f} s</strong> of one CPU core ({escape(run['tier'])})"


def bar(app, docname: str) -> str:
    """Return the HTML of the line."""
    stem = Path(docname).name
    source = Path(app.srcdir, "_extra", f"{docname}.py")
    items = [run_time(app.config.sora_chapter_times, stem)]
    items += [f'<a href="{stem}.ipynb" download>Notebook (.ipynb)</a>']
    items += [f'<a href="{stem}.py" download>Source (.py)</a>'] if source.exists() else []
    items += [
        f'<a href="{escape(url)}">{text}</a>'
        for text, url in launch_links(app.config.sora_repository_url, f"{docname}.ipynb")
    ]
    return f'<p class="chapter-bar">{"".join(f"<span>{item}</span>" for item in items if item)}</p>'


def add_bar(app, pagename, templatename, context, doctree) -> None:
    if CHAPTER.fullmatch(pagename) and "body" in context:
        context["body"] = context["body"].replace("</h1>", "</h1>\n" + bar(app, pagename), 1)


def read_settings(app, config) -> None:
    """Read the run times, and show the repository, if known, as an icon on every page."""
    times = Path(app.srcdir, "results", "chapter_times.json")
    config.sora_chapter_times = json.loads(times.read_text()) if times.exists() else {}
    if config.sora_repository_url:
        icon = {"name": "Repository", "url": config.sora_repository_url, "icon": "fa-brands fa-git-alt"}
        config.html_theme_options["icon_links"] = [icon]


def setup(app) -> dict:
    app.add_config_value("sora_repository_url", "", "html")
    app.add_config_value("sora_chapter_times", {}, "html")
    app.connect("config-inited", read_settings)
    app.connect("html-page-context", add_bar)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
