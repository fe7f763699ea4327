"""The scripts of bench/ as modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by its name, as Python does when it is run."""
    if not BENCH.is_dir():
        pytest.skip("bench/ is not here: the tests run outside the repository")
    monkeypatch.syspath_prepend(str(BENCH))
    before = {*sys.modules}
    yield importlib.import_module
    for path in BENCH.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)
