"""`prefix=`: what a session holds of a prompt is not read again, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from pygpt import Model, Session, _core


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each computation of the engine was given."""
    counts: list[int] = []
    forward = _core.Engine.forward

    def counted(self: _core.Engine, batch: list[tuple[_core.Session, np.ndarray]], **options: object) -> object:
        counts.append(sum(len(tokens) for _, tokens in batch))
        return forward(self, batch, **options)

    monkeypatch.setattr(_core.Engine, "forward", counted)
    return counts


def test_what_prompts_share_with_a_session_is_not_read_again(model: Model, read: list[int]) -> None:
    start = list(range(1, 31))
    prompts = [[*start, 40, 41], [*start, 50], start, start[:10], [60, *start], [*start[:20], 70]]
    options = {"max_tokens": 3, "seed": 1, "n": 2}
    expected = [model.generate(prompt, **options) for prompt in prompts]
    together = model.generate(prompts, **options)
    session = model.session()
    session.append(start)
    del read[:]
    assert [model.generate(prompt, prefix=session, **options) for prompt in prompts] == expected
    assert [read[i] for i in range(0, len(read), 3)] == [2, 1, 1, 1, 31, 1]
    del read[:]
    assert model.generate(prompts, prefix=session, **options) == together
    assert read[0] == 37
    assert model.stream(prompts[0], prefix=session, **options).collect() == expected[0]
    assert model.generate(start, prefix=model.session(), **options) == expected[2]
    assert session.tokens.tolist() == start  # it stays as it is


def test_a_wrong_prefix(model: Model) -> None:
    with pytest.raises(TypeError, match="prefix must be of type Session or None, not list"):
        model.generate("in", prefix=[1, 2])  # type: ignore[call-overload]
    other = Model.load("tiny", threads=1).session()
    assert isinstance(other, Session)
    other.append([5, 6, 7])
    with pytest.raises(ValueError, match="a session belongs to another model"):
        model.generate([5, 6, 7], prefix=other)
