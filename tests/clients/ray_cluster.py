"""Jobs and the server on a cluster of several node processes, one of which is killed: `.ci/run` runs these tests, or

pip install ".[ray,server,test]" && pytest tests/clients/ray_cluster.py
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pygpt import jobs
from pygpt.server.app import create_app
from pygpt.server.settings import Settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of pydantic
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from pygpt.ray import answer_on, build_app
    from pygpt.ray.affinity import conversation_of

SETTINGS = Settings(models=["tiny"], threads=1, log_level="error")
DEATH = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 6}
N = 400  # requests

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head, which computes nothing, and three nodes of a processor each. Workers import from the folder that their
    driver runs in, which must not be that of pygpt's source."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("driver"))
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": DEATH}
    os.environ["RAY_DEDUP_LOGS"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(3):
        cluster.add_node(num_cpus=1, wait=False)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    os.chdir(before)


def name(**body: Any) -> str:
    return conversation_of(json.dumps(body).encode())


def test_what_belongs_to_one_conversation() -> None:
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}
    later = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "How are you?"}]
    first = name(model="m", messages=[system, user])
    assert first == name(model="m", messages=[system, user, *later], temperature=0, stream=True)
    others = [
        name(model="n", messages=[system, user]),
        name(model="m", messages=[system, {**user, "content": "Bye"}]),
        name(model="m", messages=[user]),
        name(model="m", messages=[system, user], tools=[{"type": "function"}]),
        name(model="m", prompt_cache_key="k"),
        name(model="m", prompt="x" * 256),
        name(model="m", prompt=[1] * 64),
        name(model="m", input="Hello", instructions="Be kind."),
    ]
    assert len({first, *others}) == len(others) + 1
    assert name(model="m", prompt="x" * 256) == name(model="m", prompt="x" * 300) == name(model="m", prompt=["x" * 256])
    assert (
        name(model="m", prompt=[1] * 64) == name(model="m", prompt=[1] * 70) == name(model="m", prompt=[[1] * 64, [2]])
    )
    assert name(model="m", prompt_cache_key="k", prompt="a") == name(model="m", prompt_cache_key="k", prompt="b")
    for body in (
        b"",
        b"{",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"{}",
        b'{"prompt": 7}',
        b'{"messages": [7]}',
        b'{"prompt": []}',
    ):
        assert conversation_of(body) == ""


def choices(path: Path) -> dict[str, Any]:
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len({record["custom_id"] for record in records}) == len(records)
    return {record["custom_id"]: record["response"]["body"]["choices"] for record in records}


def test_a_job_loses_its_driver_and_then_a_node(cluster: Cluster, tmp_path: Path, elsewhere: dict[str, Any]) -> None:
    """Every answer once, none lost, equal to those of one process."""
    source, target, alone = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "alone.jsonl"))
    body = {"model": "tiny", "max_tokens": 40}
    with source.open("w") as file:
        for i in range(N):
            row = {"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions"}
            file.write(json.dumps({**row, "body": {**body, "prompt": f"Number {i}"}}) + "\n")
    jobs.run(source, alone, jobs.answer_with(lambda: create_app(SETTINGS), 64))

    command = [sys.executable, "-m", "pygpt", "batch", str(source), str(target), "-m", "tiny", "--threads", "1"]
    driver = subprocess.Popen([*command, "--ray", cluster.address], stderr=subprocess.PIPE, **elsewhere)
    while not target.exists() or not target.read_bytes().count(b"\n"):
        assert driver.poll() is None, driver.stderr and driver.stderr.read()
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    with driver:
        pass
    killed_at = target.read_bytes().count(b"\n")
    assert 0 < killed_at < N

    def kill(items: Iterator[jobs.Item]) -> Iterator[Sequence[jobs.Record]]:
        for n, records in enumerate(answer_on(cluster.address, source, SETTINGS)(items)):
            yield records
            if n == 0:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    summary = jobs.run(source, target, kill)
    assert summary.n_before >= killed_at
    assert summary.n_before + summary.n_answered == N
    assert choices(target) == choices(alone)


def test_a_conversation_stays_on_a_node_until_that_dies(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ray.init(address=cluster.address, log_to_driver=False, ignore_reinit_error=True)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(
        build_app(
            {"models": "tiny", "threads": 1, "replicas": 2, "cpus": "0.5", "max_body": 100_000, "log_level": "error"}
        )
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client, ThreadPoolExecutor(8) as pool:

        def ask(prompt: str, **more: Any) -> httpx.Response:
            body = {"model": "tiny", "prompt": prompt, "max_tokens": 8, "seed": 1, **more}
            for _ in range(2):  # as the openai client does it: the node that dies may be the one that passed it on
                with contextlib.suppress(httpx.TransportError):
                    if (response := client.post("/v1/completions", json=body)).status_code < 500:
                        return response
            return client.post("/v1/completions", json=body)

        def talk(number: int, n_turns: int = 3) -> tuple[list[str], list[str]]:
            """The replicas that answered a conversation, and what was said."""
            prompt, replicas, said = f"{number}: " + "Once upon a time. " * 15, [], []
            for _ in range(n_turns):
                response = ask(prompt)
                assert response.status_code == 200, response.text
                replicas.append(response.headers["x-replica"])
                said.append(response.json()["choices"][0]["text"])
                prompt += said[-1] + " And"
            return replicas, said

        assert client.get("/v1/models", headers={"host": "chat.example"}).json()["data"][0]["id"] == "tiny"
        assert ask("Once", temperature=-1).json()["error"]["param"] == "temperature"
        large = ask("x" * 200_000)
        assert (large.status_code, "x-replica" in large.headers) == (413, False)  # no replica has to read it
        assert ask("Once", stream=True, max_tokens=4).text.endswith("data: [DONE]\n\n")
        before = list(pool.map(talk, range(8)))
        assert all(len(set(replicas)) == 1 for replicas, _ in before)
        assert len({replicas[0] for replicas, _ in before}) == 2

        victim = before[0][0][0]
        running = [pool.submit(talk, number) for number in range(8) for _ in range(4)]
        node = next(node for node in cluster.worker_nodes if node.node_id == victim.partition("@")[2])
        cluster.remove_node(node, allow_graceful=False)
        after = [future.result() for future in running]
        assert [said for _, said in after] == [said for _, said in before for _ in range(4)]
        again = list(pool.map(talk, range(8)))
        assert all(len(set(replicas)) == 1 and victim not in replicas for replicas, _ in again)
    serve.shutdown()
