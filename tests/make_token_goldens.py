"""Make tests/data/tokens with Hugging Face's tokenizers, the original of what pygpt's tokenizers must reproduce.

    python tests/make_token_goldens.py

Run once; the tests need neither this script nor that library. It trains a small byte-level vocabulary (vocab.json and
merges.txt), splits texts with each of the originals' own pre-tokenizers, and stores the ids (goldens.json). The ids
under "gpt2-vocabulary" are of GPT-2's real vocabulary in ../shared.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared" / "data"
OUT = TESTS / "data" / "tokens"
N_VOCAB = 1200

LINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES_ONLY = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WHOLE = pre_tokenizers.ByteLevel(add_prefix_space=False)
PRE_TOKENIZERS = {  # as the tokenizer.json of each model says
    "gpt2": WHOLE,
    "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), WHOLE]),
    "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LINES % "{1,3}"), "isolated"), BYTES_ONLY]),
    "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LINES % ""), "isolated"), BYTES_ONLY]),
}
TEXTS = [
    "",
    "a",
    " ",
    "   ",
    "\n",
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces   three",
    "I'm sure they'll say it's what we've done; you're right, he'd go. DON'T SHOUT, I'LL COME.",
    "don\u2019t use the curly apostrophe",
    "1 12 123 1234 12345, 3.14159 and 1,000,000",
    "in  2024,   7 times; x=  42",
    "tab\tand\r\nnewline\n\n\nthree\r\n  indented\n    deeper\n",
    "trailing newlines\n\n",
    "def f(x):\n    return [x ** 2 for x in range(10)]  # squares!!\n",
    "!!!???... --- ((())) <<>> #$%^&*",
    "punctuation before newline:\n\n  next",
    "<|endoftext|> only looks special, and so does <|im_start|>user",
    "émigré naïve Straße ÆØÅ æøå ŒÕÑ",
    "e\u0301 combining, \ufb01 ligature, \u00bd half, \u2167 eight, x\u00b2",
    "日本語のテキスト。中文文本，한국어 텍스트",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "🙂🙃 👩‍👩‍👧‍👦 🇫🇷 flags ☃️ snow",
    "non\u00a0breaking\u2003em\u3000ideographic\u200bzero\u0085next line",
    "\x00\x01\x1b[0m control \x7f",
    "𝒳 astral 𐍈 gothic",
    "under_score camelCase ALLCAPS kebab-case a1b2c3",
    "https://example.org/path?query=1&other=two#fragment",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "          ten spaces then a word, then          2 digits",
]


def train() -> Tokenizer:
    """A small vocabulary from Shakespeare, this file, and the texts above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = WHOLE
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    play = (SHARED / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    code = Path(__file__).read_text(encoding="utf-8")
    tokenizer.train_from_iterator([play, *[code] * 20, *TEXTS * 20], trainer)
    return tokenizer


def ids(vocab: Path, merges: Path, pre_tokenizer: pre_tokenizers.PreTokenizer) -> list[list[int]]:
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizer
    return [tokenizer.encode(text).ids for text in TEXTS]


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    train().model.save(str(OUT))
    vocab, merges = OUT / "vocab.json", OUT / "merges.txt"
    goldens = {name: ids(vocab, merges, pre) for name, pre in PRE_TOKENIZERS.items()}
    goldens["gpt2-vocabulary"] = ids(SHARED / "gpt2-bpe" / "vocab.json", SHARED / "gpt2-bpe" / "merges.txt", WHOLE)
    steps = {name: json.loads(pre.__getstate__()) for name, pre in PRE_TOKENIZERS.items()}
    document = {"texts": TEXTS, "pre_tokenizers": steps, "ids": goldens}
    (OUT / "goldens.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
