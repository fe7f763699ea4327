"""What the forms of requests have in common. A field that a form lacks is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator, create_model, model_validator

from pygpt.generation import Prompt, SamplingParams, is_several
from pygpt.server import endpoint
from pygpt.server.errors import bad_request, of_input

HARMLESS = (
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
"""Fields that clients send and that change no answer: accepted wherever sampling is, and ignored."""

_SERVED = SamplingParams(temperature=1.0, top_p=None)  # OpenAI's defaults
_OWN = ("max_tokens", "n", "logprobs", "logits_processor")  # other names or meanings in some form, or Python's alone
_TYPES: Mapping[str, Any] = {  # as JSON has them
    "choices": list[str],
    "json_schema": dict[str, Any] | bool,
    "logit_bias": dict[str, float],
    "stop": str | list[str],
}


class Form(endpoint.Form):
    """A table of a request. What is null stands for what is left out."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: object) -> object:
        if isinstance(value, dict) and None in value.values():
            return {key: part for key, part in value.items() if part is not None}
        return value


def _sampling_fields() -> dict[str, Any]:
    """Of a form: every option of `SamplingParams` that has one meaning wherever something is sampled."""
    hints = get_type_hints(SamplingParams)
    return {
        f.name: (_TYPES.get(f.name, hints[f.name]) | None, Field(None, description=f.metadata["help"]))
        for f in fields(SamplingParams)
        if f.name not in _OWN
    }


_SAMPLING = _sampling_fields()

if TYPE_CHECKING:
    Harmless = Form
    Sampling = Form
else:
    Harmless = create_model(
        "Harmless", __base__=Form, **{name: (Any, Field(None, description="Ignored.")) for name in HARMLESS}
    )
    Sampling = create_model("Sampling", __base__=Harmless, **_SAMPLING)


class StreamOptions(Form):
    """How a stream is sent."""

    include_usage: bool = Field(False, description="End with a chunk that has the usage, and no choices.")
    include_obfuscation: bool = Field(False, description="Ignored: nothing is padded.")


def sampling_params(form: Form, **own: Any) -> SamplingParams:
    """What a form that has the fields of `Sampling` asks for. `own`: what it calls otherwise.

    ApiError, with the name of the field, for a value that is not allowed.
    """
    given = {name: value for name in _SAMPLING if (value := getattr(form, name)) is not None}
    if "logit_bias" in given:
        given["logit_bias"] = _by_id(given["logit_bias"])
    try:
        return replace(_SERVED, **given, **own)
    except (ValueError, TypeError) as error:
        raise of_input(error, type(form)) from None


def check_stream_options(stream: bool, options: StreamOptions | None) -> None:
    """ApiError: options of a stream, where there is none."""
    if options is not None and not stream:
        raise bad_request("stream_options is for stream: true alone", param="stream_options")


def list_or_text(item: Any, otherwise: str) -> Any:
    """A wrapping validator for a text or a list of `item`s. Pydantic's own reports of a union name each branch."""
    items = TypeAdapter(list[item])

    def validate(value: object, _: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return items.validate_python(value)
        raise ValueError(otherwise)

    return validate


def _by_id(biases: Mapping[str, float]) -> dict[int, float]:
    """JSON's keys are texts."""
    try:
        return {int(token): bias for token, bias in biases.items()}
    except ValueError:
        raise bad_request("logit_bias must have token ids as its keys", param="logit_bias") from None


def _check_prompts(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    wrong = "must be a text, a list of texts, a list of token ids, or a list of such lists"
    if isinstance(value, list) and value and not isinstance(value[0], int) and len(value) > endpoint.MAX_ITEMS:
        raise ValueError(wrong)  # which pydantic finds out once it has read all of them
    try:
        return handler(value)
    except ValueError:  # pydantic would tell of each kind in turn
        raise ValueError(wrong) from None


Prompts = Annotated[str | list[str] | list[int] | list[list[int]], WrapValidator(_check_prompts)]
"""One prompt or several."""


def several(field: str, prompts: object, most: int) -> Sequence[Prompt]:
    """One or several as a list. ApiError: more than `most`."""
    found: Sequence[Prompt] = prompts if is_several(prompts) else [prompts]  # type: ignore[assignment, list-item]
    if len(found) > most:
        raise bad_request(f"{field} must have at most {most} entries, not {len(found)}", param=field)
    return found
