"""Chat templates of real models give what transformers' `apply_chat_template` gives: tests/make_template_goldens.py."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer, sandbox
from pygpt.tokenizer.chat_templates import ChatTemplates

FOLDERS = [Path(__file__).resolve().parents[1] / "data" / "templates"]
if os.environ.get("PYGPT_TEMPLATES"):
    FOLDERS.append(Path(os.environ["PYGPT_TEMPLATES"]))


def cases() -> Iterator[Any]:
    for folder in FOLDERS:
        table = json.loads((folder / "goldens.json").read_text(encoding="utf-8"))
        for name in table["goldens"]:
            yield pytest.param(folder / name, table, id=name)


@pytest.mark.parametrize(("path", "table"), list(cases()))
def test_conversations_are_laid_out_as_transformers_does(
    path: Path, table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromisoformat(table["now"])

    monkeypatch.setattr(sandbox, "datetime", Clock)
    tokenizer: Tokenizer | None = Tokenizer.from_folder(path) if path.is_dir() else None
    if tokenizer is None:
        templates = ChatTemplates(path.name, {"default": path.read_text(encoding="utf-8")}, table["tokens"])
        tokenizer = Tokenizer("gpt2", None, lambda: templates)
    for name, conversation in table["conversations"].items():
        expected = table["goldens"][path.name][name]
        if expected is None:
            with pytest.raises((ValueError, TypeError, TokenizerError)):
                tokenizer.render(**conversation)
        else:
            text = tokenizer.render(**conversation)
            if path.is_dir():
                text += json.dumps(tokenizer.encode(text, allow_special=True, add_special=False))
            assert hashlib.sha256(text.encode()).hexdigest() == expected, f"{name}:\n{text}"
