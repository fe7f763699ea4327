"""A vocabulary as Hugging Face's tokenizer.json, which `document.read_document` reads back, and their library too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pygpt.tokenizer.byte_level import ByteLevel, merge_lines
from pygpt.tokenizer.character_level import CharacterLevel, splits
from pygpt.tokenizer.document import BYTE_LEVEL, BYTES, FLAGS, FROM_SPACE, PREPEND, STRIP, TO_SPACE, Step
from pygpt.tokenizer.expressions import GPT2
from pygpt.tokenizer.vocabulary import Vocabulary

DECODER: list[Step] = [FROM_SPACE, *BYTES, STRIP]
"""SentencePiece's; without the last where no space is put before a text."""


def to_document(v: Vocabulary) -> Step:
    """The file's table."""
    names = {i: token for token, i in v.tokens.items()} | {t.id: t.text for t in v.added}
    if isinstance(v, ByteLevel):
        steps = _byte_level(v, names)
    elif isinstance(v, CharacterLevel):
        steps = _character_level(v, names)
    else:
        from pygpt.tokenizer.library import Library  # here, because few tokenizers need it

        assert isinstance(v, Library)
        steps = dict(v.steps)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": t.id, "content": t.text} | {flag: getattr(t, flag) for flag in FLAGS} for t in v.added],
        **steps,
        "post_processor": _to_template(v, names) if v.prefix or v.suffix else None,
    }


def _bpe(v: ByteLevel | CharacterLevel, names: Mapping[int, str], **more: object) -> Step:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None if v.unk_id is None else names[v.unk_id],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": v.fuse_unk,
        "vocab": {**v.tokens, **{t.text: t.id for t in v.added}},
        **more,
    }


def _byte_level(v: ByteLevel, names: Mapping[int, str]) -> Step:
    steps: list[Step] = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False} for split in v.splits
    ]
    byte_level = BYTE_LEVEL | {"add_prefix_space": v.prefix_space}
    if v.splits[-1:] == (GPT2,):
        steps[-1] = byte_level
    else:
        steps.append(byte_level | {"use_regex": False})
    return {
        "normalizer": _sequence("normalizers", [{"type": form} for form in v.normal_forms]),
        "pre_tokenizer": _sequence("pretokenizers", steps),
        "decoder": BYTE_LEVEL,
        "model": _bpe(v, names, byte_fallback=False, ignore_merges=v.whole_words, merges=merge_lines(v)),
    }


def _character_level(v: CharacterLevel, names: Mapping[int, str]) -> Step:
    return {
        "normalizer": _sequence("normalizers", [*[PREPEND] * v.prefix_space, TO_SPACE]),
        "pre_tokenizer": None,
        "decoder": _sequence("decoders", DECODER[: 4 if v.prefix_space else 3]),
        "model": _bpe(
            v, names, byte_fallback=v.byte_fallback, ignore_merges=False, merges=list(splits(v.merged, v.tokens))
        ),
    }


def _sequence(key: str, steps: list[dict[str, object]]) -> dict[str, object] | None:
    return steps[0] if len(steps) == 1 else {"type": "Sequence", key: steps} if steps else None


def _to_template(v: Vocabulary, names: Mapping[int, str]) -> dict[str, object]:
    def pieces(ids: Iterable[int], type_id: int) -> list[dict[str, object]]:
        return [{"SpecialToken": {"id": names[i], "type_id": type_id}} for i in ids]

    def one(name: str, type_id: int) -> list[dict[str, object]]:
        text: list[dict[str, object]] = [{"Sequence": {"id": name, "type_id": type_id}}]
        return pieces(v.prefix, type_id) + text + pieces(v.suffix, type_id)

    used = dict.fromkeys((*v.prefix, *v.suffix))
    return {
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": one("A", 0) + one("B", 1),
        "special_tokens": {names[i]: {"id": names[i], "ids": [i], "tokens": [names[i]]} for i in used},
    }
