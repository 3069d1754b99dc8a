"""Two real CPU processes, started by accelerate launch, end as one process does that has the whole of each batch."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import distributed_fit
import distributed_loss
import pytest
import torch
import torch.distributed as dist
from test_features import World
from torch.testing import assert_close

from sora_nb import processes

HERE = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="process groups are killed the POSIX way"),
    pytest.mark.timeout(800),
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch(folder: Path) -> None:
    """Run the cases in two processes; kill all of them if they take longer than ten minutes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command += ["--main_process_ip=127.0.0.1", f"--main_process_port={free_port()}"]
    command += [str(HERE / "distributed_fit.py"), str(folder)]
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    run = subprocess.Popen(
        command,
        env=os.environ | settings | {"PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        said, _ = run.communicate()
        pytest.fail("the two processes hung:\n" + said[-2000:])
    assert run.returncode == 0, said[-4000:]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of the two processes found."""
    folder = tmp_path_factory.mktemp("two")
    launch(folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def same(found, wanted, name="", **tolerance):
    """Equal numbers, tensors and words, however deep; the message says where they are not."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), name
        for key in wanted:
            same(found[key], wanted[key], f"{name} {key}", **tolerance)
    elif isinstance(wanted, str):
        assert found == wanted, name
    else:
        found, wanted = torch.as_tensor(found), torch.as_tensor(wanted)
        assert_close(found, wanted, msg=lambda said: f"{name}: {said}", **tolerance)


EXACT = {"rtol": 0, "atol": 0}


def test_a_loss_on_gathered_rows_has_the_gradient_of_one_process(two):
    one = distributed_loss.cases()["whole"]
    assert len(one) > 10 and any(
        v.abs().max() > 1e-3 for n, v in one.items() if n.startswith("nt_xent encoder")
    )
    for rank in (0, 1):
        for split in ("4 clips here", "5 clips here"):
            same(two[rank]["loss"][split], one, f"process {rank}, {split}", rtol=1e-10, atol=1e-12)


def test_fit_ends_with_the_weights_losses_and_scores_of_one_process(two):
    one = distributed_fit.equal_to_one()
    assert [name for name, found in one.items() if "error" in found] == [
        "not finite"
    ]  # the others were trained
    moved = distributed_fit.Small().state_dict()["body.0.weight"]
    assert (one["single precision"]["weights"]["body.0.weight"] - moved).abs().max() > 1e-2
    for rank in (0, 1):
        same(two[rank]["equal"], one, f"process {rank},", rtol=0, atol=1e-6)
    same(two[0]["equal"], two[1]["equal"], "processes differ:", **EXACT)


def test_a_loss_that_is_not_finite_in_one_process_stops_all_with_one_message(two):
    for rank in (0, 1):
        assert (
            "The loss became nan in epoch 0, step 1, on clips " in two[rank]["equal"]["not finite"]["error"]
        )


def test_processes_share_the_order_of_the_clips_but_no_random_number(two):
    one = distributed_fit.drawn()
    ours, theirs = (process["drawn"] for process in two)
    for whole, first, second in zip(one, ours, theirs, strict=True):
        assert whole[3::2] == first[3:] and whole[4::2] == second[3:]
        assert whole[:3] == first[:3]
    numbers = [number for step in ours + theirs for number in step[:3]]
    assert len(set(numbers)) == len(numbers) == 24


def test_two_processes_go_on_exactly_where_they_were_broken_off(two):
    for rank in (0, 1):
        found = two[rank]["resumed"]
        assert found["broken off"] == {"error": "broken off"}
        same(found["resumed"], found["whole"], f"process {rank}", **EXACT)
    same(two[0]["resumed"]["whole"], two[1]["resumed"]["whole"], "processes differ:", **EXACT)


def test_processes_that_find_different_checkpoints_are_told(two):
    for rank in (0, 1):
        assert two[rank]["apart"]["error"].startswith("The processes found different checkpoints at ")


def test_two_processes_share_the_films_and_both_get_all_features(two, tmp_path):
    one = distributed_fit.kept(tmp_path)
    assert one["calls"] == 7 and [two[rank]["features"]["calls"] for rank in (0, 1)] == [4, 3]
    for rank in (0, 1):
        assert two[rank]["and again"]["calls"] == 0
        for found in (two[rank]["features"]["features"], two[rank]["and again"]["features"]):
            for mine, theirs in zip(found, one["features"], strict=True):
                assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("count", range(8))
def test_every_item_goes_to_one_process_and_comes_back_in_order(monkeypatch, count, n):
    worlds = [World(rank, n) for rank in range(n)]
    parts = [processes.shard(range(count), world) for world in worlds]
    assert sorted(sum(parts, [])) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    monkeypatch.setattr(dist, "all_gather_object", lambda out, _: out.__setitem__(slice(None), parts))
    for part, world in zip(parts, worlds, strict=True):
        assert processes.gathered(part, world) == list(range(count))
