"""A checkpoint folder's tokenizer: tokenizer.json, or GPT-2's two files, and what stands beside them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pygpt._json import read_table
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.document import read_document
from pygpt.tokenizer.expressions import GPT2, QWEN2
from pygpt.tokenizer.settings import CONFIG, Settings, applied, read_settings
from pygpt.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

DOCUMENT, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"

_CLASSES = {  # how they cut up text, and their special tokens where no file names any
    "GPT2Tokenizer": ((GPT2,), (), ("bos_token", "eos_token", "unk_token")),
    "Qwen2Tokenizer": ((QWEN2,), ("NFC",), ("eos_token", "unk_token", "pad_token")),
}


# The classes for which add_bos_token and add_eos_token replace tokenizer.json's post_processor. For all others
# transformers 4 and 5 leave it as it is.
_REPLACING = {
    *("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"),
    "GPTNeoXTokenizer",  # also where neither flag is there
}
_ADDS = ("add_bos_token", "add_eos_token")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a tokenizer, readable or not."""
    return (folder / DOCUMENT).is_file() or all((folder / name).is_file() for name in (VOCAB, MERGES))


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
    v, settings = _vocab_and_merges(folder, settings)
    return applied(dataclasses.replace(v, bos_id=bos_id, eos_id=eos_id), settings)


def _vocab_and_merges(folder: Path, settings: Settings) -> tuple[ByteLevel, Settings]:
    """vocab.json and merges.txt, and the settings with the special tokens that their class has by default."""
    tokens = read_table(folder / VOCAB, TokenizerError)
    try:
        merges = (folder / MERGES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{folder / MERGES}: cannot be read: {error}") from error
    kind = settings.kind or "GPT2Tokenizer"
    if kind not in _CLASSES:
        raise TokenizerError(f"{folder / CONFIG}: tokenizer_class {kind!r}: pygpt reads {', '.join(_CLASSES)}")
    if "Ġ" not in tokens and any(token.endswith("</w>") for token in tokens):
        raise TokenizerError(f"{folder / VOCAB}: words end in </w>, as GPT-1's do: not a byte-level vocabulary")
    splits, normal_forms, names = _CLASSES[kind]
    v = ByteLevel(
        source=str(folder / VOCAB),
        tokens=tokens,  # type: ignore[arg-type]  # Vocabulary checks them
        merges=merges,
        splits=splits,
        normal_forms=normal_forms,
    )
    return v, dataclasses.replace(settings, named={**dict.fromkeys(names, END_OF_TEXT), **settings.named})
