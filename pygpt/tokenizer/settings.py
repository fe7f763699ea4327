"""What stands beside a vocabulary and changes its ids: tokenizer_config.json and two more files.

Read as transformers reads them. Each key is used, or harmless for the reason that stands beside it, or refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pygpt._json import read_table, shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.character_level import CharacterLevel
from pygpt.tokenizer.document import added_token
from pygpt.tokenizer.expressions import GPT2
from pygpt.tokenizer.vocabulary import AddedToken, Vocabulary

CONFIG, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"

_USED = {"tokenizer_class", "added_tokens_decoder", "add_bos_token", "add_eos_token", "add_prefix_space"}
_LISTS = {"additional_special_tokens", "extra_special_tokens"}
_BATCH = "cuts or fills up batches"
_CLASS = "of classes that are refused"
_RECORD = "where it came from or how it was loaded"
HARMLESS = {
    **dict.fromkeys(("max_length", "truncation_side", "truncation_strategy", "stride", "padding_side"), _BATCH),
    **dict.fromkeys(("padding", "truncation", "pad_to_multiple_of", "pad_token_type_id", "pad_token_id"), _BATCH),
    **dict.fromkeys(("legacy", "sp_model_kwargs", "use_default_system_prompt", "spm_file", "vocab_file"), _CLASS),
    **dict.fromkeys(("name_or_path", "tokenizer_file", "special_tokens_map_file", "init_inputs", "from_slow"), _RECORD),
    **dict.fromkeys(
        ("use_fast", "backend", "is_local", "local_files_only", "trust_remote_code", "_commit_hash"), _RECORD
    ),
    **dict.fromkeys(("transformers_version", "processor_class", "auto_map", "device_map", "merges_file"), _RECORD),
    "chat_template": "lays out a chat before it becomes tokens",
    "response_template": "takes a reply apart",
    "response_schema": "takes a reply apart",
    "clean_up_tokenization_spaces": "changes decoded text: pygpt gives the text of the tokens",
    "spaces_between_special_tokens": "changes decoded text: pygpt gives the text of the tokens",
    "model_input_names": "names the arrays that a model is given",
    "model_max_length": "the model's configuration has its own",
    "model_specific_special_tokens": "names of special tokens",
    "split_special_tokens": "the caller of encode says it",
    "__type": "says what a table is",
}
_ONLY = {  # these may be there, but must say nothing new
    **dict.fromkeys(("do_lower_case", "strip_accents", "tokenize_chinese_chars", "remove_space"), (None, False)),
    **dict.fromkeys(("keep_accents", "fix_mistral_regex", "normalization", "do_basic_tokenize"), (None, False)),
    "errors": (None, "replace"),
    "unk_id": (None,),
}
_ALWAYS = {(f"OpenAIGPTTokenizer{fast}", "do_lower_case") for fast in ("", "Fast")}  # what these classes do anyway


@dataclass(frozen=True)
class Settings:
    """The three files together."""

    source: str
    kind: str | None = None  # tokenizer_class without "Fast"
    added: tuple[AddedToken, ...] = ()
    complete: bool = False  # they are tokenizer_config.json's, which has all and says best how each is found
    named: Mapping[str, str] = field(default_factory=dict)  # texts of special tokens by "bos_token", "eos_token", ...
    flags: Mapping[str, bool] = field(default_factory=dict)  # add_bos_token, add_eos_token, add_prefix_space as said


def read_settings(folder: Path) -> Settings:
    """Read those of the files that are there."""
    path = folder / CONFIG
    config = read_table(path, TokenizerError) if path.is_file() else {}
    for key, value in config.items():
        if key in _ONLY:
            if value not in _ONLY[key] and (str(config.get("tokenizer_class")), key) not in _ALWAYS:
                raise TokenizerError(f"{path}: {key} is {shown(value)}, which pygpt does not compute")
        elif key not in _USED and key not in _LISTS and key not in HARMLESS and not key.endswith("_token"):
            raise TokenizerError(f"{path}: the key {shown(key)} is unknown to pygpt")
    flags = {}
    for key in ("add_bos_token", "add_eos_token", "add_prefix_space"):
        if config.get(key) is not None:
            if not isinstance(config[key], bool):
                raise TokenizerError(f"{path}: {key} is {shown(config[key])}, but must be true or false")
            flags[key] = bool(config[key])
    kind = config.get("tokenizer_class")
    if not isinstance(kind, str | None):
        raise TokenizerError(f"{path}: tokenizer_class is {shown(kind)}, but must be a name")
    named = dict(_named(config, path))
    decoder = config.get("added_tokens_decoder")
    if decoder is not None:  # then it has them all
        if not isinstance(decoder, dict) or not all(str(i).isdecimal() for i in decoder):
            raise TokenizerError(f"{path}: added_tokens_decoder is not a table of tokens by id")
        added = [added_token(entry, str(path), int(i)) for i, entry in decoder.items()]
    else:
        if (folder / SPECIAL).is_file():
            named |= dict(_named(read_table(folder / SPECIAL, TokenizerError), folder / SPECIAL))
        table = read_table(folder / ADDED, TokenizerError) if (folder / ADDED).is_file() else {}
        special = set(named.values())
        added = [
            AddedToken(text=text, id=i, special=text in special, normalized=text not in special)  # type: ignore[arg-type]
            for text, i in table.items()
        ]
    kind = kind.removesuffix("Fast") if kind else None
    return Settings(str(path), kind, tuple(added), decoder is not None, named, flags)


def _named(table: Mapping[str, object], path: Path) -> Iterator[tuple[str, str]]:
    """The texts of special tokens by the keys that name them."""
    for key, value in table.items():
        if key in _LISTS:
            entries = list(value.values()) if isinstance(value, dict) else value or []
            if not isinstance(entries, list):
                raise TokenizerError(f"{path}: {key} is {shown(value)}, but must be a list of tokens")
            for number, entry in enumerate(entries):
                if (text := _text(entry, key, path)) is not None:
                    yield f"{key}[{number}]", text
        elif key.endswith("_token") and key not in _USED:
            text = _text(value, key, path)
            if text is not None:
                yield key, text
        elif path.name == SPECIAL:
            raise TokenizerError(f"{path}: the key {shown(key)} is unknown to pygpt")


def _text(value: object, key: str, path: Path) -> str | None:
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str | None):
        raise TokenizerError(f"{path}: {key} is {shown(value)}, but must be the text of a token")
    return text or None


def applied(v: Vocabulary, settings: Settings) -> Vocabulary:
    """The vocabulary with what the settings say about it. Special tokens that it does not have are left out."""
    own = {t.text: t for t in v.added}
    beside = {t.text: t for t in settings.added}
    added = own | beside if settings.complete else beside | own
    for text in settings.named.values():
        if text not in added and text in v.tokens:
            added[text] = AddedToken(text=text, id=v.tokens[text])
    named = {key: added[text].id for key, text in settings.named.items() if text in added}
    changes: dict[str, object] = {}
    if settings.flags.keys() & {"add_bos_token", "add_eos_token"}:  # they replace a post_processor
        for key, part in (("bos_token", "prefix"), ("eos_token", "suffix")):
            changes[part] = ()
            if settings.flags.get(f"add_{key}"):
                if key not in named:
                    raise TokenizerError(f"{settings.source}: add_{key} is true, but no token is named by {key}")
                changes[part] = (named[key],)
    ids = {"bos_id": v.bos_id, "eos_id": v.eos_id}
    for key, i in ids.items():
        changes[key] = named.get(key.replace("_id", "_token")) if i is None else i
    space = settings.flags.get("add_prefix_space")
    if space is not None and space != v.prefix_space:
        if not (isinstance(v, CharacterLevel) or (isinstance(v, ByteLevel) and v.splits == (GPT2,))):
            raise TokenizerError(
                f"{settings.source}: add_prefix_space is {space}, which pygpt reads only where ByteLevel alone cuts "
                "text, or SentencePiece's BPE"
            )
        changes["prefix_space"] = space
    return dataclasses.replace(v, added=tuple(added.values()), **changes)  # type: ignore[arg-type]
