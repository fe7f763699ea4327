"""Reading `Vocabulary`s from the files of checkpoints, and writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pygpt.errors import TokenizerError
from pygpt.tokenizer.vocabulary import (
    CLASS_PATTERNS,
    DIGITS,
    END_OF_TEXT,
    GGUF_PATTERNS,
    GPT2,
    LLAMA3,
    QWEN2,
    Vocabulary,
    merge_lines,
)

ANY = r"|(?s:.)"
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # GGUF's token types; 5 is unused, 6 a byte of another model


def from_vocab_and_merges(folder: Path, bos_id: int | None, eos_id: int | None) -> Vocabulary:
    """vocab.json + merges.txt, GPT-2's two files, and what newer files beside them add."""
    source = str(folder / "vocab.json")
    tokens = json_table(folder / "vocab.json")
    config_file = folder / "tokenizer_config.json"
    config = json_table(config_file) if config_file.is_file() else {}
    try:
        merges = (folder / "merges.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{folder / 'merges.txt'}: cannot be read: {error}") from error
    name = str(config.get("tokenizer_class") or "GPT2Tokenizer").removesuffix("Fast")
    if name not in CLASS_PATTERNS or config.get("add_prefix_space"):
        raise TokenizerError(
            f"{config_file}: tokenizer_class {name!r} with add_prefix_space "
            f"{config.get('add_prefix_space', False)!r}: pygpt reads {', '.join(CLASS_PATTERNS)} without it"
        )
    if "Ġ" not in tokens and any(token.endswith("</w>") for token in tokens):
        raise TokenizerError(f"{source}: words end in </w>, as GPT-1's do: not a byte-level vocabulary")
    special: dict[str, object] = {END_OF_TEXT: tokens[END_OF_TEXT]} if END_OF_TEXT in tokens else {}
    if (folder / "added_tokens.json").is_file():
        special |= json_table(folder / "added_tokens.json")
    decoder = config.get("added_tokens_decoder")
    for token, entry in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and token.isdecimal():
            special[entry["content"]] = int(token)
    end = special.get(END_OF_TEXT)
    default = end if isinstance(end, int) else None
    return Vocabulary(
        source=source,
        tokens=_without(tokens, special),
        merges=merges,
        pattern=CLASS_PATTERNS[name],
        special=special,  # type: ignore[arg-type]
        bos_id=default if bos_id is None else bos_id,
        eos_id=default if eos_id is None else eos_id,
    )


def from_tokenizer_json(path: Path, bos_id: int | None, eos_id: int | None) -> Vocabulary:
    """Hugging Face's tokenizer.json, if it is byte-level BPE without surprises."""
    document = json_table(path)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        kind = model.get("type") if isinstance(model, dict) else None
        raise TokenizerError(f"{path}: model {kind!r} is not byte-level BPE, the only kind that pygpt reads")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise TokenizerError(f"{path}: model.{key} is {model[key]!r}, but must be absent")
    tokens, merges = model.get("vocab"), model.get("merges")
    if not isinstance(tokens, dict) or not isinstance(merges, list):
        raise TokenizerError(f"{path}: expected model.vocab to be a table and model.merges a list")
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for entry in _list(document.get("added_tokens"), path, "added_tokens"):
        content = entry.get("content")
        if (
            not isinstance(content, str)
            or not content
            or any(entry.get(k) for k in ("single_word", "lstrip", "rstrip"))
        ):
            raise TokenizerError(
                f"{path}: the added token {content!r} needs single_word, lstrip and rstrip to be false"
            )
        (special if entry.get("special") else added)[content] = entry.get("id")  # type: ignore[assignment]
    unk = model.get("unk_token")
    return Vocabulary(
        source=str(path),
        tokens=_without(tokens, special, added),
        merges="\n".join(m if isinstance(m, str) else " ".join(map(str, m)) for m in merges),
        pattern=_pre_tokenizer(document.get("pre_tokenizer"), path),
        special=special,
        added=added,
        bos_id=bos_id,
        eos_id=eos_id,
        unk_id=tokens.get(unk, special.get(unk)) if isinstance(unk, str) else None,
        nfc=_normalizer(document.get("normalizer"), path),
        whole_words=bool(model.get("ignore_merges")),
    )


def _normalizer(step: object, path: Path) -> bool:
    """True for NFC, False for none."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        steps = step.get("normalizers")
        step = steps[0] if isinstance(steps, list) and len(steps) == 1 else step if steps else None
    if step is None or (isinstance(step, dict) and step.get("type") == "NFC"):
        return step is not None
    raise TokenizerError(f"{path}: the normalizer {json.dumps(step)[:200]} is neither null nor NFC")


def _pre_tokenizer(step: object, path: Path) -> str:
    """One expression for what the pre-tokenizers do together."""
    sequence = step.get("pretokenizers") if isinstance(step, dict) and step.get("type") == "Sequence" else [step]
    steps = _list(sequence, path, "pre_tokenizer")
    kinds = [s.get("type") for s in steps]
    last = steps[-1] if steps else {}
    if kinds[-1:] == ["ByteLevel"] and not last.get("add_prefix_space"):
        uses_regex, first = last.get("use_regex", True), steps[0]
        if len(steps) == 1 and uses_regex:
            return GPT2
        if kinds[0] == "Digits" and first.get("individual_digits") and len(steps) == 2 and uses_regex:
            return DIGITS
        if kinds[0] == "Split" and len(steps) == 2 and not uses_regex:
            expression, behavior = first.get("pattern"), (first.get("behavior"), bool(first.get("invert")))
            regex = expression.get("Regex") if isinstance(expression, dict) else None
            if isinstance(regex, str) and behavior in (("Isolated", False), ("Removed", True)):
                return _without_overflow(regex)
    raise TokenizerError(
        f"{path}: the pre_tokenizer {json.dumps(step)[:300]} is none of those pygpt knows: ByteLevel; Digits and "
        "ByteLevel; Split by a Regex (Isolated) and ByteLevel without use_regex; all without add_prefix_space"
    )


def _without_overflow(pattern: str) -> str:
    r"""The same expression with whitespace at a text's end taken by `\s++$`, as in `GPT2`; and, unless it is a known
    one, with any character that nothing matches as a piece of its own, because tiktoken would drop it."""
    head, found, tail = pattern.partition(r"|\s+(?!\S)")
    safe = rf"{head}|\s++${found}{tail}" if found else pattern
    return safe if safe in (GPT2, LLAMA3, QWEN2) else safe + ANY


def to_tokenizer_json(v: Vocabulary) -> dict[str, object]:
    """A tokenizer.json that `from_tokenizer_json` reads back, and Hugging Face's library as well."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    steps: list[dict[str, object]] = [byte_level]
    if v.pattern == DIGITS:
        steps.insert(0, {"type": "Digits", "individual_digits": True})
    elif v.pattern != GPT2:
        expression = v.pattern.removesuffix(ANY).replace(r"|\s++$", "")
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        steps = [split, byte_level | {"use_regex": False}]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    named = [(token, i, True) for token, i in v.special.items()] + [(token, i, False) for token, i in v.added.items()]
    names = {i: token for token, i in (*v.tokens.items(), *v.special.items())}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags, "special": s} for token, i, s in named],
        "normalizer": {"type": "NFC"} if v.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if v.unk_id is None else names[v.unk_id],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": v.whole_words,
            "vocab": {**v.tokens, **v.special},
            "merges": merge_lines(v),
        },
    }


def from_gguf(metadata: Mapping[str, object], source: str) -> Vocabulary:
    """A GGUF file's ``tokenizer.ggml.*``; token types as in ggml's gguf.md."""
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if model != "gpt2":
        raise TokenizerError(f"{source}: tokenizer.ggml.model {model!r} is not byte-level BPE ('gpt2')")
    if pre not in GGUF_PATTERNS:
        raise TokenizerError(f"{source}: tokenizer.ggml.pre {pre!r} is none of {', '.join(GGUF_PATTERNS)}")
    tokens, merges = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.merges")
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not isinstance(merges, list):
        raise TokenizerError(f"{source}: tokenizer.ggml.tokens and tokenizer.ggml.merges must be arrays of strings")
    kinds = types if isinstance(types, np.ndarray) else np.ones(len(tokens), np.int32)
    if len(kinds) != len(tokens):
        raise TokenizerError(f"{source}: {len(kinds)} tokenizer.ggml.token_type for {len(tokens)} tokens")
    try:
        texts = list(map(bytes.decode, tokens))
        text = b"\n".join(merges).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{source}: a token is not UTF-8: {error}") from error
    named = [{texts[i]: int(i) for i in np.flatnonzero(kinds == kind)} for kind in (_CONTROL, _UNKNOWN, _USER_DEFINED)]
    other = {texts[i]: int(i) for i in np.flatnonzero(kinds != _NORMAL)}
    ids = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "unknown")}
    bos, eos, unk = (i if isinstance(i, int) else None for i in ids.values())
    return Vocabulary(
        source=source,
        tokens=_without(dict(zip(texts, range(len(texts)), strict=True)), other),
        merges=text,
        pattern=GGUF_PATTERNS[pre],
        special=named[0] | named[1],
        added=named[2],
        bos_id=bos,
        eos_id=eos,
        unk_id=unk,
        whole_words=GGUF_PATTERNS[pre] == LLAMA3,
    )


def _without(tokens: Mapping[str, object], *others: Mapping[str, object]) -> dict[str, int]:
    """The tokens that are in none of the others; `Vocabulary` checks that they are integers."""
    rest = dict(tokens)
    for token in (token for other in others for token in other):
        rest.pop(token, None)
    return rest  # type: ignore[return-value]


def _list(value: object, path: Path, key: str) -> list[dict[str, object]]:
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise TokenizerError(f"{path}: {key} is not a list of tables")
    return entries


def json_table(path: Path) -> dict[str, object]:
    """A JSON file that holds one table."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise TokenizerError(f"{path}: not a JSON table")
    return values
