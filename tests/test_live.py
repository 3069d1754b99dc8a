"""The page that runs the network, and the landing page's moving part, in Chromium from disk.

The pages are taken from their Markdown and laid bare, so that no book has to be built; tests/test_book.py opens them as
the book has them.
"""

import base64
import gzip
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import pytest
import torch
from browser import OVERFLOW, complaints

from sora_nb import ledger, recipe
from sora_nb.data import motion
from sora_nb.data.motion_render import coverage, digit_images, digit_range, paint
from sora_nb.transforms import to_clip
from sora_nb.video import write_video

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "book" / "_static"
FRAME = """<!DOCTYPE html><html lang="en" data-theme="THEME"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="_static/book.css"><style>
html[data-theme=light] {{ --pst-color-text-base: #222; --page: #fff }} html[data-theme=dark] {{ --pst-color-text-base: #ddd; --page: #14181e }}
body {{ background: var(--page); color: var(--pst-color-text-base); max-width: 60rem; margin: auto; padding: 1rem; font-family: sans-serif }}
</style></head><body><article class="bd-article">{body}</article></body></html>"""

pytestmark = pytest.mark.xdist_group("book")  # with the other tests that look at pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The raw HTML of the two pages, with the book's own files beside it."""
    where = tmp_path_factory.mktemp("pages")
    (where / "_static").symlink_to(STATIC)
    for name in ("live", "intro"):
        text = (ROOT / "book" / f"{name}.md").read_text()
        body = "\n".join(re.findall(r"```\{raw\} html\n(.*?)```", text, re.S))
        for theme in ("light", "dark"):
            page = FRAME.replace("THEME", theme).format(body=body)
            (where / f"{name}-{theme}.html").write_text(page)
    return where


def opened(browser, address: Path, script: str = "", **options):
    """A page from disk, what it complained of, and what it asked for."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
    page.add_init_script(script)
    noise, asked = complaints(page), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address.as_uri())
    return page, noise, asked


def asked_elsewhere(asked: list[str]) -> list[str]:
    return [url for url in asked if urlsplit(url).scheme not in ("file", "data", "blob")]


@pytest.fixture(scope="module")
def live(browser, folder):
    """The page, opened once; each test starts a clip of its own."""
    page, noise, asked = opened(browser, folder / "live-light.html")
    page.wait_for_selector("#live-root[data-drawn]")
    before = list(asked)
    yield page, noise, asked, before
    page.close()


def drag(page, start, end, steps: int = 10) -> None:
    """A slow straight line over the board, from and to shares of its side."""
    box = page.locator("#live-board").bounding_box()
    (x, y), (u, v) = ((box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, steps + 1):
        page.mouse.move(x + (u - x) * step / steps, y + (v - y) * step / steps)
        page.wait_for_timeout(85)
    page.mouse.up()
    page.evaluate("live.settled()")


def slide(page, name: str, start: float, end: float, steps: int = 10) -> None:
    """Put a slider somewhere, then press on it and move it as a hand does."""
    for step in range(steps + 1):
        page.eval_on_selector(
            f"#live-{name}",
            """(slider, [value, press]) => {
              if (press) slider.dispatchEvent(new PointerEvent("pointerdown"));
              slider.value = value;
              slider.dispatchEvent(new Event("input"));
            }""",
            [start + (end - start) * step / steps, step == 1],
        )
        page.wait_for_timeout(85)
    page.evaluate("live.settled()")


def winner(page) -> str:
    return page.locator("#live-bars .live-best .live-name").inner_text()


MOVES = {
    "left": lambda page: drag(page, (0.6, 0.5), (0.2, 0.5)),
    "down": lambda page: drag(page, (0.5, 0.4), (0.5, 0.8)),
    "grow": lambda page: slide(page, "side", 0.3, 0.9),
    "shrink": lambda page: slide(page, "side", 0.9, 0.3),
    "counter-clockwise": lambda page: slide(page, "angle", -60, 100),
    "vanish": lambda page: slide(page, "opacity", 1, 0.1),
    "split": lambda page: slide(page, "apart", 0.05, 0.6),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_motion_made_by_hand_wins(live, move):
    page, *_ = live
    page.click("#live-home")
    MOVES[move](page)
    assert winner(page) == move
    assert page.inner_text("#live-answer").startswith(f"{move}, ")


def test_the_network_loads_when_touched_and_asks_nothing_of_the_network(live):
    page, noise, asked, before = live
    drag(page, (0.5, 0.5), (0.6, 0.5), 2)
    assert not any("onnxruntime" in url for url in before)
    assert sum("onnxruntime" in url for url in asked) == 2
    assert noise == [] and asked_elsewhere(asked) == []


@pytest.fixture(scope="module")
def made():
    return recipe.load(ROOT / "data" / "checkpoints" / "page")


def test_its_numbers_are_pytorchs_on_fifty_clips(live, made):
    page, *_ = live
    spec = motion.MotionSpec()
    clips = np.stack([motion.render(spec, "test", i)[0] for i in range(50)])
    wanted = []
    with torch.no_grad():
        state = None
        for frame in to_clip(torch.from_numpy(clips)).unbind(1):
            scores, state = made.model.step(frame, state)
            wanted.append((scores / made.temperature).softmax(-1))
    wanted = torch.stack(wanted, 1)  # (N, T, classes)
    got = page.evaluate(
        """async (text) => {
        const data = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)), frame = 3072, answers = [];
        for (let clip = 0; clip < 50; clip++)
          answers.push(await live.run(Array.from({length: 16}, (_, t) => data.subarray((16 * clip + t) * frame, (16 * clip + t + 1) * frame))));
        return answers;
      }""",
        base64.b64encode(clips.tobytes()).decode(),
    )
    assert (torch.tensor(got) - wanted).abs().max() < 1e-4
    labels = torch.arange(50) % 12
    assert (wanted[:, -1].argmax(-1) == labels).float().mean() > 0.85


def test_the_board_is_drawn_as_the_motion_set_is(live):
    page, *_ = live
    at = dict(x=0.42, y=0.55, side=0.6, angle=25, opacity=0.8)
    digit = next(i for i in digit_range("test") if digit_images()[1][i] == 3)
    ink = coverage(digit, {key: np.array([float(value)]) for key, value in at.items()}, 32)
    color = page.evaluate("SoraBoard.COLOR")
    wanted = 255 * paint(np.zeros((1, 32, 32, 3)), ink, color)[0]
    got = page.evaluate(
        """async (at) => {
        const glyphs = await Sora.unpack(SORA_MODEL.glyphs), n = SoraBoard.GLYPH ** 2;
        return Array.from(SoraBoard.draw(glyphs.subarray(3 * n, 4 * n), {...at, apart: 0}, 32));
      }""",
        at,
    )
    assert np.abs(np.array(got).reshape(32, 32, 3) - wanted).max() <= 1.5


def test_keys_move_the_digit_and_are_told_to_those_who_listen(live):
    page, *_ = live
    page.click("#live-home")
    page.focus("#live-board")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(90)
    page.wait_for_function(
        "document.getElementById('live-status').textContent.includes('network says: right')"
    )
    assert winner(page) == "right"


def test_a_clip_plays_and_its_true_class_is_told(live):
    page, *_ = live
    for _ in range(16):
        page.click("#live-step")
    page.wait_for_function(
        "/^The clip is left; the network says/.test(document.getElementById('live-status').textContent)"
    )
    assert page.inner_text("#live-count").startswith("frame 16 of this clip")


def test_a_film_is_read_and_a_broken_one_is_refused_in_a_sentence(live, tmp_path):
    page, *_ = live
    clip, truth = motion.render(motion.MotionSpec(size=64, background="black"), "test", 13)
    film = write_video(tmp_path / "film.mp4", clip, 8.0)
    page.set_input_files("#live-file", film)
    page.wait_for_function(
        "document.getElementById('live-status').textContent.includes('film.mp4: at its end')", timeout=20000
    )
    assert page.inner_text("#live-count").startswith("frame 16 of this clip")
    assert winner(page) == motion.CLASSES[truth["label"]]
    (tmp_path / "text.mp4").write_text("no film")
    page.set_input_files("#live-file", tmp_path / "text.mp4")
    page.wait_for_function(
        "document.getElementById('live-status').textContent.includes('cannot decode text.mp4')"
    )


def test_a_shape_of_ones_own_moves_too(live):
    page, *_ = live
    page.select_option("#live-shape", "own")
    for line in (((0.35, 0.35), (0.65, 0.35)), ((0.5, 0.35), (0.5, 0.7))):
        drag(page, *line, steps=3)
    page.click("#live-done")
    drag(page, (0.5, 0.5), (0.5, 0.1))
    assert winner(page) == "up"
    page.select_option("#live-shape", "3")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone(browser, folder, theme):
    page, noise, asked = opened(
        browser, folder / f"live-{theme}.html", viewport={"width": 390, "height": 844}, has_touch=True
    )
    page.wait_for_selector("#live-root[data-drawn]")
    assert page.evaluate(OVERFLOW) <= 0
    if theme == "dark":
        drag(page, (0.6, 0.5), (0.2, 0.5))
        assert winner(page) == "left" and page.evaluate(OVERFLOW) <= 0
    small = page.eval_on_selector_all(
        ".live button:not([hidden]), .live-button, .live select",
        "all => all.map(e => e.getBoundingClientRect().height)",
    )
    assert min(small) >= 24 and noise == []
    page.close()


def test_a_camera_is_watched_until_it_is_stopped(live):
    page, noise, asked, _ = live
    page.click("#live-camera")
    page.wait_for_function("/^frame [5-9] /.test(document.getElementById('live-count').textContent)")
    page.click("#live-stop")
    page.wait_for_function("document.getElementById('live-status').textContent === 'Stopped.'")
    assert not page.is_visible("#live-stop") and noise == [] and asked_elsewhere(asked) == []


def test_without_a_camera_there_is_a_sentence_and_no_button(browser, folder):
    page, noise, _ = opened(
        browser,
        folder / "live-light.html",
        "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})",
    )
    assert not page.is_visible("#live-camera") and page.is_visible("#live-no-camera") and noise == []
    page.close()


def test_every_control_has_a_name(live):
    page, *_ = live
    nameless = """() => [...document.querySelectorAll('.live :is(button, input, select, canvas)')]
      .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.id)"""
    assert page.evaluate(nameless) == []


# ------------------------------------------------------------------------------------------- the landing page


def test_the_landing_page_moves_and_stops(browser, folder):
    page, noise, asked = opened(browser, folder / "intro-light.html")
    page.wait_for_selector("#landing[data-moving=yes]")
    look = "document.querySelector('.landing-code').toDataURL()"
    first = page.evaluate(look)
    page.wait_for_function(f"{look} !== {first!r}")
    page.click("#landing-pause")
    still = page.evaluate(look)
    page.wait_for_timeout(400)
    assert page.evaluate(look) == still and page.inner_text("#landing-pause") == "Play"
    assert noise == [] and asked_elsewhere(asked) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(OVERFLOW) <= 0
    page.close()


def test_the_landing_page_stands_still_where_less_motion_is_asked_for(browser, folder):
    page, _, _ = opened(browser, folder / "intro-dark.html", reduced_motion="reduce")
    page.wait_for_selector("#landing[data-moving=no]", timeout=8000)
    names = page.locator("#landing [data-class]").all_inner_texts()
    assert len(names) == 4 and set(names) <= set(motion.CLASSES)
    page.click("#landing-pause")
    page.wait_for_selector("#landing[data-moving=yes]")
    page.close()


# ------------------------------------------------------------------------------------------- files


def test_what_the_pages_load_is_small():
    sizes = {path.name: path.stat().st_size for path in (STATIC / "live").glob("*")}
    runtime = sum(path.stat().st_size for path in (STATIC / "vendor" / "onnxruntime").iterdir())
    assert sizes["landing_data.js"] < 400_000
    assert sum(sizes.values()) - sizes["landing_data.js"] + runtime < 6_000_000


@pytest.mark.parametrize("plan", ["live", "page"])
def test_a_checkpoint_is_small_and_in_its_receipt(plan):
    folder = ROOT / "data" / "checkpoints" / plan
    assert sum(file.stat().st_size for file in folder.iterdir()) < 700_000
    made = recipe.load(folder)
    assert made.design == "C" and made.model.center == "causal"
    assert ledger.read_receipt(f"{plan}_model")["numbers"] == made.facts
    assert made.facts["parameters"] < 150_000


def test_the_table_of_the_page_is_the_receipts():
    rows = re.findall(r"^\| (?:level|as this page).*", (ROOT / "book" / "live.md").read_text(), re.M)
    numbers = ledger.read_receipt("page_model")["numbers"]
    wanted = [
        [*(t["accuracy after frames"][n] for n in ("4", "8", "16")), *t["interval"]]
        for t in numbers["test"].values()
    ]
    shown = [[float(number) for number in re.findall(r"\d\.\d\d", row)] for row in rows]
    assert shown == [[round(value, 2) for value in row] for row in wanted]
    text = (ROOT / "book" / "live.md").read_text()
    assert f"{numbers['updates']:,} updates" in text and f"{numbers['parameters']:,} parameters" in text


def test_the_page_holds_the_checkpoint(made):
    """The very file in the page answers as the checkpoint does, whichever version wrote it."""
    text = (STATIC / "live" / "model.js").read_text()
    value = json.loads(text[text.index("{") : text.rindex(";")])
    session = onnxruntime.InferenceSession(gzip.decompress(base64.b64decode(value["onnx"])))
    assert value["classes"] == made.classes
    frames = torch.rand(4, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fed = {name: tensor.numpy() for name, tensor in made.model.start(frames[0])._asdict().items()}
    for name, began in fed.items():
        told = value["state"][name]
        assert told["shape"] == list(began.shape) and (began == (-np.inf if told["lowest"] else 0)).all()
    state = None
    for frame in frames:
        answer, *new = session.run(None, {"frame": frame.numpy(), **fed})
        fed = dict(zip(fed, new, strict=True))
        with torch.no_grad():
            scores, state = made.model.step(frame, state)
        wanted = (scores / made.temperature).softmax(-1).numpy()
        assert np.abs(answer - wanted).max() < 1e-5
