"""The figures that README.md and docs/performance.md show are those of the files in bench/results."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        return importlib.import_module("figures")
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_pages_show_what_was_measured(figures: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert figures.page(text, figures.PAGES[name]) == text, "out of date: run python bench/figures.py"


def test_another_figure_is_seen(figures: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    wrong = text.replace("| 171 MiB |", "| 170 MiB |")
    assert wrong != text
    assert figures.page(wrong, figures.PAGES["README.md"]) == text


def test_a_page_without_a_mark_is_named(figures: ModuleType) -> None:
    with pytest.raises(ValueError, match="must stand in the page once each"):
        figures.page("no marks", ("engines",))
