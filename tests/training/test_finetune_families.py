"""`pygpt.finetune` on families that compute what GPT-2 does not: as a language model, and with adapters on a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pygpt
from pygpt import Model, checkpoint
from pygpt.training.lora import merge
from pygpt.training.parameters import Parameters

PARITY = Path(__file__).parents[1] / "data" / "parity"
TEXT = "the end of the line in the end\n" * 60
TABLE = "text,label\n" + "".join(f"in the {i},up\non an {i},down\n" for i in range(10))
RECIPE = {"batch": 4, "learning_rate": 0.01, "eval_interval": 5, "dropout": 0.1, "threads": 1}


@pytest.fixture(
    params=[
        "qwen2-tied",
        "qwen3-head14",
        "gemma2",
        "gemma3",
        "gptj",
        "olmo2-biases",
        "bloom",
        "opt-projected-untied-no-bias",
    ]
)
def folder(request: pytest.FixtureRequest, gpt2_folder: Path, tmp_path: Path) -> Path:
    """A family's small model, not trained yet, with the vocabulary of a tokenizer."""
    config = checkpoint.read(PARITY / request.param)[0]
    tokenizer = checkpoint.read(gpt2_folder)[2]
    assert tokenizer is not None
    config = replace(config, n_vocab=tokenizer.n_vocab, bos_id=None, eos_ids=())
    params = Parameters(config)
    params.initialise(0)
    checkpoint.write(tmp_path / "base", config, params.tensors, tokenizer)
    return tmp_path / "base"


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr("pygpt.training.plot.draw", lambda path, metrics: None)


def test_a_text_is_learnt(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    result = pygpt.finetune(folder, tmp_path / "text.txt", tmp_path / "run", steps=30, **RECIPE)  # type: ignore[arg-type]
    start, end = (Model.load(path, weights="float32") for path in (folder, tmp_path / "run" / "best"))
    assert result.finished
    assert end.config == start.config
    assert end.perplexity("the end of the line") < 0.7 * start.perplexity("the end of the line")


def test_adapters_learn_a_task(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    pygpt.finetune(folder, tmp_path / "table.csv", tmp_path / "run", task="classification", lora=2, steps=5, **RECIPE)  # type: ignore[arg-type]
    config, tensors, _ = checkpoint.read(folder)
    merged = merge(config, tensors, tmp_path / "run" / "best-adapters")
    found, written, _ = checkpoint.read(tmp_path / "run" / "best")
    assert merged.config.n_vocab == found.n_vocab == config.n_vocab + 3
    for name, tensor in merged.tensors.items():
        assert np.allclose(np.asarray(written[name]), tensor, rtol=0, atol=1e-6), name
