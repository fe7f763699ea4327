"""More training examples out of those there are: words left out, words exchanged, or a model's paraphrases.

The first two are those of Wei and Zou 2019, "EDA", that need no dictionary; each gives one changed copy of every
example, which stands beside it with the same label.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

from data import Rows

import pygpt

SHARE = 0.1  # of the words that are changed
REQUEST = "Say this in other words. Keep its meaning and its feeling, and write one sentence only.\n\n{}"


def without_words(text: str, rng: random.Random) -> str:
    """A tenth of the words left out, never all."""
    words = text.split()
    kept = [word for word in words if rng.random() >= SHARE]
    return " ".join(kept or words[:1])


def with_swaps(text: str, rng: random.Random) -> str:
    """Two words change places, for each ten words once, at least once."""
    words = text.split()
    for _ in range(max(1, round(SHARE * len(words)))):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def paraphrases(texts: list[str], model: pygpt.Model) -> list[str]:
    """One sampled paraphrase of each; where the model says nothing, the text itself."""
    prompts = [_request(model, text) for text in texts]
    found: list[str] = []
    for begin in range(0, len(prompts), 16):
        part = model.generate(
            prompts[begin : begin + 16], max_tokens=60, temperature=0.7, top_p=0.9, stop=["\n"], seed=begin
        )
        found += [done.text.strip().strip('"') for done in part]
    return [new or old for new, old in zip(found, texts, strict=True)]


def _request(model: pygpt.Model, text: str) -> list[int]:
    """As the model was trained to be asked, if it was."""
    if not model.has_chat_template:
        return model.tokenizer.encode(f"{text}\nIn other words:")
    asked = model.render([{"role": "user", "content": REQUEST.format(text)}])
    return model.tokenizer.encode(asked, allow_special=True, add_special=False)


def _copied(change: Callable[[str, random.Random], str]) -> Callable[[Rows, argparse.Namespace], Rows]:
    def augment(rows: Rows, arguments: argparse.Namespace) -> Rows:
        rng = random.Random(arguments.seed)
        return rows + [(change(text, rng), label) for text, label in rows]

    return augment


def _paraphrased(rows: Rows, arguments: argparse.Namespace) -> Rows:
    model = pygpt.Model.load(arguments.augment_with, threads=arguments.threads)
    return rows + list(zip(paraphrases([text for text, _ in rows], model), [label for _, label in rows], strict=True))


AUGMENTATIONS: dict[str, Callable[[Rows, argparse.Namespace], Rows]] = {
    "none": lambda rows, arguments: rows,
    "drop": _copied(without_words),
    "swap": _copied(with_swaps),
    "paraphrase": _paraphrased,
}
