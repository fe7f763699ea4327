"""What training shows on a terminal."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import pytest

from pygpt.cli._display import Display
from pygpt.training import functions
from pygpt.training.architecture import architecture
from pygpt.training.plan import Plan
from pygpt.training.pretraining import plan_of_text
from pygpt.training.recipe import Recipe
from pygpt.training.state import Progress


def test_a_terminal_shows_a_bar_and_samples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(steps=100, batch=1, learning_rate=0.1)
    seconds = iter(range(0, 10_000, 60))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    display = Display()
    display.planned(planned(recipe))
    shown = capsys.readouterr().err
    assert f"model     {planned(recipe).config.n_params():,} parameters: 1 layers, width 16, context 16" in shown
    assert "data      1,000 tokens for training, 100 for validation" in shown
    figures: dict[str, Any] = {"loss": 1.25, "tokens_per_second": 1234.5}
    display.stepped({"step": 8, **figures}, Progress(step=8, tokens=16 * 8, best_loss=2.0))
    display.stepped({"step": 9, **figures}, Progress(step=9, tokens=16 * 9, best_loss=2.0))
    assert "step 9 of 100: loss 1.2500, 1,234 tokens/s, " in capsys.readouterr().err  # the first rate
    display.stepped({"step": 10, **figures}, Progress(step=10, tokens=16 * 10, best_loss=2.0))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"training \S+ +10% loss 1\.2500  1,234 tokens/s  \d+:\d\d:\d\d left", shown)
    evaluated = figures | {"validation_loss": 2.5, "sample": "Once\nupon"}
    display.stepped({"step": 11, **evaluated}, Progress(step=11, tokens=16 * 11, best_loss=2.0))
    shown = capsys.readouterr().err
    assert "step 11 of 100: validation 2.5000 (best 2.0000), loss 1.2500, 1,234 tokens/s, " in shown
    assert "\n    Once\n    upon\n" in shown


def planned(recipe: Recipe) -> Plan:
    config = architecture("gpt2", n_vocab=15, n_ctx=16, n_layer=1, n_head=2, n_embd=16)
    return plan_of_text(config, recipe, functions, (1000, 100))
