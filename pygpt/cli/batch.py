"""`pygpt batch`: answer a file of requests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from pygpt import jobs
from pygpt.cli._common import MODEL, ProgressBar, fetch_model
from pygpt.cli._options import with_fields
from pygpt.server.settings import Settings, named_sources

_FIELDS = {
    *("weights", "kv", "threads", "isa", "n_ctx", "model_memory"),
    *("max_running", "max_step_tokens", "cache_memory", "prefix_memory", "max_tokens", "max_sequences"),
}
_LIMITS = {"request_timeout": 365 * 86400.0, "max_body": 2**30, "log_level": "error"}  # nobody waits, nobody attacks


@with_fields(Settings, without=[f.name for f in dataclasses.fields(Settings) if f.name not in _FIELDS])
def batch(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="A request a line, in OpenAI's batch format.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Gets an answer a line, in any order.")],
    model: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", help=f"{MODEL} NAME=MODEL gives it the name that requests ask for; may be repeated."
        ),
    ],
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help='Answer on the nodes of a Ray cluster: HOST:PORT, "auto" finds it, "local" makes one.',
        ),
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    """Answer the requests of a file. Stopped or killed at any moment, the same command goes on where it was: each
    request is answered once, and no answer is lost. A request for which the models have no room is asked again for an
    hour; then the command ends with an error."""
    names = named_sources(model)
    if ray is None:  # whose nodes find the models themselves
        model = [f"{name}={fetch_model(path)}" for name, path in names.items()]
    settings = Settings(models=model, **{**_LIMITS, **given})
    bar = ProgressBar(f"answering {source}")

    def show(done: jobs.Summary) -> None:
        rate = done.completion_tokens / done.seconds if done.seconds else 0.0
        failed = f", {done.n_failed} with an error" if done.n_failed else ""
        bar(done.n_before + done.n_answered, done.n_requests, f"{rate:.0f} tokens/s{failed}")

    try:
        summary = jobs.run(source, target, _work(source, settings, ray), names, show)
    finally:
        bar.clear()
    typer.echo(str(summary), err=True)


def _work(source: Path, settings: Settings, ray: str | None) -> jobs.Work:
    try:
        if ray is not None:
            from pygpt.ray import answer_on

            return answer_on(ray, source, settings)
        from pygpt.server.app import create_app
    except ModuleNotFoundError as error:
        extras = "server" if ray is None else "ray,server"
        needed = (error.name or "").partition(".")[0]
        raise ValueError(f"pygpt batch needs {needed}: pip install 'pygpt-cpu[{extras}]'") from None
    return jobs.answer_with(lambda: create_app(settings), 2 * settings.max_running)
