"""Many answers at a time, through the scheduler: what prompts begin with is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pygpt.errors import ContextOverflowError
from pygpt.generation import Progress
from pygpt.model import Model
from pygpt.scheduler import Scheduler


def write(
    model: Model, prompts: Sequence[list[int]], options: Mapping[str, Any], progress: Progress | None
) -> list[str]:
    """What a model writes after each prompt of token ids, without the stop strings; options as of `Model.generate`,
    with max_tokens. A prompt that leaves too little room for an answer loses its beginning.

    ContextOverflowError: max_tokens are as many as the context, or more.
    """
    room = model.config.n_ctx - options["max_tokens"]
    if room < 1:
        raise ContextOverflowError(
            f"answers of max_tokens={options['max_tokens']} leave no room for a prompt in the context of "
            f"{model.config.n_ctx} tokens"
        )
    with Scheduler(model) as scheduler:
        done = scheduler.generate([prompt[-room:] for prompt in prompts], progress=progress, **options)
    assert isinstance(done, list)
    return [completion.text for completion in done]
