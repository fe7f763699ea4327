"""`Model`: a loaded checkpoint, ready to read and write text."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt import _core, checkpoint
from pygpt.checkpoint import Weights
from pygpt.classification import Classification, Classifier, Input, classify, read_classifier
from pygpt.config import ModelConfig
from pygpt.engine import KvFormat, check_options, default_kv, new_builder, pack
from pygpt.errors import CheckpointError, ContextOverflowError, TokenizerError
from pygpt.generation import (
    CancelToken,
    Completion,
    SamplingOptions,
    SamplingParams,
    Session,
    Stream,
    as_ids,
    collect,
    decode,
    fresh_seed,
    lists_options,
)
from pygpt.tokenizer import FILES, Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Prompt: TypeAlias = str | Sequence[int] | NDArray[np.integer]


class Model:
    """A language model in memory. Immutable, and usable from any number of threads at once.

    A prompt is text or a flat sequence of token ids, shorter than the context. Wrong arguments raise ValueError or
    TypeError, too many tokens `ContextOverflowError`; text for a model without a tokenizer raises `TokenizerError`.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        engine: _core.Engine,
        weights: Weights,
        kv: KvFormat,
        source: str | None,
        classifier: Classifier | None = None,
    ) -> None:
        """Private: use `Model.load` or `Model.from_tensors`."""
        self._config = config
        self._tokenizer = tokenizer
        self._engine = engine
        self._weights = weights
        self._kv = kv
        self._source = source
        self._classifier = classifier

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        weights: Weights | None = None,
        kv: KvFormat | None = None,
        threads: int | None = None,
        isa: str | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Model:
        """Load a checkpoint and pack its weights for this machine.

        source: a folder of safetensors or one that `save` wrote, a .safetensors or .gguf file, a hub id, or the
            built-in name "tiny".
        weights: the format they are kept and multiplied in: "int8", "bfloat16" or "float32". None: int8, or what
            `save` wrote; another format cannot bring back what rounding took then.
        kv: the format of cached keys and values, "float32" or "float16"; None: as float32 weights, else float16.
        threads: None: the usable physical cores, which affinity and cgroup quota may limit.
        isa: an instruction set by name; None: PYGPT_ISA if it is set, else the best this machine runs.
        progress: called with (parameters packed so far, parameters in all) after each tensor.

        Raises `CheckpointError`, `ConfigError` or `TokenizerError` for files that cannot be used.
        """
        threads, isa = check_options(weights, kv, threads, isa)
        path = checkpoint.locate(source)
        saved = checkpoint.open_saved(path)
        if saved is not None and weights not in (None, saved.weights):
            saved = None  # its tensors are read one by one, and packed anew
        if saved is None:
            config, tensors, tokenizer = checkpoint.read(path)
            weights = weights or "int8"
        else:
            config, tokenizer = saved.config, saved.tokenizer
            weights = saved.weights
        kv = kv or default_kv(weights)
        adopts = saved is not None
        builder = new_builder(config, weights=weights, kv=kv, threads=threads, isa=isa, adopts=adopts)
        if saved is None:
            pack(builder, tensors, config.n_params(), progress)
        else:
            arrays = saved.arrays(builder.packed())
            try:
                builder.adopt(arrays)
            except ValueError as error:
                raise CheckpointError(f"{path}: {error}") from None
            if progress is not None:
                progress(config.n_params(), config.n_params())
        classifier = read_classifier(path, config)
        return cls(config, tokenizer, builder.build(), weights, kv, os.fspath(source), classifier)

    @classmethod
    def from_tensors(
        cls,
        config: ModelConfig,
        tensors: Mapping[str, ArrayLike],
        tokenizer: Tokenizer | None = None,
        *,
        weights: Weights | None = None,
        kv: KvFormat | None = None,
        threads: int | None = None,
        isa: str | None = None,
    ) -> Model:
        """A model of arrays in memory, which it packs as `load` does and keeps no reference to.

        tensors: float32 arrays by the names and with the shapes of ``config.tensor_shapes()``.
        The options are those of `load`; weights=None is int8.

        Raises ValueError for a tensor that is missing, unknown, of another shape, or beyond what int8 can hold.
        """
        threads, isa = check_options(weights, kv, threads, isa)
        weights = weights or "int8"
        kv = kv or default_kv(weights)
        builder = new_builder(config, weights=weights, kv=kv, threads=threads, isa=isa)
        for name, values in tensors.items():
            builder.add(name, np.asarray(values, np.float32), "float32")
        return cls(config, tokenizer, builder.build(), weights, kv, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the packed weights, the configuration, the tokenizer and the classifier to a new or empty folder, which
        `load` maps into memory; on any machine, with equal logits.

        The folder appears when all of it is on the disk, or not at all. Raises `CheckpointError` where it cannot be
        written. A tokenizer that pygpt cannot read is left out.
        """
        extra = None if self._classifier is None else self._classifier.extra()
        checkpoint.save(Path(path), self._config, self._weights, self._engine.tensors(), self._tokenizer, extra)

    @property
    def config(self) -> ModelConfig:
        """The architecture."""
        return self._config

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Text to ids and back; None if the checkpoint has no tokenizer files."""
        return self._tokenizer

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What `classify` tells apart; empty for a choice, whose examples bring their own; None: no classifier."""
        return None if self._classifier is None else self._classifier.labels

    @property
    def weights(self) -> Weights:
        """The format of the packed weights."""
        return self._weights

    @property
    def kv(self) -> KvFormat:
        """The format of cached keys and values."""
        return self._kv

    @property
    def isa(self) -> str:
        """The instruction set whose kernels run."""
        return self._engine.isa

    @property
    def threads(self) -> int:
        """How many threads one computation uses."""
        return self._engine.threads

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weights in bytes."""
        return self._engine.weight_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of the cached keys and values of one token in bytes."""
        return self._engine.kv_bytes_per_token

    def __repr__(self) -> str:
        name = "from tensors" if self._source is None else repr(self._source)
        return f"<pygpt.Model {name}: {self._config.n_params()} parameters, {self._weights}, {self.isa}>"

    @overload
    def generate(
        self,
        prompt: Prompt,
        *,
        n: Literal[1] = 1,
        cancel: CancelToken | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Completion: ...

    @overload
    def generate(
        self, prompt: Prompt, *, n: int, cancel: CancelToken | None = None, **options: Unpack[SamplingOptions]
    ) -> Completion | list[Completion]: ...

    @lists_options
    def generate(
        self, prompt: Prompt, *, n: int = 1, cancel: CancelToken | None = None, **options: Unpack[SamplingOptions]
    ) -> Completion | list[Completion]:
        """Continue the prompt; n > 1 gives a list of n completions.

        The options are the fields of `SamplingParams`: max_tokens, temperature, top_k, top_p, min_p,
        repetition_penalty, stop, seed, logprobs. Where `cancel.cancel()` is called from another thread, the result is
        what there was by then, with finish_reason "cancelled".
        """
        params = SamplingParams(n=n, **options)
        stream = self._stream(prompt, params, cancel)
        done = collect(stream, params, stream.seed)
        return done[0] if params.n == 1 else done

    @lists_options
    def stream(
        self, prompt: Prompt, *, n: int = 1, cancel: CancelToken | None = None, **options: Unpack[SamplingOptions]
    ) -> Stream:
        """As `generate`, but each piece as soon as there is one; with n > 1, `piece.index` says whose it is."""
        return self._stream(prompt, SamplingParams(n=n, **options), cancel)

    def _stream(self, prompt: Prompt, params: SamplingParams, cancel: CancelToken | None) -> Stream:
        tokens = self._ids(prompt)
        if len(tokens) >= self._config.n_ctx:
            raise ContextOverflowError(
                f"the prompt's {len(tokens)} tokens leave no room for a new one in the context of {self._config.n_ctx}"
            )
        if params.stop and self._tokenizer is None:
            raise TokenizerError(f"stop strings need a tokenizer. {self._no_tokenizer()}")
        seed = fresh_seed() if params.seed is None else params.seed
        cancel = CancelToken() if cancel is None else cancel
        return Stream(decode(self._engine, self._config, self._tokenizer, tokens, params, seed, cancel), cancel, seed)

    def logits(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T, n_vocab): row t are the logits of the token after the first t + 1."""
        tokens = self._fitting_ids(prompt)
        return self._engine.forward([(self._engine.session(), tokens)], output="all")[0]

    def embed(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T, n_embd): the hidden states after the final norm, which the head multiplies."""
        tokens = self._fitting_ids(prompt)
        return self._engine.forward([(self._engine.session(), tokens)], output="hidden")[0]

    @overload
    def classify(self, item: Input) -> Classification: ...

    @overload
    def classify(self, item: list[Input]) -> list[Classification]: ...

    def classify(self, item: Input | list[Input]) -> Classification | list[Classification]:
        """The label of an example and the probability of each, from a model that `pygpt finetune --task` made; a list
        of examples is computed together and gives a list.

        An example is a text for classification; a tuple of two texts for entailment (premise, hypothesis) and for
        similarity; a tuple (prompt, answers) for a choice. What is too long for the context is cut at its end.

        ValueError: the model has no classifier, or a text is empty; TypeError: an example of another task.
        """
        if self._classifier is None:
            raise ValueError(f"{self._source or 'this model'} has no classifier: `pygpt finetune --task` trains one")
        if self._tokenizer is None:
            raise TokenizerError(self._no_tokenizer())
        items = item if isinstance(item, list) else [item]
        results = classify(self._engine, self._config.n_ctx, self._tokenizer, self._classifier, items)
        return results if isinstance(item, list) else results[0]

    def score(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T - 1,): the natural log-probability of each token after the first, given those before."""
        return self._score(self._fitting_ids(prompt), 1)

    def perplexity(self, prompt: Prompt, *, stride: int | None = None) -> float:
        """exp of minus the mean log-probability of the T - 1 tokens after the first; T >= 2.

        Up to n_ctx tokens are one computation. A longer text is read in windows of n_ctx tokens that start every
        `stride` tokens (1 <= stride < n_ctx; None: n_ctx // 2). Each token counts once, in the first window that holds
        it, so it is given at least n_ctx - stride tokens before it, unless it stands nearer to the start. This is the
        sliding window of Hugging Face's documentation; a smaller stride is slower and gives a lower value.
        """
        tokens = self._ids(prompt)
        n_ctx = self._config.n_ctx
        if len(tokens) < 2:
            raise ValueError("perplexity needs at least 2 tokens")
        if stride is None:
            stride = max(1, n_ctx // 2)
        elif not 1 <= stride < n_ctx:
            raise ValueError(f"stride must be from 1 to {n_ctx - 1}, less than the context, not {stride}")
        total, start, scored = 0.0, 0, 1
        while scored < len(tokens):
            window = tokens[start : start + n_ctx]
            total += math.fsum(self._score(window, scored - start).tolist())
            scored = start + len(window)
            start += stride
        return math.exp(-total / (len(tokens) - 1))

    def session(self) -> Session:
        """An empty cache, to drive the model token by token."""
        return Session(self._engine, self._config, self._engine.session())

    def _ids(self, prompt: Prompt) -> NDArray[np.int32]:
        """The prompt's tokens (T,), T >= 1."""
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise TokenizerError(self._no_tokenizer())
            if not prompt:
                raise ValueError("the prompt must not be empty")
            return as_ids(self._tokenizer.encode(prompt), self._config.n_vocab, "the prompt")
        return as_ids(prompt, self._config.n_vocab, "the prompt")

    def _fitting_ids(self, prompt: Prompt) -> NDArray[np.int32]:
        tokens = self._ids(prompt)
        if len(tokens) > self._config.n_ctx:
            raise ContextOverflowError(f"{len(tokens)} tokens do not fit the context of {self._config.n_ctx} tokens")
        return tokens

    def _score(self, tokens: NDArray[np.int32], first: int) -> NDArray[np.float32]:
        """Log-probabilities of tokens[first:], each given all before it; 1 <= first. Bounded memory: by chunks."""
        chunk = max(16, min(512, 2**23 // self._config.n_vocab))  # rows of logits at a time: 32 MiB of them, or 16
        session = self._engine.session()
        if first > 1:
            self._engine.forward([(session, tokens[: first - 1])], output="last")
        parts = [np.empty(0, np.float32)]
        for at in range(first - 1, len(tokens) - 1, chunk):
            targets = tokens[at + 1 : at + 1 + chunk]
            logits = self._engine.forward([(session, tokens[at : at + len(targets)])], output="all")[0]
            parts.append(self._engine.log_softmax(logits)[np.arange(len(targets)), targets])
        return np.concatenate(parts)

    def _no_tokenizer(self) -> str:
        if self._source is None:
            return "this model was made from tensors and no tokenizer"
        return f"{self._source} has no tokenizer: looked for {FILES[0]}, or {FILES[1]} and {FILES[2]}"
