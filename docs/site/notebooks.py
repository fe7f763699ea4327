"""A notebook, as it is stored with its outputs, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def as_markdown(text: str) -> str:
    """A notebook's file, cell by cell: texts as they are, code and what it printed in fences, pictures in the page."""
    parts: list[str] = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"````python\n{source}\n````", *map(_shown, cell["outputs"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(output: dict[str, Any]) -> str:
    if "text" in output:
        return "".join(_fenced("".join(output["text"])))
    data: dict[str, Any] = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="What the code above draws" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:  # of pygpt's own making; Markdown takes one line as HTML and leaves it alone
        return "".join(data["text/html"]).replace("\n", "&#10;")
    return "".join(_fenced("".join(data.get("text/plain", ""))))


def _fenced(printed: str) -> Iterator[str]:
    if printed.strip():
        yield f"````text\n{printed.rstrip()}\n````"
