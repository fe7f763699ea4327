"""The model card of the model that ships with pygpt: data, recipe, loss curve, measurements, samples, licence."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ngram import KneserNey, once
from numpy.typing import NDArray
from tiny_corpus import END, Text

from pygpt import Model, Tokenizer

PROMPTS = ("Once upon a time", "The captain", '"My dear," said she')
N_GRAM = 5
SHOWN = (
    *("batch", "learning_rate", "min_learning_rate", "warmup", "stable", "decay_steps", "schedule"),
    *("beta1", "beta2", "eps", "weight_decay", "clip", "dropout", "seed"),
)

CARD = """\
# tiny

A GPT-2 of {n_params:,} parameters that writes something like the stories and novels of the nineteenth and early
twentieth century. It exists so that pygpt can be tried offline, right after installation; it knows nothing and should
be asked nothing.

- Architecture: GPT-2, {n_layer} layers, {n_head} heads, width {n_embd}, context {n_ctx}, head tied to the embedding.
- Vocabulary: {n_vocab:,} byte pairs learned from the training text; `<|endoftext|>` is the last id.
- Weights: int8 as `Model.save` writes it, {n_bytes:.1f} MB.
- Made by pygpt itself, on CPU cores in {hours:.1f} hours: `python examples/train_tiny.py DATA RUN` in its repository.
- Licence: the weights MIT, as pygpt; the texts are in the public domain.

## Data

| text | copies | bytes each | held out |
| --- | --- | --- | --- |
{sources}

Held out are the last part of each older file and four whole books. Why the copies, what was left out and how the text
was cleaned: `examples/tiny_corpus.py`. The training text is {n_train:,} tokens.

## Recipe

AdamW as in `pygpt train`, with these settings:

{recipe}

{steps:,} steps, {tokens:.0f} million tokens. These are the values of step {best_step:,}, whose validation loss was the
lowest.

![Loss curve](loss.png)

## Measurements

Of these int8 weights on the held-out text, in windows of {n_ctx} tokens that overlap by half. Beside them an n-gram
model of order {order} (interpolated modified Kneser-Ney) of the same tokens, the better of two: with the copies and
without.

| text | perplexity | bits per byte | n-gram perplexity | n-gram bits per byte |
| --- | --- | --- | --- | --- |
{measurements}

Without overlap, where a token is given half as many before it, the perplexity of all of it is {disjoint:.1f}.

## Samples

Temperature 0.8, top-p 0.95, seed 0.
{samples}"""


class Measured(NamedTuple):
    """Sums over a held-out text of n tokens."""

    nats: float
    ngram_nats: float
    n_tokens: int
    n_bytes: int

    def row(self, name: str) -> str:
        """A line of the card's table."""
        bits = 1 / (math.log(2) * self.n_bytes)
        cells = (f"{math.exp(nats / self.n_tokens):.1f} | {nats * bits:.3f}" for nats in (self.nats, self.ngram_nats))
        return f"| {name} | {' | '.join(cells)} |"


def encode(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
    """The tokens of a text's documents, each followed by the token that ends it."""
    assert tokenizer.eos_id is not None
    ids = [[*tokenizer.encode(document), tokenizer.eos_id] for document in text.split(END) if document]
    return np.concatenate(ids).astype(np.int32)


def best_ngram(train: NDArray[Any], held_out: list[NDArray[np.int32]], n_vocab: int, end: int) -> list[float]:
    """The nats of each held-out text by the better of two n-gram models: of all tokens, and of each document once."""
    candidates = []
    for tokens in (train, once(train, end)):
        model = KneserNey(tokens, n_vocab, N_GRAM)
        candidates.append([-float(np.log(model.probabilities(ids)).sum()) for ids in held_out])
    return min(candidates, key=sum)


def measure(model: Model, train: NDArray[Any], texts: list[Text]) -> dict[str, Measured]:
    """Both models on each held-out text and on all of them. The first token of a text, which the network is not asked
    for, counts as the mean of the others."""
    tokenizer = model.tokenizer
    assert tokenizer.eos_id is not None
    texts = [text for text in texts if text.held_out]
    held_out = [encode(tokenizer, text.held_out) for text in texts]
    counted = best_ngram(train, held_out, tokenizer.n_vocab, tokenizer.eos_id)
    rows: dict[str, Measured] = {}
    for text, ids, ngram_nats in zip(texts, held_out, counted, strict=True):
        nats = math.log(model.perplexity(ids)) * len(ids)
        n_bytes = len(text.held_out.replace(END, "").encode())
        rows[text.source.title] = Measured(nats, ngram_nats, len(ids), n_bytes)
    columns = zip(*rows.values(), strict=True)
    rows["all of it"] = Measured(*(sum(column) for column in columns))
    return rows


def write(out: Path, run: Path, texts: list[Text]) -> None:
    """Write MODEL_CARD.md and loss.png beside the weights in `out`, made by the run in the folder `run`."""
    model = Model.load(out)
    config, tokenizer = model.config, model.tokenizer
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    best = min((step for step in steps if "validation_loss" in step), key=lambda step: float(step["validation_loss"]))
    train = np.fromfile(run / "data" / "train.tokens", "<u2")
    rows = measure(model, train, texts)
    everything = np.concatenate([encode(tokenizer, text.held_out) for text in texts if text.held_out])
    shutil.copyfile(run / "loss.png", out / "loss.png")
    sources = (
        f"| {t.source.title} | {t.source.copies} | {len(t.train.encode()):,} | {len(t.held_out.encode()):,} |"
        for t in texts
    )
    samples = (prompt + model.generate(prompt, max_tokens=200, temperature=0.8, seed=0).text for prompt in PROMPTS)
    card = CARD.format(
        n_params=config.n_params(),
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_ctx=config.n_ctx,
        n_vocab=config.n_vocab,
        n_bytes=(out / "model.safetensors").stat().st_size / 1e6,
        hours=steps[-1]["seconds"] / 3600,
        sources="\n".join(sources),
        n_train=len(train),
        recipe="\n".join(f"- {name.replace('_', ' ')}: {settings['recipe'][name]}" for name in SHOWN),
        steps=steps[-1]["step"],
        tokens=steps[-1]["tokens"] / 1e6,
        best_step=best["step"],
        order=N_GRAM,
        measurements="\n".join(row.row(name) for name, row in rows.items()),
        disjoint=model.perplexity(everything, stride=config.n_ctx - 1),
        samples="".join("\n" + "\n".join("> " + line for line in text.splitlines()) + "\n" for text in samples),
    )
    (out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
