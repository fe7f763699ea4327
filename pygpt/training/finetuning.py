"""Going on with a model's training, on a text or on labelled examples, from settings to checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygpt.classification import TASKS, Task
from pygpt.errors import TrainingError, check_type
from pygpt.training import base as starting
from pygpt.training import corpora, runs
from pygpt.training import lora as adapters
from pygpt.training.batches import Encoded, encode
from pygpt.training.classifier import head_shapes
from pygpt.training.language_model import LanguageModel
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters
from pygpt.training.plan import Plan, estimate_seconds, memory_plan
from pygpt.training.pretraining import plan_of_text
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe, RecipeOptions
from pygpt.training.run_folder import RunFolder
from pygpt.training.runs import Backend, StrPath, TrainingResult
from pygpt.training.supervised import PART_TOKENS, Supervised
from pygpt.training.tasks import load_task
from pygpt.training.watch import Watcher, stoppable

if TYPE_CHECKING:
    from typing_extensions import Unpack

KIND = "finetune"
OF_TEXT = ("accumulate", "eval_windows", "sample_interval", "ramp_steps", "ramp_from")
"""Fields of a recipe that labelled examples have no use for."""


def finetune(
    model: StrPath,
    data: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    weights: Sequence[float] | None = None,
    packed: bool = False,
    chat_template: str | None = None,
    n_ctx: int | None = None,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    validation: float | StrPath = 0.1,
    epochs: float = starting.EPOCHS,
    language_weight: float = starting.LANGUAGE_WEIGHT,
    lora: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: Sequence[str] | None = None,
    backend: Backend = "kernels",
    threads: int | None = None,
    save_seconds: float = 60.0,
    watcher: Watcher | None = None,
    **recipe: Unpack[RecipeOptions],
) -> TrainingResult:
    """Go on training a model, on a text or on labelled examples, as `pygpt finetune` does.

    Parameters
    ----------
    model
        What `pygpt.Model.load` takes.
    data
        A text file, a folder with .txt files, a .jsonl file of chats (`pygpt.training.chats`), or several of these.
        With a task a table of examples (`pygpt.training.tasks`).
    weights, packed
        As for `pygpt.pretrain`; chats are packed always.
    chat_template
        One of the model's, or Jinja of your own, which lays out chats, of the new model too. None: the model's.
    n_ctx
        Of texts and chats: tokens in a sequence. None: the model's context, with chats at most 1024.
    out
        The folder of the run, new or empty; its ``best`` is a checkpoint for `pygpt.Model.load`.
    task
        "classification", "entailment", "similarity" or "choice": what the examples teach. None: to go on as a language
        model.
    labels
        Of a task, in the order that the classifier is to have; None: those that occur in training, sorted.
    validation
        The share of the data that is held out, or a file of its own.
    epochs
        How often the data is read, unless the recipe has steps.
    language_weight
        Of a task: the weight of the language model's loss beside the task's.
    lora, lora_alpha, lora_targets
        Train low-rank adapters of this rank alone, with this scale (None: twice the rank), of the matrices whose names
        are among the targets (None: q and v); see `pygpt.training.lora`.
    backend, threads, save_seconds, watcher, recipe
        As for `pygpt.pretrain`; fields of the recipe that are not given follow from `pygpt.training.base.recipe`.

    ValueError and TypeError name an argument that is not as it must be; TrainingError: data or folder that do not
    serve, or a loss that is not finite; the errors of `pygpt.checkpoint.read` for the model.
    """
    runs.check_recipe(recipe)
    check_type("chat_template", chat_template, str, type(None))
    check_type("n_ctx", n_ctx, int, type(None))
    _check_task(task, labels, language_weight, recipe)
    settings: dict[str, Any] = {
        "kind": KIND,
        "model": str(Path(model).absolute()) if Path(model).exists() else str(model),
        **corpora.settings_of(data, weights, packed, validation),
        "chat_template": chat_template,
        "n_ctx": n_ctx,
        "task": task,
        "labels": None if labels is None else list(labels),
        "epochs": epochs,
        "language_weight": language_weight,
        "lora": _adapters(lora, lora_alpha, lora_targets),
        "given": dict(recipe),
        "backend": backend,
    }
    if task is not None and (packed or {chat_template, n_ctx} != {None} or "more" in settings):
        raise ValueError("a task has one table: several data sets, packed, chat_template and n_ctx are not for it")
    session = runs.Session(threads, save_seconds, Watcher() if watcher is None else watcher)
    return runs.begin(out, settings, prepare_run, session)


def _check_task(task: Task | None, labels: Sequence[str] | None, language_weight: float, recipe: RecipeOptions) -> None:
    if isinstance(labels, str):
        raise TypeError("labels must be a sequence of strings, not a string")
    check_type("language_weight", language_weight, int, float)
    if not 0 <= language_weight < math.inf:
        raise ValueError(f"language_weight must be a number from 0 up, not {language_weight}")
    if task is not None and (not isinstance(task, str) or task not in TASKS):
        raise ValueError(f"task must be one of {', '.join(TASKS)}, or None, not {task!r:.80}")
    if task is None and labels is not None:
        raise ValueError("labels need a task")
    if task is not None and (unused := [name for name in OF_TEXT if name in recipe]):
        raise ValueError(f"{unused[0]} is of no use to a task")


def _adapters(rank: int | None, alpha: float | None, targets: Sequence[str] | None) -> dict[str, Any] | None:
    if isinstance(targets, str):
        raise TypeError("lora_targets must be a sequence of strings, not a string")
    if rank is None:
        if alpha is not None or targets is not None:
            raise ValueError("lora_alpha and lora_targets need lora")
        return None
    return {
        "rank": rank,
        "alpha": 2.0 * rank if alpha is None else alpha,
        "targets": list(adapters.DEFAULT_TARGETS if targets is None else targets),
    }


def prepare_run(run: RunFolder, session: runs.Session) -> runs.Job:
    """The model, the data, and the recipe, which goes to run.json the first time."""
    functions = runs.load_primitives(run.settings["backend"], session.threads)
    on_what = _on_text if run.settings["task"] is None else _on_examples
    return on_what(run, functions, session)


def _on_text(run: RunFolder, functions: Primitives, session: runs.Session) -> runs.Job:
    """The objective of a language model, from a checkpoint."""
    settings, watcher = run.settings, session.watcher
    base = _with_template(starting.load_base(settings["model"]), settings.get("chat_template"))
    lora = _lora_settings(settings, base)
    config, n_ctx = base.config, corpora.sequence_length(settings, base.config.n_ctx)

    def recipe_for(n_sequences: float) -> Recipe:
        given = {"epochs": settings["epochs"], "lora": lora is not None, **settings["given"]}
        return starting.recipe(n_sequences, n_ctx, config, **given)

    if "fingerprint" not in settings:
        counts = corpora.expected_tokens(settings, config.n_vocab)
        watcher.planned(
            plan_of_text(config, recipe_for(counts[0] / n_ctx), functions, counts, n_ctx=n_ctx, is_exact=False)
        )
    data = corpora.Corpora(run, base.tokenizer, watcher, n_ctx=n_ctx, chat_of=config)
    mixture = data.mixture()
    fingerprints = {"base": starting.digest(base), "fingerprint": data.fingerprint}
    recipe = _settle(run, recipe_for(mixture.n_sequences), fingerprints)
    params = starting.start(base, {}, recipe.seed)
    adapted = _adapt(params, lora, recipe.seed)
    n_trained = None if adapted is None else adapted.size
    plan = plan_of_text(config, recipe, functions, mixture.counts, n_ctx=n_ctx, n_trained=n_trained)
    inner = LanguageModel(
        Network(config, stoppable(functions, watcher.stop), recipe.dropout, plan.gradient_checkpointing),
        params,
        mixture,
        recipe,
        session.threads,
        base.family,
        None if adapted is None else adapted.gradients(),
    )
    objective = inner if adapted is None else adapters.Adapted(inner, adapted)
    return runs.Job(objective, recipe, functions, plan, add=data.add)


def _with_template(base: starting.Base, template: str | None) -> starting.Base:
    """The model with a chat template of its own, if one is given, or with one of its own as the only one."""
    if template is None:
        return base
    source = base.tokenizer.chat_templates.get(template, template)
    if "{" not in source:
        raise ValueError(f"chat_template must be one of the model's or Jinja, not {template!r:.80}")
    return base._replace(tokenizer=base.tokenizer.with_chat_template(source))


def _on_examples(run: RunFolder, functions: Primitives, session: runs.Session) -> runs.Job:
    """The objective of a task, from a checkpoint; its examples."""
    settings, watcher = run.settings, session.watcher
    task: Task = settings["task"]
    given, seed = settings["given"], settings["given"].get("seed", 0)
    validation = runs.held_out(settings)
    examples = load_task(Path(settings["data"]), task, validation=validation, labels=settings["labels"], seed=seed)
    base = starting.load_base(settings["model"])
    lora = _lora_settings(settings, base)
    whole, ids = starting.with_special_tokens(base, seed)
    counts = len(examples.train), len(examples.validation)
    wanted = {"epochs": settings["epochs"], "lora": lora is not None, "n_validation": counts[1], **given}
    recipe = _settle(
        run,
        starting.recipe(counts[0], None, base.config, **wanted),
        {"base": starting.digest(base), "fingerprint": hashlib.sha256(repr(examples).encode()).hexdigest()},
    )
    n_ctx = base.config.n_ctx
    train, held_out = (
        encode(part, task, whole.tokenizer, ids, n_ctx) for part in (examples.train, examples.validation)
    )
    if n_cut := train.n_truncated + held_out.n_truncated:
        watcher.noticed(f"{n_cut} of {sum(counts)} examples are longer than the context of {n_ctx} tokens and were cut")
    params = starting.start(whole, head_shapes(task, len(examples.labels), base.config.n_embd), recipe.seed)
    adapted = _adapt(params, lora, recipe.seed, first_row=base.config.n_vocab)
    n_trained = params.flat.size if adapted is None else adapted.size
    plan = _plan_of_examples(whole, recipe, functions, train, counts, n_trained, adapted is not None)
    inner = Supervised(
        Network(whole.config, stoppable(functions, watcher.stop), recipe.dropout, plan.gradient_checkpointing),
        params,
        train,
        held_out,
        recipe,
        whole.tokenizer,
        task=task,
        labels=examples.labels,
        ids=ids,
        language_weight=settings["language_weight"],
        family=base.family,
        gradients=None if adapted is None else adapted.gradients(),
    )
    objective: Supervised | adapters.Adapted = inner
    if adapted is not None:
        objective = adapters.Adapted(inner, adapted, inner.classifier().extra().text)
    return runs.Job(objective, recipe, functions, plan, examples)


def _plan_of_examples(
    base: starting.Base,
    recipe: Recipe,
    functions: Primitives,
    train: Encoded,
    counts: tuple[int, int],
    n_trained: int,
    adapted: bool,
) -> Plan:
    longest = max(len(s) for example in train.examples for s in example)
    n_tokens = sum(len(s) for example in train.examples for s in example)
    n_read = round(n_tokens / counts[0] * recipe.batch * recipe.steps)
    n_part = max(PART_TOKENS, longest * max(map(len, train.examples)))
    n_bytes, checkpoints = memory_plan(base.config, recipe, functions.precision, n_part, n_trained, adapted)
    return Plan(
        config=base.config,
        recipe=recipe,
        n_trained=n_trained,
        n_train=counts[0],
        n_validation=counts[1],
        unit="examples",
        n_read=n_read,
        memory_bytes=n_bytes,
        gradient_checkpointing=checkpoints,
        seconds=estimate_seconds(base.config, n_read, functions, checkpoints),
        is_exact=True,
    )


def _lora_settings(settings: dict[str, Any], base: starting.Base) -> dict[str, Any] | None:
    """Those of the adapters, if there are to be any, checked before any work."""
    lora: dict[str, Any] | None = settings["lora"]
    if lora is not None:
        names = adapters.adapted_names(base.config, lora["targets"])
        adapters.check_rank(base.config, names, lora["rank"], lora["alpha"])
    return lora


def _adapt(
    params: Parameters, lora: dict[str, Any] | None, seed: int, first_row: int | None = None
) -> adapters.Lora | None:
    """The adapters that the settings ask for."""
    if lora is None:
        return None
    names = adapters.adapted_names(params.config, lora["targets"])
    return adapters.Lora(params, names, lora["rank"], lora["alpha"], first_row=first_row, seed=seed)


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
