"""The items of a /v1/responses answer as they grow, and the events that tell of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pygpt.server.openai.answers import dump, new_id
from pygpt.server.openai.speech import Called, Part, Said

_DELTAS: Mapping[Part, str] = {"reasoning": "response.reasoning_text.delta", "content": "response.output_text.delta"}


class EventWriter:
    """Numbers the events of a stream and writes them."""

    def __init__(self) -> None:
        self._n = 0

    def write(self, kind: str, body: Mapping[str, Any]) -> bytes:
        """An event."""
        return self._event(kind, dump(body)[1:-1])

    def delta(self, kind: str, rest: str, text: str) -> bytes:
        """One of the many: `rest` is all but its number and its text, as JSON without braces."""
        return self._event(kind, f'{rest},"delta":{json.dumps(text)}')

    def _event(self, kind: str, body: str) -> bytes:
        number, self._n = self._n, self._n + 1
        return f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":{number},{body}}}\n\n'.encode()


class OutputItems:
    """What the "output" of a response holds: reasoning, a message, calls of functions. One item after the other is
    open; `take` and `close` give the events that tell of it."""

    def __init__(self, events: EventWriter) -> None:
        self.done: list[dict[str, Any]] = []
        self._events = events
        self._part: Part | None = None  # of the open item
        self._id = ""
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []  # of the tokens of the open item
        self._new: list[dict[str, Any]] = []  # of those whose text has not come
        self._rest = ""  # of the open item's deltas

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not self.done and self._part is None

    def weigh(self, logprob: dict[str, Any]) -> None:
        """The log-probability of the next token, whose text comes now or later."""
        self._new.append(logprob)

    def take(self, said: Said) -> bytes:
        """The next text, or a call."""
        if isinstance(said, Called):
            return self.close("completed") + self._call(said)
        out = b"" if said.part == self._part else self.close("completed") + self._open(said.part)
        self._texts.append(said.text)
        new, self._new = self._new, []
        if said.part == "reasoning" or not new:
            return out + self._events.delta(_DELTAS[said.part], self._rest, said.text)
        self._logprobs += new
        place = {**self._place, "content_index": 0, "delta": said.text, "logprobs": new}
        return out + self._events.write(_DELTAS["content"], place)

    def close(self, status: str) -> bytes:
        """The end of the open item, if there is one: "completed", or "incomplete" where it was cut short."""
        if self._part is None:
            return b""
        text = "".join(self._texts)
        self._logprobs += self._new if self._part == "content" else ()
        place = {**self._place, "content_index": 0}
        item = self._item(status, [self._content(text)])
        if self._part == "reasoning":
            out = self._events.write("response.reasoning_text.done", {**place, "text": text})
        else:
            done = {**place, "text": text, "logprobs": self._logprobs}
            out = self._events.write("response.output_text.done", done)
            out += self._events.write("response.content_part.done", {**place, "part": self._content(text)})
        out += self._events.write("response.output_item.done", {"output_index": len(self.done), "item": item})
        self.done.append(item)
        self._part = None
        return out

    def _call(self, call: Called) -> bytes:
        item = {"id": new_id("fc_"), "type": "function_call", "call_id": call.id, "name": call.name}
        place = {"output_index": len(self.done)}
        begun = {**item, "arguments": "", "status": "in_progress"}
        done = {**item, "arguments": call.arguments, "status": "completed"}
        of_item = {"item_id": item["id"], **place}
        kind = "response.function_call_arguments"
        self.done.append(done)
        return b"".join(
            (
                self._events.write("response.output_item.added", {**place, "item": begun}),
                self._events.write(f"{kind}.delta", {**of_item, "delta": call.arguments}),
                self._events.write(f"{kind}.done", {**of_item, "name": call.name, "arguments": call.arguments}),
                self._events.write("response.output_item.done", {**place, "item": done}),
            )
        )

    def _open(self, part: Part) -> bytes:
        self._part, self._texts, self._logprobs = part, [], []
        self._id = new_id("rs_" if part == "reasoning" else "msg_")
        place = {**self._place, "content_index": 0}
        self._rest = dump(place if part == "reasoning" else {**place, "logprobs": []})[1:-1]
        added = {"output_index": len(self.done), "item": self._item("in_progress", [])}
        out = self._events.write("response.output_item.added", added)
        if part == "content":
            out += self._events.write("response.content_part.added", {**place, "part": self._content("")})
        return out

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": len(self.done)}

    def _content(self, text: str) -> dict[str, Any]:
        if self._part == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs}

    def _item(self, status: str, content: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if self._part == "reasoning":
            return {"id": self._id, "type": "reasoning", "summary": [], "content": content, "status": status}
        return {"id": self._id, "type": "message", "role": "assistant", "content": content, "status": status}
