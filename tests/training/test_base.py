"""Where fine-tuning starts: the rows of new tokens, the recipe's defaults."""

from __future__ import annotations

import numpy as np

from pygpt import Model, reference
from pygpt.training.architecture import architecture
from pygpt.training.base import Base, load_base, recipe, with_special_tokens


def moved(base: Base, by: float, times: float) -> Base:
    """Its embedding with other rows, which a model of another family might have."""
    embedding = by + times * base.tensors["embed.weight"]
    return base._replace(tensors={**base.tensors, "embed.weight": embedding})


def test_new_rows_have_the_mean_and_covariance_of_the_others() -> None:
    base = moved(load_base("tiny"), 0.0, 1.0)  # unpacked once
    old = base.tensors["embed.weight"].astype(np.float64)
    new = np.concatenate([with_special_tokens(base, seed)[0].tensors["embed.weight"][-3:] for seed in range(100)])
    n, spread = len(new), old.std(axis=0)
    # Means within five of their standard errors; variances along the main directions within five of theirs.
    assert (np.abs(new.mean(axis=0) - old.mean(axis=0)) < 5.0 * spread / np.sqrt(n)).all()
    variances, directions = np.linalg.eigh(np.cov(old.T, bias=True))
    found = ((new - old.mean(axis=0)) @ directions).var(axis=0)
    assert (np.abs(found - variances) < 5.0 * variances * np.sqrt(2.0 / n)).all()
    assert (np.abs(np.cov((new @ directions).T))[0, 1:] < 0.5 * np.sqrt(variances[0] * variances[1:])).all()


def test_new_rows_follow_the_size_of_the_others_and_the_seed() -> None:
    base = load_base("tiny")
    usual, ids = with_special_tokens(base, 7)
    assert ids == tuple(range(base.config.n_vocab, base.config.n_vocab + 3))
    large = with_special_tokens(moved(base, 3.0, 50.0), 7)[0]
    n = base.config.n_vocab
    np.testing.assert_allclose(
        large.tensors["embed.weight"][n:], 3.0 + 50.0 * usual.tensors["embed.weight"][n:], rtol=1e-5, atol=1e-4
    )
    again, other = (with_special_tokens(base, seed)[0].tensors["embed.weight"] for seed in (7, 8))
    assert np.array_equal(again, usual.tensors["embed.weight"])
    assert not np.array_equal(again[n:], other[n:])
    assert np.array_equal(again[:n], base.tensors["embed.weight"])


def test_new_tokens_are_no_likelier_than_others() -> None:
    base = load_base("tiny")
    ids = Model.load("tiny").tokenizer.encode("Once upon a time there was a king who had three sons.")
    whole = with_special_tokens(moved(base, 0.1, 1.0), 0)[0]  # rows with a common part, as most trained models have
    logits = reference.forward(whole.config, whole.tensors, ids)
    assert (logits[:, -3:].max(axis=1) < logits[:, :-3].max(axis=1)).mean() > 0.9


def test_a_model_that_has_the_tokens_stays_as_it_is() -> None:
    whole, ids = with_special_tokens(load_base("tiny"), 0)
    assert with_special_tokens(whole, 1) == (whole, ids)


def test_dropout_is_for_models_that_were_trained_with_it() -> None:
    sizes = {"n_vocab": 64, "n_ctx": 16, "n_layer": 2, "n_head": 2, "n_embd": 64, "eos_id": 0}
    gpt2, llama = (architecture(name, **sizes) for name in ("gpt2", "llama"))
    assert recipe(100, None, gpt2, epochs=1, lora=False, n_validation=10).dropout == 0.1
    for lora in (False, True):
        assert recipe(100, None, llama, epochs=1, lora=lora, n_validation=10).dropout == 0.0
    assert recipe(100, None, llama, epochs=1, lora=True, n_validation=10, dropout=0.2).dropout == 0.2
