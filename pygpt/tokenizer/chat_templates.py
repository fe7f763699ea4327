"""The chat templates of a checkpoint, wherever they stand: a folder's files, a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pygpt._json import read_table, shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.settings import CONFIG, read_settings

DEFAULT, TOOL_USE = "default", "tool_use"  # names that Hugging Face gives a meaning
TEMPLATE, MORE, OLDER = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
_KEY = "chat_template"
_GGUF = "tokenizer.chat_template"
_TOKENS = {"bos_token": "tokenizer.ggml.bos_token_id", "eos_token": "tokenizer.ggml.eos_token_id"}


@dataclass(frozen=True)
class ChatTemplates:
    """What a checkpoint says about the layout of a chat."""

    source: str  # the file or folder, for messages
    templates: Mapping[str, str] = field(default_factory=dict)  # Jinja by name; most have "default" alone
    tokens: Mapping[str, str] = field(default_factory=dict)  # texts of special tokens by "bos_token", "eos_token", ...

    def choose(self, template: str | None, tools: bool) -> tuple[str, str]:
        """What messages call the template, and its source: `template` is a name, or else the source itself. ValueError
        where there is none of that name, TokenizerError where there is none at all."""
        names = ", ".join(sorted(self.templates)) or "none"
        if template is not None:
            if template in self.templates:
                return self._called(template), self.templates[template]
            if "{" not in template:
                raise ValueError(f"there is no chat template {template!r:.80}; {self.source} has {names}")
            return "the given chat template", template
        for name in [TOOL_USE, DEFAULT] if tools else [DEFAULT]:
            if name in self.templates:
                return self._called(name), self.templates[name]
        if self.templates:
            raise ValueError(f"template must be given: {self.source} has {names}, and no default")
        raise TokenizerError(
            f"{self.source} has no chat template: it was not trained to answer. It continues texts (`pygpt generate`); "
            "or give a template of your own"
        )

    def save(self, folder: Path) -> None:
        """Write them as Hugging Face's tokenizers read them, into one file."""
        if not self.templates:
            return
        several = [{"name": name, "template": text} for name, text in self.templates.items()]
        only = self.templates.get(DEFAULT) if len(several) == 1 else None
        table = {**self.tokens, _KEY: several if only is None else only}
        text = json.dumps(table, ensure_ascii=False, indent=2) + "\n"
        (folder / CONFIG).write_bytes(text.encode("utf-8", "replace"))

    def _called(self, name: str) -> str:
        return f"{self.source}: the chat template" + ("" if name == DEFAULT else f" {name!r}")


def of_folder(folder: Path) -> ChatTemplates:
    """The templates of a checkpoint folder, in the order in which transformers looks for them."""
    named = {name: text for name, text in read_settings(folder).named.items() if name.isidentifier()}
    files = {DEFAULT: folder / TEMPLATE} if (folder / TEMPLATE).is_file() else {}
    files |= {path.stem: path for path in sorted((folder / MORE).glob("*.jinja"))}
    if files:
        return ChatTemplates(str(folder), {name: _read(path) for name, path in files.items()}, named)
    for name in (CONFIG, OLDER):
        path = folder / name
        value = read_table(path, TokenizerError).get(_KEY) if path.is_file() else None
        if value is not None:
            return ChatTemplates(str(path), _templates(value, path), named)
    return ChatTemplates(str(folder), {}, named)


def of_gguf(metadata: Mapping[str, object], source: str) -> ChatTemplates:
    """The templates in the metadata of a GGUF file; arrays of strings are list[bytes]."""
    templates = {}
    for key, text in metadata.items():
        if key == _GGUF or key.startswith(f"{_GGUF}."):
            if not isinstance(text, str):
                raise TokenizerError(f"{source}: {key} is {shown(text)}, but must be a template")
            templates[key[len(_GGUF) + 1 :] or DEFAULT] = text
    texts, named = metadata.get("tokenizer.ggml.tokens"), {}
    for name, key in _TOKENS.items():
        number = metadata.get(key)
        if isinstance(texts, list) and isinstance(number, int) and 0 <= number < len(texts):
            named[name] = texts[number].decode("utf-8", "replace")
    return ChatTemplates(source, templates, named)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: cannot be read: {error}") from error


def _templates(value: object, path: Path) -> dict[str, str]:
    """One template, or a list of named ones."""
    if isinstance(value, str):
        return {DEFAULT: value}
    templates = {}
    for entry in value if isinstance(value, list) else [value]:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise TokenizerError(f"{path}: {_KEY} is {shown(value)}, but must be a template or a list of named ones")
        templates[name] = text
    return templates
