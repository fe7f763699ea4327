"""How much sooner text comes with speculation, and how much is lost where it guesses nothing.

    python bench/speculate.py smollm2 --threads 2
    python bench/speculate.py BIG.gguf --draft SMALL.gguf --texts rename

Answers to two requests: to rewrite code with a name changed, which repeats the prompt, and to make up a story, which
repeats little. Each with and without speculation in turn, after a first answer of both that must have equal tokens.
Tokens a second after the first token, medians; the ratio is the median of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from machine import Others, machine

import pygpt

CODE = Path(__file__).with_name("machine.py").read_text(encoding="utf-8")
TEXTS = {
    "rename": f"Rewrite this code with every `stolen` renamed to `taken`. Answer with the code alone.\n\n{CODE}",
    "story": "Make up a story about a lighthouse keeper who finds a letter in a bottle.",
}


def write(model: pygpt.Model, text: str, options: dict[str, Any]) -> tuple[float, list[int | None], pygpt.Speculation]:
    """Tokens a second after the first, the tokens, and how well they were guessed."""
    stream = model.stream_chat([{"role": "user", "content": text}], **options)
    tokens = [next(stream).token]
    begin = time.perf_counter()
    tokens += [piece.token for piece in stream]
    return (len(tokens) - 1) / (time.perf_counter() - begin), tokens, stream.speculation


def compare(model: pygpt.Model, text: str, options: dict[str, Any], how: dict[str, Any], rounds: int) -> dict[str, Any]:
    _, tokens, _ = write(model, text, options)
    _, same, counts = write(model, text, {**options, **how})
    if same != tokens:
        raise SystemExit("the tokens differ")
    pairs = [(write(model, text, options)[0], write(model, text, {**options, **how})[0]) for _ in range(rounds)]
    return {
        "tokens": len(tokens),
        "without": statistics.median(a for a, _ in pairs),
        "with": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "accepted of proposed": f"{counts.n_accepted} of {counts.n_proposed}",
        "tokens a step": counts.n_tokens / counts.n_steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model with a chat template")
    parser.add_argument("--draft", help="propose by this model instead of the prompt")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 0.8])
    arguments = parser.parse_args()
    model = pygpt.Model.load(arguments.model, threads=arguments.threads)
    how: dict[str, Any] = {"speculate": "prompt"}
    if arguments.draft is not None:
        how = {"draft": pygpt.Model.load(arguments.draft, threads=arguments.threads)}
    others = Others(os.getpid())
    for text in arguments.texts:
        for temperature in arguments.temperatures:
            options = {"temperature": temperature, "seed": 1, "max_tokens": arguments.tokens}
            result = compare(model, TEXTS[text], options, how, arguments.rounds)
            print(json.dumps({"text": text, "temperature": temperature, **result}), flush=True)
    print(json.dumps({**others.shares(), "machine": machine()}))


if __name__ == "__main__":
    main()
