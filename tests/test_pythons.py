"""What `make test-pythons` finds and says; the studies themselves are long."""

import os
import sys

import pytest
import pythons
from pythons import Results
from small import ROOT

FIRST = Results("3.11.7", "fused", "2.13.0", {"train/a": "1", "train/b": "2", "tables/c": "3"})


def test_a_python_that_does_not_run_is_not_here(tmp_path):
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert pythons.executable(str(shim)) is None
    assert pythons.executable("python3.99") is None
    assert pythons.executable(sys.executable) == sys.executable


@pytest.mark.parametrize("names", [["python3.99"], [sys.executable, "python3.99"]])
def test_one_python_is_not_compared_with_itself(names, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pythons.py", *names])
    with pytest.raises(
        SystemExit, match=f"two Pythons are needed.* of these {len(names) - 1} is here"
    ):
        pythons.main()
    assert "python3.99: not here" in capsys.readouterr().out


def test_a_copy_has_new_files_and_none_that_git_ignores(tmp_path):
    folder = pythons.checkout(tmp_path)
    assert (folder / "tests" / "test_pythons.py").read_bytes() == (
        ROOT / "tests" / "test_pythons.py"
    ).read_bytes()
    assert os.access(folder / ".ci" / "run", os.X_OK) == os.access(ROOT / ".ci" / "run", os.X_OK)
    assert not (folder / ".venv").exists() and not list(folder.rglob("*.so"))


def test_equal_files_are_counted_and_others_named():
    files = {"train/a": "1", "train/b": "another", "tables/d": "3"}
    assert pythons.comparison(Results("3.12.1", "fused", "2.13.0", files), FIRST).splitlines() == [
        "3.12.1: files with the bytes of 3.11.7: train 1 of 2, evaluate 0 of 0, "
        "baselines 0 of 0, tables 0 of 2, figures 0 of 0",
        "  different: tables/c",
        "  different: tables/d",
        "  different: train/b",
    ]
