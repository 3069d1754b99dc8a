"""Proof that the tests can fail: breaks of the package, each of which must turn a test red."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import mutate  # noqa: E402  (a script's folder is not a package)
from breaks import breaks  # noqa: E402


@pytest.mark.timeout(3000)  # hundreds of breaks, some seconds each
@pytest.mark.skipif(not hasattr(os, "fork"), reason="scripts/mutate.py forks")
def test_every_named_break_turns_its_test_red():
    command = [sys.executable, str(ROOT / "scripts" / "mutate.py"), "--quick", "--assume-green"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    print(run.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="scripts/mutate.py forks")
def test_a_break_that_nothing_notices_is_reported(tmp_path, capsys):
    (tmp_path / "sora_nb").mkdir()
    (tmp_path / "sora_nb" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "test_blind.py").write_text("def test_blind(): pass\n")
    (tmp_path / "test_sees.py").write_text("import sora_nb\ndef test_sees(): assert sora_nb.x == 1\n")
    broken = mutate.Break("sora_nb/__init__.py", 1, "1", "2", "x = 2\n")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from pathlib import Path; import mutate\n"
        f"tree = Path({str(tmp_path)!r}); broken = mutate.Break('sora_nb/__init__.py', 1, '1', '2', 'x = 2\\n')\n"
        "print([mutate.try_break(tree, broken, [test], 60) for test in ('test_blind.py', 'test_sees.py')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout.strip() == "['green', 'red']", run.stdout + run.stderr
    assert (tmp_path / "sora_nb" / "__init__.py").read_text() == "x = 1\n"
    assert mutate.report([(broken, "green"), (broken, "red"), (broken, "slow")]) == 1
    assert "SURVIVED" in (shown := capsys.readouterr().out) and "killed 2 of 3" in shown


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("y = a < b", "(a <= b)"),
        ("y = a + b", "(a - b)"),
        ("y = a and not b", "(a or (not b))"),
        ("y = f(a, b)", "(f(b, a))"),
        ("y = 3", "(4)"),
        ("y = True", "(False)"),
        ("y = a if c else b", "(b if c else a)"),
        ("f(a)", "pass"),
        ("y += 1", "y -= 1"),
        ("raise ValueError('no')", "pass"),
    ],
)
def test_each_kind_of_break_is_made(line, broken, tmp_path):
    path = tmp_path / "m.py"
    path.write_text(f"def g(a, b, c, y=None):\n    é = 'é'\n    {line}\n")
    made = breaks(path, tmp_path)
    want = [ast.dump(ast.parse(broken))]
    assert want[0] in [ast.dump(ast.parse(b.new)) for b in made]
    assert all(ast.parse(b.text) for b in made)


def test_words_annotations_and_marked_lines_are_left_alone(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(
        '"""Doc."""\ndef g(x: Literal[1]) -> Literal[2]:\n    """D."""\n    return x + 1  # no mutate\n'
    )
    assert breaks(path, tmp_path) == []


def test_the_sample_is_the_same_for_the_same_seed():
    found = [mutate.Break("f", line, "a", "b", "") for line in range(50)]
    one, again, other = (
        mutate.sample(found, 10, 0),
        mutate.sample(found[::-1], 10, 0),
        mutate.sample(found, 10, 1),
    )
    assert one == again != other and len(one) == 10


def test_a_module_finds_the_tests_that_import_it():
    assert "tests/test_attention.py" in mutate.related("sora_nb/layers/attention.py")
    assert "tests/test_training.py" in mutate.related("sora_nb/training.py")


def test_every_module_has_tests_that_go_with_it():
    files = [
        p.relative_to(ROOT).as_posix() for p in (ROOT / "sora_nb").rglob("*.py") if p.name != "__init__.py"
    ]
    assert [file for file in files if not mutate.related(file)] == []
    assert all((ROOT / test).exists() for tests in mutate.ALSO.values() for test in tests)


def test_only_chooses_among_the_named_breaks(monkeypatch, tmp_path):
    text = """
    - {file: a/one.py, old: x, new: y, test: t}
    - {file: b/two.py, old: x, new: y, test: [t, u]}
    - {file: b/stale.py, old: z, new: y, test: t}
    """
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.setattr(mutate, "LISTED", tmp_path / "listed.yml")
    mutate.LISTED.write_text(text)
    for name in ("a/one.py", "b/two.py", "b/stale.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert [(b.file, b.text, tests) for b, tests in mutate.listed("two")] == [("b/two.py", "y\n", ["t", "u"])]
    assert [b.file for b, _ in mutate.listed("a/")] == ["a/one.py"]
    with pytest.raises(SystemExit, match="'z' occurs 0 times in b/stale.py"):
        mutate.listed()
