"""docs/notebooks/: they run from a fresh start and say again what is stored in them; `.ci/run` does this, or

    pip install ".[notebooks]" && pytest tests/notebooks.py

After a change of a notebook, or of what it shows, run and store them anew (all, or those that are named):

    python tests/notebooks.py docs/notebooks/inside_a_gpt.ipynb

What cells print is compared, but for cells with the tag "varies": times, what depends on NumPy's BLAS library, what
`tiny` writes, what training gives. Pictures are not. `tests/test_notebooks.py` checks what is stored without a run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 300  # for one cell
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(path: Path) -> Any:
    """The notebook with the outputs of a new run, and nothing in it that differs from run to run for no reason."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _joined([_kept(output) for output in cell.outputs])
    return notebook


def _kept(output: Any) -> Any:
    """An output without its number, and in one form: a picture needs no words for where there are none."""
    if output.output_type == "execute_result":
        output = nbformat.v4.new_output("display_data", output.data)
    if "data" in output and "image/png" in output.data:
        output.data = {"image/png": output.data["image/png"]}
        output.metadata = {}
    return output


def _joined(outputs: list[Any]) -> list[Any]:
    """With what was printed bit by bit in one piece."""
    joined: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def printed(cell: Any) -> str:
    """What a cell wrote as text."""
    outputs = cell.get("outputs", [])
    return "".join(o.text if o.output_type == "stream" else o.data.get("text/plain", "") for o in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_says_what_is_stored(path: Path) -> None:
    stored, now = nbformat.read(path, as_version=4), executed(path)
    for before, after in zip(stored.cells, now.cells, strict=True):
        if "varies" not in after.metadata.get("tags", []):
            assert printed(after) == printed(before), f"out of date: run python tests/notebooks.py {path.name}"
        assert not [o for o in after.get("outputs", []) if o.get("name") == "stderr"], printed(after)


if __name__ == "__main__":
    for name in sys.argv[1:] or NOTEBOOKS:
        nbformat.write(executed(Path(name).resolve()), name)
