"""The surface: what is exported, what help() and repr() say, and what pickling advises."""

import copy
import dataclasses
import inspect
import pickle
import pydoc
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import pygpt
from pygpt import CancelToken, Classification, Completion, Model, Piece, SamplingParams, TokenLogprob
from pygpt.fields import field_help


def test_everything_exported_is_documented() -> None:
    undocumented = []
    for name in pygpt.__all__:
        value = getattr(pygpt, name)
        if name == "__version__":
            continue
        doc = value.__doc__ or ""
        if not doc or doc.startswith(f"{name}("):  # what a dataclass without one gets
            undocumented.append(name)
        if isinstance(value, type):
            kinds = (types.FunctionType, classmethod, staticmethod, property)
            own = {n: v for n, v in vars(value).items() if not n.startswith("_") and isinstance(v, kinds)}
            undocumented += [f"{name}.{n}" for n, v in own.items() if not inspect.getdoc(v)]
    assert undocumented == []


@pytest.mark.parametrize("cls", [SamplingParams, Completion, Piece, TokenLogprob, Classification])
def test_help_says_what_each_field_means(cls: type) -> None:
    text = pydoc.plain(pydoc.render_doc(cls))
    helps = field_help(cls)
    assert helps.keys() == {f.name for f in dataclasses.fields(cls)}
    for name, sentence in helps.items():
        assert re.search(rf"\b{name}: {re.escape(sentence[:40])}", text), name


@pytest.mark.parametrize("method", [Model.generate, Model.stream])
def test_help_says_what_each_option_means(method: Callable[..., object]) -> None:
    text = pydoc.plain(pydoc.render_doc(method))
    for name, sentence in field_help(SamplingParams).items():
        assert f"{name}: {sentence}" in text


def test_objects_say_what_they_are(model: Model) -> None:
    session, stream = model.session(), model.stream("a", n=2, max_tokens=1)
    session.append([1, 2])
    assert repr(model).endswith(f": {model.config.n_params()} parameters, int8, {model.isa}>")
    assert repr(session) == "<pygpt.Session: 2 of 64 tokens>"
    assert repr(stream) == "<pygpt.Stream: 2 of 2 sequences unfinished>"
    stream.collect()
    assert repr(stream) == "<pygpt.Stream: 0 of 2 sequences unfinished>"
    token = CancelToken()
    assert repr(token) == "<pygpt.CancelToken: not cancelled>"
    token.cancel()
    assert repr(token) == "<pygpt.CancelToken: cancelled>"


def test_pickling_says_how_to_do_it_instead(gpt2_folder: Path, model: Model) -> None:
    for value, advice in (
        (model, f"Model.load({str(gpt2_folder)!r})"),
        (model.session(), "fork()"),
        (model.stream("a"), "send its pieces"),
        (CancelToken(), "make one where the model computes"),
    ):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=re.escape(advice)):
                attempt(value)
    done = model.generate("a", max_tokens=3, logprobs=1)
    assert pickle.loads(pickle.dumps(done)) == done


def test_exports_are_exact() -> None:
    """What pygpt has, beside modules and what it imports for itself, is exported; what is exported is there."""
    own = {n for n, v in vars(pygpt).items() if not n.startswith("_") and not isinstance(v, types.ModuleType)}
    assert own - {"TYPE_CHECKING"} <= set(pygpt.__all__)
    assert [name for name in pygpt.__all__ if getattr(pygpt, name, None) is None] == []
    assert pygpt.__all__ == sorted(set(pygpt.__all__))


def test_names_are_listed_before_they_are_used(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import pygpt; print(*dir(pygpt))"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    assert {*pygpt.__all__} <= {*done.stdout.decode().split()}
