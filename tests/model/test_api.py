"""The public API: loading, logits, scores, sessions, threads, processes, and what an import costs."""

import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model, Session
from pygpt.errors import CheckpointError, ContextOverflowError, PygptError, TokenizerError

TEXT = "the man and the one in an inn on the hill"


def ids_of(model: Model, text: str) -> list[int]:
    return model.tokenizer.encode(text)


# --- loading -------------------------------------------------------------------------------------------------------


def test_a_loaded_model_describes_itself(model: Model, vocab) -> None:
    assert model.config.n_vocab == vocab.size
    assert model.config.n_ctx == 64
    assert (model.weights, model.kv, model.threads) == ("int8", "float16", 1)
    assert model.weight_bytes >= model.config.n_params()
    assert model.kv_bytes_per_token == model.config.n_layer * 2 * 32 * 2
    assert model.tokenizer.n_vocab == vocab.size
    assert "parameters" in repr(model)


def test_smaller_weights_answer_alike(gpt2_folder: Path, model: Model) -> None:
    full = Model.load(gpt2_folder, weights="float32", threads=1)
    assert (full.weights, full.kv) == ("float32", "float32")
    half = Model.load(gpt2_folder, weights="bfloat16", threads=1)
    assert (half.weights, half.kv) == ("bfloat16", "float16")
    assert half.kv_bytes_per_token == model.kv_bytes_per_token == full.kv_bytes_per_token // 2
    assert half.weight_bytes < 0.6 * full.weight_bytes
    logits = full.logits(TEXT)
    for smaller in (half, model):
        found = smaller.logits(TEXT)
        assert not np.array_equal(logits, found)
        assert np.corrcoef(logits.ravel(), found.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("argument", "value", "error", "allowed"),
    [
        ("weights", "int9", ValueError, "int8, bfloat16, float32, not 'int9'"),
        ("kv", "int7", ValueError, "float32, float16, int8"),
        ("threads", 0, ValueError, ">= 1"),
        ("threads", 1025, ValueError, "<= 1024"),
        ("threads", 1.5, TypeError, ">= 1"),
        ("isa", "z80", ValueError, "scalar"),
    ],
)
def test_wrong_load_arguments_name_what_is_allowed(
    gpt2_folder: Path, argument: str, value: object, error: type[Exception], allowed: str
) -> None:
    with pytest.raises(error, match=f"{value if argument == 'isa' else argument}.*{allowed}"):
        Model.load(gpt2_folder, **{argument: value})


def test_progress_counts_the_parameters(gpt2_folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    model = Model.load(gpt2_folder, progress=lambda done, total: calls.append((done, total)))
    n_params = model.config.n_params()
    assert calls[-1] == (n_params, n_params)
    assert {total for _, total in calls} == {n_params}
    assert calls == sorted(calls)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    for source in (tmp_path / "nowhere", tmp_path, tmp_path / "no.gguf"):
        with pytest.raises(CheckpointError, match=str(source)):
            Model.load(source)


def test_a_folder_without_a_tokenizer_takes_ids(gpt2_folder: Path, model: Model, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(gpt2_folder / name, tmp_path)
    bare = Model.load(tmp_path, threads=1)
    assert not bare.has_tokenizer
    with pytest.raises(TokenizerError, match=r"vocab\.json"):
        _ = bare.tokenizer
    ids = ids_of(model, TEXT)
    assert np.array_equal(bare.logits(ids), model.logits(ids))
    done = bare.generate(ids, max_tokens=5, temperature=0)
    assert done.text == ""
    assert done.tokens == model.generate(ids, max_tokens=5, temperature=0).tokens
    for call in (bare.generate, bare.stream, bare.score, bare.logits, bare.perplexity, bare.embed, bare.hidden_states):
        with pytest.raises(TokenizerError, match=r"vocab\.json"):
            call(TEXT)
    with pytest.raises(TokenizerError, match="stop"):
        bare.generate(ids, stop="x")


# --- logits, score, perplexity, embed ------------------------------------------------------------------------------


def test_logits_have_a_row_a_token_and_do_not_look_ahead(model: Model, vocab) -> None:
    ids = ids_of(model, TEXT)
    logits = model.logits(ids)
    assert logits.shape == (len(ids), vocab.size)
    assert logits.dtype == np.float32
    assert np.array_equal(model.logits(TEXT), logits)
    assert np.array_equal(model.logits(ids[:3]), logits[:3])


def test_the_head_multiplies_the_embeddings(model: Model) -> None:
    hidden = model.hidden_states(TEXT)
    assert hidden.shape == (len(ids_of(model, TEXT)), model.config.n_embd)
    # A layer norm without gain and bias leaves each row with mean 0 and variance 1; 32 terms of about 1, each rounded
    # to float32, leave the mean within 32 * 2**-24.
    assert np.abs(hidden.mean(axis=1)).max() < 32 * 2**-24 * 4
    assert np.allclose(hidden.var(axis=1), 1, atol=1e-3)


def test_score_is_the_log_softmax_of_the_logits(model: Model) -> None:
    ids = ids_of(model, TEXT)
    scores = model.score(TEXT)
    assert scores.shape == (len(ids) - 1,)
    assert scores.dtype == np.float32
    of_all = model._engine.log_softmax(model.logits(ids))
    assert np.array_equal(scores, of_all[np.arange(len(ids) - 1), ids[1:]])
    logits = model.logits(ids)[:-1].astype(np.float64)
    expected = logits[np.arange(len(ids) - 1), ids[1:]] - np.log(np.exp(logits).sum(axis=1))
    # The maximum is taken off exactly up to rounding; the logits are below 16 here, so ulps are at most 2**-20.
    assert np.abs(scores - expected).max() < 4 * 2**-20
    assert model.score(ids[:1]).shape == (0,)


def test_perplexity_of_a_short_text_is_one_window(model: Model) -> None:
    expected = math.exp(-np.mean(model.score(TEXT), dtype=np.float64))
    assert model.perplexity(TEXT) == pytest.approx(expected, rel=1e-12)
    assert model.perplexity(TEXT, stride=3) == model.perplexity(TEXT)


@pytest.mark.parametrize("stride", [None, 1, 7, 63])
@pytest.mark.parametrize("n_tokens", [64, 65, 100, 150])
def test_perplexity_of_a_long_text_slides_a_window(model: Model, stride: int | None, n_tokens: int) -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, model.config.n_vocab, n_tokens)
    step, n_ctx = stride or 32, model.config.n_ctx
    logprobs: list[float] = []
    for start in range(0, n_tokens, step):  # each window's new tokens, as the definition says it
        window = ids[start : start + n_ctx]
        n_new = start + len(window) - 1 - len(logprobs)
        if n_new > 0:
            logprobs.extend(model.score(window)[-n_new:].tolist())
    assert len(logprobs) == n_tokens - 1
    assert model.perplexity(ids, stride=stride) == pytest.approx(math.exp(-np.mean(logprobs)), rel=1e-12)


def test_a_long_score_is_computed_in_steps(scripted: Callable[[Iterable[int]], Model]) -> None:
    model = scripted([0] * 1100)  # of 256 tokens
    ids = np.random.default_rng(0).integers(0, model.config.n_vocab, 1100)
    logits = model.logits(ids)[:-1].astype(np.float64)
    expected = logits[np.arange(1099), ids[1:]] - np.log(np.exp(logits).sum(axis=1))
    assert np.abs(model.score(ids) - expected).max() < 4 * 2**-20


@pytest.mark.parametrize("stride", [0, -1, 64, 1000])
def test_a_stride_outside_the_context_is_refused(model: Model, stride: int) -> None:
    with pytest.raises(ValueError, match="stride must be from 1 to 63"):
        model.perplexity([1] * 100, stride=stride)


def test_perplexity_needs_two_tokens(model: Model) -> None:
    with pytest.raises(ValueError, match="at least 2 tokens"):
        model.perplexity([1])


# --- bad prompts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ("", ValueError, "empty"),
        ([], ValueError, "empty"),
        (np.zeros(0, np.int32), ValueError, "empty"),
        ([1, 264], ValueError, "264 at position 1 .* vocabulary of 264"),
        ([-1], ValueError, "-1 at position 0"),
        ([2**40], ValueError, "vocabulary"),
        ([2**80], TypeError, "integer token ids"),
        ([1.0], TypeError, "integer token ids"),
        ([True], TypeError, "integer token ids"),
        ([[[1, 2]]], TypeError, "flat"),
        (np.ones((1, 2), np.int32), TypeError, "flat"),
        (None, TypeError, "must be text or a flat sequence of integer token ids, not None"),
        (5, TypeError, "flat"),
        (b"bytes", TypeError, "integer token ids"),
    ],
)
@pytest.mark.parametrize("method", ["generate", "stream", "logits", "score", "perplexity", "hidden_states", "embed"])
def test_bad_prompts(model: Model, method: str, prompt: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(model, method)(prompt)


@pytest.mark.parametrize("method", ["logits", "score", "hidden_states", "embed"])
def test_more_tokens_than_the_context(model: Model, method: str) -> None:
    getattr(model, method)([1] * 64)
    with pytest.raises(ContextOverflowError, match="65 tokens do not fit the context of 64"):
        getattr(model, method)([1] * 65)


# --- sessions ------------------------------------------------------------------------------------------------------


def test_a_session_gives_the_logits_of_the_whole(model: Model) -> None:
    ids = ids_of(model, TEXT)
    logits = model.logits(ids)
    session = model.session()
    assert isinstance(session, Session)
    assert session.length == 0
    assert np.array_equal(session.append(ids[:5]), logits[4])
    assert np.array_equal(session.append(ids[5:6]), logits[5])
    assert np.array_equal(session.append(np.array(ids[6:])), logits[-1])
    assert session.length == len(ids)


def test_a_fork_goes_its_own_way(model: Model) -> None:
    ids = ids_of(model, TEXT)
    session = model.session()
    session.append(ids[:6])
    fork = session.fork()
    assert np.array_equal(fork.append([7, 8]), model.logits([*ids[:6], 7, 8])[-1])
    assert np.array_equal(session.append(ids[6:8]), model.logits(ids[:8])[-1])
    assert (session.length, fork.length) == (8, 8)


def test_a_truncated_session_forgets(model: Model) -> None:
    session = model.session()
    session.append([1, 2, 3, 4, 5])
    session.truncate(2)
    assert session.length == 2
    assert np.array_equal(session.append([9]), model.logits([1, 2, 9])[-1])
    for length in (-1, 4):
        with pytest.raises(ValueError, match=f"from 0 to 3.* not {length}"):
            session.truncate(length)


def test_a_session_is_unchanged_by_an_error(model: Model) -> None:
    session = model.session()
    session.append([1] * 60)
    for bad, error in (([1] * 5, ContextOverflowError), ([264], ValueError), ([], ValueError), ([0.5], TypeError)):
        with pytest.raises(error):
            session.append(bad)
        assert session.length == 60
    assert np.array_equal(session.append([2]), model.logits([1] * 60 + [2])[-1])


# --- threads and processes -----------------------------------------------------------------------------------------


def test_many_threads_use_one_model(gpt2_folder: Path) -> None:
    model = Model.load(gpt2_folder, threads=2)
    expected = [model.generate(TEXT, max_tokens=20, temperature=1.5, seed=seed) for seed in range(4)]
    results: dict[int, list[object]] = {seed: [] for seed in range(4)}

    def work(seed: int) -> None:
        for _ in range(5):
            results[seed].append(model.generate(TEXT, max_tokens=20, temperature=1.5, seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {seed: [expected[seed]] * 5 for seed in range(4)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_works(gpt2_folder: Path, threads: int, elsewhere: dict[str, Any]) -> None:
    code = f"""
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 and later warn of a fork with threads: that is what is tested
from pygpt import Model
model = Model.load({str(gpt2_folder)!r}, threads={threads})
expected = model.generate("in the", max_tokens=10, seed=0)
pid = os.fork()
same = model.generate("in the", max_tokens=10, seed=0) == expected
if pid == 0:
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, **elsewhere)


# --- the package ---------------------------------------------------------------------------------------------------


LEAN = {
    "import pygpt": "torch transformers tokenizers safetensors tiktoken regex rich typer matplotlib jinja2 requests "
    "gguf huggingface_hub pygpt.training pygpt.cli pygpt.reference",
    "import pygpt; pygpt.Model.load('tiny').generate('Once', max_tokens=1)": "tokenizers jinja2 llguidance statistics "
    "pygpt.tracing pygpt.trace pygpt.sites pygpt.reference pygpt.training",
}


@pytest.mark.parametrize(("code", "unneeded"), LEAN.items())
def test_modules_that_are_not_needed_are_not_loaded(code: str, unneeded: str, elsewhere: dict[str, Any]) -> None:
    code += f"\nimport sys; print(' '.join(m for m in {unneeded.split()} if m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, **elsewhere
    )
    assert run.stdout.strip() == ""


def test_errors_have_one_root() -> None:
    for error in (CheckpointError, ContextOverflowError, TokenizerError):
        assert issubclass(error, PygptError)


def test_the_source_tree_without_its_core_says_so(tmp_path: Path) -> None:
    package = Path(pygpt.__file__).parent
    shutil.copytree(package, tmp_path / "pygpt", ignore=shutil.ignore_patterns("_core*.so", "_core*.pyd", "models"))
    run = subprocess.run(
        [sys.executable, "-S", "-c", "import pygpt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "pip install" in run.stderr.splitlines()[-1]
