"""Files that appear whole or not at all, and digests."""

import hashlib
import os
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_nb.files import atomic, digest, file_digest


def listing(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        # In the same folder, for only there can a file take another's place at once; its name says what it is.
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.suffix == ".part"
        temporary.write_text("new")
    assert path.read_text() == "new" and listing(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error, before):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert listing(tmp_path) == (["a.txt"] if before else [])
    assert not before or path.read_text() == before


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic(path):
        pass
    assert path.read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_a_killed_process_leaves_the_old_file_and_a_part(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, sys; from sora_nb.files import atomic\n"
        "with atomic(sys.argv[1]) as t: t.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    (part,) = [name for name in listing(tmp_path) if name != "a.txt"]
    assert path.read_text() == "old" and part.endswith(".part")


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as slow:
        slow.write_text("slow")
        with atomic(str(path)) as quick:  # a path may be a string
            quick.write_text("quick")
        assert path.read_text() == "quick"
    assert path.read_text() == "slow" and listing(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_the_file_if_the_umask_lets_them(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode


def test_the_longest_legal_name_can_be_written(tmp_path):
    name = "é" * 125 + ".json"
    assert len(name.encode()) == 255
    with atomic(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert listing(tmp_path) == [name]


@given(st.lists(st.binary() | st.text(st.characters(codec="utf-8"))))
def test_digest_is_sha256_of_the_parts_in_a_row(parts):
    whole = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    assert digest(*parts) == hashlib.sha256(whole).hexdigest()


def test_file_digest_is_sha256_of_the_content_and_holds_little_of_it_at_a_time(tmp_path):
    data = bytes(range(256)) * 2**14  # 4 MB
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "empty").write_bytes(b"")
    tracemalloc.start()
    found = file_digest(tmp_path / "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == hashlib.sha256(data).hexdigest() and peak < 1_000_000
    assert file_digest(str(tmp_path / "empty")) == hashlib.sha256().hexdigest()
