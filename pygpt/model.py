"""`Model`: a loaded checkpoint, ready to read and write text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pygpt import checkpoint, engine, generation
from pygpt.checkpoint import Weights
from pygpt.classification import Classification, Classifier, Input, classify, read_classifier
from pygpt.config import ModelConfig
from pygpt.embedding import hidden_states, pooled
from pygpt.engine import KvFormat, ThreadsBackend, check_options
from pygpt.errors import check_type
from pygpt.evaluation import mean_score, score
from pygpt.generation import Progress, Prompt, Session
from pygpt.likelihood import Likelihood, likelihoods, read_pair
from pygpt.metrics import perplexity
from pygpt.tokenizer import Tokenizer
from pygpt.writer import Writer

if TYPE_CHECKING:
    from pygpt.sites import Site, Value
    from pygpt.trace import Trace

_AnyPrompt = TypeVar("_AnyPrompt", bound=Prompt)
_AnyInput = TypeVar("_AnyInput", bound=Input)
_EMBED_TOKENS = 4096  # that are computed together


class Model(Writer):
    """A language model in memory. Immutable, and usable from any number of threads at once.

    A prompt is text or a flat sequence of token ids; a list of prompts is computed together, and each of its results
    equals, to the bit, that of the prompt alone. Wrong arguments raise ValueError or TypeError, too many tokens
    `ContextOverflowError`; text for a model without a tokenizer raises `TokenizerError`.
    """

    def __init__(
        self, made: engine.Made, source: str | None, tokenizer: Tokenizer | None, classifier: Classifier | None = None
    ) -> None:
        """Private: use `Model.load` or `Model.from_tensors`."""
        super().__init__(made.engine, made.config, source, tokenizer)
        self._weights, self._kv = made.weights, made.kv
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
        n_ctx: int | None = None,
        progress: Callable[[int, int], object] | None = None,
        threads_backend: ThreadsBackend | None = None,
    ) -> Model:
        """Load a checkpoint and pack its weights for this machine.

        source: a folder or file that `checkpoint.read` takes, a short name such as "tiny", or of the Hugging Face hub
            ORG/NAME, ORG/NAME:Q4_K_M or ORG/NAME/FILE.gguf, @REVISION or not (docs/models.md says what is downloaded).
        weights: the format they are kept and multiplied in, "int8", "bfloat16" or "float32". None: int8, or as saved.
        kv: the format of cached keys and values, "float32", "float16" or "int8"; None: as float32 weights, else
            float16.
        threads: None: the usable physical cores, which affinity and cgroup quota may limit.
        isa: an instruction set by name; None: PYGPT_ISA if it is set, else the best this machine runs.
        n_ctx: the longest sequence in tokens, at most ``config.max_n_ctx``. None: the checkpoint's own.
        progress: called with (parameters packed so far, parameters in all) after each tensor.
        threads_backend: "own" threads, or "openmp" where this build has it; the results are the same bits. None:
            PYGPT_THREADS_BACKEND if it is set, else "own".

        Raises `CheckpointError`, `ConfigError` or `TokenizerError` for files that cannot be used.
        """
        check_type("source", source, str, os.PathLike)
        threads, isa, backend = check_options(weights, kv, threads, isa, threads_backend)
        path = checkpoint.locate(source)
        made = engine.of_checkpoint(path, weights, kv, threads, isa, n_ctx, progress, backend)
        return cls(made, os.fspath(source), made.tokenizer, read_classifier(path, made.config))

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
        threads_backend: ThreadsBackend | None = None,
    ) -> Model:
        """A model of arrays in memory, which it packs as `load` does and keeps no reference to.

        tensors: float32 arrays by the names and with the shapes of ``config.tensor_shapes()``.
        The options are those of `load`; weights=None is int8.

        Raises ValueError for a tensor that is missing, unknown, of another shape, or beyond what int8 can hold.
        """
        check_type("config", config, ModelConfig)
        check_type("tensors", tensors, Mapping)
        check_type("tokenizer", tokenizer, Tokenizer, type(None))
        threads, isa, backend = check_options(weights, kv, threads, isa, threads_backend)
        return cls(engine.of_arrays(config, tensors, weights, kv, threads, isa, backend), None, tokenizer)

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
    def threads_backend(self) -> str:
        """Whose threads they are: pygpt's "own", or those of "openmp"."""
        return self._engine.threads_backend

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed weights in bytes."""
        return self._engine.weight_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of the cached keys and values of one token in bytes. Layers with a window hold it only until no later
        token sees it."""
        return self._engine.kv_bytes_per_token

    def __repr__(self) -> str:
        name = "from tensors" if self._source is None else repr(self._source)
        return f"<pygpt.Model {name}: {self._config.n_params()} parameters, {self._weights}, {self.isa}>"

    def __reduce__(self) -> NoReturn:
        load = "Model.from_tensors" if self._source is None else f"Model.load({self._source!r})"
        raise TypeError(
            f"a Model cannot be pickled or copied: make it again in the other process with {load}, or before a fork; "
            "threads may share one"
        )

    def logits(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T, n_vocab): row t are the logits of the token after the first t + 1."""
        tokens = self._fitting_ids(prompt)
        return self._engine.forward([(self._engine.session(), tokens)], output="all")[0]

    def hidden_states(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T, n_embd): the hidden states after the final norm, which the head multiplies."""
        tokens = self._fitting_ids(prompt)
        return self._engine.forward([(self._engine.session(), tokens)], output="hidden")[0]

    def trace(
        self,
        prompt: Prompt,
        *,
        layers: Sequence[int] | None = None,
        attention: bool = False,
        top: int = 5,
        patch: Mapping[Site, Value] | None = None,
    ) -> Trace:
        """What is inside the forward pass of a prompt: residual stream, queries, keys, values, heads, neurons, logits,
        and how surprising each token is. `Trace` has the names and shapes.

        layers: which blocks, counted from 0, or from the end with -1; None: all. [] costs little more than `logits`.
        attention: also the weights of attention, (layers, n_head, T, T), from queries and keys as reference.py does.
        top: how many alternatives to each token, at most config.n_vocab.
        patch: values to put in the place of those at a `Site`, before they are recorded and read on: 0.0 ablates a
            head or a neuron, and an array from another prompt's trace is activation patching (Meng et al. 2022,
            arXiv:2202.05262)::

                clean = model.trace("The cat sat on the mat")
                without = model.trace("The cat sat on the mat", patch={Site("heads", 2, 0): 0.0})
                moved = model.trace("The dog sat on the mat", patch={Site("hidden", 3, tokens=1): clean.hidden[3, 1]})

        ValueError: layers or sites that the model does not have, a value of another shape or not finite, or a trace for
        which there is not enough memory; the message says how much it takes.
        """
        from pygpt.tracing import trace  # loading it takes longer than a short text

        return trace(
            self._engine, self._config, self._tokenizer, self._fitting_ids(prompt), layers, attention, top, patch
        )

    def embed(self, text: Prompt | list[_AnyPrompt] | tuple[_AnyPrompt, ...]) -> NDArray[np.float32]:
        """One vector for a text, (n_embd,), or one for each of a list of n, (n, n_embd): the mean of its hidden states
        over its tokens, divided by its Euclidean length, so that a product of two vectors is their cosine."""
        texts = generation.read_prompts(text, self._encode, self._config.n_vocab)
        for name, tokens in texts.items():
            generation.check_fits(tokens, self._config, name)
        vectors = np.stack([pooled(states) for states in hidden_states(self._engine, texts.values(), _EMBED_TOKENS)])
        return vectors if generation.is_several(text) else vectors[0]

    @overload
    def classify(self, item: Input) -> Classification: ...

    @overload
    def classify(self, item: list[_AnyInput]) -> list[Classification]: ...

    def classify(self, item: Input | list[_AnyInput]) -> Classification | list[Classification]:
        """The label of an example and the probability of each, from a model that `pygpt finetune --task` made; a list
        of examples is computed together and gives a list.

        An example is a text for classification; a tuple of two texts for entailment (premise, hypothesis) and for
        similarity; a tuple (prompt, answers) for a choice. What is too long for the context is cut at its end.

        ValueError: the model has no classifier, or a text is empty; TypeError: an example of another task.
        """
        if self._classifier is None:
            raise ValueError(f"{self._source or 'this model'} has no classifier: `pygpt finetune --task` trains one")
        items = item if isinstance(item, list) else [item]
        results = classify(self._engine, self._config.n_ctx, self.tokenizer, self._classifier, items)
        return results if isinstance(item, list) else results[0]

    def score(self, prompt: Prompt) -> NDArray[np.float32]:
        """(T,) tokens -> (T - 1,): the natural log-probability of each token after the first, given those before."""
        return score(self._engine, self._fitting_ids(prompt))

    def loglikelihood(
        self, pairs: Sequence[tuple[Prompt, Prompt]], *, progress: Progress | None = None
    ) -> list[Likelihood]:
        """How likely each of several continuations is: pairs of a context and what follows it, two texts or two
        sequences of token ids. What contexts and continuations begin with alike is read once.

        Texts are cut into tokens together, as lm-evaluation-harness does: spaces at a context's end belong to what
        follows it, and a context of nothing else is the token that begins or ends texts. A pair that is too long for
        the model loses the beginning of its context.

        progress: called with (pairs that are done, of how many).

        ValueError: a continuation without tokens; ContextOverflowError: one of more than n_ctx.
        """
        if not isinstance(pairs, (list, tuple)):
            raise TypeError(f"pairs must be a list of tuples of two, not {type(pairs).__name__}")
        read = [read_pair(p, self._tokenizer, self._config, f"pair {i}") for i, p in enumerate(pairs)]
        return likelihoods(self._engine, read, progress)

    def perplexity(self, prompt: Prompt, *, stride: int | None = None) -> float:
        """exp of minus the mean log-probability of the T - 1 tokens after the first; T >= 2. Infinity where that is
        more than a float can hold.

        Up to n_ctx tokens are one computation. A longer text is read in windows of n_ctx tokens that start every
        `stride` tokens (1 <= stride < n_ctx; None: n_ctx // 2). Each token counts once, in the first window that holds
        it, so it is given at least n_ctx - stride tokens before it, unless it stands nearer to the start. This is the
        sliding window of Hugging Face's documentation; a smaller stride is slower and gives a lower value.
        """
        return perplexity(mean_score(self._engine, self._config, self._ids(prompt), stride))

    def session(self) -> Session:
        """An empty cache, to drive the model token by token."""
        return Session(self._engine, self._config, self._engine.session(), np.empty(0, np.int32))

    def load_session(self, path: str | os.PathLike[str]) -> Session:
        """A session that `Session.save` wrote, of an equal model: the same weights and options but for the number of
        threads and the instruction set. It goes on as the one that was saved, to the bit.

        CheckpointError: a file that is missing, damaged, or of another model or version of pygpt.
        """
        return generation.load_session(Path(path), self._engine, self._config)

    def _ids(self, prompt: object) -> NDArray[np.int32]:
        return generation.read_prompt(prompt, self._encode, self._config.n_vocab)

    def _fitting_ids(self, prompt: object) -> NDArray[np.int32]:
        tokens = self._ids(prompt)
        generation.check_fits(tokens, self._config)
        return tokens
