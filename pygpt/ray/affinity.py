"""Which requests belong together, because what one of them was answered from is the beginning of the next."""

from __future__ import annotations

import hashlib
import json
from itertools import takewhile
from typing import Any

_CHARACTERS, _IDS = 256, 64  # of a plain prompt, which may grow at its end


def conversation_of(body: bytes) -> str:
    """A name for the conversation that a request goes on with: equal for all its turns, whose beginning is the same up
    to the first words of the user. The client may give it as `prompt_cache_key`, as in OpenAI's API. Empty where a
    request is part of none.

    Conversations that share no more than a system prompt are told apart: they are spread over all nodes, each of which
    reads that prompt once.
    """
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(table, dict):
        return ""
    beginning = table.get("prompt_cache_key") or _beginning(table)
    if not beginning:
        return ""
    about = [table.get("model"), table.get("instructions"), table.get("tools"), beginning]
    return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()


def _beginning(table: dict[str, Any]) -> Any:
    messages = table.get("messages", table.get("input"))
    if isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages):
        before = list(takewhile(lambda message: message.get("role") != "user", messages))
        return messages[: len(before) + 1]
    prompt = table.get("prompt", table.get("input"))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    return prompt[: _CHARACTERS if isinstance(prompt, str) else _IDS] if isinstance(prompt, (str, list)) else None
