"""`pygpt finetune`: go on training a model, on a text or on labelled examples; `pygpt merge`: add its adapters."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pygpt import Model, checkpoint
from pygpt.classification import SPECIAL_TOKENS, Task, format_confusion, task_metrics
from pygpt.cli import _training
from pygpt.cli._common import Threads
from pygpt.errors import TrainingError
from pygpt.training import finetune as starting
from pygpt.training import lora as adapters
from pygpt.training.batches import encode
from pygpt.training.classifier import head_shapes
from pygpt.training.language_model import LanguageModel
from pygpt.training.loop import Objective
from pygpt.training.network import Network
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe, check
from pygpt.training.run_folder import RunFolder
from pygpt.training.supervised import Supervised
from pygpt.training.tasks import TaskData, load_task

_Lora = dict[str, Any]
_OF_TEXT = ("accumulate", "eval_windows", "sample_interval", "ramp_steps", "ramp_from")  # what labels have no use for


@_training.with_recipe(default="GPT-1's, from the data")
def finetune(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help='A folder, .safetensors or .gguf file, hub id, or "tiny" (built in).')
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A text file or a folder with .txt files; with --task, .csv, .tsv or .jsonl.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run: a new or an empty one.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    task: Annotated[Task | None, typer.Option(help="Learn labels.", show_default="continue the text")] = None,
    labels: Annotated[
        str | None, typer.Option(help="The labels in their order, with commas between.", show_default="from the data")
    ] = None,
    validation: Annotated[
        str, typer.Option(help="The share of the data that is for validation, or a file of its own.")
    ] = "0.1",
    epochs: Annotated[float, typer.Option(help="How often the data is read, unless --steps says.")] = starting.EPOCHS,
    language_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --task: of the language model's loss beside the task's.",
            show_default=str(starting.LANGUAGE_WEIGHT),
        ),
    ] = None,
    lora: Annotated[
        int | None, typer.Option(help="Train adapters of this rank alone.", show_default="train all of the model")
    ] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Their scale.", show_default="twice the rank")] = None,
    lora_targets: Annotated[
        str | None, typer.Option(help="Which matrices: of q,k,v,out,gate,up,down.", show_default="q,v")
    ] = None,
    backend: _training.Backend = "kernels",
    threads: Threads = None,
    save_every: _training.SaveEvery = 60.0,
    *,
    given: dict[str, Any],
) -> None:
    """Go on training a model: on a text, or on labelled examples (--task). Ctrl-C saves, --resume goes on."""
    if resume is not None:
        _training.refuse_with_resume(context, {"threads", "save_every"})
        with RunFolder.open(resume, "finetune") as run:
            _train(run, *_prepare(run, threads), threads, save_every)
        return
    if model is None or data is None or out is None:
        raise typer.BadParameter("must be given, or --resume", param_hint="MODEL, --data and --out")
    for name, value in given.items():
        check(name, value)
    if task is None and (labels is not None or language_weight is not None):
        raise typer.BadParameter("need --task", param_hint="--labels and --language-weight")
    if task is not None and (unused := [name for name in _OF_TEXT if name in given]):
        raise typer.BadParameter("cannot be used with --task", param_hint=f"--{unused[0].replace('_', '-')}")
    if lora is None and (lora_alpha is not None or lora_targets is not None):
        raise typer.BadParameter("needs --lora", param_hint="--lora-alpha, --lora-targets")
    settings: dict[str, Any] = {
        "kind": "finetune",
        "model": str(Path(model).absolute()) if Path(model).exists() else model,
        "data": str(data.absolute()),
        "validation": _training.share_or_file(validation),
        "task": task,
        "labels": None if labels is None else [label.strip() for label in labels.split(",")],
        "epochs": epochs,
        "language_weight": starting.LANGUAGE_WEIGHT if language_weight is None else language_weight,
        "lora": None
        if lora is None
        else {
            "rank": lora,
            "alpha": 2.0 * lora if lora_alpha is None else lora_alpha,
            "targets": list(adapters.DEFAULT_TARGETS) if lora_targets is None else lora_targets.split(","),
        },
        "given": given,
        "backend": backend,
    }
    with RunFolder.create(out, settings) as run:
        try:
            prepared = _prepare(run, threads)
        except Exception:
            run.discard()
            raise
        _train(run, *prepared, threads, save_every)


_Prepared = tuple[Objective, Recipe, TaskData | None]


def _prepare(run: RunFolder, threads: int | None) -> tuple[Primitives, _Prepared]:
    functions = _training.primitives(run.settings["backend"], threads)
    on_what = _on_text if run.settings["task"] is None else _on_examples
    return functions, on_what(run, functions, threads)


def _train(run: RunFolder, functions: Primitives, prepared: _Prepared, threads: int | None, save_every: float) -> None:
    objective, recipe, examples = prepared
    _training.run(objective, recipe, functions, run, save_every)
    if examples is not None:
        _print_metrics(run, examples, threads)


def _on_text(run: RunFolder, functions: Primitives, threads: int | None) -> _Prepared:
    """The objective of a language model, from a checkpoint."""
    settings = run.settings
    base = starting.load_base(settings["model"])
    lora = _lora_settings(settings, base)
    dataset = _training.dataset(run, base.tokenizer)
    n_ctx = base.config.n_ctx
    dataset.check(n_ctx)
    recipe = _settle(
        run,
        starting.recipe(
            len(dataset.train) / n_ctx, n_ctx, epochs=settings["epochs"], lora=bool(lora), **settings["given"]
        ),
        {"base": starting.digest(base), "fingerprint": dataset.fingerprint},
    )
    params = starting.start(base, {}, recipe.seed)
    network = Network(base.config, functions, recipe.dropout)
    inner = LanguageModel(network, params, dataset, recipe, threads)
    if lora is None:
        return inner, recipe, None
    names = adapters.adapted_names(base.config, lora["targets"])
    adapted = adapters.Lora(params, names, lora["rank"], lora["alpha"], seed=recipe.seed)
    return adapters.Adapted(inner, params, adapted), recipe, None


def _on_examples(run: RunFolder, functions: Primitives, threads: int | None) -> _Prepared:
    """The objective of a task, from a checkpoint; its examples."""
    settings = run.settings
    task: Task = settings["task"]
    given = settings["given"]
    examples = load_task(
        Path(settings["data"]),
        task,
        validation=_training.validation(settings),
        labels=settings["labels"],
        seed=given.get("seed", 0),
    )
    base = starting.load_base(settings["model"])
    lora = _lora_settings(settings, base)
    n_old = base.config.n_vocab
    whole, ids = starting.with_special_tokens(base, given.get("seed", 0))
    recipe = _settle(
        run,
        starting.recipe(len(examples.train), None, epochs=settings["epochs"], lora=bool(lora), **given),
        {"base": starting.digest(base), "fingerprint": hashlib.sha256(repr(examples).encode()).hexdigest()},
    )
    n_ctx = base.config.n_ctx
    train, held_out = (
        encode(part, task, whole.tokenizer, ids, n_ctx) for part in (examples.train, examples.validation)
    )
    if n_cut := train.n_truncated + held_out.n_truncated:
        n_all = len(train.labels) + len(held_out.labels)
        typer.echo(f"{n_cut} of {n_all} examples are longer than the context of {n_ctx} tokens and were cut", err=True)
    extra = head_shapes(task, len(examples.labels), base.config.n_embd)
    params = starting.start(whole, extra, recipe.seed)
    inner = Supervised(
        Network(whole.config, functions, recipe.dropout),
        params,
        train,
        held_out,
        recipe,
        whole.tokenizer,
        task=task,
        labels=examples.labels,
        ids=ids,
        language_weight=settings["language_weight"],
    )
    if lora is None:
        return inner, recipe, examples
    names = adapters.adapted_names(base.config, lora["targets"])
    adapted = adapters.Lora(params, names, lora["rank"], lora["alpha"], first_row=n_old, seed=recipe.seed)
    return adapters.Adapted(inner, params, adapted, inner.classifier().extra().text), recipe, examples


def _lora_settings(settings: dict[str, Any], base: starting.Base) -> _Lora | None:
    """Those of the adapters, if there are to be any, checked before any work."""
    lora: _Lora | None = settings["lora"]
    if lora is not None:
        names = adapters.adapted_names(base.config, lora["targets"])
        adapters.check_rank(base.config, names, lora["rank"], lora["alpha"])
    return lora


def _settle(run: RunFolder, recipe: Recipe, fingerprints: dict[str, str]) -> Recipe:
    """The recipe, which goes to run.json the first time; TrainingError if the model or the data is another now."""
    if "recipe" not in run.settings:
        run.update({"recipe": dataclasses.asdict(recipe), **fingerprints})
    for name, what in (("base", "model"), ("fingerprint", "data")):
        if run.settings[name] != fingerprints[name]:
            raise TrainingError(
                f"{run.settings[what]}: has changed since the run began: a run goes on only as it began"
            )
    return Recipe(**run.settings["recipe"])


def _print_metrics(run: RunFolder, examples: TaskData, threads: int | None) -> None:
    """Of the best checkpoint, as everyone who loads it will see it."""
    model = Model.load(run.best, weights="float32", threads=threads)
    found = model.classify([item for item, _ in examples.validation])
    truth = np.array([label for _, label in examples.validation])
    predicted = np.array([list(c.probabilities).index(c.label) for c in found])
    names = examples.labels or tuple(map(str, range(1 + int(max(truth.max(), predicted.max())))))
    metrics = task_metrics(truth, predicted, len(names))
    typer.echo(f"accuracy {metrics.accuracy:.4f}, macro F1 {metrics.macro_f1:.4f} on {len(truth)} validation examples")
    typer.echo(format_confusion(metrics.confusion, names))


def merge(
    model: Annotated[str, typer.Argument(help="The model that the adapters were trained for.")],
    folder: Annotated[Path, typer.Argument(metavar="ADAPTERS", help="Their folder: best-adapters of a run.")],
    out: Annotated[Path, typer.Argument(help="The folder to write: a new or an empty one.")],
) -> None:
    """Add adapters to the model they were trained for: a checkpoint like any other."""
    checkpoint.check_free(out)
    base = starting.load_base(model)
    merged = adapters.merge(base.config, base.tensors, folder)
    tokenizer = base.tokenizer
    if merged.classifier is not None and merged.config.n_vocab > base.config.n_vocab:
        tokenizer = tokenizer.with_special(dict(zip(SPECIAL_TOKENS, merged.classifier.ids, strict=True)))
    checkpoint.write(
        out, merged.config, merged.tensors, tokenizer, merged.classifier.extra() if merged.classifier else None
    )
