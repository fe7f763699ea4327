"""Byte-level BPE vocabularies as checkpoints store them: vocab.json + merges.txt, tokenizer.json, GGUF metadata.

Such files spell each byte of a token with one printable character (Radford et al. 2019, `bytes_to_unicode`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pygpt.errors import TokenizerError

# How text is cut into pieces before merging. `\s++$` takes the whitespace at the end of a text, as `\s+(?!\S)` does,
# but without a stack that overflows. GPT-2's own expression:
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?!\S)|\s+"
# Digits are taken out before GPT-2's expression sees the rest: to whitespace, a digit is the end of the text (SmolLM).
DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s++$|\s+(?![^\s\p{N}])|\s+"
_LINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s++$|\s+(?!\S)|\s+"
)
LLAMA3 = _LINES % "{1,3}"
QWEN2 = _LINES % ""

GGUF_PATTERNS = {  # tokenizer.ggml.pre, as llama.cpp's src/llama-vocab.cpp maps it
    **dict.fromkeys(("default", "gpt-2", "phi-2", "mpt", "olmo", "jais"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), DIGITS),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "dbrx", "smaug-bpe"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2"), QWEN2),
}
CLASS_PATTERNS = {"GPT2Tokenizer": GPT2, "Qwen2Tokenizer": QWEN2}  # tokenizer_config.json, where nothing else tells
END_OF_TEXT = "<|endoftext|>"


def _byte_letters() -> list[str]:
    """The character that spells each byte: itself where it is printable in Latin-1, else the next one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


BYTE_LETTERS = _byte_letters()
_BYTE_OF = np.full(1 << 16, -1, np.int16)  # by UTF-16 code unit
_BYTE_OF[[ord(letter) for letter in BYTE_LETTERS]] = range(256)


def spelled(tokens: Sequence[str], source: str) -> list[bytes]:
    """The bytes of each token. All at once: a loop over 50,000 tokens' characters would take a tenth of a second."""
    units = np.frombuffer("".join(tokens).encode("utf-16-le", "surrogatepass"), "<u2")
    values = _BYTE_OF[units]
    if values.min(initial=0) < 0:
        letters = set(BYTE_LETTERS)
        odd = next(token for token in tokens if not letters.issuperset(token))
        raise TokenizerError(f"{source}: the token {odd!r} is not spelled in bytes: not a byte-level vocabulary")
    joined = values.astype(np.uint8).tobytes()
    ends = np.cumsum([len(token) for token in tokens]).tolist()
    return [joined[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What one checkpoint says about its tokens. Ids may have gaps and any order."""

    source: str  # the file, for messages
    tokens: Mapping[str, int]  # byte-level spelling -> id; without the tokens below
    merges: str  # "left right" lines, the first merged first
    pattern: str
    special: Mapping[str, int] = field(default_factory=dict)  # plain text unless the caller allows them
    added: Mapping[str, int] = field(default_factory=dict)  # always one token, wherever they occur
    bos_id: int | None = None
    eos_id: int | None = None
    unk_id: int | None = None  # stands for bytes that the vocabulary lacks
    nfc: bool = False  # text is normalised first
    whole_words: bool = False  # a piece that is a token is never split, even where no merge gives it

    def __post_init__(self) -> None:
        ids = [*self.tokens.values(), *self.special.values(), *self.added.values()]
        if not set(map(type, ids)) <= {int} or (ids and not 0 <= min(ids) <= max(ids) < 2**31):
            raise TokenizerError(f"{self.source}: token ids must be integers from 0 to 2**31 - 1")
        if len(set(ids)) != len(ids):
            raise TokenizerError(f"{self.source}: two tokens have the same id")
        if not self.tokens or "" in self.special or "" in self.added:
            raise TokenizerError(f"{self.source}: no tokens, or one without text")


def merge_lines(v: Vocabulary) -> list[str]:
    """The merges one by one, without merges.txt's version line."""
    lines = v.merges.replace("\r", "").rstrip("\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    return [] if lines == [""] else lines


def merged_ids(v: Vocabulary) -> list[int]:
    """The id that each merge gives, the first merge first; a token that several merges give counts at its first."""
    lines = merge_lines(v)
    text = "\n".join(lines)
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
    separators = units[(units == ord(" ")) | (units == ord("\n"))]
    if (
        np.any(separators[0::2] != ord(" "))
        or np.any(separators[1::2] != ord("\n"))
        or len(separators) % 2 != bool(lines)
    ):
        number, line = next((n, line) for n, line in enumerate(lines, start=1) if line.count(" ") != 1)
        raise TokenizerError(f"{v.source}: merge {number} is {line[:80]!r}, but must be two tokens and a space")
    try:
        ids = list(map(v.tokens.__getitem__, text.replace(" ", "").split("\n") if lines else []))
    except KeyError as error:
        raise TokenizerError(f"{v.source}: a merge gives the token {error}, which the vocabulary lacks") from None
    return list(dict.fromkeys(ids))
