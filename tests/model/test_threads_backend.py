"""Where threads come from: pygpt's own or OpenMP's, chosen by argument and by environment."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pygpt import Model, _core
from pygpt.cli._app import app

every_backend = pytest.mark.parametrize("backend", _core.threads_backends())


def test_it_is_chosen(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYGPT_THREADS_BACKEND", raising=False)
    assert _core.threads_backends()[0] == "own"
    assert Model.load(gpt2_folder).threads_backend == "own"
    for name in _core.threads_backends():
        assert Model.load(gpt2_folder, threads_backend=name).threads_backend == name  # type: ignore[arg-type]
        monkeypatch.setenv("PYGPT_THREADS_BACKEND", name)
        assert Model.load(gpt2_folder).threads_backend == name
        assert Model.load(gpt2_folder, threads_backend="own").threads_backend == "own"  # before the variable
        shown = CliRunner().invoke(app, ["info"]).stdout
        assert f"backend       {name} (of threads; this machine runs {', '.join(_core.threads_backends())})" in shown
    monkeypatch.setenv("PYGPT_THREADS_BACKEND", "")
    assert Model.load(gpt2_folder).threads_backend == "own"


def test_an_unknown_one_is_refused(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="threads_backend must be one of own, openmp, not 'tbb'"):
        Model.load(gpt2_folder, threads_backend="tbb")  # type: ignore[arg-type]
    monkeypatch.setenv("PYGPT_THREADS_BACKEND", "OpenMP")
    with pytest.raises(ValueError, match="PYGPT_THREADS_BACKEND='OpenMP': is not a backend; allowed are 'own' and"):
        Model.load(gpt2_folder)


def test_one_that_is_missing_is_explained(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygpt._openmp", None)  # importing it fails
    assert _core.threads_backends() == ["own"]
    with pytest.raises(ValueError, match="threads_backend='openmp': pygpt was built by a compiler without OpenMP"):
        Model.load(gpt2_folder, threads_backend="openmp")


@every_backend
def test_several_callers_at_once(gpt2_folder: Path, backend: str) -> None:
    model = Model.load(gpt2_folder, threads=3, threads_backend=backend)  # type: ignore[arg-type]
    prompts = [list(range(1, 2 + n)) for n in range(6)]
    expected = [model.logits(p) for p in prompts]
    wrong: list[int] = []

    def call(i: int) -> None:
        if not all(np.array_equal(model.logits(prompts[i]), expected[i]) for _ in range(5)):
            wrong.append(i)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(prompts))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


FORKS = """
import os, signal, sys
import numpy as np, pygpt

model = pygpt.Model.load("tiny", threads=3, threads_backend=sys.argv[1])
expected = model.logits([1, 2, 3])
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that waits for its parent's threads dies of it
    again = pygpt.Model.load("tiny", threads=2, threads_backend=sys.argv[1])
    right = all(np.array_equal(m.logits([1, 2, 3]), expected) for m in (model, again))
    os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(model.logits([1, 2, 3]), expected)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@every_backend
def test_a_child_process_computes(backend: str, tmp_path: Path) -> None:
    """Also where the parent's OpenMP has threads, which the child lacks."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS, backend]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
