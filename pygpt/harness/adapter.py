"""pygpt as a model of lm-evaluation-harness: `python -m pygpt.harness --model pygpt --model_args pretrained=NAME`.

It answers as the harness's own backend for transformers does: the same tokens, windows and stop strings. Importing this
module registers the name "pygpt". It needs the extra `eval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pygpt.evaluation import rolling
from pygpt.harness.write import write
from pygpt.likelihood import prefix_id
from pygpt.model import Model

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'lm-evaluation-harness is needed ({error.name}): pip install "pygpt-cpu[eval]"', name=error.name
    ) from None

_MAX_TOKENS = 256  # of an answer, where a task says nothing: the harness's own number
_MAX_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first of these counts
_KNOWN = {"until", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", *_MAX_NAMES}


@register_model("pygpt")
class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A `pygpt.Model` as the harness calls it."""

    def __init__(
        self,
        pretrained: str | Model,
        weights: str | None = None,
        kv: str | None = None,
        threads: int | None = None,
        isa: str | None = None,
        max_length: int | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        """`pretrained` is what `Model.load` takes, or a model; then its options, `max_length` for its n_ctx. What the
        harness passes on beside them, whether asked or not, has no meaning here: batches are as large as they may be,
        and the device is this processor.
        ValueError: an option that is none."""
        super().__init__()
        if unknown:
            known = "pretrained, weights, kv, threads, isa, max_length"
            raise ValueError(f"model_args: unknown {', '.join(sorted(unknown))}; there are {known}")
        if isinstance(pretrained, Model):
            self._model = pretrained
        else:
            options: Any = {"weights": weights, "kv": kv, "threads": threads, "isa": isa, "n_ctx": max_length}
            self._model = Model.load(pretrained, **options)
        self._name = pretrained if isinstance(pretrained, str) else repr(pretrained)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        tokenizer_id = self._model.tokenizer.eos_id
        found = tokenizer_id if tokenizer_id is not None else next(iter(self._model.config.eos_ids), None)
        if found is None:
            raise ValueError(f"{self._name} has no token that ends a text")
        return found

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        found = prefix_id(self._model.tokenizer, self._model.config)
        return self.eot_token_id if found is None else found

    @property
    def max_length(self) -> int:
        """The context in tokens."""
        return self._model.config.n_ctx

    @property
    def tokenizer_name(self) -> str:
        """By which the harness keeps requests apart that it wrote for other models."""
        return self._model.tokenizer.fingerprint.hex()

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that `apply_chat_template` uses, which the harness writes into its results."""
        if chat_template is False or not self._model.has_chat_template:
            return ""
        return self._model.tokenizer.chat_template(chat_template if isinstance(chat_template, str) else None)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation."""
        return self._model.render(
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **unused: object) -> list[int]:
        """The ids of a text; what the checkpoint puts before texts is put there unless it is there."""
        tokenizer = self._model.tokenizer
        if add_special_tokens is None:
            add_special_tokens = not _begins_with(string, tokenizer.decode([self.prefix_token_id]))
        return tokenizer.encode(string, allow_special=True, add_special=add_special_tokens)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        **unused: object,
    ) -> list[tuple[float, bool]]:
        for texts, context, continuation in requests:
            if not context or not continuation:
                what = "context" if not context else "continuation"
                raise ValueError(f"loglikelihood: a {what} has no tokens: {texts!r:.200}")
        with _Bar("loglikelihood", disable_tqdm) as bar:
            found = self._model.loglikelihood([(c, e) for _, c, e in requests], progress=bar)
        answers = [(f.logprob, f.is_greedy) for f in found]
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole texts. ValueError: one is empty."""
        texts = [request.args[0] for request in requests]
        for number, text in enumerate(texts):
            if not text:
                raise ValueError(
                    f"loglikelihood_rolling: document {number} is empty, and an empty text has no likelihood"
                )
        read = [np.array(self.tok_encode(text), np.int32) for text in texts]
        with _Bar("loglikelihood_rolling", disable_tqdm) as bar:
            found = rolling(self._model._engine, self.max_length, read, self.prefix_token_id, bar)
        for text, logprob in zip(texts, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), logprob)
        return found

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each context up to one of the strings `until`, the end of the text, or as many
        tokens as the task allows. Requests with equal options run together."""
        written = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(i)
        with _Bar("generate_until", disable_tqdm) as bar:
            for numbers in groups.values():
                options = _options(requests[numbers[0]].args[1])
                bar.begin(len(requests))
                prompts = [self.tok_encode(requests[i].args[0]) for i in numbers]
                texts = write(self._model, prompts, options, bar)
                for i, text in zip(numbers, texts, strict=True):
                    written[i] = text
                    self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return written


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """A task's `generation_kwargs` as options of `Model.generate`. ValueError names one that pygpt does not have."""
    unknown = given.keys() - _KNOWN
    if unknown:
        raise ValueError(
            f"generation_kwargs: pygpt does not know {', '.join(sorted(unknown))}; it knows {', '.join(sorted(_KNOWN))}"
        )
    until = given.get("until") or []
    options: dict[str, Any] = {
        "stop": [text for text in ([until] if isinstance(until, str) else until) if text],
        "max_tokens": int(next((given[name] for name in _MAX_NAMES if given.get(name) is not None), _MAX_TOKENS)),
        "temperature": 0.0 if given.get("do_sample") is False else float(given.get("temperature") or 0.0),
        "seed": 0,
    }
    if options["temperature"] > 0:
        options |= {name: given[name] for name in ("top_k", "top_p", "min_p") if given.get(name) is not None}
    if given.get("repetition_penalty") is not None:
        options["repetition_penalty"] = float(given["repetition_penalty"])
    return options


def _begins_with(text: str, mark: str) -> bool:
    return bool(mark) and text.startswith(mark)


class _Bar:
    """The harness's bar, which takes pygpt's calls of progress."""

    def __init__(self, label: str, is_off: bool) -> None:
        self._bar = tqdm(desc=label, disable=is_off, total=0)
        self._before = 0

    def begin(self, total: int) -> None:
        """Another group of so many in all begins."""
        self._bar.total, self._before = total, self._bar.n

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = max(self._bar.total or 0, total)
        self._bar.update(self._before + done - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
