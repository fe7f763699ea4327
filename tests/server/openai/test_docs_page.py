"""docs/serving-api.md: its Python runs against a server, and its lists are those of the code."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pygpt.server.openai.chat import ChatForm
from pygpt.server.openai.forms import HARMLESS

PAGE = Path(__file__).parents[3].joinpath("docs", "serving-api.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(serve: Callable[..., Any], chat_folder: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(blocks) == 5
    with serve("tiny", f"chat={chat_folder}") as (url, _):
        namespace: dict[str, Any] = {}
        for block in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(block.replace("http://127.0.0.1:8000", url), namespace)
            assert printed.getvalue()
        namespace["client"].close()


def test_the_harmless_fields_are_listed() -> None:
    listed = re.search(r"accepted and ignored,.*?\n- ", PAGE, re.S)
    assert listed is not None
    names = set(re.findall(r"`(\w+)`", listed[0]))
    ignored = {n for n, f in ChatForm.model_fields.items() if (f.description or "").startswith("Ignored")}
    assert names == set(HARMLESS) | ignored
