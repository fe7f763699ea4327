"""`SamplingParams`: what is allowed, and that the keyword arguments, their types and help follow from its fields."""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_type_hints

import numpy as np
import pytest

from pygpt import Model, SamplingParams
from pygpt.generation import SamplingOptions

PROMPT = "in the"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": 0}, ValueError),
        ({"max_tokens": 1.5}, TypeError),
        ({"temperature": -0.1}, ValueError),
        ({"temperature": float("nan")}, ValueError),
        ({"temperature": float("inf")}, ValueError),
        ({"temperature": "hot"}, TypeError),
        ({"temperature": None}, TypeError),
        ({"top_k": 0}, ValueError),
        ({"top_k": True}, TypeError),
        ({"top_p": 0.0}, ValueError),
        ({"top_p": 1.1}, ValueError),
        ({"min_p": -0.1}, ValueError),
        ({"min_p": 1.1}, ValueError),
        ({"repetition_penalty": 0.0}, ValueError),
        ({"repetition_penalty": -1.0}, ValueError),
        ({"presence_penalty": float("nan")}, ValueError),
        ({"frequency_penalty": "much"}, TypeError),
        ({"logit_bias": [1]}, TypeError),
        ({"logit_bias": {"a": 1}}, TypeError),
        ({"logit_bias": {-1: 1}}, ValueError),
        ({"json_schema": 5}, TypeError),
        ({"json_schema": True}, TypeError),
        ({"json_schema": {"const": object()}}, TypeError),
        ({"json_schema": {"const": float("nan")}}, ValueError),
        ({"json_schema": "[]"}, ValueError),
        ({"json_schema": "{"}, ValueError),
        ({"regex": 5}, TypeError),
        ({"grammar": b"start: x"}, TypeError),
        ({"choices": []}, ValueError),
        ({"choices": ["a", ""]}, ValueError),
        ({"choices": "ab"}, TypeError),
        ({"choices": [1]}, TypeError),
        ({"logits_processor": 5}, TypeError),
        ({"stop": [""]}, ValueError),
        ({"stop": ""}, ValueError),
        ({"stop": [1]}, TypeError),
        ({"stop": None}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": 2**64}, ValueError),
        ({"seed": 0.5}, TypeError),
        ({"n": 0}, ValueError),
        ({"n": None}, TypeError),
        ({"logprobs": -1}, ValueError),
    ],
)
def test_wrong_options_name_the_argument(model: Model, options: dict[str, object], error: type[Exception]) -> None:
    (name,) = options
    with pytest.raises(error, match=f"^{name} must "):
        SamplingParams(**options)
    with pytest.raises(error, match=f"^{name} must "):
        model.generate(PROMPT, **options)


def test_unknown_and_positional_options_are_type_errors(model: Model) -> None:
    with pytest.raises(TypeError, match="temprature"):
        model.generate(PROMPT, temprature=1.0)
    with pytest.raises(TypeError):
        model.generate(PROMPT, 10)
    with pytest.raises(TypeError, match="temprature"):
        model.stream(PROMPT, temprature=1.0)


def test_numpy_numbers_are_numbers() -> None:
    params = SamplingParams(max_tokens=np.int64(3), temperature=np.float32(0.5), seed=np.uint64(2**64 - 1))
    assert (params.max_tokens, params.temperature, params.seed) == (3, 0.5, 2**64 - 1)
    assert type(params.max_tokens) is int
    assert type(params.temperature) is float


def test_biases_are_copied_and_may_forbid() -> None:
    biases = {3: -math.inf, np.int64(4): 1}
    params = SamplingParams(logit_bias=biases)
    biases.clear()
    assert params.logit_bias == {3: -math.inf, 4: 1.0}
    assert hash(params) == hash(replace(params, logit_bias={}))
    for wrong in (math.inf, math.nan, "1"):
        with pytest.raises((ValueError, TypeError), match=r"^logit_bias of 3 must be a finite number or -inf, not "):
            SamplingParams(logit_bias={3: wrong})


@pytest.mark.parametrize("other", [{"grammar": "start: /a/"}, {"choices": ["a"]}, {"json_schema": {}}])
def test_what_a_text_must_be_is_said_once(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must not be given beside .* exclude each other"):
        SamplingParams(regex="a", **other)


def test_a_schema_is_kept_as_text() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"é": {"type": "string"}, "a": {}}}
    params = SamplingParams(json_schema=schema)
    assert params == SamplingParams(json_schema=json.dumps(schema, indent=3))
    assert hash(params) == hash(replace(params))
    assert list(json.loads(str(params.json_schema))["properties"]) == ["é", "a"]  # the order counts


def test_params_are_frozen_and_a_string_is_one_stop() -> None:
    params = SamplingParams(stop="end")
    assert params.stop == ("end",)
    with pytest.raises(FrozenInstanceError):
        params.seed = 1  # type: ignore[misc]


def test_the_typed_options_are_the_fields_of_the_params() -> None:
    hints = get_type_hints(SamplingParams)
    assert {**get_type_hints(SamplingOptions), "n": int} == {f.name: hints[f.name] for f in fields(SamplingParams)}


@pytest.mark.parametrize("method", [Model.generate, Model.stream])
def test_help_lists_every_option_with_its_default(method: Callable[..., object]) -> None:
    parameters = inspect.signature(method).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
    for f in fields(SamplingParams):
        assert parameters[f.name].default == getattr(SamplingParams(), f.name)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_every_seed_in_range_works(model: Model, seed: int) -> None:
    assert model.generate(PROMPT, max_tokens=2, seed=seed).seed == seed
