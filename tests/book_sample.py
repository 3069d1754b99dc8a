"""Two tiny executed chapters that use everything a chapter may use, written without running a kernel."""

import base64
import io
from pathlib import Path

import av
import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FIRST, SECOND = "01_video_is_not_a_stack_of_frames", "02_preprocessing"
CLAIM = "application/vnd.sora-nb.claim+json"
RECORD = {"id": "A2", "verdict": "refuted", "evidence": "Measured 0.50 where 0.91 was said."}

OPENING = r"""# A first chapter

Words, $x_t$ inside a line, and a citation {cite:p}`vaswani2017`.

$$h_t = \sum_k w_k x_{t-k}$$ (eq-01-sample)

See {numref}`fig-01-line`, {eq}`eq-01-sample`, {chapter}`02`, {chapter}`the reach of attention <99>` and {claim}`A2`."""

DIAGRAM = """## A diagram

```mermaid
flowchart LR
  accTitle: Frames to a vector
  accDescr: Frames go through a network and become one vector
  A[frames] --> B[network] --> C[vector]
```"""

EXERCISE = "```{exercise}\n:label: ex-01-reverse\n\nReverse the clip. What is $x_{T-1-t}$?\n```"
SOLUTION = "````{solution} ex-01-reverse\n:class: dropdown\n\n```python\nclip[::-1]\n```\n````"
CLOSING = """```{margin} In the margin
A short aside.
```

| a | b |
|---|---|
| 1 | 2 |

## References

```{bibliography}
:filter: docname in docnames
```"""


def picture() -> str:
    """Return a PNG of a rising line with a transparent background, in base64."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 2.8), facecolor="none")
    ax.set_facecolor("none")
    ax.plot([1, 2, 4])
    data = io.BytesIO()
    fig.savefig(data, format="png")
    plt.close(fig)
    return base64.b64encode(data.getvalue()).decode()


def film() -> str:
    """Return a <video> of a square that moves right for one second."""
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for t in range(8):
            frame = np.full((64, 64, 3), 40, np.uint8)
            frame[20:44, 5 * t : 5 * t + 24] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    source = base64.b64encode(data.getvalue()).decode()
    return f'<video loop muted playsinline controls height="128" aria-label="a square moves right" src="data:video/mp4;base64,{source}"></video>'


def code(source: str, data: dict | None = None, text: str = "", **metadata):
    """Return an executed code cell that shows some data or printed some text."""
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    outputs += [new_output("display_data", data={"text/plain": "shown"} | data)] if data else []
    return new_code_cell(source, execution_count=1, outputs=outputs, metadata=metadata)


def claim_cell(record: dict):
    """Return a cell as sora_nb.ledger.claim leaves it."""
    html = f'<div class="claim" id="claim-{record["id"]}"><strong>Claim {record["id"]}.</strong> {record["evidence"]}</div>'
    return code("claim(...)", {"text/html": html, CLAIM: record})


def figure(name: str, caption: str, alt: str) -> dict:
    return {"figure": {"name": name, "caption": caption}, "image": {"alt": alt}}


def write_chapter(folder: Path, name: str, cells: list) -> Path:
    """Write an executed chapter and its source, and return the notebook's path."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / f"{name}.py").write_text("# %% [markdown]\n# # A chapter\n")
    return folder / f"{name}.ipynb"


def write_sample(folder: Path) -> Path:
    """Write both chapters into a folder and return it."""
    line = figure("fig-01-line", "The line rises, $y = x^2$.", "A line that rises")
    first = [
        new_markdown_cell(OPENING),
        new_markdown_cell(DIAGRAM),
        code("plot()", {"image/png": picture()}, mystnb=line),
        code(
            "show_video(clip)",
            {"text/html": film()},
            mystnb=figure("fig-01-film", "The square moves right.", ""),
        ),
        code("long = " + " + ".join(["a_long_name"] * 30), text="wide " * 60 + "\n"),
        claim_cell(RECORD),
        new_markdown_cell(EXERCISE),
        new_markdown_cell(SOLUTION),
        new_markdown_cell(CLOSING),
    ]
    write_chapter(folder, FIRST, first)
    second = [
        new_markdown_cell("# A second chapter\n\nBack to {chapter}`01` and {numref}`fig-01-line`."),
        code("print(1 + 1)", text="2\n"),
    ]
    write_chapter(folder, SECOND, second)
    return folder
