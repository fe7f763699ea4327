"""Make tests/data/pieces with Google's sentencepiece, the original of what pygpt's tokenizers must reproduce.

    python tests/make_piece_goldens.py

Run once; the tests need neither this script nor that library. It trains small models and stores them with the
ids that sentencepiece gives for texts (goldens.json):

- llama: BPE, unknown characters as bytes, a space before the text (Llama 1 and 2, Mistral);
- gemma: BPE, bytes, no space before the text, runs of spaces, tabs and newlines as symbols of the user (Gemma);
- unigram: Unigram, bytes, a space before the text;
- normalized, unigram-normalized: the same with a normaliser that replaces some characters and takes spaces away.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path

import sentencepiece
from make_token_goldens import SHARED, TESTS, TEXTS

OUT = TESTS / "data" / "pieces"
RUNS = [c * n for c in "\n\t" for n in range(1, 5)] + ["\u2581" * n for n in range(2, 6)]
RULES = {"\ufb01": "fi", "\u00bd": "1/2", "\u00a0": " ", "\u0435\u0301": "e", "\u00e9": "e", "A": "a", "\t": " "}
NORMALIZED = {"remove_extra_whitespaces": True, "normalization_rule_tsv": "rules.tsv"}
MODELS = {
    "llama": {"model_type": "bpe"},
    "gemma": {"model_type": "bpe", "add_dummy_prefix": False, "user_defined_symbols": [*RUNS, "<table>"]},
    "normalized": {"model_type": "bpe", **NORMALIZED},
    "unigram": {"model_type": "unigram"},
    "unigram-normalized": {"model_type": "unigram", "user_defined_symbols": ["<table>", "ab"], **NORMALIZED},
}
MORE = [
    "\u2581x\u2581 y",
    "<s> is </s> text",
    "a<table>  b\n\n\n\n\n\tc",
    "<0x0A>",
    "  \u2581\u2581 ",
    "lololol ababab" * 9,
]


def _hex(text: str) -> str:
    return " ".join(f"{ord(c):X}" for c in text)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    play = (SHARED / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    lines = [*play.splitlines(), *TEXTS * 20]
    texts = [t for t in [*TEXTS, *MORE, play[:2000]] if "\x00" not in t]
    goldens: dict[str, object] = {"texts": texts}
    os.chdir(tempfile.mkdtemp())
    Path("rules.tsv").write_text("".join(f"{_hex(old)}\t{_hex(new)}\n" for old, new in RULES.items()))
    for name, options in MODELS.items():
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            vocab_size=900,
            byte_fallback=True,
            split_digits=True,
            character_coverage=0.99,
            minloglevel=2,
            num_threads=1,
            **{"normalization_rule_name": "identity", "remove_extra_whitespaces": False, **options},
        )
        (OUT / f"{name}.model").write_bytes(written.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        goldens[name] = [processor.encode(text) for text in texts]
        goldens[f"{name}-decoded"] = [processor.decode(ids) for ids in goldens[name]]
    (OUT / "goldens.json").write_text(json.dumps(goldens, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
