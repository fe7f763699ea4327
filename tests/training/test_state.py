"""The state file, the metrics file and the folder of a run: what is refused, and that nothing is lost meanwhile."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from pygpt.errors import TrainingError
from pygpt.training.bfloat16 import rounded
from pygpt.training.metrics import Metrics
from pygpt.training.run_folder import RunFolder
from pygpt.training.state import ARRAYS, Progress, read_state, replace_file, write_state

PROGRESS = Progress(step=3, best_loss=0.1 + 0.2, best_step=2, since_best=1, tokens=30, seconds=1.5, finished=False)


def arrays(n: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=n).astype(np.float32) for name in ARRAYS}


def empty(n: int = 5) -> dict[str, np.ndarray]:
    return {name: np.zeros(n, np.float32) for name in ARRAYS}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write_state(tmp_path / "state.safetensors", "run", PROGRESS, arrays())
    return tmp_path / "state.safetensors"


def test_a_state_comes_back(state: Path) -> None:
    found = empty()
    assert read_state(state, "run", found) == PROGRESS
    for name, values in arrays().items():
        assert found[name].tobytes() == values.tobytes()
    assert [p.name for p in state.parent.iterdir()] == ["state.safetensors"]


def test_the_format_is_safetensors(state: Path) -> None:
    with safe_open(state, "numpy") as file:
        assert sorted(file.keys()) == sorted(ARRAYS)
        assert file.get_tensor("m").tobytes() == arrays()["m"].tobytes()
        assert json.loads(file.metadata()["progress"])["step"] == 3


def test_a_mean_in_bfloat16_comes_back(tmp_path: Path) -> None:
    path, kept = tmp_path / "state.safetensors", arrays()
    kept["m"] = rounded(kept["m"])
    write_state(path, "run", PROGRESS, kept)
    found = empty() | {"m": np.zeros(5, np.uint16)}
    assert read_state(path, "run", found) == PROGRESS
    for name, values in kept.items():
        assert found[name].tobytes() == values.tobytes()
    with pytest.raises(TrainingError, match=r"state\.safetensors: holds m as BF16, but the run has it in float32"):
        read_state(path, "run", empty())


def test_a_mean_that_an_older_version_kept_in_float32_is_rounded(state: Path) -> None:
    found = empty() | {"m": np.zeros(5, np.uint16)}
    assert read_state(state, "run", found) == PROGRESS
    for name, values in arrays().items():
        assert found[name].tobytes() == (rounded(values) if name == "m" else values).tobytes()


def test_a_state_of_another_run_is_refused(state: Path) -> None:
    found = empty()
    with pytest.raises(TrainingError, match="belongs to another run"):
        read_state(state, "other", found)
    with pytest.raises(TrainingError, match=r"holds arrays of shapes .*\[5\].* but the run has .*\[4\]"):
        read_state(state, "run", empty(4))
    assert not any(values.any() for values in found.values())


def test_each_flipped_bit_is_noticed(state: Path) -> None:
    content, found = state.read_bytes(), empty()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1
        state.write_bytes(damaged)
        with pytest.raises(TrainingError, match=re.escape(str(state))):
            read_state(state, "run", found)
    assert not any(values.any() for values in found.values())


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_cut_state_is_noticed(state: Path, length: int) -> None:
    state.write_bytes(state.read_bytes()[:length])
    with pytest.raises(TrainingError, match="the run cannot go on from it"):
        read_state(state, "run", empty())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="file: cannot be written: No space left"):
        replace_file(tmp_path / "file", fail)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "old")]


def test_metrics_after_the_state_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, -1)
    for step in range(4):
        metrics.append({"step": step, "loss": 1.0 / 3 + step, "validation_loss": 2.0})
    metrics.close()
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
    again = Metrics(path, 2)
    assert again.losses == {step: 1.0 / 3 + step for step in range(3)}
    again.append({"step": 3, "loss": 7.0})
    again.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]
    assert again.losses[3] == 7.0
    assert again.validation_losses == dict.fromkeys(range(3), 2.0)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(TrainingError, match=r"is not empty \(it has notes\)"):
        RunFolder.create(tmp_path, {"kind": "test"})
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]
    with pytest.raises(TrainingError, match="cannot be made: File exists"):
        RunFolder.create(tmp_path / "notes", {"kind": "test"})


def test_a_run_is_not_begun_twice(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"kind": "test"}).close()
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(TrainingError, match="holds a run already: go on with it"):
        RunFolder.create(tmp_path / "run", {"kind": "test", "other": 1})
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_one_process_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        RunFolder.create(tmp_path / "run", {"kind": "test"}),
        pytest.raises(TrainingError, match="another process is training here"),
    ):
        RunFolder.open(tmp_path / "run", "test")
    RunFolder.open(tmp_path / "run", "test").close()


def test_only_a_run_of_the_same_kind_is_opened(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run to go on with"):
        RunFolder.open(tmp_path, "test")
    RunFolder.create(tmp_path / "run", {"kind": "test"}).close()
    with pytest.raises(TrainingError, match=r"run\.json: expected the settings of finetune or train"):
        RunFolder.open(tmp_path / "run", "finetune", "train")
    settings = tmp_path / "run" / "run.json"
    for content in ("{", "[" * 100_000, '{"kind": "test", "kind": "train"}'):
        settings.write_text(content)
        with pytest.raises(TrainingError, match=r"run\.json: not valid JSON"):
            RunFolder.open(tmp_path / "run", "test")
    settings.write_text("[]")
    with pytest.raises(TrainingError, match=r"run\.json: not a JSON table"):
        RunFolder.open(tmp_path / "run", "test")
    settings.write_bytes(b"\xef\xbb\xbf" + b'{"version": 1, "kind": "test"}')  # an editor's byte order mark
    RunFolder.open(tmp_path / "run", "test").close()


def test_a_run_that_could_not_begin_leaves_nothing(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"kind": "test"})
    run.data.mkdir()
    (run.data / "train.tokens").write_bytes(b"12")
    run.discard()
    run.close()
    assert not (tmp_path / "run").exists()


def test_other_settings_are_another_run(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", {"kind": "test", "seed": 1}) as run:
        first = run.fingerprint
        run.update({"seed": 2})
    with RunFolder.open(tmp_path / "run", "test") as run:
        assert run.settings["seed"] == 2
        assert run.fingerprint != first
