"""Make goldens.json with transformers' `apply_chat_template`, the original of what pygpt's templates must reproduce.

    python tests/make_template_goldens.py [FOLDER]

Run once; the tests need neither this script nor transformers. FOLDER (tests/data/templates by default) holds templates
(*.jinja) and folders of tokenizers (tokenizer.json, tokenizer_config.json); its goldens.json gets the SHA-256 of what
each of them makes of each conversation, or null where transformers raises: of the text, and where there is a tokenizer
of the ids after it. To compare with templates whose licences
keep them out of this repository, make the goldens of a folder of them and run

    PYGPT_TEMPLATES=FOLDER pytest tests/tokenizer/test_template_goldens.py
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

NOW = "2025-03-04T05:06:07"  # what the clock shows
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}  # of a template without a tokenizer

SYSTEM = {"role": "system", "content": "You are terse.\n"}
ASK = {"role": "user", "content": " What is 2 + 2? "}
ANSWER = {"role": "assistant", "content": "4.\n\n"}
ODD = {"role": "user", "content": "naïve <b>&amp;</b> \"quotes\" 'single' {{ braces }} 日本語 🙂\n\ttab \\ <|im_end|>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather in a town, "now" — or later <today>.',
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "Its name."},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "days": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["town"],
        },
    },
}
ARGUMENTS = {"town": "Zürich", "unit": "C", "days": [1, 2]}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "abc123xyz", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "abc123xyz", "name": "get_weather", "content": '{"sky": "grey", "t": 7.5}'}
THOUGHT = {"role": "assistant", "content": "Seven.", "reasoning": "They ask again.\nThree and four."}
TAGGED = {"role": "assistant", "content": "<think>\nHm, 3 + 4.\n</think>\n\nSeven."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}
AGAIN = {"role": "user", "content": "And 3 + 4?"}
DOCUMENT = {"title": "Sums", "text": "2 + 2 = 4 <sic>", "doc_id": 1}

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one question": {"messages": [ASK]},
    "without a prompt for the answer": {"messages": [ASK, ANSWER], "add_generation_prompt": False},
    "with a system message": {"messages": [SYSTEM, ASK]},
    "a system message alone": {"messages": [SYSTEM]},
    "several turns": {"messages": [SYSTEM, ASK, ANSWER, AGAIN, THOUGHT, ODD]},
    "two users in a row": {"messages": [ASK, AGAIN]},
    "an answer first": {"messages": [ANSWER, ASK]},
    "an unknown role": {"messages": [{"role": "narrator", "content": "Night."}, ASK]},
    "thoughts": {"messages": [ASK, THOUGHT, AGAIN, TAGGED, ASK]},
    "thoughts at the end": {"messages": [ASK, THOUGHT], "add_generation_prompt": False},
    "no thoughts wanted": {"messages": [SYSTEM, ASK], "variables": {"enable_thinking": False}},
    "much thought": {"messages": [ASK], "variables": {"reasoning_effort": "high", "thinking": True}},
    "tools": {"messages": [SYSTEM, ASK], "tools": [TOOL]},
    "no tools": {"messages": [ASK], "tools": []},
    "a call of a tool": {"messages": [ASK, CALL, RESULT], "tools": [TOOL, TOOL]},
    "a call and an answer": {"messages": [ASK, CALL, RESULT, ANSWER, AGAIN], "tools": [TOOL]},
    "a call without its tools": {"messages": [ASK, CALL, RESULT]},
    "no content beside a call": {"messages": [ASK, {**CALL, "content": None}, RESULT], "tools": [TOOL]},
    "parts": {"messages": [PARTS]},
    "documents": {"messages": [ASK], "documents": [DOCUMENT, DOCUMENT]},
    "continued": {"messages": [ASK, {"role": "assistant", "content": "It is"}], "continue_final_message": True},
    "continued after a space": {"messages": [ASK, {**ANSWER, "content": "It is "}], "continue_final_message": True},
    "variables": {"messages": [ASK], "variables": {"date_string": "1 May 2001", "bos_token": "<first>"}},
}


class Clock(datetime.datetime):
    """Stands still."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
        return cls.fromisoformat(NOW)


def tokenizer_of(path: Path) -> Any:
    if path.is_dir():
        return AutoTokenizer.from_pretrained(path)
    empty = Tokenizer(models.BPE())
    return PreTrainedTokenizerFast(tokenizer_object=empty, chat_template=path.read_text(encoding="utf-8"), **TOKENS)


def rendered(tokenizer: Any, conversation: dict[str, Any], with_ids: bool) -> str | None:
    """The hash of what transformers makes of it."""
    options = {"add_generation_prompt": not conversation.get("continue_final_message"), **conversation}
    messages, variables = options.pop("messages"), options.pop("variables", {})
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options, **variables)
    except Exception as error:
        print(f"    {type(error).__name__}: {error!s:.100}")
        return None
    if with_ids:
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options, **variables)
        text += json.dumps(ids)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "data" / "templates"
    chat_template_utils.datetime = Clock
    goldens: dict[str, dict[str, str | None]] = {}
    for path in sorted([*folder.glob("*.jinja"), *(p.parent for p in folder.glob("*/tokenizer_config.json"))]):
        print(path.name)
        tokenizer = tokenizer_of(path)
        if tokenizer.chat_template is not None:
            goldens[path.name] = {name: rendered(tokenizer, c, path.is_dir()) for name, c in CONVERSATIONS.items()}
    table = {"now": NOW, "tokens": TOKENS, "conversations": CONVERSATIONS, "goldens": goldens}
    (folder / "goldens.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
