"""tests/user_code.py: what a user writes runs, has the types that it says, and is the whole public API."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pygpt

USER_CODE = Path(__file__).with_name("user_code.py")


@pytest.fixture
def user_code() -> ModuleType:
    spec = importlib.util.spec_from_file_location("user_code", USER_CODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs(user_code: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user_code.main(tmp_path)
    assert "leave no room for a new one" in capsys.readouterr().out


def test_it_has_the_types_that_it_says() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(USER_CODE)]
    run = subprocess.run(command, cwd=USER_CODE.parents[1], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_it_uses_the_whole_api() -> None:
    words = set(re.findall(r"\w+", USER_CODE.read_text(encoding="utf-8")))
    names = {name for name in pygpt.__all__ if not name.startswith("_")}
    for name in ("Model", "Session", "Stream", "CancelToken", "Completion", "Piece", "SamplingParams"):
        own = vars(getattr(pygpt, name))
        names |= {attribute for attribute in own if not attribute.startswith("_")} - {"count", "index"}
    typed_by_use = {"TokenLogprob"}  # what iterating gives
    assert names - words == typed_by_use
