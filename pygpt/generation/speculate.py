"""Speculation: tokens are proposed, and one step of the model computes what it takes to accept or to reject several.

The numeric contract makes it exact: the logits of a proposed token's row are the bits that it would have alone, and the
random number of a draw is that of its place. So a token is drawn as ever, from each row as long as the tokens before it
were drawn as they were proposed. (Leviathan et al. 2023, arXiv:2211.17192, and Chen et al. 2023, arXiv:2302.01318,
who described it, correct draws to keep the distribution; here they are the same draws.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.fields import doc, documented
from pygpt.generation.pace import Pace

if TYPE_CHECKING:
    from pygpt.model import Model

Speculate: TypeAlias = Literal["prompt"]

_MOST = 15  # tokens that are proposed at once: with the newest token's, 16 rows
_MOST_ROWS = 64  # of a step: where there are more, computing takes longer than reading the weights


class SpeculateOptions(TypedDict, total=False):
    """How tokens are proposed, as keyword arguments, for type checkers. They are no fields of `SamplingParams`, which
    say what is written: it is the same with and without them."""

    speculate: Speculate | None
    draft: Model | None


@documented
@dataclass(slots=True)
class Speculation:
    """How often the tokens of a stream were guessed right; counted while it is read."""

    n_tokens: int = field(default=0, metadata=doc("Tokens that came."))
    n_steps: int = field(default=0, metadata=doc("Steps of the model that they took: those of each sequence."))
    n_proposed: int = field(default=0, metadata=doc("Tokens that were proposed."))
    n_accepted: int = field(default=0, metadata=doc("Those of them that came."))


class Growing(Protocol):
    """A sequence, as whoever proposes its next tokens sees it."""

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(T,) The prompt and what came after it."""

    @property
    def n_room(self) -> int:
        """How many tokens may be proposed at most."""

    @property
    def cancel(self) -> _core.CancelFlag:
        """Set once nobody wants the sequence any more."""

    def propose(self, tokens: Sequence[int], confidence: int) -> bool:
        """Tokens that may come next, after those that are proposed already; the first of all with this confidence,
        each after it with the next higher one. Those after one that ends the text are left out; whether there was none.
        """

    def guess(self, engine: _core.Engine, logits: NDArray[np.float32]) -> int:
        """The token after those that are proposed, drawn from another model's logits (n_vocab,) as it will be drawn
        from this one's."""


class Speculator(ABC):
    """Proposes the next tokens of sequences. One caller at a time."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    @abstractmethod
    def propose(self, sequences: Sequence[Growing]) -> float:
        """Propose tokens for those of the sequences for which it is worth it. Returns the seconds that it took and will
        take again."""

    @staticmethod
    def most(sequence: Growing, n_sequences: int) -> int:
        """How many tokens to propose at most for one of so many sequences."""
        return min(_MOST, _MOST_ROWS // n_sequences - 1, sequence.n_room)
