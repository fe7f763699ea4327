"""What counting reaches: an n-gram model of order 5 on the token files of a training run, to compare a network with.

    python examples/ngram.py RUN/data --order 5 --json ngram.json

Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998, TR-10-98, section 3), the strongest of the models
that count, over the network's own vocabulary and its own split. Where the training text holds documents several times,
two models are made: of the tokens as they are, and of each document once. Prints perplexity per token and bits per byte
of the validation text; every token of it is predicted from those before it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


class Level(NamedTuple):
    """The n-grams of one length k, each a context of k - 1 tokens and a token."""

    codes: Ids  # sorted; context * n_vocab + token, the context being the place of its (k - 1)-gram among those
    mass: Floats  # max(c - D(c), 0) / sum of c over the context's n-grams
    backoff: Floats  # for each context: the share that goes to the shorter context's distribution


class KneserNey:
    """Interpolated modified Kneser-Ney over token ids below n_vocab.

    P(w | h) = (c(h w) - D(c(h w))) / c(h .) + backoff(h) P(w | h without its first token), down to the uniform
    distribution. At the highest order c counts occurrences, below it the different tokens seen before the n-gram. D has
    three values an order, for c = 1, 2 and more, from the numbers of n-grams that occur one to four times.
    """

    def __init__(self, tokens: NDArray[Any], n_vocab: int, order: int) -> None:
        """tokens (n,), at least `order` of them."""
        self.n_vocab, self.order = n_vocab, order
        tokens = tokens.astype(np.int64)
        codes: list[Ids] = []
        at: list[Ids] = [np.zeros(len(tokens) + 1, np.int64)]  # at[k][i]: the place of the k-gram that begins at i
        for k in range(1, order + 1):
            found, places = np.unique(at[-1][: len(tokens) - k + 1] * n_vocab + tokens[k - 1 :], return_inverse=True)
            codes.append(found)
            at.append(places.reshape(-1))
        self.levels: list[Level] = []
        for k in range(1, order + 1):
            if k == order:
                counts = np.bincount(at[k])
            else:  # each longer n-gram counts once for the one without its first token
                longer = np.unique(at[k + 1], return_index=True)[1]
                counts = np.bincount(at[k][longer + 1], minlength=len(codes[k - 1]))
            n_contexts = 1 if k == 1 else len(codes[k - 2])
            self.levels.append(_level(codes[k - 1], counts, n_vocab, n_contexts))

    def probabilities(self, tokens: NDArray[Any]) -> Floats:
        """P of each of the tokens (n,) given those before it."""
        tokens = tokens.astype(np.int64)
        p = np.full(len(tokens), 1.0 / self.n_vocab)
        place = np.zeros(len(tokens) + 1, np.int64)  # of the context that begins at i; -1: not in the training text
        for k, level in enumerate(self.levels, start=1):
            n = len(tokens) - k + 1
            if n < 1:
                break
            context = place[:n]
            known = context >= 0
            code = context * self.n_vocab + tokens[k - 1 :]
            i = np.minimum(np.searchsorted(level.codes, code), len(level.codes) - 1)
            seen = known & (level.codes[i] == code)
            shorter = p[k - 1 :]
            p[k - 1 :] = np.where(known, level.backoff[context] * shorter, shorter) + np.where(seen, level.mass[i], 0.0)
            place = np.where(seen, i, -1)
        return p


def _level(codes: Ids, counts: Ids, n_vocab: int, n_contexts: int) -> Level:
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    y = n1 / max(n1 + 2 * n2, 1)  # max and min: where the text is so small or so often repeated that the formula fails
    raw = (c - (c + 1) * y * more / max(n, 1) for c, n, more in ((1, n1, n2), (2, n2, n3), (3, n3, n4)))
    discounts = np.array([0.0, *(min(max(d, 0.1), c) for c, d in enumerate(raw, start=1))])
    discount = discounts[np.minimum(counts, 3)]
    context = codes // n_vocab
    total = np.bincount(context, counts, n_contexts)
    taken = np.bincount(context, discount, n_contexts)
    empty = total == 0  # a context seen only at the very end
    backoff = np.where(empty, 1.0, taken / np.where(empty, 1.0, total))
    mass = (counts - discount) / np.where(empty, 1.0, total)[context]
    return Level(codes, mass, backoff)


def once(tokens: NDArray[Any], end: int) -> NDArray[Any]:
    """The tokens without the documents (up to and with the token `end`) that stood before, word for word."""
    cuts = np.flatnonzero(tokens == end) + 1
    documents = {document.tobytes(): document for document in np.split(tokens, cuts)}
    return np.concatenate(list(documents.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="where pygpt.training.data.prepare put its files")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    table = json.loads((options.data / "data.json").read_text(encoding="utf-8"))
    n_vocab, end, n_bytes = table["n_vocab"], table["eos_id"], table["n_validation_bytes"]
    dtype = "<u2" if n_vocab <= 1 << 16 else "<u4"
    train, validation = (np.fromfile(options.data / f"{part}.tokens", dtype) for part in ("train", "validation"))
    texts = {"as trained on": train} | ({} if end is None else {"each document once": once(train, end)})
    results = {}
    for name, tokens in texts.items():
        start = time.perf_counter()
        nats = -np.log(KneserNey(tokens, n_vocab, options.order).probabilities(validation)).sum()
        perplexity, bits = math.exp(nats / len(validation)), nats / math.log(2) / n_bytes
        results[name] = {"tokens": len(tokens), "perplexity": perplexity, "bits_per_byte": bits}
        took = f"({time.perf_counter() - start:.0f} s)"
        print(f"{name:20} {len(tokens):10,} tokens: perplexity {perplexity:.2f}, {bits:.4f} bits per byte {took}")
    if options.json:
        options.json.write_text(json.dumps({"order": options.order} | results, indent=2) + "\n")


if __name__ == "__main__":
    main()
