"""Where a checkpoint's chat templates may stand, and that they are kept."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.byte_level import BYTE_LETTERS

CHAT = [{"role": "user", "content": "hi"}]
END = "<|endoftext|>"


def write(folder: Path, **files: Any) -> Tokenizer:
    """A tokenizer's folder with more files; "__" in a name is a slash."""
    vocab = {letter: i for i, letter in enumerate(BYTE_LETTERS)}
    table = {
        "added_tokens": [{"id": 256, "content": END, "special": True}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    for name, value in files.items():
        path = folder / (name.replace("__", "/") + (".json" if isinstance(value, dict) else ".jinja"))
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value) if isinstance(value, dict) else value, encoding="utf-8")
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer is not None
    return tokenizer


CONFIG = {"eos_token": {"content": END}, "chat_template": "config {{ eos_token }}"}
NAMED = {"chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "r"}]}
EXPECTED = [
    ({}, {}),
    ({"tokenizer_config": CONFIG}, {"default": CONFIG["chat_template"]}),
    ({"tokenizer_config": NAMED}, {"default": "d", "rag": "r"}),
    ({"chat_template": {"chat_template": "older"}}, {"default": "older"}),
    ({"chat_template": "file", "tokenizer_config": CONFIG}, {"default": "file"}),
    ({"chat_template": "file", "additional_chat_templates__tool_use": "t"}, {"default": "file", "tool_use": "t"}),
    ({"additional_chat_templates__rag": "r", "tokenizer_config": CONFIG}, {"rag": "r"}),
]


@pytest.mark.parametrize(("files", "expected"), EXPECTED)
def test_a_folders_templates_are_found_and_kept(
    tmp_path: Path, files: dict[str, Any], expected: dict[str, str]
) -> None:
    tokenizer = write(tmp_path, **files)
    assert tokenizer.chat_templates == expected
    assert pickle.loads(pickle.dumps(tokenizer)).chat_templates == expected
    for name, changed in (("same", tokenizer), ("more", tokenizer.with_special({"<new>": 257}))):
        (tmp_path / name).mkdir()
        changed.save(tmp_path / name)
        again = Tokenizer.from_folder(tmp_path / name)
        assert again is not None
        assert again.chat_templates == expected
        if expected.get("default", "").startswith("config"):
            assert again.render(CHAT) == f"config {END}"


@pytest.mark.parametrize("value", [1, [1], {"name": "a"}, [{"name": "a"}], [{"name": 1, "template": "x"}]])
def test_damaged_templates_are_refused(tmp_path: Path, value: object) -> None:
    tokenizer = write(tmp_path, tokenizer_config={"chat_template": value})
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: chat_template is .* but must be a template"):
        tokenizer.render(CHAT)
    assert tokenizer.encode("hi")


def test_a_template_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    tokenizer = write(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(TokenizerError, match=r"chat_template\.jinja: cannot be read"):
        tokenizer.render(CHAT)


def gguf(**more: object) -> Tokenizer:
    metadata: dict[str, object] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*map(str.encode, BYTE_LETTERS), END.encode()],
        "tokenizer.ggml.token_type": np.array([*[1] * 256, 3]),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 256,
    }
    return Tokenizer.from_gguf(metadata | {f"tokenizer.{k.replace('__', '.')}": v for k, v in more.items()}, "m.gguf")


def test_a_gguf_files_templates_are_found_and_kept(tmp_path: Path) -> None:
    templates = {"default": "{{ bos_token }}{{ eos_token }}{{ messages[0].content }}", "tool_use": "t"}
    tokenizer = gguf(chat_template=templates["default"], chat_template__tool_use="t", chat_templates=[b"tool_use"])
    assert tokenizer.chat_templates == templates
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again is not None
    assert again.chat_templates == templates
    assert again.render(CHAT) == tokenizer.render(CHAT) == f"{END}hi"
    for text in ("a <|endoftext|> b", "naïve"):
        assert again.encode(text) == tokenizer.encode(text)
        assert again.encode(text, allow_special=True) == tokenizer.encode(text, allow_special=True)


def test_a_gguf_file_without_templates_is_saved_as_it_was(tmp_path: Path) -> None:
    gguf().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    with pytest.raises(TokenizerError, match=r"m\.gguf has no chat template"):
        gguf().render(CHAT)
    with pytest.raises(TokenizerError, match=r"chat_template is 5, but must be a template"):
        gguf(chat_template=5).render(CHAT)


@pytest.mark.parametrize("kind", ["word", "sentence"])
def test_a_template_needs_no_vocabulary(kind: str) -> None:
    """It is shown even where pygpt cannot read the tokens."""
    tokenizer = Tokenizer.from_gguf({"tokenizer.ggml.model": kind, "tokenizer.chat_template": "x"}, "m.gguf")
    assert tokenizer.render(CHAT) == "x"
