"""`pygpt train`: train a new model on a text."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pygpt.cli import _training
from pygpt.cli._common import Threads
from pygpt.errors import TrainingError
from pygpt.training.architecture import Architecture, architecture
from pygpt.training.language_model import LanguageModel
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Preset, Recipe, check
from pygpt.training.recipe import preset as scaled
from pygpt.training.run_folder import RunFolder

_DEFAULT_VOCAB = 2048


@_training.with_recipe(default="the preset's")
def train(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="A text file in UTF-8, or a folder with .txt files.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run: a new or an empty one.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    validation: Annotated[
        str, typer.Option(help="The share of the text that is for validation, or a text of its own.")
    ] = "0.1",
    split: Annotated[
        Literal["tail", "document"], typer.Option(help="Take the end of each file for it, or whole documents.")
    ] = "tail",
    tokenizer: Annotated[
        str, typer.Option(help="bpe: learn byte pairs; char: a token a character; or a folder with a tokenizer.")
    ] = "bpe",
    vocab: Annotated[
        int | None, typer.Option(help="Tokens to learn with bpe.", show_default=str(_DEFAULT_VOCAB))
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
    backend: _training.Backend = "kernels",
    threads: Threads = None,
    save_every: _training.SaveEvery = 60.0,
    *,
    given: dict[str, Any],
) -> None:
    """Train a new model on a text. Ctrl-C saves it, and --resume goes on as if it had not stopped."""
    if resume is not None:
        _training.refuse_with_resume(context, {"threads", "save_every"})
        with RunFolder.open(resume, "train") as run:
            functions = _training.primitives(run.settings["backend"], threads)
            objective, recipe = _prepare(run, functions, threads)
            _training.run(objective, recipe, functions, run, save_every)
        return
    if data is None or out is None:
        raise typer.BadParameter("must be given, or --resume", param_hint="--data and --out")
    for name, value in given.items():
        check(name, value)
    settings: dict[str, Any] = {
        "data": str(data.absolute()),
        "validation": _training.share_or_file(validation),
        "split": split,
        "tokenizer": tokenizer if tokenizer in ("bpe", "char") else str(Path(tokenizer).absolute()),
        "vocab": (_DEFAULT_VOCAB if vocab is None else vocab) if tokenizer == "bpe" else vocab,
        "architecture": {
            "name": arch,
            "n_layer": layers,
            "n_head": heads,
            "n_kv_head": kv_heads,
            "n_embd": width,
            "n_ctx": context_length,
        },
        "preset": preset,
        "given": given,
        "backend": backend,
    }
    architecture(**settings["architecture"], n_vocab=1)  # sizes that do not fit are found before the text is read
    functions = _training.primitives(backend, threads)
    with RunFolder.create(out, {"kind": "train", **settings}) as run:
        try:
            objective, recipe = _prepare(run, functions, threads)
        except Exception:
            run.discard()
            raise
        _training.run(objective, recipe, functions, run, save_every)


def _prepare(run: RunFolder, functions: Primitives, threads: int | None) -> tuple[LanguageModel, Recipe]:
    """The text as tokens, the model at its start, and the recipe, which goes to run.json the first time."""
    settings = run.settings
    tokenizer = settings["tokenizer"] if settings["tokenizer"] in ("bpe", "char") else Path(settings["tokenizer"])
    dataset = _training.dataset(run, tokenizer, settings["vocab"], settings["split"])
    if settings.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise TrainingError(f"{run.data}: holds the data of another run")
    eos_id = dataset.tokenizer.eos_id
    config = architecture(
        **settings["architecture"], n_vocab=dataset.n_vocab, bos_id=dataset.tokenizer.bos_id, eos_id=eos_id
    )
    dataset.check(config.n_ctx)
    if "recipe" not in settings:
        recipe = scaled(
            settings["preset"],
            n_params=config.n_params(),
            n_ctx=config.n_ctx,
            n_tokens=len(dataset.train),
            **settings["given"],
        )
        run.update({"recipe": dataclasses.asdict(recipe), "fingerprint": dataset.fingerprint})
    recipe = Recipe(**run.settings["recipe"])
    params = Parameters(config)
    params.initialise(recipe.seed)
    network = Network(config, functions, recipe.dropout)
    return LanguageModel(network, params, dataset, recipe, threads), recipe
