"""examples/tasks/ with the packages that they need: scikit-learn's classifiers, ROUGE, BLEU and chrF."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_linear_models_learn_words(
    task_module: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "nltk_sentence_polarity.zip", "w") as archive:
        for name, word in (("neg", "bad"), ("pos", "good")):
            text = "".join(f"a {word} film of {i} minutes\n" for i in range(10))
            archive.writestr(f"sentence_polarity/rt-polarity.{name}", text)
    command = ["polarity", "--data", str(tmp_path), "--work", str(tmp_path / "work"), "--threads", "1"]
    task_module("classification").main([*command, "--methods", "tfidf", "features"])
    out = capsys.readouterr().out
    assert "| tfidf | 16 | 100.0% (83.9 to 100.0) | 100.0% | 20 |" in out
    assert "| features tiny | 16 |" in out


def test_metrics_of_texts(task_module: Callable[[str], ModuleType]) -> None:
    generation = task_module("generation")
    found = generation.of_summaries(["the cat sat", "a dog"], [["the cat sat", "none"], ["a cat"]])
    assert {name: round(m.value, 3) for name, m in found.items()} == {"ROUGE-1": 0.75, "ROUGE-2": 0.5, "ROUGE-L": 0.75}
    same = ["The house is small and old.", "I like to read books in bed."]
    found = generation.of_translations(same, [[text] for text in same])
    assert {name: round(m.value, 3) for name, m in found.items()} == {"BLEU": 1.0, "chrF": 1.0}
