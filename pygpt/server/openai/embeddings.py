"""/v1/embeddings: one vector for a text."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.responses import Response

from pygpt.generation import Prompt
from pygpt.server.call import Call
from pygpt.server.endpoint import endpoint, large_response
from pygpt.server.models import Entry
from pygpt.server.openai.forms import Harmless, Prompts, several
from pygpt.server.openai.running import read, together, token_ids

_MOST = 2048  # inputs, as OpenAI allows
_AT_ONCE = 64  # that wait in the queue or are read


class EmbeddingForm(Harmless):
    """What /v1/embeddings takes."""

    model: str
    input: Prompts = Field(description="A text, a list of texts, a list of token ids, or a list of such lists.")
    encoding_format: Literal["float", "base64"] = Field("float", description="Numbers, or the bytes of float32.")


class Embedding(BaseModel):
    """The vector of one input, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    """The vectors."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@endpoint("POST", "/v1/embeddings", form=EmbeddingForm, answer=EmbeddingAnswer, errors=(404, 429))
async def create_embeddings(call: Call, form: EmbeddingForm) -> Response:
    """One vector for each text: the mean of its hidden states, of length 1. Of models that were trained to write."""
    inputs = several("input", form.input, _MOST)
    entry = await call.model(form.model)
    places = asyncio.Semaphore(_AT_ONCE)
    found = await together(_embed(call, entry, places, one) for one in inputs)
    return await large_response(lambda: _answer(form, found), "data")


def _answer(form: EmbeddingForm, found: Sequence[tuple[int, NDArray[np.float32]]]) -> EmbeddingAnswer:
    """found: the tokens and the vector of each input."""
    n_tokens = sum(n for n, _ in found)
    return EmbeddingAnswer(
        object="list",
        data=[
            Embedding(object="embedding", index=index, embedding=_written(vector, form.encoding_format))
            for index, (_, vector) in enumerate(found)
        ],
        model=form.model,
        usage=EmbeddingUsage(prompt_tokens=n_tokens, total_tokens=n_tokens),
    )


async def _embed(
    call: Call, entry: Entry, places: asyncio.Semaphore, prompt: Prompt
) -> tuple[int, NDArray[np.float32]]:
    async with places:
        tokens = await token_ids(call, entry, "input", prompt)
        return len(tokens), await read(call, entry, "input", tokens, output="embedding")


def _written(vector: NDArray[np.float32], encoding: str) -> list[float] | str:
    return vector.tolist() if encoding == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
