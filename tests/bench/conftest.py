"""The scripts of bench/ as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def scripts() -> Path:
    """Their folder."""
    folder = Path(__file__).resolve().parents[2] / "bench"
    if not folder.is_dir():
        pytest.skip("bench/ is not here: the tests run outside the repository")
    return folder


@pytest.fixture
def script(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by its name, as Python does when it is run."""
    monkeypatch.syspath_prepend(str(scripts))
    before = {*sys.modules}
    yield importlib.import_module
    for path in scripts.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)
