"""What a `Chat` gives back: the sections of an answer as they come, the whole answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from pygpt.fields import doc, documented
from pygpt.generation import FinishReason, Piece, Section, Speculation, Splitter, Stream, TokenLogprob, Turn
from pygpt.tool_calls import ToolCall


@documented
@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a `Chat`."""

    text: str = field(metadata=doc("The answer, without reasoning and calls of tools."))
    reasoning: str | None = field(metadata=doc("What the model thought before it.", none="nothing"))
    tool_calls: tuple[ToolCall, ...] = field(
        metadata=doc("What it asks to be done, where the conversation has tools, as the model's template writes calls.")
    )
    finish_reason: FinishReason = field(metadata=doc("As a `Completion`'s."))
    tokens: tuple[int, ...] = field(metadata=doc("Every new token, those of the reasoning and of marks included."))
    logprobs: tuple[TokenLogprob, ...] | None = field(
        metadata=doc("One for each of `tokens`, if asked for.", none="not asked for")
    )
    seed: int = field(metadata=doc("The seed that was used, as a `Completion`'s."))
    n_prompt: int = field(metadata=doc("How many tokens the conversation had before the answer."))
    n_read: int = field(metadata=doc("How many of those were read for this turn: the others were in the cache."))


class ReplyStream:
    """An iterator over the `Section`s of an answer, as they come: a part, "reasoning" or "answer", and its next text.

    It belongs to one thread, `cancel()` to all. Ctrl-C raises KeyboardInterrupt from the iteration; what was said by
    then stays in the conversation.
    """

    def __init__(
        self,
        stream: Stream,
        turn: Turn,
        n_read: int,
        on_token: Callable[[int], object],
        on_end: Callable[[Reply], object],
    ) -> None:
        """Private: use `Chat.stream`."""
        self._stream, self._turn, self._n_read = stream, turn, n_read
        self._on_token, self._on_end = on_token, on_end
        self._splitter = Splitter(turn.marks, turn.text)
        self._calls = turn.call_splitter()
        self._tool_calls: list[ToolCall] = []
        self._waiting: deque[Section] = deque()
        self._texts: dict[str, list[str]] = {"reasoning": [], "answer": []}
        self._pieces: list[Piece] = []
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply | None:
        """The whole answer; None until it has come to its end."""
        return self._reply

    @property
    def n_read(self) -> int:
        """How many tokens of the conversation are read for this turn."""
        return self._n_read

    @property
    def speculation(self) -> Speculation:
        """How many tokens were proposed and accepted so far."""
        return self._stream.speculation

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> Section:
        while not self._waiting:
            if self._reply is not None:
                raise StopIteration
            try:
                piece = next(self._stream)
            except BaseException:
                self.close()
                raise
            self._take(piece)
        return self._waiting.popleft()

    def cancel(self) -> None:
        """End the answer from any thread; what was said stays in the conversation."""
        self._stream.cancel()

    def close(self) -> None:
        """End the answer here, unless it has come to its end."""
        if self._reply is None:
            self._end("cancelled")

    def finish(self) -> Reply:
        """Read what is left, and return the whole answer."""
        while self._reply is None:
            next(self, None)
        return self._reply

    def _take(self, piece: Piece) -> None:
        if piece.token is not None:
            self._pieces.append(piece)
            self._on_token(piece.token)
        self._hear(*self._splitter.feed(piece.text))
        if piece.finish_reason is not None:
            self._end(piece.finish_reason)

    def _end(self, reason: FinishReason) -> None:
        self._hear(*self._splitter.finish())
        if self._calls is not None:
            self._say(self._calls.finish())
        logprobs = tuple(piece.logprob for piece in self._pieces if piece.logprob is not None)
        self._reply = Reply(
            text="".join(self._texts["answer"]),
            reasoning="".join(self._texts["reasoning"]) or None,
            tool_calls=tuple(self._tool_calls),
            finish_reason=reason,
            tokens=tuple(piece.token for piece in self._pieces if piece.token is not None),
            logprobs=logprobs if len(logprobs) == len(self._pieces) > 0 else None,
            seed=self._stream.seed,
            n_prompt=len(self._turn.tokens),
            n_read=self._n_read,
        )
        self._on_end(self._reply)

    def _hear(self, *sections: Section) -> None:
        for section in sections:
            if section.part == "answer" and self._calls is not None:
                self._say(self._calls.feed(section.text))
            else:
                self._add(section)

    def _say(self, parts: Iterable[str | ToolCall]) -> None:
        """Parts of the answer."""
        for part in parts:
            if isinstance(part, str):
                self._add(Section("answer", part))
            else:
                self._tool_calls.append(part)

    def _add(self, section: Section) -> None:
        self._texts[section.part].append(section.text)
        self._waiting.append(section)

    def __repr__(self) -> str:
        return f"<pygpt.ReplyStream, {'unfinished' if self._reply is None else 'finished'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ReplyStream computes in the process that made it and cannot be pickled or copied")
