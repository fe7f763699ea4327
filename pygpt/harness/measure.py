"""How a model does on the examples of a task: what is computed of each form, and the metrics made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from pygpt import metrics
from pygpt.evaluation import rolling
from pygpt.generation import Progress
from pygpt.harness.examples import Choice, Cloze, Document, Example, Question
from pygpt.harness.write import write
from pygpt.likelihood import Likelihood, likelihoods, prefix_id, read_pair
from pygpt.metrics import Estimate
from pygpt.model import Model


class Measured(NamedTuple):
    """Of a task."""

    metrics: Mapping[str, Estimate]
    answers: Sequence[Mapping[str, Any]]


def measure(
    model: Model, examples: Sequence[Example], max_tokens: int, confidence: float, progress: Progress | None
) -> Measured:
    """The metrics of examples, which all have one form, as lm-evaluation-harness defines them."""
    kind = type(examples[0])
    if kind is Choice:
        return _choices(model, cast(Sequence[Choice], examples), confidence, progress)
    if kind is Cloze:
        return _clozes(model, cast(Sequence[Cloze], examples), confidence, progress)
    if kind is Question:
        return _questions(model, cast(Sequence[Question], examples), max_tokens, confidence, progress)
    return _documents(model, cast(Sequence[Document], examples), confidence, progress)


def _choices(model: Model, examples: Sequence[Choice], confidence: float, progress: Progress | None) -> Measured:
    """acc: the right answer is the likeliest; acc_norm: it is, once log-probabilities are divided by characters."""
    n, n_pairs = len(examples), sum(len(example.pairs) for example in examples)
    found = iter(
        _likelihoods(
            model,
            [(example.where, pair) for example in examples for pair in example.pairs],
            None if progress is None else lambda done, _: progress(done * n // n_pairs, n),
        )
    )
    answers = [_choice(example, [next(found) for _ in example.pairs]) for example in examples]
    scores = {"acc": metrics.accuracy([a["choice"] == a["gold"] for a in answers], confidence=confidence)}
    if examples[0].lengths is not None:
        hits = [a["choice_norm"] == a["gold"] for a in answers]
        scores["acc_norm"] = metrics.accuracy(hits, confidence=confidence)
    return Measured(scores, answers)


def _choice(example: Choice, found: Sequence[Likelihood]) -> dict[str, Any]:
    logprobs = [likelihood.logprob for likelihood in found]
    answer = {"gold": example.gold, "choice": int(np.argmax(logprobs)), "logprobs": logprobs}
    if example.lengths is not None:
        answer["choice_norm"] = int(np.argmax(np.array(logprobs) / np.array(example.lengths)))
    return answer


def _clozes(model: Model, examples: Sequence[Cloze], confidence: float, progress: Progress | None) -> Measured:
    """acc: greedy text is the continuation; perplexity: of a whole continuation."""
    found = _likelihoods(model, [(e.where, (e.context, e.continuation)) for e in examples], progress)
    answers = [{"logprob": f.logprob, "is_greedy": f.is_greedy, "n_tokens": f.n_tokens} for f in found]
    return Measured(
        {
            "acc": metrics.accuracy([f.is_greedy for f in found], confidence=confidence),
            "perplexity": metrics.mean([f.logprob for f in found], then=metrics.perplexity, confidence=confidence),
        },
        answers,
    )


def _likelihoods(
    model: Model, pairs: Sequence[tuple[str, tuple[str, str]]], progress: Progress | None
) -> list[Likelihood]:
    """`Model.loglikelihood` of pairs, with errors that name where each stands."""
    read = [read_pair(pair, model.tokenizer, model.config, where) for where, pair in pairs]
    return likelihoods(model._engine, model.config.n_vocab, read, progress)


def _documents(model: Model, examples: Sequence[Document], confidence: float, progress: Progress | None) -> Measured:
    """Perplexities of words, bytes and tokens, over all documents; the intervals are those of drawing documents."""
    tokenizer, config = model.tokenizer, model.config
    texts = [np.array(tokenizer.encode(example.text, add_special=False), np.int32) for example in examples]
    prefix = prefix_id(tokenizer, config)
    if prefix is None:
        raise ValueError("this model has no token that begins or ends a text, which a document's first token follows")
    logprobs = rolling(model._engine, config.n_ctx, texts, prefix, progress)
    answers = [
        {"logprob": logprob, "n_tokens": len(text), "n_words": example.n_words, "n_bytes": example.n_bytes}
        for logprob, text, example in zip(logprobs, texts, examples, strict=True)
    ]
    scores = {
        f"{unit}_perplexity": metrics.mean(
            logprobs, [a[f"n_{unit}s"] for a in answers], then=metrics.perplexity, confidence=confidence
        )
        for unit in ("word", "token", "byte")
    }
    n_bytes = [a["n_bytes"] for a in answers]
    scores["bits_per_byte"] = metrics.mean(logprobs, n_bytes, then=metrics.bits, confidence=confidence)
    return Measured(scores, answers)


def _questions(
    model: Model, examples: Sequence[Question], max_tokens: int, confidence: float, progress: Progress | None
) -> Measured:
    """exact_match and f1 of what a model writes, greedily, up to the end of the line."""
    options = {"stop": ["\n"], "max_tokens": max_tokens, "temperature": 0.0}
    written = write(model, [model.tokenizer.encode(e.prompt) for e in examples], options, progress)
    answers = [
        {
            "answer": text.strip(),
            "exact_match": metrics.exact_match(text, example.answers),
            "f1": metrics.f1(text, example.answers),
        }
        for text, example in zip(written, examples, strict=True)
    ]
    return Measured(
        {
            "exact_match": metrics.accuracy([a["exact_match"] == 1.0 for a in answers], confidence=confidence),
            "f1": metrics.mean([cast(float, a["f1"]) for a in answers], confidence=confidence),
        },
        answers,
    )
