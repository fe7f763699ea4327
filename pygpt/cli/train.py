"""`pygpt train`: train a new model on a text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pygpt.cli._common import Threads
from pygpt.cli._display import (
    BackendOption,
    Out,
    Packed,
    Resume,
    SaveEvery,
    Weights,
    carry_out,
    go_on,
    numbers,
    share_or_path,
)
from pygpt.cli._options import with_fields
from pygpt.training import pretrain
from pygpt.training.architecture import Architecture
from pygpt.training.data import DEFAULT_VOCAB
from pygpt.training.presets import Preset
from pygpt.training.recipe import Recipe
from pygpt.training.text import Split


@with_fields(Recipe, unset="the preset's")
def train(
    context: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="A text file in UTF-8, or a folder with .txt files; several times: several data sets."),
    ] = None,
    out: Out = None,
    resume: Resume = None,
    weights: Weights = None,
    packed: Packed = False,
    validation: Annotated[
        str, typer.Option(help="The share of the text that is for validation, or a text of its own.")
    ] = "0.1",
    split: Annotated[Split, typer.Option(help="Take the end of each file for it, or whole documents.")] = "tail",
    tokenizer: Annotated[
        str, typer.Option(help="bpe: learn byte pairs; char: a token a character; or a folder with a tokenizer.")
    ] = "bpe",
    vocab: Annotated[
        int | None,
        typer.Option(help="Tokens to learn with bpe.", show_default=f"{DEFAULT_VOCAB}, or fewer if the text is small"),
    ] = None,
    arch: Annotated[Architecture, typer.Option(help="The model's family.")] = "gpt2",
    layers: Annotated[int, typer.Option(min=1, help="Blocks of the model.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    kv_heads: Annotated[
        int | None, typer.Option(min=1, help="Heads of keys and values, with llama.", show_default="as --heads")
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="Values in each token's vector.")] = 128,
    context_length: Annotated[int, typer.Option("--context", min=1, help="Tokens that the model sees at once.")] = 128,
    preset: Annotated[Preset, typer.Option(help="The paper whose recipe is scaled to this model and text.")] = "gpt3",
    backend: BackendOption = "kernels",
    threads: Threads = None,
    save_every: SaveEvery = 60.0,
    *,
    given: dict[str, Any],
) -> None:
    """Train a new model on a text. Ctrl-C saves it, and --resume goes on as if it had not stopped."""
    if resume is not None:
        go_on(context, resume, given.get("steps"), threads, save_every, data or (), weights)
        return
    if not data or out is None:
        context.fail("a text and a new folder are needed: pygpt train --data TEXT --out RUN (or --resume RUN)")
    carry_out(
        out,
        lambda watcher: pretrain(
            data[0] if len(data) == 1 else data,
            out,
            weights=numbers(weights),
            packed=packed,
            validation=share_or_path(validation),
            split=split,
            tokenizer=tokenizer,
            n_vocab=vocab,
            arch=arch,
            n_layer=layers,
            n_head=heads,
            n_kv_head=kv_heads,
            n_embd=width,
            n_ctx=context_length,
            preset=preset,
            backend=backend,
            threads=threads,
            save_seconds=save_every,
            watcher=watcher,
            **given,
        ),
    )
