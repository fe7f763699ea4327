"""A checkpoint folder's tokenizer: tokenizer.json, GPT-2's two files, or tokenizer.model, and what stands beside."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pygpt._json import read_table
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.document import of_table, read_document
from pygpt.tokenizer.expressions import GPT2, QWEN2
from pygpt.tokenizer.model_file import read_model_file
from pygpt.tokenizer.pieces import of_model
from pygpt.tokenizer.settings import CONFIG, Settings, applied, read_settings
from pygpt.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

DOCUMENT, VOCAB, MERGES, MODEL = "tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"

_CLASSES = {  # how they cut up text, and their special tokens where no file names any
    "GPT2Tokenizer": ((GPT2,), (), ("bos_token", "eos_token", "unk_token")),
    "Qwen2Tokenizer": ((QWEN2,), ("NFC",), ("eos_token", "unk_token", "pad_token")),
}
_GPT1 = "OpenAIGPTTokenizer"
_GPT1_END = "</w>"
_GPT1_STEPS = {  # of transformers' class, which has no other rules for text
    "normalizer": {
        **{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
        **{"strip_accents": None, "lowercase": True},
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "BPEDecoder", "suffix": _GPT1_END},
}
# The classes of tokenizer.model; without settings it is Llama's, which begins each text with bos.
_MODEL_CLASSES = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")

# The classes for which add_bos_token and add_eos_token replace tokenizer.json's post_processor. For all others
# transformers 4 and 5 leave it as it is.
_REPLACING = {
    *(*_MODEL_CLASSES, "CohereTokenizer"),
    "GPTNeoXTokenizer",  # also where neither flag is there
}
_ADDS = ("add_bos_token", "add_eos_token")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a tokenizer, readable or not."""
    return any(all((folder / name).is_file() for name in names) for names in ((DOCUMENT,), (VOCAB, MERGES), (MODEL,)))


def read_folder(folder: Path, bos_id: int | None, eos_id: int | None) -> Vocabulary:
    """The vocabulary of a folder; ids of bos and eos as given, else as the files name them."""
    settings = read_settings(folder)
    if (folder / DOCUMENT).is_file():
        flags = dict(settings.flags)
        if settings.kind == "GPTNeoXTokenizer":
            flags = {"add_bos_token": False, **flags}
        elif settings.kind not in _REPLACING:
            flags = {key: flag for key, flag in flags.items() if key not in _ADDS}
        return applied(read_document(folder / DOCUMENT, bos_id, eos_id), dataclasses.replace(settings, flags=flags))
    if (folder / MODEL).is_file() and not ((folder / VOCAB).is_file() and (folder / MERGES).is_file()):
        v = _model(folder, settings)
    else:
        v, settings = _vocab_and_merges(folder, settings)
    bos, eos = v.bos_id if bos_id is None else bos_id, v.eos_id if eos_id is None else eos_id
    return applied(dataclasses.replace(v, bos_id=bos, eos_id=eos), settings)


def _vocab_and_merges(folder: Path, settings: Settings) -> tuple[Vocabulary, Settings]:
    """vocab.json and merges.txt, and the settings with the special tokens that their class has by default."""
    tokens: dict[str, Any] = read_table(folder / VOCAB, TokenizerError)  # Vocabulary checks them
    try:
        merges = (folder / MERGES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{folder / MERGES}: cannot be read: {error}") from error
    spelled_ends = "Ġ" not in tokens and any(token.endswith(_GPT1_END) for token in tokens)
    kind = settings.kind or (_GPT1 if spelled_ends else "GPT2Tokenizer")
    if kind == _GPT1:
        return _gpt1(str(folder / VOCAB), tokens, merges, settings)
    if kind not in _CLASSES:
        known = ", ".join((*_CLASSES, _GPT1))
        raise TokenizerError(f"{folder / CONFIG}: tokenizer_class {kind!r}: of {VOCAB} pygpt reads {known}")
    splits, normal_forms, names = _CLASSES[kind]
    v = ByteLevel(
        source=str(folder / VOCAB),
        tokens=tokens,
        merges=merges,
        splits=splits,
        normal_forms=normal_forms,
    )
    return v, dataclasses.replace(settings, named={**dict.fromkeys(names, END_OF_TEXT), **settings.named})


def _gpt1(source: str, tokens: dict[str, Any], merges: str, settings: Settings) -> tuple[Vocabulary, Settings]:
    """Words in lower case that end in </w>."""
    named = {"unk_token": "<unk>", **settings.named}
    unknown = named["unk_token"] if named["unk_token"] in tokens else None
    pairs = [line.split(" ") for line in merges.splitlines() if line and not line.startswith("#version")]
    model = {"type": "BPE", "vocab": tokens, "merges": pairs, "unk_token": unknown, "end_of_word_suffix": _GPT1_END}
    return of_table({**_GPT1_STEPS, "model": model}, source), dataclasses.replace(settings, named=named)


def _model(folder: Path, settings: Settings) -> Vocabulary:
    """tokenizer.model."""
    path = folder / MODEL
    if settings.kind not in (None, *_MODEL_CLASSES):
        known = ", ".join(_MODEL_CLASSES)
        raise TokenizerError(f"{folder / CONFIG}: tokenizer_class {settings.kind!r}: of {MODEL} pygpt reads {known}")
    model = read_model_file(path)
    bos, eos = (i if 0 <= i < len(model.pieces) else None for i in (model.bos_id, model.eos_id))
    prefix = () if bos is None else (bos,)
    return of_model(model, {"source": str(path), "bos_id": bos, "eos_id": eos, "prefix": prefix})
