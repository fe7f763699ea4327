"""How soon a chat's second turn speaks, beside reading its new tokens alone.

    python bench/chat.py smollm2 --threads 2

A first message of about 1,000 tokens, a short answer, then a second message. Before anything is timed, the second
answer must be that of a model that reads the whole conversation, and the turn must have read its new tokens only. Then,
in turns: the time from `Chat.stream` to the first token, with the layout and the tokens of the whole conversation in
it; and the time of the core alone to read as many tokens in a session that holds the ones before. Medians, and their
ratio; `whole` is the reading of the conversation without a cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import Others, machine

import pygpt

FIRST, SECOND = "word " * 1000, "And what do you make of the last of them?"


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(model: pygpt.Model, runs: int) -> dict[str, float]:
    engine, options = model._engine, {"temperature": 0.0, "max_tokens": 8}
    chat = pygpt.Chat(model, **options)
    chat.send(FIRST)
    with tempfile.TemporaryDirectory() as folder:
        begun = Path(folder) / "chat.json"
        chat.save(begun)
        reply = chat.send(SECOND)
        whole = model.chat(chat.messages[:-1], **options)
        if reply.tokens != whole.tokens:
            raise SystemExit("the second answer differs from that of the whole conversation")
        text = model.render(chat.messages[:-1])
        ids = np.array(model.tokenizer.encode(text, allow_special=True, add_special=False), np.int32)
        times: dict[str, list[float]] = {"turn": [], "new tokens": [], "whole": []}
        for _ in range(runs):
            chat = pygpt.Chat(model, **options)
            chat.send(FIRST)
            held = engine.session()
            engine.forward([(held, ids[: -reply.n_read])], output="none")
            times["turn"].append(seconds(lambda: next(chat.stream(SECOND, max_tokens=1), None)))  # noqa: B023 - called here
            times["new tokens"].append(seconds(lambda: engine.forward([(held, ids[-reply.n_read :])])))  # noqa: B023
            times["whole"].append(seconds(lambda: engine.forward([(engine.session(), ids)])))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "tokens": len(ids),
        "read by the turn": reply.n_read,
        **medians,
        "turn / new tokens": medians["turn"] / medians["new tokens"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model with a chat template")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    model = pygpt.Model.load(arguments.model, threads=arguments.threads, weights=arguments.weights)
    others = Others(os.getpid())
    result = measure(model, arguments.runs)
    print(json.dumps({**result, **others.shares(), "machine": machine()}, indent=1))


if __name__ == "__main__":
    main()
