"""A job: the requests of a file that have no answer yet go to whoever answers them, and the answers to another file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pygpt._json import shown
from pygpt.jobs.answers import Answers, Record, is_failure, key_of_record, refused
from pygpt.jobs.requests import Item, read, scan

Work: TypeAlias = Callable[[Iterator[Item]], Iterator[Sequence[Record]]]
"""Takes requests as it has room for them, and yields answers as they come, some at a time, in any order."""

_REFUSED = 256  # lines that are no requests are answered so many at a time


@dataclass
class Summary:
    """What a job has done."""

    n_requests: int
    """Lines of the input."""

    n_before: int
    """Of those, how many were answered before."""

    n_answered: int = 0
    """How many are answered since, errors among them."""

    n_failed: int = 0
    """Of those, how many are errors."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.n_answered:
            return f"all {self.n_requests} requests were answered before"
        n_missing = self.n_requests - self.n_before - self.n_answered
        parts = [
            f"{self.n_answered} of {self.n_requests} requests answered in {self.seconds:.1f} s",
            *([f"{self.n_failed} with an error"] if self.n_failed else []),
            *([f"{self.n_before} before"] if self.n_before else []),
            *([f"{n_missing} to come"] if n_missing else []),
        ]
        read, written = (n / self.seconds for n in (self.prompt_tokens, self.completion_tokens))
        return f"{', '.join(parts)}: {read:.0f} tokens/s read, {written:.0f} tokens/s written"


def run(
    source: Path,
    target: Path,
    work: Work,
    models: Collection[str] | None = None,
    progress: Callable[[Summary], object] | None = None,
) -> Summary:
    """Answer each request of `source` that has no answer in `target`, and append the answers there.

    However a run ends, by `kill -9` at any moment or a full disk, the next one with the same files goes on: no answer
    is lost and none is given twice. A line that is no request is answered with what is wrong with it.

    models: the names of those that there are. A request for another is answered with an error, but that no request of
        a file names any of them is an oversight.
    progress: called with what is done so far, at the start and after each writing.

    ValueError: two requests have one `custom_id`; they name none of the models; `target` is another job's, or another
    process writes it.
    OSError: a file cannot be read or written.
    """
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} is the input: the answers need a file of their own")
    remaining, asked = scan(source)
    n_requests = len(remaining)
    if models is not None and asked and asked.isdisjoint(models):
        raise ValueError(
            f"{source} asks for the model {shown(min(asked))}, but there is {', '.join(models)}: NAME=MODEL names one"
        )
    with Answers(target, remaining, source) as answers:
        summary = Summary(n_requests, n_requests - len(remaining))
        started = time.perf_counter()
        if progress is not None:
            progress(summary)
        for given in _records(source, remaining, work):
            # A cluster that lost a node may answer again what it was asked again.
            records = [record for record in given if key_of_record(record) in remaining]
            answers.append(records)
            remaining.difference_update(map(key_of_record, records))
            _count(summary, records)
            summary.seconds = time.perf_counter() - started
            if progress is not None:
                progress(summary)
    return summary


def _records(source: Path, remaining: set[bytes], work: Work) -> Iterator[Sequence[Record]]:
    """The answers to what remains. Those to lines that are no requests come first, so that a job whose every line is
    wrong needs nobody to work on it."""
    n_valid, faulty = 0, list[Record]()
    for item in read(source):
        if item.key not in remaining:
            continue
        if item.fault is None:
            n_valid += 1
            continue
        faulty.append(refused(item))
        if len(faulty) == _REFUSED:
            yield faulty
            faulty = []
    if faulty:
        yield faulty
    if n_valid:
        yield from work(item for item in read(source) if item.fault is None and item.key in remaining)


def _count(summary: Summary, records: Sequence[Record]) -> None:
    summary.n_answered += len(records)
    summary.n_failed += sum(map(is_failure, records))
    for record in records:
        usage = (record["response"] or {"body": {}})["body"].get("usage") or {}
        summary.prompt_tokens += usage.get("prompt_tokens", 0)
        summary.completion_tokens += usage.get("completion_tokens", 0)
