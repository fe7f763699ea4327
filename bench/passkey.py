"""Whether keys are found exactly in a long text, by the format of cached keys and values.

    python bench/passkey.py Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf TEXTS/moby_dick.txt

Sentences of the form "The pass key of Oslo is 73519." are put into a text at even distances; then the model is asked
for each of them. One reading of the text serves all questions of a format. A key counts as found if greedy decoding
gives its digits and then something else. After the idea of arXiv:2305.16300, with many keys in one text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import pygpt
from pygpt.engine import KvFormat

CITIES = ["Oslo", "Lima", "Cairo", "Paris", "Delhi", "Quito", "Seoul", "Tunis", "Accra", "Hanoi"]
CITIES += ["Minsk", "Sofia", "Dakar", "Perth", "Turin", "Bergen", "Osaka", "Leeds", "Miami", "Boston"]
DIGITS = 5


def with_keys(model: pygpt.Model, text: str, tokens: int, seed: int) -> tuple[list[int], dict[str, str]]:
    """The text's first tokens with a sentence for each city among them, and the cities' keys."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    rng = np.random.default_rng(seed)
    keys = {str(city): str(rng.integers(10 ** (DIGITS - 1), 10**DIGITS)) for city in rng.permutation(CITIES)}
    sentences = [tokenizer.encode(f" The pass key of {city} is {key}.") for city, key in keys.items()]
    start = text.index("\n", int(rng.integers(len(text) // 2)))
    filler = tokenizer.encode(text[start : start + 8 * tokens])[: tokens - sum(map(len, sentences))]
    ids: list[int] = []
    for i, sentence in enumerate(sentences):
        part = filler[len(filler) * i // len(sentences) : len(filler) * (i + 1) // len(sentences)]
        middle = len(part) // 2
        ids += part[:middle] + sentence + part[middle:]
    return ids, keys


def found(model: pygpt.Model, ids: list[int], keys: dict[str, str]) -> list[str]:
    """The cities whose keys the model names."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    read = model.session()
    read.append(ids)
    right = []
    for city, key in keys.items():
        session = read.fork()
        logits = session.append(tokenizer.encode(f"\n\nQuestion: What is the pass key of {city}?\nAnswer: It is"))
        answer: list[int] = []
        while len(answer) < 3 * DIGITS:
            answer.append(int(np.argmax(logits)))
            if not (text := tokenizer.decode(answer)).strip().isdigit() and text.strip():
                break
            logits = session.append(answer[-1:])
        text = tokenizer.decode(answer).strip()
        if text.startswith(key) and not text[DIGITS : DIGITS + 1].isdigit():
            right.append(city)
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint with a tokenizer")
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--texts", type=int, default=2, help="so many different ones")
    parser.add_argument("--weights", choices=["int8", "bfloat16", "float32"], default="int8")
    parser.add_argument("--kv", nargs="+", default=["float16", "int8"], metavar="FORMAT")
    args = parser.parse_args()
    text = args.text.read_text(encoding="utf-8")
    kv: KvFormat
    for kv in args.kv:
        model = pygpt.Model.load(args.model, weights=args.weights, kv=kv)
        for seed in range(args.texts):
            ids, keys = with_keys(model, text, args.tokens, seed)
            right = found(model, ids, keys)
            missed = sorted(keys.keys() - right)
            print(f"{kv}: {len(right)} of {len(keys)} in text {seed}, {len(ids)} tokens; missed: {missed}", flush=True)


if __name__ == "__main__":
    main()
