"""Tokenizers that a run takes from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pygpt import Model
from pygpt.errors import CheckpointError, TrainingError
from pygpt.tokenizer import learn
from pygpt.training import vocabulary

TEXT = "the cat sat on the mat; the dog sat on the log. Ça va, 東京? 🙂 it's 1984\n\n" * 3


def test_existing_tokenizers(tmp_path: Path) -> None:
    alone, model = tmp_path / "alone", tmp_path / "model"
    alone.mkdir()
    learn.byte_pairs([TEXT], 290).save(alone)
    assert vocabulary.existing(alone).eos_id == 289
    assert vocabulary.existing(alone).encode(TEXT) == learn.byte_pairs([TEXT], 290).encode(TEXT)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        vocabulary.existing(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder: a tokenizer is bpe, char, or"):
        vocabulary.existing(model)


def test_the_tokenizer_of_a_checkpoint(gpt2_folder: Path, model: Model, vocab: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    for folder in (gpt2_folder, gpt2_folder / "model.safetensors", tmp_path / "saved"):
        tokenizer = vocabulary.existing(folder)
        assert (tokenizer.n_vocab, tokenizer.eos_id) == (vocab.size, vocab.end_id)
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(gpt2_folder / name, tmp_path / "bare" / name)
    with pytest.raises(TrainingError, match="has no tokenizer"):
        vocabulary.existing(tmp_path / "bare")
