"""`pygpt finetune`: go on training a model, on a text or on labelled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pygpt.classification import Task
from pygpt.cli._common import MODEL, Threads, fetch_model, template_of
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
from pygpt.training import finetune as finetune_model
from pygpt.training.base import EPOCHS, LANGUAGE_WEIGHT
from pygpt.training.finetuning import OF_TEXT
from pygpt.training.recipe import Recipe


@with_fields(Recipe, unset="GPT-1's, from model and data")
def finetune(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help=MODEL)] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A text file, a folder with .txt files or a .jsonl file of chats; several times: several data sets. "
            "With --task, .csv, .tsv or .jsonl."
        ),
    ] = None,
    out: Out = None,
    resume: Resume = None,
    weights: Weights = None,
    packed: Packed = False,
    chat_template: Annotated[
        str | None,
        typer.Option(help="Of chats: one of the model's, or a file of your own.", show_default="the model's"),
    ] = None,
    context_length: Annotated[
        int | None,
        typer.Option(
            "--context", min=1, help="Tokens in a sequence.", show_default="the model's, with chats at most 1024"
        ),
    ] = None,
    task: Annotated[Task | None, typer.Option(help="Learn labels.", show_default="continue the text")] = None,
    labels: Annotated[
        str | None, typer.Option(help="The labels in their order, with commas between.", show_default="from the data")
    ] = None,
    validation: Annotated[
        str, typer.Option(help="The share of the data that is for validation, or a file of its own.")
    ] = "0.1",
    epochs: Annotated[float, typer.Option(help="How often the data is read, unless --steps says.")] = EPOCHS,
    language_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --task: of the language model's loss beside the task's.",
            show_default=str(LANGUAGE_WEIGHT),
        ),
    ] = None,
    lora: Annotated[
        int | None, typer.Option(help="Train adapters of this rank alone.", show_default="train all of the model")
    ] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Their scale.", show_default="twice the rank")] = None,
    lora_targets: Annotated[
        str | None, typer.Option(help="Which matrices: of q,k,v,out,gate,up,down.", show_default="q,v")
    ] = None,
    backend: BackendOption = "kernels",
    threads: Threads = None,
    save_every: SaveEvery = 60.0,
    *,
    given: dict[str, Any],
) -> None:
    """Go on training a model: on a text, or on labelled examples (--task). Ctrl-C saves, --resume goes on."""
    if resume is not None:
        go_on(context, resume, given.get("steps"), threads, save_every, data or (), weights)
        return
    if model is None or not data or out is None:
        context.fail(
            "a model, data and a new folder are needed: pygpt finetune MODEL --data DATA --out RUN (or --resume RUN)"
        )
    if task is None and (labels is not None or language_weight is not None):
        raise typer.BadParameter("need --task", param_hint="--labels and --language-weight")
    if task is not None and (unused := [name for name in OF_TEXT if name in given]):
        raise typer.BadParameter("cannot be used with --task", param_hint=f"--{unused[0].replace('_', '-')}")
    if lora is None and (lora_alpha is not None or lora_targets is not None):
        raise typer.BadParameter("needs --lora", param_hint="--lora-alpha, --lora-targets")
    if task is not None and (len(data) > 1 or packed or {chat_template, context_length} != {None}):
        hint = "several --data, --packed, --chat-template and --context"
        raise typer.BadParameter("cannot be used with --task", param_hint=hint)
    fetch_model(model)
    carry_out(
        out,
        lambda watcher: finetune_model(
            model,
            data[0] if len(data) == 1 else data,
            out,
            weights=numbers(weights),
            packed=packed,
            chat_template=template_of(chat_template),
            n_ctx=context_length,
            task=task,
            labels=None if labels is None else [label.strip() for label in labels.split(",")],
            validation=share_or_path(validation),
            epochs=epochs,
            language_weight=LANGUAGE_WEIGHT if language_weight is None else language_weight,
            lora=lora,
            lora_alpha=lora_alpha,
            lora_targets=None if lora_targets is None else lora_targets.split(","),
            backend=backend,
            threads=threads,
            save_seconds=save_every,
            watcher=watcher,
            **given,
        ),
    )
