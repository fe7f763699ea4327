"""Does a model hold on to what was said? Short conversations whose last answer must fit what came before.

    python examples/tasks/dialogue.py --model smollm2

dialogues.json was written for this example: facts to be remembered over other turns, corrections, instructions that
hold for the rest of the conversation, references to things named before, and questions asked twice. An answer is right
if one of the expected words is in it and none that must not be. Beside it stands the same question without the turns
before it, which shows how much of the result is luck.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pygpt
from pygpt.metrics import accuracy


def is_right(answer: str, dialogue: dict[str, Any]) -> bool:
    """Whole words, in any case."""

    def has(word: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) is not None

    return any(map(has, dialogue["expect"])) and not any(map(has, dialogue.get("never", [])))


def held(model: pygpt.Model, turns: list[str], max_tokens: int) -> list[str]:
    """The answers to all turns of one conversation."""
    chat = pygpt.Chat(model, max_tokens=max_tokens, temperature=0.0)
    return [chat.send(turn).text for turn in turns]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="one with a chat template")
    parser.add_argument("--dialogues", type=Path, default=Path(__file__).with_name("dialogues.json"))
    parser.add_argument("--max-tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--show", action="store_true", help="print the conversations")
    a = parser.parse_args(argv)
    model = pygpt.Model.load(a.model, threads=a.threads)
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for dialogue in json.loads(a.dialogues.read_text(encoding="utf-8")):
        turns = dialogue["turns"]
        answers = held(model, turns, a.max_tokens)
        alone = held(model, turns[-1:], a.max_tokens)[0]
        hits.setdefault(dialogue["kind"], []).append((is_right(answers[-1], dialogue), is_right(alone, dialogue)))
        if a.show:
            for turn, answer in zip(turns, answers, strict=True):
                print(f"> {turn}\n{answer}")
            print(f"[alone] {alone}\n[{'right' if hits[dialogue['kind']][-1][0] else 'wrong'}]\n")
    print("| | right | right without the turns before | n |\n| --- | --- | --- | --- |")
    everything = [pair for pairs in hits.values() for pair in pairs]
    for kind, pairs in (*hits.items(), ("all", everything)):
        cells = []
        for results in zip(*pairs, strict=True):
            share = accuracy(results)
            cells.append(f"{100 * share.value:.0f}% ({100 * share.low:.0f} to {100 * share.high:.0f})")
        print(f"| {kind} | {' | '.join(cells)} | {len(pairs)} |")


if __name__ == "__main__":
    main()
