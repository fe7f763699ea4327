"""Files of requests and of answers: what a line may be, and that a job goes on where another stopped."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pygpt import jobs
from pygpt.cli import _app
from pygpt.jobs import local
from pygpt.jobs.asgi import App


def request(custom_id: str, url: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def work(echo: App) -> jobs.Work:
    return jobs.answer_with(lambda: echo, 4)


def nobody(items: Iterator[jobs.Item]) -> Iterator[Sequence[jobs.Record]]:
    raise AssertionError("there was nothing to ask")
    yield


def test_each_request_is_answered_in_openais_form(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    rows = [request(f"é{i}", seed=i) for i in range(9)]
    rows.append(request("v", "/v1/embeddings", input="x"))
    rows.append(request("\ud800", seed=1, status=400))
    summary = jobs.run(write(rows), tmp_path / "out.jsonl", work)
    records = {record["custom_id"]: record for record in lines(tmp_path / "out.jsonl")}
    assert set(records) == {row["custom_id"] for row in rows}
    for row in rows:
        record = records[row["custom_id"]]
        assert set(record) == {"id", "custom_id", "response", "error"}
        assert record["error"] is None
        assert record["response"]["request_id"] == "r1"
        assert record["response"]["status_code"] == row["body"].get("status", 200)
        assert record["response"]["body"]["asked"] == row["body"]
        assert record["response"]["body"]["path"] == row["url"]
    assert (summary.n_requests, summary.n_before, summary.n_answered, summary.n_failed) == (11, 0, 11, 1)
    assert (summary.prompt_tokens, summary.completion_tokens) == (33, 22)
    assert "11 of 11 requests answered" in str(summary)
    assert "1 with an error" in str(summary)


def test_a_seed_follows_from_the_name(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    jobs.run(write([request("a"), request("b", seed=None), request("c", seed=7)]), tmp_path / "o", work)
    seeds = {r["custom_id"]: r["response"]["body"]["asked"]["seed"] for r in lines(tmp_path / "o")}
    assert seeds["c"] == 7
    assert seeds["a"] != seeds["b"]
    jobs.run(write([request("b"), request("a")]), tmp_path / "p", work)
    again = {r["custom_id"]: r["response"]["body"]["asked"]["seed"] for r in lines(tmp_path / "p")}
    assert again == {"a": seeds["a"], "b": seeds["b"]}


BAD = {
    b'{"custom_id": "a", "method"': "not valid JSON",
    b"\xff": "not valid JSON",
    b"[" * 100_000: "not valid JSON",
    b"[]": "not a JSON object",
    b"{}": "custom_id must be a text of its own",
    b'{"custom_id": 7}': "custom_id must be a text of its own, not 7",
    json.dumps(request("x") | {"method": "GET"}).encode(): "method must be \"POST\", not 'GET'",
    json.dumps(request("x", "/v1/models")).encode(): "url must be one of /v1/completions",
    json.dumps(request("x", "/v1/completions") | {"url": []}).encode(): "url must be one of /v1/completions",
    json.dumps(request("x") | {"body": "text"}).encode(): "body must be a JSON object, not 'text'",
    json.dumps(request("x", stream=True)).encode(): "a batch has no stream",
    json.dumps(request("x") | {"priority": 1}).encode(): "unknown key 'priority'",
}


@pytest.mark.parametrize(("line", "message"), BAD.items(), ids=[m[:25] for m in BAD.values()])
def test_a_bad_line_is_answered_by_its_number(
    tmp_path: Path, write: Any, work: jobs.Work, line: bytes, message: str
) -> None:
    source = write([request("a", seed=1), b"", line, request("b", seed=1)])
    summary = jobs.run(source, tmp_path / "out.jsonl", work)
    assert (summary.n_requests, summary.n_failed) == (3, 1)
    refused, *others = lines(tmp_path / "out.jsonl")
    assert {record["custom_id"] for record in others} == {"a", "b"}
    assert refused["response"] is None
    assert refused["error"]["line"] == 3
    assert refused["error"]["message"].startswith(f"line 3: {message}") or message in refused["error"]["message"]
    before = (tmp_path / "out.jsonl").read_bytes()
    assert jobs.run(source, tmp_path / "out.jsonl", nobody).n_before == 3
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_a_file_of_bad_lines_needs_no_model(tmp_path: Path, write: Any) -> None:
    assert jobs.run(write([b"{"] * 600), tmp_path / "out.jsonl", nobody).n_failed == 600
    assert len(lines(tmp_path / "out.jsonl")) == 600
    assert jobs.run(write([]), tmp_path / "none.jsonl", nobody).n_requests == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""


def test_equal_names_are_refused_before_anything_is_asked(tmp_path: Path, write: Any) -> None:
    source = write([request("a"), request("b"), b"{", b"{", request("b")])
    with pytest.raises(ValueError, match="lines 2 and 5 have the same custom_id 'b'"):
        jobs.run(source, tmp_path / "out.jsonl", nobody)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_names_no_model_that_there_is(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    source = write([request("a", model="gpt-4o"), request("b", model="o3"), b"{"])
    with pytest.raises(ValueError, match="asks for the model 'gpt-4o', but there is tiny, other: NAME=MODEL names one"):
        jobs.run(source, tmp_path / "out.jsonl", nobody, ["tiny", "other"])
    assert not (tmp_path / "out.jsonl").exists()
    assert jobs.run(source, tmp_path / "out.jsonl", work, ["o3"]).n_answered == 3


def test_no_room_is_no_answer(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    jobs.run(write([request("a", seed=1, busy=2), request("b", seed=1)]), tmp_path / "out.jsonl", work)
    assert [record["response"]["status_code"] for record in lines(tmp_path / "out.jsonl")] == [200, 200]


def test_there_is_an_end_to_asking_again(
    tmp_path: Path, write: Any, work: jobs.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ends, keeps what was answered, and goes on with the request when it is called again."""
    monkeypatch.setattr(local, "_LONGEST", 0.3)
    source, target = write([request("a", seed=1), request("b", seed=1, busy=5)]), tmp_path / "out.jsonl"
    with pytest.raises(TimeoutError, match=r"line 2: no room for 0 minutes: .*prompt_tokens"):
        jobs.run(source, target, work)
    assert [record["custom_id"] for record in lines(target)] == ["a"]
    monkeypatch.undo()
    assert jobs.run(source, target, work).n_answered == 1


def test_the_help_says_how_long_is_asked_again() -> None:
    text = " ".join(CliRunner().invoke(_app.app, ["batch", "--help"]).output.split())
    assert f"asked again for {'an hour' if local._LONGEST == 3600 else local._LONGEST}" in text


def test_a_job_goes_on_after_any_byte(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    """The output cut anywhere, as if the process had been killed there, or with NUL bytes as after a power cut."""
    source, target = write([request(f"r{i}", seed=i) for i in range(3)] + [b"{"]), tmp_path / "out.jsonl"
    jobs.run(source, target, work)
    whole = target.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    cuts = sorted({0, 1, *range(0, len(whole), 37), *ends, *(end - 1 for end in ends[1:])})
    for cut in cuts:
        for tail in (b"", b"\0" * 9):
            target.write_bytes(whole[:cut] + tail)
            summary = jobs.run(source, target, work)
            assert summary.n_before == sum(end <= cut for end in ends[1:])
            assert sorted(target.read_bytes().splitlines()) == sorted(whole.splitlines())
            assert target.read_bytes()[: ends[summary.n_before]] == whole[: ends[summary.n_before]]


@pytest.mark.parametrize(
    "content",
    [b"precious", b"precious\n", b'{"id": "x"}\n', b'{"id": "batch_req_00", "custom_id": "a"}\n', b"1\n", b"\xff\n"],
)
def test_another_file_is_left_as_it_is(tmp_path: Path, write: Any, content: bytes) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(content)
    with pytest.raises(ValueError, match=r"line 1 (is no answer of a job|answers 'a', which)"):
        jobs.run(write([request("b")]), target, nobody)
    assert target.read_bytes() == content


def test_the_output_of_another_job_is_refused(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    target = tmp_path / "out.jsonl"
    jobs.run(write([request("a"), request("b")]), target, work)
    with pytest.raises(ValueError, match=r"line \d answers 'b', which .*in.jsonl does not ask for"):
        jobs.run(write([request("a")]), target, nobody)
    target.write_bytes(target.read_bytes() * 2)
    with pytest.raises(ValueError, match=r"line 3 answers '\w', which .* asks for once"):
        jobs.run(write([request("a"), request("b")]), target, nobody)


def test_the_input_is_no_output(tmp_path: Path, write: Any) -> None:
    source = write([])
    with pytest.raises(ValueError, match="is the input"):
        jobs.run(source, source, nobody)
    with pytest.raises(FileNotFoundError):
        jobs.run(tmp_path / "missing", tmp_path / "out.jsonl", nobody)


def test_a_device_keeps_no_answers(write: Any) -> None:
    with pytest.raises(ValueError, match="/dev/null is no file that keeps answers"):
        jobs.run(write([request("a")]), Path("/dev/null"), nobody)


def test_two_jobs_do_not_write_one_file(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    source, target = write([request("a")]), tmp_path / "out.jsonl"

    def other(items: Iterator[jobs.Item]) -> Iterator[Sequence[jobs.Record]]:
        with pytest.raises(ValueError, match="another process is writing"):
            jobs.run(source, target, nobody)
        return work(items)

    jobs.run(source, target, other)
    assert len(lines(target)) == 1


def test_a_full_disk_keeps_what_is_written(
    tmp_path: Path, write: Any, work: jobs.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file may grow beyond a limit of the process, as a disk that is full: half a line would fit."""
    source, target = write([request(f"r{i}", seed=i) for i in range(50)]), tmp_path / "out.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match="what was answered before is kept") as caught:
            jobs.run(source, target, work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    kept = target.read_bytes()
    assert kept.endswith(b"\n")
    assert 0 < len(kept) <= 3000
    summary = jobs.run(source, target, work)
    assert summary.n_before == kept.count(b"\n")
    assert target.read_bytes().startswith(kept)
    assert {record["custom_id"] for record in lines(target)} == {f"r{i}" for i in range(50)}


def test_who_answers_again_is_not_written_again(tmp_path: Path, write: Any, work: jobs.Work) -> None:
    """As a cluster may that lost a node."""

    def twice(items: Iterator[jobs.Item]) -> Iterator[Sequence[jobs.Record]]:
        before: list[jobs.Record] = []
        for records in work(items):
            yield [*before, *records]
            before += records
        yield before

    summary = jobs.run(write([request(f"r{i}", seed=i) for i in range(20)]), tmp_path / "out.jsonl", twice)
    assert summary.n_answered == 20
    assert len(lines(tmp_path / "out.jsonl")) == 20


def test_input_is_read_as_there_is_room(tmp_path: Path, write: Any, echo: App) -> None:
    """Of a long file, only what is being answered is in memory."""
    source = write(request(f"r{i}", seed=i) for i in range(500))
    taken: list[int] = []

    def watched(items: Iterator[jobs.Item]) -> Iterator[Sequence[jobs.Record]]:
        n_answered = 0

        def watch() -> Iterator[jobs.Item]:
            for n, item in enumerate(items, start=1):
                taken.append(n - n_answered)
                yield item

        for records in jobs.answer_with(lambda: echo, 4)(watch()):
            yield records
            n_answered += len(records)

    assert jobs.run(source, tmp_path / "out.jsonl", watched).n_answered == 500
    assert max(taken) <= 4 * 12


SCRIPT = """
import asyncio, json, random, sys
from pathlib import Path
from pygpt import jobs

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = (await receive())["body"]
    await asyncio.sleep(random.uniform(0.004, 0.01))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

print("ready", flush=True)
jobs.run(Path(sys.argv[1]), Path(sys.argv[2]), jobs.answer_with(lambda: app, 8))
"""


def test_killed_at_any_moment(tmp_path: Path, write: Any, elsewhere: dict[str, Any], work: jobs.Work) -> None:
    """Killed again and again until it gets to its end: every answer once, none lost."""
    source, target = write([request(f"r{i}", seed=i, text="x" * 3000) for i in range(160)]), tmp_path / "out.jsonl"
    n_killed = 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(source), str(target)], stdout=subprocess.PIPE, **elsewhere
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert process.stdout.readline() == b"ready\n"
            try:
                assert process.wait(0.05 * (1 + n_killed / 4)) == 0
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                n_killed += 1
        assert n_killed < 40
    assert n_killed
    records = lines(target)
    assert len(records) == 160
    answers = {record["custom_id"]: record["response"]["body"] for record in records}
    assert answers == {f"r{i}": {"seed": i, "text": "x" * 3000} for i in range(160)}


def test_what_an_application_fails_with_ends_the_job(tmp_path: Path, write: Any) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no memory"})

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await silent(scope, receive, send)
        raise KeyError("model") from ValueError("no memory")

    async def early(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no memory")

    for app, kind, message in (
        (silent, RuntimeError, "the application failed at its startup"),
        (raising, ValueError, "no memory"),
        (early, ValueError, "no memory"),
        (None, TypeError, "not callable"),
    ):
        work: Any = jobs.answer_with(lambda app=app: app, 4)  # type: ignore[misc]
        with pytest.raises(kind, match=message):
            jobs.run(write([request("a")]), tmp_path / "out.jsonl", work)
        assert (tmp_path / "out.jsonl").read_bytes() == b""
