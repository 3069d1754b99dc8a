"""The claims ledger and the receipts: what the book asserts, and where the numbers came from."""

import json
import os
import platform
import subprocess
from pathlib import Path

from IPython.display import display

from sora_nb.files import atomic

MIME = "application/vnd.sora-nb.claim+json"
VERDICTS = ("holds", "partly", "corrected", "refuted", "untestable")
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"


def claim(id: str, verdict: str, evidence: str) -> None:
    """Record what this chapter found about one claim of the articles, and show it.

    The book gathers these outputs from the executed notebooks into its claims page. Explained in chapter 03.

    Args:
        id: the claim's name in ``book/claims.yml``, such as "A1".
        verdict: holds, partly, corrected, refuted or untestable.
        evidence: one sentence, its numbers formatted from variables.

    Raises:
        ValueError: the verdict is none of the five.
    """
    if verdict not in VERDICTS:
        raise ValueError(
            f"claim {id} was given the verdict {verdict!r}; expected one of {', '.join(VERDICTS)}."
        )
    text = f"Claim {id}: {verdict}. {evidence}"
    html = f'<div class="claim" id="claim-{id}"><strong>Claim {id}: {verdict}.</strong> {evidence}</div>'
    record = {"id": id, "verdict": verdict, "evidence": evidence}
    display({"text/plain": text, "text/html": html, MIME: record}, raw=True)


def write_receipt(name: str, *, seeds: list[int], seconds: float, tier: str, numbers: dict) -> Path:
    """Write ``book/results/NAME.json``: the numbers of a recorded run and what produced them. Explained in chapter 03.

    Args:
        name: file name without extension.
        seeds: every seed that was run, not a selection.
        seconds: wall-clock time of the whole run.
        tier: "T0", "T1" or "T2".
        numbers: what was measured; plain JSON values.
    """
    import torch  # here, so that reading a receipt needs no torch

    cuda = torch.cuda.is_available()
    receipt = {
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "tier": tier,
        "seeds": list(seeds),
        "seconds": round(seconds, 1),
        "numbers": numbers,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(receipt, indent=1) + "\n")
    return path


def read_receipt(name: str) -> dict:
    """Read a receipt back. Explained in chapter 03.

    Raises:
        FileNotFoundError: no such receipt; the message says where it was looked for.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"No receipt {path}; run the command that writes it, or check the name.")
    return json.loads(path.read_text())


def _commit() -> str:
    """Short name of the commit, with "+changes" where a source that receipts come from differs from it or is new."""
    git = ["git", "-C", str(ROOT)]
    run = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if not run.stdout.strip():
        return "unknown"
    # Of the chapters only the sources: their executed pairs change with every run.
    sources = ["sora_nb", "scripts", "notebooks/*.py"]
    status = [*git, "status", "--porcelain", "--untracked-files=all", "--", *sources]
    changed = subprocess.run(status, capture_output=True, text=True, check=False).stdout
    return run.stdout.strip() + ("+changes" if changed else "")
