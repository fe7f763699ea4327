"""What a server is told: `Settings`, from whose fields the options, the environment variables, the keys of a
configuration file and the table in docs/serving.md follow. It needs no extra, so that `--help` works without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from pygpt.checkpoint import Weights
from pygpt.engine import KvFormat
from pygpt.fields import doc, documented

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

GIB = 2**30
ENVIRONMENT = "PYGPT_SERVE_"
"""The beginning of the variables that set a field."""


@documented
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server listens, whom it lets in, and what it gives them. ValueError names the setting and what is allowed.

    models: sources as `Model.load` takes them, each under its own name, or NAME=SOURCE.
    """

    models: Sequence[str] = field(metadata=doc("The models: SOURCE, or NAME=SOURCE."))

    host: str = field(default="127.0.0.1", metadata=doc("The address to listen at; 0.0.0.0 or :: are all of them."))
    port: int = field(default=8000, metadata=doc("The port to listen at; 0 takes a free one."))
    uds: Path | None = field(default=None, metadata=doc("A Unix socket to listen at instead.", none="host and port"))

    api_key: Sequence[str] = field(
        default=(),
        metadata=doc(
            "A key that clients must show; several are allowed. A command line is seen by other users: rather set the "
            "environment variable or --api-key-file."
        ),
    )
    api_key_file: Path | None = field(default=None, metadata=doc("A file with a key a line.", none="none"))
    cors_origin: Sequence[str] = field(
        default=(), metadata=doc("A website whose scripts may ask this server, or * for all; several are allowed.")
    )

    allowed_host: Sequence[str] = field(
        default=(),
        metadata=doc(
            "A name that requests may address a server by that listens at the loopback and wants no key, besides "
            "localhost and addresses; several are allowed, * is any."
        ),
    )

    weights: Weights | None = field(
        default=None, metadata=doc("The format of the weights in memory.", none="int8, or as the model was saved")
    )
    kv: KvFormat | None = field(
        default=None,
        metadata=doc("The format of cached keys and values.", none="as float32 weights, else float16"),
    )
    threads: int | None = field(default=None, metadata=doc("Threads to compute with.", none="physical cores"))
    isa: str | None = field(
        default=None, metadata=doc("Force an instruction set; `pygpt info` lists them.", none="the best")
    )
    n_ctx: int | None = field(default=None, metadata=doc("The context in tokens.", none="as the checkpoint has it"))
    model_memory: float | None = field(
        default=None,
        metadata=doc("GiB for the weights of all models; those longest out of use leave.", none="no limit"),
    )

    max_running: int = field(default=64, metadata=doc("Sequences of a model that are computed together."))
    max_waiting: int = field(default=1024, metadata=doc("Requests of a model that may wait; more get status 429."))
    max_step_tokens: int = field(default=256, metadata=doc("Tokens that a model reads in a step, of all requests."))
    cache_memory: float | None = field(
        default=None, metadata=doc("GiB for a model's keys and values.", none="half of the free memory")
    )
    prefix_memory: float | None = field(
        default=None, metadata=doc("GiB of those for prompts read before; 0 keeps none.", none="half of them")
    )

    prefix_folder: Path | None = field(
        default=None, metadata=doc("A folder that keeps what was read of prompts for the next start.", none="none")
    )

    max_tokens: int | None = field(
        default=None,
        metadata=doc("New tokens that a request may have, and gets if it does not say.", none="the context"),
    )
    max_sequences: int = field(default=128, metadata=doc("Prompts of a request, times the answers to each."))
    max_body: int = field(default=2 * 2**20, metadata=doc("Bytes that the body of a request may have."))
    max_headers: int = field(default=64 * 2**10, metadata=doc("Bytes that the head of a request may have."))
    max_connections: int = field(default=1024, metadata=doc("Connections at a time; more are turned away."))
    header_timeout: float = field(default=10.0, metadata=doc("Seconds until the head of a request must be there."))
    body_timeout: float = field(default=30.0, metadata=doc("Seconds until its body must be there."))
    request_timeout: float = field(default=600.0, metadata=doc("Seconds that the answer to a request may take."))
    write_timeout: float = field(
        default=30.0, metadata=doc("Seconds after which a client that does not read is cut off.")
    )
    keep_alive: float = field(default=75.0, metadata=doc("Seconds that an idle connection stays open."))
    grace: float = field(
        default=30.0, metadata=doc("Seconds that running requests get to finish after SIGTERM or Ctrl-C.")
    )

    log_format: LogFormat = field(default="text", metadata=doc("A line a request for people or as JSON."))
    log_level: LogLevel = field(default="info", metadata=doc("The least level that is logged."))
    trace: bool = field(default=False, metadata=doc("Send OpenTelemetry traces to where its variables, OTEL_..., say."))

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("models must name at least one model")
        for name, low, high in (("port", 0, 65535), *((name, 1, math.inf) for name in _POSITIVE)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                allowed = f"from {low} to {high}" if high < math.inf else f"at least {low}"
                raise ValueError(f"{name} must be {allowed}, not {value}")
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{f.name} must be a finite number >= 0, not {value}")


_POSITIVE = (
    *("threads", "n_ctx", "max_running", "max_waiting", "max_step_tokens", "max_tokens", "max_sequences"),
    *("max_body", "max_headers", "max_connections"),
)


def named_sources(models: Sequence[str]) -> dict[str, str]:
    """The source of each model by the name that clients ask for: what stands before "=", or else the source's last part
    without a suffix. ValueError for a name that is given twice."""
    sources: dict[str, str] = {}
    for text in models:
        name, equals, source = text.partition("=")
        if not equals or Path(text).exists():
            name, source = _name_of(text), text
        if not name or not source:
            raise ValueError(f"models must be SOURCE or NAME=SOURCE, not {text!r:.200}")
        if name in sources:
            raise ValueError(f"two models have the name {name!r}: name one of them otherwise, NAME={source}")
        sources[name] = source
    return sources


def _name_of(source: str) -> str:
    path = Path(source)
    if not path.exists():  # a name, perhaps of the hub
        return source
    return path.resolve().name if path.is_dir() else path.stem
