"""docs/notebooks/ as they are stored: small, of no machine, without an error, and their links lead somewhere.
`tests/notebooks.py` runs them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 400_000  # of a notebook, pictures included
as_markdown = runpy.run_path(str(ROOT / "docs" / "site" / "notebooks.py"))["as_markdown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert re.search(r"/(?:work|tmp|root|home|Users)/", text) is None
    notebook: dict[str, Any] = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in code)
    assert {output["output_type"] for cell in code for output in cell["outputs"]} <= {"stream", "display_data"}
    assert {output.get("name", "stdout") for cell in code for output in cell["outputs"]} == {"stdout"}
    assert {cell["execution_count"] for cell in code} == {None}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)\s#]+)", text) if not target.startswith("http")]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_a_notebook_is_a_page_of_the_site() -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]},
        {"output_type": "display_data", "data": {"image/png": "UE5H\n"}},
        {"output_type": "display_data", "data": {"text/html": ["<div>\n", "x</div>"], "text/plain": "x"}},
        {"output_type": "display_data", "data": {"text/plain": ["3"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": outputs},
        {"cell_type": "code", "source": "x = 1", "outputs": []},
    ]
    assert as_markdown(json.dumps({"cells": cells})).split("\n\n") == [
        "# Title\nText",
        "````python\nprint(1)\n````",
        "````text\na\nb\n````",
        '<img alt="What the code above draws" src="data:image/png;base64,UE5H">',
        "<div>&#10;x</div>",
        "````text\n3\n````",
        "````python\nx = 1\n````\n",
    ]
