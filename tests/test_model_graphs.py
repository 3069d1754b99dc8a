"""Every model exports with a dynamic batch and compiles as one graph, in a process without the checks of annotations."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sora_nb import models


@pytest.fixture(scope="module")
def compiled():
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, str(here / "compile_models.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=here.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("how", ["exported", "compiled"])
def test_export_with_a_dynamic_batch_and_fullgraph_compilation(compiled, how):
    """The largest difference between a model and its graph, on a batch of another size for exported ones."""
    gaps = {name: gap[how] for name, gap in compiled.items()}
    assert {name.split()[0] for name in gaps} == set(models.__all__)
    assert max(gaps.values()) < 1e-4, gaps
