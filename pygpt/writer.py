"""`Writer`: the part of `pygpt.Model` that writes text. It continues prompts and answers conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from pygpt import _core, generation
from pygpt.config import ModelConfig
from pygpt.errors import TokenizerError
from pygpt.generation import (
    CancelToken,
    ChatOptions,
    Completion,
    GenerateOptions,
    Layout,
    Message,
    Progress,
    Prompt,
    Request,
    SamplingParams,
    Session,
    Speculate,
    Speculator,
    Stream,
    Turn,
)
from pygpt.tokenizer import FILES, Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

_AnyPrompt = TypeVar("_AnyPrompt", bound=Prompt)
_Several: TypeAlias = Literal[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]  # type checkers know no "int > 1"


class Writer:
    """See `pygpt.Model`."""

    def __init__(
        self, engine: _core.Engine, config: ModelConfig, source: str | None, tokenizer: Tokenizer | None
    ) -> None:
        self._engine = engine
        self._config = config
        self._source = source
        self._tokenizer = tokenizer
        self._grammars = generation.Grammars(tokenizer, config)

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back. TokenizerError where the checkpoint has none: see `has_tokenizer`."""
        if self._tokenizer is None:
            if self._source is None:
                raise TokenizerError("this model was made from tensors and no tokenizer")
            raise TokenizerError(
                f"{self._source} has no tokenizer: looked for {FILES[0]}, {FILES[1]} and {FILES[2]}, and {FILES[3]}"
            )
        return self._tokenizer

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model reads text, or token ids alone."""
        return self._tokenizer is not None

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint says how a conversation is laid out, because the model was trained to answer."""
        return self._tokenizer is not None and bool(self._tokenizer.chat_templates)

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        n: Literal[1] = 1,
        params: None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        n: Literal[1],
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        n: _Several,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion]: ...

    @overload
    def generate(
        self,
        prompt: list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        n: int = 1,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion]: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        n: int = 1,  # of `params`, where it is not given here
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion | list[Completion]: ...

    @generation.takes_options
    def generate(
        self,
        prompt: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        speculate: Speculate | None = None,
        draft: Writer | None = None,
        prefix: Session | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion | list[Completion]:
        """Continue a prompt, or each of a list of prompts.

        One prompt with n = 1 gives a `Completion`; n > 1 gives a list of n, and a list of prompts a list of n for each
        prompt, one prompt's after the other's. A prompt must be shorter than the context.

        params: the options as one value; those that are given as well stand in the place of its own. Type checkers do
            not see its n: write n=1 as well, and they know that there is one `Completion`.
        cancel: where its `cancel()` is called from another thread, the result is what there was by then, with
            finish_reason "cancelled".
        speculate, draft: two ways to compute several tokens in a step, which give the same ones, only sooner. They are
            proposed by "prompt", as what followed the last ones where they stood before: good where a text repeats its
            prompt or itself; or by a smaller model, which must have the same vocabulary. `Stream.speculation` counts.
        prefix: a session. What it holds of a prompt's beginning is not read again; it stays as it is.
        progress: called with (completions that are finished, of how many) whenever one is.
        """
        options |= {"speculate": speculate, "draft": draft, "prefix": prefix}
        done = self.stream(prompt, params=params, cancel=cancel, **options).collect(progress)
        return generation.one_or_all(done, generation.is_several(prompt))

    @generation.takes_options
    def stream(
        self,
        prompt: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...],
        *,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        speculate: Speculate | None = None,
        draft: Writer | None = None,
        prefix: Session | None = None,
        **options: Any,
    ) -> Stream:
        """As `generate`, but each piece as soon as there is one; where there are several sequences, `piece.index` says
        whose it is."""
        resolved = generation.resolve(params, options)
        requests = self._requests(self._read(prompt), resolved, cancel, prefix=prefix)
        return generation.start(self._parts, requests, self._speculator(speculate, draft))

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
    ) -> str:
        """The text of a conversation as the model was trained to read it, by its checkpoint's chat template: what
        transformers' `apply_chat_template` gives. ``model.tokenizer.encode(text, allow_special=True,
        add_special=False)`` gives its ids.

        messages: tables with a "role" and a "content", as in OpenAI's and Hugging Face's APIs; further keys that the
            template knows, such as "tool_calls" and "reasoning".
        tools: functions that the model may ask for, each as a JSON schema; documents: texts that it may quote. A
            template that does not know them leaves them out.
        template: the name of one of several templates; None: "tool_use" with tools, where there is one, else
            "default". Or a Jinja template to use instead.
        variables: values for the template's own options, such as {"enable_thinking": False}.
        add_generation_prompt: end with the beginning of an answer; None: unless the last message is to be continued.
        continue_final_message: end within the last message, to let the model go on with it.

        TokenizerError: no template, or one that fails, with its line; ValueError and TypeError: messages that are not
        as described, or that the template refuses.
        """
        return self.tokenizer.render(
            messages,
            tools=tools,
            documents=documents,
            template=template,
            variables=variables,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        n: Literal[1] = 1,
        params: None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[ChatOptions],
    ) -> Completion: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        n: Literal[1],
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[ChatOptions],
    ) -> Completion: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        n: _Several,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[Completion]: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,  # of `params`, where it is not given here
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[ChatOptions],
    ) -> Completion | list[Completion]: ...

    @generation.takes_chat_options
    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        speculate: Speculate | None = None,
        draft: Writer | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion | list[Completion]:
        """Answer a conversation: generate after what `render` makes of the messages, up to the end of the turn.

        n > 1 gives a list of n `Completion`s. Their text is as the model writes it, reasoning and calls of tools
        included; `pygpt.Chat` takes reasoning apart, and does not read a conversation again at each turn. The options
        are those of `render` and `generate`; max_tokens, if neither it nor `params` is given, is None.

        Raises what `render` and `generate` do.
        """
        options |= {"tools": tools, "documents": documents, "template": template, "variables": variables}
        options |= {"params": params, "cancel": cancel, "speculate": speculate, "draft": draft}
        done = self.stream_chat(messages, continue_final_message=continue_final_message, **options).collect(progress)
        return generation.one_or_all(done)

    @generation.takes_chat_options
    def stream_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        params: SamplingParams | None = None,
        cancel: CancelToken | None = None,
        speculate: Speculate | None = None,
        draft: Writer | None = None,
        **options: Any,
    ) -> Stream:
        """As `chat`, but each piece as soon as there is one; where n > 1, `piece.index` says which answer's it is."""
        layout = Layout(
            tools=tools,
            documents=documents,
            template=template,
            variables=variables,
            continue_final_message=continue_final_message,
        )
        resolved = generation.resolve(params, options, generation.CHAT)
        _, requests = self._answers(messages, layout, resolved, cancel=cancel)
        return generation.start(self._parts, requests, self._speculator(speculate, draft))

    def _read(self, prompts: object) -> dict[str, NDArray[np.int32]]:
        return generation.read_prompts(prompts, self._encode, self._config.n_vocab)

    def _requests(
        self, prompts: Mapping[str, NDArray[np.int32]], params: SamplingParams, cancel: CancelToken | None, **more: Any
    ) -> list[Request]:
        """Requests to continue prompts' tokens; more as of `generation.make_requests`."""
        if params.stop and self._tokenizer is None:
            raise TokenizerError(f"stop strings need a tokenizer, and {self._source or 'this model'} has none")
        constraint = self._grammars.constraint(params, more.get("turn"))
        return generation.make_requests(self._config, prompts, params, cancel, constraint=constraint, **more)

    def _answers(
        self, messages: Sequence[Message], layout: Layout, params: SamplingParams, **more: Any
    ) -> tuple[Turn, list[Request]]:
        """How a conversation is laid out, and the request to answer it; more as of `_requests`."""
        turn = generation.read_turn(self.tokenizer, self._config, messages, layout)
        return turn, self._requests({"the conversation": turn.tokens}, params, turn=turn, **more)

    def _speculator(
        self, speculate: Speculate | None, draft: Writer | None, *, keeps: bool = False
    ) -> Speculator | None:
        if draft is not None and not isinstance(draft, Writer):
            raise TypeError(f"draft must be a Model or None, not {type(draft).__name__}")
        return generation.speculator(self._parts, speculate, None if draft is None else draft._parts, keeps=keeps)

    @property
    def _parts(self) -> generation.Parts:
        return generation.Parts(self._engine, self._config, self._tokenizer)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)
