"""`pygpt classify`: the label that a fine-tuned model gives a text."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pygpt.classification import Input
from pygpt.cli._common import MODEL, Isa, Kv, Threads, Weights, load_model, read_text


def classify(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="One text; two for entailment (premise, hypothesis) and similarity; a prompt and its answers for a "
            'choice. "-", or none, reads one from standard input.'
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help=MODEL, show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
) -> None:
    """Print the label of an example and the probability of each, the likeliest first."""
    if model is None:
        raise typer.BadParameter(
            "must be given: a model with a classifier, as `pygpt finetune --task` makes", param_hint="--model"
        )
    read = [read_text(text) for text in texts] if texts else [read_text(None, "TEXTS")]
    loaded = load_model(model, weights, kv, threads, isa)
    found = loaded.classify(_example(loaded.labels, read))
    if as_json:
        typer.echo(json.dumps({"label": found.label, "probabilities": dict(found.probabilities)}, ensure_ascii=False))
        return
    for label, probability in sorted(found.probabilities.items(), key=lambda pair: -pair[1]):
        typer.echo(f"{probability:.4f}  {label}")


def _example(labels: tuple[str, ...] | None, texts: list[str]) -> Input:
    """In the form that `Model.classify` takes; a model of another task says what it takes instead."""
    if labels == ():
        return texts[0], texts[1:]
    return texts[0] if len(texts) == 1 else tuple(texts)  # type: ignore[return-value]
