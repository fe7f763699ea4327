"""The tokenizer in a GGUF file's metadata, ``tokenizer.*`` (ggml's docs/gguf.md).

Each of these keys is used, or harmless for the reason that stands beside it, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pygpt._json import shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.expressions import GPT2, LLAMA3, NUMBER, QWEN2
from pygpt.tokenizer.vocabulary import AddedToken, Vocabulary


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
    *(_G + key for key in ("model", "pre", "tokens", "token_type", "merges", "add_space_prefix")),
    *(_G + key for key in ("add_bos_token", "add_eos_token", "bos_token_id", "eos_token_id", "unknown_token_id")),
}
HARMLESS = {
    _G + "scores": "of SentencePiece's pieces; merges have an order instead",
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
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5


def read_gguf(metadata: Mapping[str, object], source: str) -> Vocabulary:
    """A GGUF file's tokenizer. Arrays of strings are list[bytes], other arrays NumPy's."""
    model, name = metadata.get(_G + "model"), metadata.get(_G + "pre", "default")
    if model != "gpt2":
        kind = {"llama": " (SentencePiece)", "t5": " (Unigram)", "bert": " (WordPiece)"}.get(str(model), "")
        raise TokenizerError(f"{source}: {_G}model is {shown(model)}{kind}; pygpt reads byte-level BPE only, 'gpt2'")
    pre = _PRE.get(name) if isinstance(name, str) else None
    if pre is None:
        raise TokenizerError(f"{source}: {_G}pre {shown(name)} is none of {', '.join(_PRE)}")
    for key in metadata:
        harmless = key in HARMLESS or key.startswith("tokenizer.chat_template.")
        if key.startswith("tokenizer.") and key not in _USED and not harmless:
            raise TokenizerError(f"{source}: the key {key!r} is unknown to pygpt")
    texts, kinds, merges = _tables(metadata, source)
    bos, eos, unk = (_id(metadata, key, len(texts), source) for key in ("bos", "eos", "unknown"))
    for i in (bos, eos, unk):
        if i is not None and kinds[i] not in (_NORMAL, _USER_DEFINED):
            kinds[i] = _CONTROL  # whatever its type says, "unused" for one: the file puts it to use
    kept = np.flatnonzero((kinds == _CONTROL) | (kinds == _UNKNOWN) | (kinds == _USER_DEFINED))
    added = [AddedToken(text=texts[i], id=i, special=bool(kinds[i] != _USER_DEFINED)) for i in kept.tolist()]
    if len({t.text for t in added}) < len(added):
        raise TokenizerError(f"{source}: two tokens of {_G}tokens have the same text")
    return Vocabulary(
        source=source,
        tokens={texts[i]: i for i in np.flatnonzero(kinds == _NORMAL).tolist()},
        merges=merges,
        splits=pre.splits,
        added=tuple(added),
        prefix=_once(metadata, "bos", bos, pre.add_bos and bos is not None, source),
        suffix=_once(metadata, "eos", eos, False, source),
        bos_id=bos,
        eos_id=eos,
        unk_id=unk,
        normal_forms=pre.normal_forms,
        prefix_space=_flag(metadata, "add_space_prefix", False, source),
        whole_words=pre.whole_words,
    )


def _tables(metadata: Mapping[str, object], source: str) -> tuple[list[str], NDArray[np.int64], str]:
    """The tokens, their types, and the merges in lines."""
    tokens, merges = metadata.get(_G + "tokens"), metadata.get(_G + "merges")
    if not isinstance(tokens, list) or not isinstance(merges, list):
        raise TokenizerError(f"{source}: {_G}tokens and {_G}merges must be arrays of strings")
    types = metadata.get(_G + "token_type")
    kinds = types.astype(np.int64) if isinstance(types, np.ndarray) else np.ones(len(tokens), np.int64)
    if len(kinds) != len(tokens):
        raise TokenizerError(f"{source}: {len(kinds)} {_G}token_type for {len(tokens)} tokens")
    return _decoded(tokens, "tokens", source), kinds, "\n".join(_decoded(merges, "merges", source))


def _decoded(strings: list[bytes], key: str, source: str) -> list[str]:
    try:
        return list(map(bytes.decode, strings))
    except UnicodeDecodeError as error:
        number = strings.index(error.object)
        raise TokenizerError(f"{source}: {_G}{key}[{number}] is {error.object!r:.80}, not UTF-8") from error
    except TypeError as error:
        raise TokenizerError(f"{source}: {_G}{key} is not an array of strings") from error


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
