"""The tokenizer in a GGUF file's metadata, ``tokenizer.*`` (ggml's docs/gguf.md).

Each of these keys is used, or harmless for the reason that stands beside it, or refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pygpt._json import shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.character_level import CharacterLevel
from pygpt.tokenizer.expressions import GPT2, LLAMA3, NUMBER, QWEN2
from pygpt.tokenizer.pieces import CONTROL, NORMAL, USER_DEFINED, by_score, by_type
from pygpt.tokenizer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class _Pre:
    """What a value of ``tokenizer.ggml.pre`` stands for: what the model's own tokenizer.json says in full."""

    splits: tuple[str, ...]
    normal_forms: tuple[str, ...] = ()
    whole_words: bool = False
    add_bos: bool = False  # where the file does not say


_DIGITS = (NUMBER, GPT2)
_LLAMA3 = _Pre((LLAMA3,), whole_words=True, add_bos=True)
_PRE = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "jais"), _Pre((GPT2,))),
    **dict.fromkeys(("mpt", "olmo"), _Pre((GPT2,), ("NFC",))),  # the vocabulary of GPT-NeoX
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"), _Pre(_DIGITS)),
    "command-r": _Pre(_DIGITS, ("NFC",)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _Pre((LLAMA3,), whole_words=True)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _Pre((QWEN2,), ("NFC",))),
    "stablelm2": _Pre((QWEN2,)),
}
_G = "tokenizer.ggml."
_USED = {
    *(_G + key for key in ("model", "pre", "tokens", "token_type", "merges", "scores", "add_space_prefix")),
    *(_G + key for key in ("remove_extra_whitespaces", "precompiled_charsmap")),
    *(_G + key for key in ("add_bos_token", "add_eos_token", "bos_token_id", "eos_token_id", "unknown_token_id")),
}
HARMLESS = {
    _G + "token_type_count": "of BERT's segments",
    _G + "add_sep_token": "stands between two texts",
    "tokenizer.huggingface.json": "the same once more",
    "tokenizer.chat_template": "lays out a chat before it becomes tokens",
    "tokenizer.chat_templates": "names of chat templates",
    **{
        f"{_G}{name}_token_id": "names a token that the text does not get by itself"
        for name in (
            *("padding", "separator", "seperator", "cls", "mask", "eot", "eom", "prefix", "suffix", "middle"),
            *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"),
        )
    },
}
# Its tokenizer.json takes the whitespace after its special tokens away; GGUF files do not say so.
_STRIPPING = {"phi3": ("<unk>", "<s>", "<|endoftext|>")}  # by architecture; these tokens do not


def read_gguf(metadata: Mapping[str, object], source: str) -> Vocabulary:
    """A GGUF file's tokenizer. Arrays of strings are list[bytes], other arrays NumPy's."""
    model = metadata.get(_G + "model")
    read = {"gpt2": _byte_level, "llama": _character_level}.get(model) if isinstance(model, str) else None
    if read is None:
        kind = {"t5": " (Unigram)", "bert": " (WordPiece)"}.get(str(model), "")
        raise TokenizerError(f"{source}: {_G}model is {shown(model)}{kind}; pygpt reads 'gpt2' and 'llama'")
    for key in metadata:
        harmless = key in HARMLESS or key.startswith("tokenizer.chat_template.")
        if key.startswith("tokenizer.") and key not in _USED and not harmless:
            raise TokenizerError(f"{source}: the key {key!r} is unknown to pygpt")
    return read(metadata, source)


def _byte_level(metadata: Mapping[str, object], source: str) -> ByteLevel:
    name = metadata.get(_G + "pre", "default")
    pre = _PRE.get(name) if isinstance(name, str) else None
    if pre is None:
        raise TokenizerError(f"{source}: {_G}pre {shown(name)} is none of {', '.join(_PRE)}")
    prefix_space = _flag(metadata, "add_space_prefix", False, source)
    return ByteLevel(
        merges="\n".join(_strings(metadata, "merges", source)),
        splits=pre.splits,
        normal_forms=pre.normal_forms,
        prefix_space=prefix_space,
        whole_words=pre.whole_words,
        **_common(metadata, pre.add_bos, True, source),
    )


def _character_level(metadata: Mapping[str, object], source: str) -> CharacterLevel:
    """SentencePiece's BPE: tokens with scores."""
    charsmap = metadata.get(_G + "precompiled_charsmap")
    if _flag(metadata, "remove_extra_whitespaces", False, source) or (
        isinstance(charsmap, np.ndarray) and charsmap.size
    ):
        raise TokenizerError(f"{source}: changes text before its BPE over characters, which pygpt does not compute")
    prefix_space = _flag(metadata, "add_space_prefix", True, source)
    common = _common(metadata, True, prefix_space, source)
    scores, n = metadata.get(_G + "scores"), max(common["tokens"].values(), default=-1) + 1
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or len(scores) < n:
        raise TokenizerError(f"{source}: {_G}scores must have a number for each token")
    return CharacterLevel(merged=by_score(common["tokens"], scores), prefix_space=prefix_space, **common)


def _common(metadata: Mapping[str, object], add_bos: bool, prefix_space: bool, source: str) -> dict[str, Any]:
    """What both kinds have. `add_bos`: where the file does not say."""
    texts = _strings(metadata, "tokens", source)
    given = metadata.get(_G + "token_type")
    types = given.astype(np.int64) if isinstance(given, np.ndarray) else np.full(len(texts), NORMAL)
    if len(types) != len(texts):
        raise TokenizerError(f"{source}: {len(types)} {_G}token_type for {len(texts)} tokens")
    bos, eos, unk = (_id(metadata, key, len(texts), source) for key in ("bos", "eos", "unknown"))
    for i in (bos, eos, unk):
        if i is not None and types[i] not in (NORMAL, USER_DEFINED):
            types[i] = CONTROL  # whatever its type says, "unused" for one: the file puts it to use
    tokens, added = by_type(texts, types, source, prefix_space=prefix_space)
    unstripped = _STRIPPING.get(str(metadata.get("general.architecture")))
    if unstripped is not None:
        added = tuple(dataclasses.replace(t, rstrip=t.special and t.text not in unstripped) for t in added)
    return {
        "source": source,
        "tokens": tokens,
        "added": added,
        "prefix": _once(metadata, "bos", bos, add_bos and bos is not None, source),
        "suffix": _once(metadata, "eos", eos, False, source),
        "bos_id": bos,
        "eos_id": eos,
        "unk_id": unk,
    }


def _strings(metadata: Mapping[str, object], key: str, source: str) -> list[str]:
    strings = metadata.get(_G + key)
    if not isinstance(strings, list):
        raise TokenizerError(f"{source}: {_G}{key} must be an array of strings")
    try:
        return list(map(bytes.decode, strings))
    except UnicodeDecodeError as error:
        number = strings.index(error.object)
        raise TokenizerError(f"{source}: {_G}{key}[{number}] is {error.object!r:.80}, not UTF-8") from error
    except TypeError as error:
        raise TokenizerError(f"{source}: {_G}{key} must be an array of strings") from error


def _id(metadata: Mapping[str, object], name: str, n: int, source: str) -> int | None:
    value = metadata.get(f"{_G}{name}_token_id")
    if value is None or value == 2**32 - 1:  # no token, as some writers say it
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n:
        raise TokenizerError(f"{source}: {_G}{name}_token_id is {shown(value)}, but there are {n} tokens")
    return value


def _flag(metadata: Mapping[str, object], name: str, default: bool, source: str) -> bool:
    value = metadata.get(_G + name, default)
    if not isinstance(value, bool):
        raise TokenizerError(f"{source}: {_G}{name} is {shown(value)}, but must be true or false")
    return value


def _once(metadata: Mapping[str, object], name: str, token: int | None, default: bool, source: str) -> tuple[int, ...]:
    if not _flag(metadata, f"add_{name}_token", default, source):
        return ()
    if token is None:
        raise TokenizerError(f"{source}: {_G}add_{name}_token is true, but there is no {_G}{name}_token_id")
    return (token,)
