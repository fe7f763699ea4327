"""The tokenizer in a GGUF file's metadata, ``tokenizer.*`` (ggml's docs/gguf.md).

Each of these keys is used, or harmless for the reason that stands beside it, or refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygpt._json import shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.document import BYTE_LEVEL, of_table
from pygpt.tokenizer.model_file import BPE, UNIGRAM, ModelFile
from pygpt.tokenizer.pieces import BYTE, CONTROL, NORMAL, USER_DEFINED, by_type, of_model
from pygpt.tokenizer.pre import PRE
from pygpt.tokenizer.vocabulary import Vocabulary

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
    read = _KINDS.get(model) if isinstance(model, str) else None
    if read is None:
        raise TokenizerError(f"{source}: {_G}model is {shown(model)}, but must be one of {', '.join(_KINDS)}")
    for key in metadata:
        harmless = key in HARMLESS or key.startswith("tokenizer.chat_template.")
        if key.startswith("tokenizer.") and key not in _USED and not harmless:
            raise TokenizerError(f"{source}: the key {key!r} is unknown to pygpt")
    return read(metadata, source)


def _byte_level(metadata: Mapping[str, object], source: str) -> Vocabulary:
    name = metadata.get(_G + "pre", "default")
    pre = PRE.get(name) if isinstance(name, str) else None
    if pre is None:
        raise TokenizerError(f"{source}: {_G}pre {shown(name)} is none of {', '.join(PRE)}")
    texts, types, ids = _tokens(metadata, source)
    tokens, added = by_type(texts, types, source, prefix_space=True)
    merges = _strings(metadata, "merges", source)
    common = {"added": added, "unk_id": ids["unk_id"], **_ends(metadata, ids, pre.add_bos, False, source)}
    if pre.steps is not None:
        model = {"vocab": tokens, "merges": merges}
        document = {"pre_tokenizer": pre.steps, "decoder": BYTE_LEVEL, "model": model}
        return dataclasses.replace(of_table(document, source), **common)
    return ByteLevel(
        source=source,
        tokens=tokens,
        merges="\n".join(merges),
        splits=pre.splits,
        normal_forms=pre.normal_forms,
        prefix_space=_flag(metadata, "add_space_prefix", False, source),
        whole_words=pre.whole_words,
        **common,
    )


def _sentence_piece(metadata: Mapping[str, object], source: str) -> Vocabulary:
    """Pieces with scores: BPE, or for T5's kind Unigram."""
    unigram = metadata[_G + "model"] == "t5"
    texts, types, ids = _tokens(metadata, source)
    scores = metadata.get(_G + "scores")
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or len(scores) != len(texts):
        raise TokenizerError(f"{source}: {_G}scores must have a number for each token")
    charsmap = metadata.get(_G + "precompiled_charsmap")
    model = ModelFile(
        pieces=texts,
        scores=scores.tolist(),
        types=types.tolist(),
        model_type=UNIGRAM if unigram else BPE,
        byte_fallback=bool(np.any(types == BYTE)),
        unk_id=0 if ids["unk_id"] is None else ids["unk_id"],
        charsmap=charsmap.tobytes() if isinstance(charsmap, np.ndarray) else b"",
        add_dummy_prefix=_flag(metadata, "add_space_prefix", True, source),
        remove_extra_whitespaces=_flag(metadata, "remove_extra_whitespaces", False, source),
    )
    v = of_model(model, {"source": source, **_ends(metadata, ids, not unigram, unigram, source)})
    unstripped = _STRIPPING.get(str(metadata.get("general.architecture")))
    if unstripped is None:
        return v
    added = (dataclasses.replace(t, rstrip=t.special and t.text not in unstripped) for t in v.added)
    return dataclasses.replace(v, added=tuple(added))


def _tokens(metadata: Mapping[str, object], source: str) -> tuple[list[str], NDArray[np.int64], dict[str, int | None]]:
    """The tokens, their types, and the ids of bos, eos and unk."""
    texts = _strings(metadata, "tokens", source)
    given = metadata.get(_G + "token_type")
    types = given.astype(np.int64) if isinstance(given, np.ndarray) else np.full(len(texts), NORMAL)
    if len(types) != len(texts):
        raise TokenizerError(f"{source}: {len(types)} {_G}token_type for {len(texts)} tokens")
    ids = {f"{key[:3]}_id": _id(metadata, key, len(texts), source) for key in ("bos", "eos", "unknown")}
    for i in ids.values():
        if i is not None and types[i] not in (NORMAL, USER_DEFINED):
            types[i] = CONTROL  # whatever its type says, "unused" for one: the file puts it to use
    return texts, types, ids


def _ends(
    metadata: Mapping[str, object], ids: Mapping[str, int | None], add_bos: bool, add_eos: bool, source: str
) -> dict[str, Any]:
    """What texts begin and end with; the flags count where the file does not say."""
    bos, eos = ids["bos_id"], ids["eos_id"]
    return {
        "prefix": _once(metadata, "bos", bos, add_bos and bos is not None, source),
        "suffix": _once(metadata, "eos", eos, add_eos and eos is not None, source),
        "bos_id": bos,
        "eos_id": eos,
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


_KINDS: dict[str, Callable[[Mapping[str, object], str], Vocabulary]] = {
    "gpt2": _byte_level,
    "llama": _sentence_piece,
    "t5": _sentence_piece,
}
