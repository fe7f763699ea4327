"""What tokenizer.ggml.pre stands for, against the library with the steps of the models' own tokenizer.json."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.pre import PRE

Maker = Callable[..., Any]

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"
TEXTS: list[str] = json.loads((TOKENS / "goldens.json").read_text(encoding="utf-8"))["texts"]
WHOLE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = WHOLE | {"use_regex": False}


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
)
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
BLOOM = r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
STEPS = {
    "tekken": [split(WORDS % ("", "") + r"\p{N}" + REST), BYTES],
    "gpt-4o": [split(WORDS % (ENDING, ENDING) + r"\p{N}{1,3}" + REST), BYTES],
    "bloom": [split(BLOOM), BYTES],
    "deepseek-coder": [
        *map(split, (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")),
        *({"type": "Digits", "individual_digits": True}, BYTES),
    ],
    "deepseek-v3": [
        *map(split, (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")),
        split(
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
            r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        BYTES,
    ],
    "falcon": [
        *({"type": "Punctuation", "behavior": "Contiguous"}, WHOLE, {"type": "Digits", "individual_digits": False}),
        split("[0-9][0-9][0-9]"),
    ],
}


@pytest.mark.parametrize("name", STEPS)
def test_ids_are_those_of_the_library(name: str, document: Maker, gguf_metadata: Maker) -> None:
    steps = {"type": "Sequence", "pretokenizers": STEPS[name]}
    model = {"ignore_merges": PRE[name].whole_words}
    added = [entry | {"normalized": False} for entry in document()["added_tokens"]]
    whole = document(added_tokens=added, pre_tokenizer=steps, post_processor=None, decoder=WHOLE, model=model)
    library = tokenizers.Tokenizer.from_str(json.dumps(whole))
    library.encode_special_tokens = True
    tokenizer = Tokenizer.from_gguf(gguf_metadata(name), "x.gguf")
    r = random.Random(name)
    alphabet = sorted({*"".join(TEXTS)})
    for text in [*TEXTS, *("".join(r.choices(alphabet, k=r.randint(1, 30))) for _ in range(150))]:
        ids = library.encode(text).ids
        assert tokenizer.encode(text) == ids, text
        assert tokenizer.decode(ids) == library.decode(ids) == text


@pytest.mark.parametrize("name", sorted({*PRE} - {"qwen2"}))
def test_saved_as_tokenizer_json(name: str, gguf_metadata: Maker, tmp_path: Path) -> None:
    gguf = Tokenizer.from_gguf(gguf_metadata(name), "x.gguf")
    gguf.save(tmp_path)
    saved = Tokenizer.from_folder(tmp_path)
    assert saved is not None
    for text in TEXTS:
        assert saved.encode(text) == gguf.encode(text)
