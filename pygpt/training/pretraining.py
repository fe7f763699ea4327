"""Training a new model on a text, from settings to checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pygpt.config import ModelConfig
from pygpt.errors import TrainingError
from pygpt.training import corpora, runs
from pygpt.training.architecture import Architecture, architecture
from pygpt.training.data import DEFAULT_VOCAB
from pygpt.training.language_model import LanguageModel
from pygpt.training.network import Network
from pygpt.training.parameters import Parameters
from pygpt.training.plan import Plan, estimate_seconds, memory_plan
from pygpt.training.presets import Preset, preset
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe, RecipeOptions
from pygpt.training.run_folder import RunFolder
from pygpt.training.runs import Backend, StrPath, TrainingResult
from pygpt.training.text import Split
from pygpt.training.watch import Watcher, stoppable

if TYPE_CHECKING:
    from typing_extensions import Unpack

KIND = "train"


def pretrain(
    data: StrPath | Sequence[StrPath],
    out: StrPath,
    *,
    weights: Sequence[float] | None = None,
    packed: bool = False,
    validation: float | StrPath = 0.1,
    split: Split = "tail",
    tokenizer: Literal["bpe", "char"] | StrPath = "bpe",
    n_vocab: int | None = None,
    arch: Architecture = "gpt2",
    n_layer: int = 4,
    n_head: int = 4,
    n_kv_head: int | None = None,
    n_embd: int = 128,
    n_ctx: int = 128,
    preset: Preset = "gpt3",
    backend: Backend = "kernels",
    threads: int | None = None,
    save_seconds: float = 60.0,
    watcher: Watcher | None = None,
    **recipe: Unpack[RecipeOptions],
) -> TrainingResult:
    """Train a new model on a text, as `pygpt train` does.

    Parameters
    ----------
    data
        A text file in UTF-8, or a folder with .txt files; or several of these.
    weights
        Of several: the share of the sequences that come from each, in any unit. None: as many as it has tokens.
    packed
        Train on documents that are kept apart, several in a sequence where they are short, instead of on windows of the
        text: see `pygpt.training.sequences`.
    out
        The folder of the run, new or empty; its ``best`` is a checkpoint for `pygpt.Model.load`.
    validation, split
        The share of the text that is held out, from the end of each file ("tail") or as whole documents ("document");
        or a text of its own, where there is one data set. Of several sets the share of each is held out.
    tokenizer, n_vocab
        "bpe" learns byte pairs, n_vocab of them, or 2048 if the text has as many; "char" has a token for each
        character; a path takes the tokenizer that is there.
    arch, n_layer, n_head, n_kv_head, n_embd, n_ctx
        The model: see `pygpt.training.architecture.architecture`.
    preset
        The paper whose recipe is scaled to the model and the text: see `pygpt.training.presets.preset`.
    backend
        "kernels": the compiled core; "kernels-bf16": the same with factors of products, attention's too, in
        bfloat16, for CPUs that multiply these (AVX512_BF16, AMX); "numpy": the readable functions, half as fast.
    threads
        To compute with; None: one for each usable core. Results do not depend on it.
    save_seconds
        Between two saved states, from which `pygpt.training.resume` goes on, bit for bit.
    watcher
        Hears of the run while it works, and may stop it. Without one nothing is printed.
    recipe
        Fields of `pygpt.training.Recipe`; those that are not given follow from the preset.

    ValueError and TypeError name an argument that is not as it must be; TrainingError: text or folder that do not
    serve, or a loss that is not finite.
    """
    runs.check_recipe(recipe)
    settings: dict[str, Any] = {
        "kind": KIND,
        **corpora.settings_of(data, weights, packed, validation),
        "split": split,
        "tokenizer": tokenizer if tokenizer in ("bpe", "char") else str(Path(tokenizer).absolute()),
        "vocab": n_vocab,
        "architecture": {
            "name": arch,
            "n_layer": n_layer,
            "n_head": n_head,
            "n_kv_head": n_kv_head,
            "n_embd": n_embd,
            "n_ctx": n_ctx,
        },
        "preset": preset,
        "given": dict(recipe),
        "backend": backend,
    }
    architecture(**settings["architecture"], n_vocab=1)  # sizes that do not fit are found before the text is read
    session = runs.Session(threads, save_seconds, Watcher() if watcher is None else watcher)
    return runs.begin(out, settings, prepare_run, session)


def prepare_run(run: RunFolder, session: runs.Session) -> runs.Job:
    """The text as tokens, the model at its start, and the recipe, which goes to run.json the first time."""
    settings, watcher = run.settings, session.watcher
    functions = runs.load_primitives(settings["backend"], session.threads)
    if "fingerprint" not in settings:
        watcher.planned(_expected(settings, functions))
    tokenizer = settings["tokenizer"] if settings["tokenizer"] in ("bpe", "char") else Path(settings["tokenizer"])
    data = corpora.Corpora(run, tokenizer, watcher, n_ctx=settings["architecture"]["n_ctx"], n_vocab=settings["vocab"])
    if settings.get("fingerprint", data.fingerprint) != data.fingerprint:
        raise TrainingError(f"{run.data}: holds the data of another run")
    known = data.tokenizer
    shape: dict[str, Any] = settings["architecture"] | {"n_vocab": known.n_vocab}
    config = architecture(**shape, bos_id=known.bos_id, eos_id=known.eos_id)
    mixture = data.mixture()
    if "recipe" not in settings:
        sizes = {"n_params": config.n_params(), "n_ctx": config.n_ctx, "n_tokens": mixture.counts[0]}
        recipe = preset(settings["preset"], **sizes, **settings["given"])
        run.update({"recipe": dataclasses.asdict(recipe), "fingerprint": data.fingerprint})
    recipe = Recipe(**run.settings["recipe"])
    params = Parameters(config)
    params.initialise(recipe.seed)
    plan = plan_of_text(config, recipe, functions, mixture.counts)
    network = Network(config, stoppable(functions, watcher.stop), recipe.dropout, plan.gradient_checkpointing)
    objective = LanguageModel(network, params, mixture, recipe, session.threads)
    return runs.Job(objective, recipe, functions, plan, add=data.add)


def plan_of_text(
    config: ModelConfig,
    recipe: Recipe,
    functions: Primitives,
    counts: tuple[int, int],
    *,
    n_ctx: int | None = None,
    n_trained: int | None = None,
    is_exact: bool = True,
) -> Plan:
    """A plan for (training, validation) tokens in sequences of n_ctx, or of the model's context; n_trained: the values
    of adapters, if only these are trained."""
    n_ctx = config.n_ctx if n_ctx is None else n_ctx
    n_read = sum(recipe.batch_at(step) for step in range(1, recipe.steps + 1)) * n_ctx
    n_values = config.n_params() if n_trained is None else n_trained
    n_part = recipe.part * n_ctx
    n_bytes, checkpoints = memory_plan(config, recipe, functions.precision, n_part, n_values, n_trained is not None)
    return Plan(
        config=config,
        recipe=recipe,
        n_trained=n_values,
        n_train=counts[0],
        n_validation=counts[1],
        unit="tokens",
        n_read=n_read,
        memory_bytes=n_bytes,
        gradient_checkpointing=checkpoints,
        seconds=estimate_seconds(config, n_read, functions, checkpoints),
        is_exact=is_exact,
    )


def _expected(settings: dict[str, Any], functions: Primitives) -> Plan:
    """The plan before the text is read, from the sizes of its files."""
    known = {"bpe": settings["vocab"] or DEFAULT_VOCAB, "char": None}
    n_vocab = known.get(settings["tokenizer"], 50_257)
    config = architecture(**settings["architecture"], n_vocab=n_vocab or 100)
    counts = corpora.expected_tokens(settings, n_vocab)
    sizes = {"n_params": config.n_params(), "n_ctx": config.n_ctx, "n_tokens": counts[0]}
    recipe = preset(settings["preset"], **sizes, **settings["given"])
    return plan_of_text(config, recipe, functions, counts, is_exact=False)
