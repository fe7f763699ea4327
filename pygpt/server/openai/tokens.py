"""/tokenize and /detokenize: a model's tokens, in vLLM's forms."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from pygpt.server.call import Call
from pygpt.server.endpoint import endpoint, json_response
from pygpt.server.openai.forms import Form
from pygpt.server.openai.logprobs import shown
from pygpt.server.openai.messages import ChatMessage, Tool
from pygpt.tokenizer import Tokenizer


class TokenizeForm(Form):
    """What /tokenize takes: a text, or a conversation."""

    model: str | None = Field(None, description="null: the server's first.")
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = Field(
        None,
        description="Add the tokens that begin or end every text; null: to a text, not to a conversation, whose "
        "template has them.",
    )
    return_token_strs: bool = Field(False, description="Answer with the text of each token as well.")
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="For the chat template's own options.")
    add_generation_prompt: bool | None = Field(
        None, description="End with the beginning of an answer; null: unless the last message goes on."
    )
    continue_final_message: bool = Field(False, description="End within the last message.")

    @model_validator(mode="after")
    def _has_one(self) -> TokenizeForm:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("there must be a prompt or messages, and not both")
        return self

    def tokens(self, tokenizer: Tokenizer) -> list[int]:
        """Raises what `Tokenizer.render` does."""
        if self.messages is None:
            return tokenizer.encode(self.prompt or "", add_special=self.add_special_tokens is not False)
        text = tokenizer.render(
            [message.plain() for message in self.messages],
            tools=None if self.tools is None else [tool.function.plain() for tool in self.tools],
            variables=self.chat_template_kwargs,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
        )
        return tokenizer.encode(text, allow_special=True, add_special=self.add_special_tokens is True)


class TokenizeAnswer(BaseModel):
    """The tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeForm(Form):
    """What /detokenize takes."""

    model: str | None = Field(None, description="null: the server's first.")
    tokens: list[int]


class DetokenizeAnswer(BaseModel):
    """The text."""

    prompt: str


@endpoint("POST", "/tokenize", form=TokenizeForm, answer=TokenizeAnswer, errors=(404,))
async def tokenize(call: Call, form: TokenizeForm) -> Response:
    """The tokens of a text or of a conversation."""
    model = (await call.model(form.model or call.service.models.names[0])).model

    def answer() -> Response:
        tokens = form.tokens(model.tokenizer)
        texts = [shown(model.tokenizer.token_bytes(token)) for token in tokens] if form.return_token_strs else None
        n_ctx = model.config.n_ctx
        return json_response(TokenizeAnswer(count=len(tokens), max_model_len=n_ctx, tokens=tokens, token_strs=texts))

    response: Response = await call.run(answer)  # of a long text, it takes long
    return response


@endpoint("POST", "/detokenize", form=DetokenizeForm, answer=DetokenizeAnswer, errors=(404,))
async def detokenize(call: Call, form: DetokenizeForm) -> DetokenizeAnswer:
    """The text of tokens."""
    model = (await call.model(form.model or call.service.models.names[0])).model
    return DetokenizeAnswer(prompt=await call.run(lambda: model.tokenizer.decode(form.tokens)))


class TokenizerInfo(BaseModel):
    """What evaluation harnesses ask before they tokenize here."""

    bos_token: str | None
    eos_token: str | None
    chat_template: str | None
    model_max_length: int


@endpoint("GET", "/tokenizer_info", answer=TokenizerInfo)
async def tokenizer_info(call: Call) -> TokenizerInfo:
    """The special tokens and the chat template of the server's first model."""
    model = (await call.model(call.service.models.names[0])).model
    tokenizer = await call.run(lambda: model.tokenizer)
    texts = {token: text for text, token in tokenizer.special_tokens.items()}
    return TokenizerInfo(
        bos_token=texts.get(tokenizer.bos_id),
        eos_token=texts.get(tokenizer.eos_id),
        chat_template=tokenizer.chat_templates.get("default"),
        model_max_length=model.config.n_ctx,
    )
