"""Two real CPU processes, started by accelerate launch, give the loss and gradients of one process with the whole batch."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import distributed_loss
import pytest
import torch
from torch.testing import assert_close

HERE = Path(__file__).resolve().parent


def launch(output: Path) -> dict:
    """Run the script beside this test in two processes; kill all of them if they take longer than 55 seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
    ]
    command += [
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_ip=127.0.0.1",
        f"--main_process_port={port}",
    ]
    command += [str(HERE / "distributed_loss.py"), str(output)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(HERE.parent),
    }
    run = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=55)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        said, _ = run.communicate()
        pytest.fail("the two processes hung:\n" + said[-2000:])
    assert run.returncode == 0, said[-4000:]
    return torch.load(output, weights_only=True)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are killed the POSIX way")
@pytest.mark.timeout(120)
def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    two = launch(tmp_path / "two.pt")
    assert "[2, 3] rows" in two.pop("refusal")  # unequal shares are named, not waited for
    model = distributed_loss.make()
    one = distributed_loss.results(model, distributed_loss.Projected(model), *distributed_loss.views())
    assert_close(two.pop("losses"), one["nt_xent"].expand(2))  # every process reports the whole batch's loss
    assert set(one) == set(two) and len(one) > 10
    for name in one:
        assert_close(two[name], one[name], rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
    assert any(one[n].abs().max() > 1e-3 for n in one if n.startswith("nt_xent encoder"))
