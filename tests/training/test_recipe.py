"""Recipes: what is allowed, the course of learning rate and batch, and the papers' presets at the papers' sizes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from pygpt.training.presets import preset
from pygpt.training.recipe import Recipe

PLAIN: dict[str, Any] = {"steps": 100, "batch": 8, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2**31),
        ("batch", -1),
        ("accumulate", 0),
        ("accumulate", 9),  # more parts than sequences
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("min_learning_rate", 2e-3),  # above the largest
        ("warmup", 101),
        ("stable", -1),
        ("stable", 101),
        ("decay_steps", 0),
        ("decay_steps", 101),
        ("schedule", "step"),
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("eps", 0.0),
        ("weight_decay", -0.1),
        ("clip", math.inf),
        ("dropout", 1.0),
        ("ramp_steps", 101),
        ("ramp_from", 9),
        ("seed", -1),
        ("eval_interval", 0),
        ("patience", -1),
    ],
)
def test_a_value_that_is_not_allowed_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be .*not {value!r}"):
        Recipe(**{**PLAIN, field: value})


@pytest.mark.parametrize(("field", "value"), [("steps", 1.5), ("batch", True), ("learning_rate", "1e-3")])
def test_a_value_of_another_type_is_named(field: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{field} must be .*not {value!r}"):
        Recipe(**{**PLAIN, field: value})


@pytest.mark.parametrize("stable", [0, 5])
def test_the_decay_cannot_end_before_it_begins(stable: int) -> None:
    with pytest.raises(ValueError, match=rf"decay_steps must be at least warmup \+ stable \({20 + stable}\), not 19"):
        Recipe(**PLAIN, warmup=20, stable=stable, decay_steps=19)


def test_the_learning_rate_rises_then_falls_along_a_cosine() -> None:
    recipe = Recipe(**PLAIN, warmup=10, min_learning_rate=1e-4, decay_steps=90)
    assert [recipe.learning_rate_at(s) for s in (1, 5, 10)] == pytest.approx([1e-4, 5e-4, 1e-3])
    assert recipe.learning_rate_at(50) == pytest.approx((1e-3 + 1e-4) / 2)  # the middle of 10 to 90
    assert recipe.learning_rate_at(30) == pytest.approx(1e-4 + 9e-4 * (1 + math.sqrt(0.5)) / 2)  # cos(pi / 4)
    assert [recipe.learning_rate_at(s) for s in (90, 95, 100)] == [1e-4] * 3


def test_the_learning_rate_falls_along_a_line() -> None:
    recipe = Recipe(**PLAIN, schedule="linear", warmup=20)
    assert [recipe.learning_rate_at(s) for s in (20, 40, 60, 100)] == pytest.approx([1e-3, 7.5e-4, 5e-4, 0.0])


def test_the_learning_rate_stays_before_it_falls() -> None:
    recipe = Recipe(**PLAIN, schedule="linear", warmup=20, stable=60)
    assert [recipe.learning_rate_at(s) for s in (10, 20, 21, 80, 90, 100)] == pytest.approx(
        [5e-4, *3 * [1e-3], 5e-4, 0]
    )
    assert Recipe(**PLAIN, warmup=20, stable=80).learning_rate_at(100) == 1e-3


def test_without_warmup_the_first_step_is_on_the_decay() -> None:
    recipe = Recipe(**PLAIN)
    assert 0.999e-3 < recipe.learning_rate_at(1) < 1e-3
    assert Recipe(**{**PLAIN, "steps": 1}).learning_rate_at(1) == 0.0


def test_the_batch_grows_in_a_line() -> None:
    recipe = Recipe(**PLAIN, ramp_steps=6, ramp_from=2)
    assert [recipe.batch_at(s) for s in range(1, 9)] == [2, 3, 4, 5, 6, 7, 8, 8]
    assert [Recipe(**PLAIN).batch_at(s) for s in (1, 100)] == [8, 8]


def test_parts_hold_the_whole_batch() -> None:
    assert [Recipe(**PLAIN, accumulate=n).part for n in (1, 2, 3, 8)] == [8, 4, 3, 1]


def test_gpt3_at_its_own_size() -> None:
    """Table 2.1's first row, 300 billion tokens (20 for each parameter would be fewer: the text is what limits it)."""
    recipe = preset("gpt3", n_params=15_000_000_000, n_ctx=2048, n_tokens=10**12, learning_rate=6e-4)
    assert recipe.batch * 2048 == pytest.approx(0.5e6, rel=0.01)
    assert recipe.steps * recipe.batch * 2048 == pytest.approx(300e9, rel=1e-4)
    assert recipe.decay_steps == pytest.approx(recipe.steps * 260 / 300, abs=1)
    assert recipe.min_learning_rate == pytest.approx(6e-5)
    assert recipe.warmup * recipe.batch * 2048 == pytest.approx(375e6, rel=0.01)
    assert recipe.ramp_from * 2048 == pytest.approx(32e3, rel=0.03)
    assert sum(recipe.batch_at(s) for s in range(1, recipe.ramp_steps + 1)) * 2048 == pytest.approx(4e9, rel=0.01)
    assert (recipe.beta1, recipe.beta2, recipe.eps, recipe.weight_decay, recipe.clip) == (0.9, 0.95, 1e-8, 0.1, 1.0)


@pytest.mark.parametrize(
    ("n_params", "rate"), [(125e6, 6e-4), (350e6, 3e-4), (1.3e9, 2e-4), (175e9, 0.6e-4), (1e6, 1.31e-3), (1e3, 1.31e-3)]
)
def test_gpt3s_learning_rates(n_params: float, rate: float) -> None:
    assert preset("gpt3", n_params=int(n_params), n_ctx=64, n_tokens=10**6).learning_rate == pytest.approx(rate)


def test_below_gpt3s_table_stands_the_rule_of_kaplan() -> None:
    for n_params in (2e6, 1e7, 5e7):
        found = preset("gpt3", n_params=int(n_params), n_ctx=64, n_tokens=10**6).learning_rate
        assert found == pytest.approx(0.003239 - 0.0001395 * math.log(n_params), rel=0.06)  # 0.06: it ends in the table


def test_gpt1_at_its_own_size() -> None:
    recipe = preset("gpt1", n_params=117_000_000, n_ctx=512, n_tokens=10**9)
    assert recipe.learning_rate == pytest.approx(2.5e-4)
    assert (recipe.warmup, recipe.min_learning_rate, recipe.dropout, recipe.weight_decay) == (2000, 0.0, 0.1, 0.01)
    assert recipe.steps * recipe.batch * 512 == pytest.approx(20 * 117e6, rel=1e-3)


def test_what_is_given_stays_and_the_rest_follows() -> None:
    recipe = preset("gpt2", n_params=10**6, n_ctx=64, n_tokens=10**6, batch=12, steps=2000, dropout=0.0)
    assert (recipe.batch, recipe.steps, recipe.dropout, recipe.warmup) == (12, 2000, 0.0, 200)
    assert preset("gpt2", n_params=10**6, n_ctx=64, n_tokens=10**6, batch=12).steps == math.ceil(2e7 / (12 * 64))


@pytest.mark.parametrize("name", ["gpt1", "gpt2", "gpt3"])
@pytest.mark.parametrize("n_tokens", [2, 10**4, 10**7])
@pytest.mark.parametrize("n_params", [10, 10**5, 10**8])
def test_every_size_gives_a_recipe(name: Any, n_tokens: int, n_params: int) -> None:
    recipe = preset(name, n_params=n_params, n_ctx=32, n_tokens=n_tokens)
    assert recipe == Recipe(**dataclasses.asdict(recipe))
    assert all(1 <= recipe.batch_at(s) <= recipe.batch for s in range(1, min(recipe.steps, 1000) + 1))


def test_the_preset_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="the preset must be one of gpt1, gpt2, gpt3, not 'gpt4'"):
        preset("gpt4", n_params=1, n_ctx=1, n_tokens=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no field 'momentum'"):
        preset("gpt3", n_params=1, n_ctx=1, n_tokens=1, momentum=0.9)
    with pytest.raises(ValueError, match=r"^dropout must be"):
        preset("gpt3", n_params=1, n_ctx=1, n_tokens=1, dropout=2)
