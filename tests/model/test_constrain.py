"""Texts that must have a form: JSON by a schema, a regular expression, a grammar, one of several."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import CancelToken, Model, SamplingParams
from pygpt.errors import TokenizerError
from pygpt.generation.constrain import Allowed, Grammars
from pygpt.generation.schema import closed_schema

PROMPT = "in the"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name", "n", "kind"],
    "additionalProperties": False,
}
FORMS: list[dict[str, Any]] = [
    {"json_schema": SCHEMA},
    {"json_schema": json.dumps({"type": "array", "items": {"type": "boolean"}, "maxItems": 3})},
    {"regex": r"[a-c]{2,4}-\d{3}"},
    {"regex": "(é|λ){1,3}!"},
    {"grammar": 'start: item ("," item)? "."\nitem: /[xyz]{1,3}/'},
    {"grammar": 'root ::= ("yes" | "no") "!" [a-c]?'},
    {"choices": ["red", "green", "dark red"]},
]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load("tiny", threads=1)


def check(options: dict[str, Any], text: str) -> None:
    """That the text has the form."""
    if "choices" in options:
        assert text in options["choices"]
    elif "regex" in options:
        assert re.fullmatch(options["regex"], text)
    elif "grammar" in options:
        pattern = r"(yes|no)![a-c]?" if "root" in options["grammar"] else r"[xyz]{1,3}(,[xyz]{1,3})?\."
        assert re.fullmatch(pattern, text)
    elif options["json_schema"] is SCHEMA:
        value = json.loads(text)
        assert [*value] == ["name", "n", "kind"]
        assert len(value["name"]) <= 5
        assert 0 <= value["n"] <= 99
        assert value["kind"] in ("a", "b")
    else:
        assert set(json.loads(text)) <= {True, False}


@pytest.mark.parametrize("options", FORMS, ids=lambda options: next(iter(options)))
def test_texts_have_their_form(model: Model, tiny: Model, options: dict[str, Any]) -> None:
    """At any temperature: random weights write anything that they may."""
    for m in (model, tiny):
        prompt = PROMPT if m is model else "Once"
        for temperature in (0.0, 1.0, 5.0, 1e300):
            done = m.generate(prompt, n=4, temperature=temperature, top_p=None, max_tokens=60, seed=3, **options)
            assert isinstance(done, list)
            for completion in done:
                if completion.finish_reason == "stop":
                    check(options, completion.text)
                else:
                    assert len(completion.tokens) == 60 or len(completion.tokens) == m.config.n_ctx - 3
        assert any(completion.finish_reason == "stop" for completion in done)


def test_a_text_that_can_only_end_does(model: Model) -> None:
    done = model.generate(PROMPT, regex="abc", max_tokens=50)
    assert (done.text, done.finish_reason) == ("abc", "stop")
    assert done.tokens[-1] not in model.config.eos_ids
    cut = model.generate(PROMPT, regex="abc", max_tokens=2)
    assert (cut.text, cut.finish_reason) == ("ab", "length")
    just = model.generate(PROMPT, regex="abc", max_tokens=3)
    assert (just.text, just.finish_reason) == ("abc", "stop")
    empty = model.generate(PROMPT, regex="")
    assert (empty.text, empty.tokens, empty.finish_reason) == ("", tuple(model.config.eos_ids), "stop")
    held = model.generate(PROMPT, regex="abc", stop=["cd"])
    assert (held.text, held.finish_reason) == ("abc", "stop")
    stopped = model.generate(PROMPT, regex="abcd", stop=["c"])
    assert (stopped.text, stopped.finish_reason) == ("ab", "stop")


def test_an_end_of_text_is_drawn_where_the_text_may_go_on(scripted: Callable[[Iterable[int]], Model], vocab) -> None:
    """The model wants to end at once, and may after the first a."""
    done = scripted([vocab.end_id] * 20).generate("in", regex="ba+", temperature=0)
    assert (done.text, done.tokens[-1], done.finish_reason) == ("ba", vocab.end_id, "stop")


def test_objects_have_the_properties_that_a_schema_names() -> None:
    inner: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema = {"properties": {"a": {"$ref": "#/$defs/i"}, "b": {"type": "array", "items": inner}}, "$defs": {"i": inner}}
    closed = json.loads(closed_schema(json.dumps(schema)))
    none_other = inner | {"additionalProperties": False}
    assert closed == {
        "properties": {"a": {"$ref": "#/$defs/i"}, "b": {"type": "array", "items": none_other}},
        "$defs": {"i": none_other},
        "additionalProperties": False,
    }
    for other in ({"type": "object"}, inner | {"additionalProperties": True}, {"allOf": [inner, {}]}, {"const": inner}):
        assert json.loads(closed_schema(json.dumps(other))) == other


def test_what_is_reported_is_the_models_own(model: Model) -> None:
    done = model.generate(PROMPT, regex="zq", logprobs=1, logits_processor=lambda tokens, logits: None)
    plain = model.generate(PROMPT, max_tokens=1, logprobs=264)
    assert done.logprobs is not None
    assert plain.logprobs is not None
    assert done.logprobs[0].logprob == dict(plain.logprobs[0].top)[done.tokens[0]]
    assert done.logprobs[0].logprob < 0


def test_the_form_outlasts_biases_and_filters(model: Model) -> None:
    a, b = model.tokenizer.encode("a")[0], model.tokenizer.encode("b")[0]
    for more in ({"top_k": 1}, {"temperature": 0}, {"logit_bias": {a: -np.inf, b: -np.inf, 7: 1e9}}, {"min_p": 1.0}):
        done = model.generate(PROMPT, regex="[ab]{3}", **more)
        assert re.fullmatch("[ab]{3}", done.text)
    assert model.generate(PROMPT, regex="[ab]{3}", logit_bias={a: -np.inf}, max_tokens=9).text == "bbb"


@pytest.mark.parametrize("options", FORMS, ids=lambda options: next(iter(options)))
def test_who_is_beside_it_changes_nothing(model: Model, options: dict[str, Any]) -> None:
    params = SamplingParams(seed=5, max_tokens=30, temperature=2.0, n=2, **options)
    alone = model.generate(PROMPT, params=params)
    others = [model.generate([i], params=params) for i in (5, 6)]
    assert model.generate([[5], PROMPT, [6]], params=params) == [*others[0], *alone, *others[1]]
    with pygpt.Scheduler(model, max_step_tokens=2) as scheduler:
        streams = [scheduler.stream("on and on", seed=i, max_tokens=30) for i in range(3)]
        assert scheduler.generate(PROMPT, params=params) == alone
        assert [s.collect() for s in streams] == [
            [model.generate("on and on", seed=i, max_tokens=30)] for i in range(3)
        ]


@pytest.mark.parametrize("options", FORMS, ids=lambda options: next(iter(options)))
@pytest.mark.parametrize("way", ["prompt", "draft"])
def test_speculation_changes_nothing(tiny: Model, options: dict[str, Any], way: str) -> None:
    """Proposals that the form forbids are none."""
    guesser: dict[str, Any] = {"speculate": "prompt"} if way == "prompt" else {"draft": tiny}
    prompt = 'Once {"name": "ab", "n": 11, "kind": "a"} abc-123 xyz,xyz. [true, false] {"name": "ab", "n": 1'
    for seed in range(3):
        plain = tiny.stream(prompt, temperature=0.7, seed=seed, max_tokens=40, **options)
        guessed = tiny.stream(prompt, temperature=0.7, seed=seed, max_tokens=40, **options, **guesser)
        assert guessed.collect() == plain.collect()
    assert way == "prompt" or "json_schema" not in options or guessed.speculation.n_accepted > 0


def nested_patterns(n: int) -> dict[str, Any]:
    """A schema whose texts have to match all of n patterns."""
    schema: dict[str, Any] = {}
    for i in range(n):
        schema = {"type": "string", "pattern": f".*{i}.*", **({"anyOf": [schema]} if schema else {})}
    return schema


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"json_schema": {"type": "nope"}}, "Invalid type: nope"),
        ({"json_schema": {"allOf": [{"type": "string"}, {"type": "integer"}]}}, "Unsatisfiable"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json_schema": {"$ref": "https://example.org/x"}}, "retrieving it failed"),
        ({"json_schema": '{"const": "\\ud800"}'}, "hex escape"),
        ({"json_schema": {"allOf": [{"type": "string", "pattern": f".*{i}.*"} for i in range(40)]}}, "40 patterns"),
        ({"json_schema": nested_patterns(40)}, "40 patterns"),
        ({"json_schema": {"properties": {f"p{i}": {"type": "null"} for i in range(9000)}}}, "too big"),
        ({"json_schema": {"type": "integer", "multipleOf": 1000003}}, "multipleOf must be at most 100000"),
        ({"json_schema": {"type": "number", "multipleOf": 1e300}}, "multipleOf must be at most 100000"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": r"[^\s\S]"}, "there is no such text"),
        ({"regex": "\ud800"}, "surrogates"),
        ({"regex": "(" * 5000 + ")" * 5000}, ""),
        ({"grammar": "start: missing"}, "missing"),
        ({"grammar": "root ::= ("}, "GBNF"),
        ({"grammar": " "}, ""),
        ({"choices": ["\ud800"]}, "hex escape"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    model: Model, options: dict[str, Any], reason: str
) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"(?s)^{name} is refused: .*{reason}") as caught:
        model.stream(PROMPT, **options)
    assert len(str(caught.value)) < 700
    with pygpt.Scheduler(model) as scheduler, pytest.raises(ValueError, match=f"^{name} is refused"):
        scheduler.generate(PROMPT, **options)


def test_patterns_that_stand_apart_have_no_most(model: Model) -> None:
    """As pydantic writes the schema of a model with many fields, of which some may be missing."""
    field = {"anyOf": [{"type": "string", "pattern": "^{}$"}, {"type": "null"}], "default": None, "title": "It"}
    schema = {
        "type": "object",
        "properties": {f"f{i}": json.loads(json.dumps(field).replace("{}", f"a{i}")) for i in range(40)},
    }
    assert model.generate(PROMPT, json_schema=schema, max_tokens=4).text


@pytest.mark.parametrize("error", [ValueError("no way on"), RuntimeError("lost")])
def test_one_that_fails_midway_fails_alone(model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """With whatever llguidance raises: not the others, nor those that come after it."""
    fill, n_filled = Allowed._fill, 0

    def failing(self: Allowed, mask: Any) -> None:
        nonlocal n_filled
        n_filled += 1
        if n_filled == 4:
            raise error
        fill(self, mask)

    plain = model.generate(PROMPT, seed=1, max_tokens=20)
    with pygpt.Scheduler(model) as scheduler:
        monkeypatch.setattr(Allowed, "_fill", failing)
        other = scheduler.stream(PROMPT, seed=1, max_tokens=20)
        with pytest.raises(ValueError, match=str(error)):
            scheduler.generate(PROMPT, regex="a{9}")
        assert other.collect() == [plain]
        assert scheduler.generate(PROMPT, regex="a{9}", max_tokens=12).text == "a" * 9


def test_what_fails_behind_a_proposal_counts_where_it_comes(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another token is drawn than the one that was proposed, it is as if nothing had been."""
    constraint = model._grammars.constraint(SamplingParams(regex="(ab|ba)*"))
    assert constraint is not None
    allowed, plain = constraint.begin(()), constraint.begin(())
    a, b = model.tokenizer.encode("a"), model.tokenizer.encode("b")
    fill = Allowed._fill

    def failing(self: Allowed, mask: Any) -> None:
        fill(self, mask)
        if self is allowed and not mask[b[0] // 32] >> b[0] % 32 & 1:  # after b
            raise ValueError("no way on")

    monkeypatch.setattr(Allowed, "_fill", failing)
    allowed.prepare(np.array(b, np.int32))
    plain.prepare(np.array([], np.int32))
    assert allowed.mask().tolist() == plain.mask().tolist()
    for one in (allowed, plain):
        assert not one.accept(a[0])
        one.prepare(np.array([], np.int32))
    assert allowed.mask().tolist() == plain.mask().tolist()
    allowed.accept(b[0])
    allowed.prepare(np.array(b, np.int32))
    allowed.mask()
    allowed.accept(b[0])
    with pytest.raises(ValueError, match="no way on"):
        allowed.mask()


def test_reading_a_form_holds_up_nobody_but_who_wants_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    grammars = Grammars(model.tokenizer, model.config)
    known, slow = SamplingParams(regex="a+"), SamplingParams(regex="b+")
    grammars.constraint(known)
    made, begun, go_on, n_made = grammars._made, threading.Event(), threading.Event(), []

    def waits(*args: Any) -> Any:
        n_made.append(args)
        begun.set()
        assert go_on.wait(60)
        return made(*args)

    monkeypatch.setattr(grammars, "_made", waits)
    with ThreadPoolExecutor() as pool:
        first, second = pool.submit(grammars.constraint, slow), pool.submit(grammars.constraint, slow)
        assert begun.wait(60)
        assert grammars.constraint(known) is not None  # though another is being read
        assert not first.done()
        assert not second.done()
        go_on.set()
        found = [first.result(), second.result()]
    assert len(n_made) == 1
    assert found[0] is not None
    assert found[0].start is found[1].start
    with pytest.raises(ValueError, match="regex is refused"):
        grammars.constraint(SamplingParams(regex="("))
    assert ("regex", "(") not in grammars._starts


def test_without_a_tokenizer_there_is_no_form(model: Model) -> None:
    bare = Model.from_tensors(model.config, tensors_of(model))
    with pytest.raises(TokenizerError, match=r"^regex needs a tokenizer"):
        bare.generate([1, 2], regex="a")


def tensors_of(model: Model) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in model.config.tensor_shapes().items()}


def test_without_llguidance_the_extra_is_named(gpt2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ValueError, match=r'^choices needs llguidance: pip install "pygpt-cpu\[structured\]"$'):
        Model.load(gpt2_folder).generate(PROMPT, choices=["a"])


def test_a_cancelled_one_ends_with_the_others_going_on(model: Model) -> None:
    cancel = CancelToken()
    stream = model.stream(PROMPT, regex="a*", temperature=0, cancel=cancel, max_tokens=20)
    next(stream)
    cancel.cancel()
    assert [piece.finish_reason for piece in stream] == ["cancelled"]
