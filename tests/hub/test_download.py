"""Downloads through the hub's client, from a server that speaks the hub's protocol."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

Command = Callable[..., CompletedProcess[str]]
Hub = Any  # tests/hub/conftest.py


def big(n: int = 300_000, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n)


def folder(**more: bytes) -> dict[str, bytes]:
    """A repository in Hugging Face's layout with what pygpt needs, and what it does not."""
    files = {"config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors": big(), "pytorch_model.bin": big()}
    other = {
        "README.md": b"",
        "original/model.safetensors": b"x",
        "consolidated.safetensors": big(),
        "flax_model.msgpack": b"",
    }
    return files | other | more


def snapshot(done: CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_only_what_is_needed(hub: Hub, command: Command) -> None:
    hub.repositories["org/name"] = folder()
    path = snapshot(command("pull", "org/name"))
    assert {f.name for f in path.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (path / "model.safetensors").read_bytes() == big()
    assert sorted(hub.bodies()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_runs_by_its_name(hub: Hub, command: Command, gpt2_folder: Path) -> None:
    hub.repositories["org/gpt2"] = {f.name: f.read_bytes() for f in gpt2_folder.iterdir()}
    options = ("--temperature", "0", "--max-tokens", "5")
    there = command("generate", "in the", "--model", "org/gpt2", *options)
    assert there.stdout == command("generate", "in the", "--model", str(gpt2_folder), *options).stdout != ""
    asked = len(hub.asked)
    offline = command("generate", "in the", "--model", "org/gpt2", *options, HF_HUB_OFFLINE="1")
    assert (offline.stdout, len(hub.asked)) == (there.stdout, asked)


def test_shards_gguf_files_and_revisions(hub: Hub, command: Command) -> None:
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    hub.repositories["org/big"] = {
        "config.json": b"{}",
        "model.safetensors.index.json": index,
        "model-00001-of-00002.safetensors": big(1000),
        "model-00002-of-00002.safetensors": big(1000, 1),
    }
    assert len(list(snapshot(command("pull", "org/big@main")).glob("model-*"))) == 2
    parts = {f"q/a-Q2_K-0000{i}-of-00002.gguf": big(1000, i) for i in (1, 2)}
    hub.repositories["org/gguf"] = {"config.json": b"{}", "a-Q8_0.gguf": big(2000), "a[1]-F16.gguf": big(100), **parts}
    path = snapshot(command("pull", "org/gguf:q2_k"))
    assert {f.name for f in path.parent.iterdir()} == {name.rpartition("/")[2] for name in parts}
    assert snapshot(command("pull", "org/gguf/a[1]-F16.gguf")).read_bytes() == big(100)
    assert "a-Q8_0.gguf" not in hub.bodies()
    nothing = command("pull", "org/gguf:Q6_K")
    assert "has no file of Q6_K; there are a-Q8_0.gguf, a[1]-F16.gguf, q/a-Q2_K.gguf" in nothing.stderr
    assert "there is no revision 'v9' of it" in command("pull", "org/gguf:Q8_0@v9").stderr


def test_a_connection_that_drops_is_taken_up_where_it_broke(hub: Hub, command: Command) -> None:
    weights = big(10 * 2**20 + 5)  # the client writes 10 MiB at a time
    hub.repositories["org/name"] = {"config.json": b"{}", "model.safetensors": weights}
    hub.drops["model.safetensors"] = 10 * 2**20 + 2
    path = snapshot(command("pull", "org/name"))
    assert (path / "model.safetensors").read_bytes() == weights
    ranges = [r for method, name, r in hub.asked if method == "GET" and name.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_what_is_whole_stays_and_the_rest_comes_later(hub: Hub, command: Command) -> None:
    """A server that fails, and a disk that is full."""
    hub.repositories["org/name"] = folder()
    hub.refused["model.safetensors"] = 403
    failed = command("pull", "org/name")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "downloading it failed" in failed.stderr
    del hub.refused["model.safetensors"]
    full = command("pull", "org/name", limit=200_000)
    assert full.returncode == 1
    assert "File too large" in full.stderr
    assert "has no weights of it" in command("generate", "x", "--model", "org/name", HF_HUB_OFFLINE="1").stderr
    hub.asked.clear()
    path = snapshot(command("pull", "org/name"))
    assert hub.bodies() == ["model.safetensors"]
    assert (path / "model.safetensors").read_bytes() == big()
    assert list(path.parents[1].glob("blobs/*.incomplete")) == []


def test_ctrl_c_ends_a_download(hub: Hub, command: Command) -> None:
    hub.repositories["org/name"] = folder()
    hub.stalls.add("model.safetensors")
    ended = command("pull", "org/name", interrupt=lambda: "model.safetensors" in hub.bodies())
    assert ended.returncode == 130
    assert not hub.released.is_set()


def test_progress(hub: Hub, command: Command) -> None:
    """In bytes, of the files that are needed."""
    hub.repositories["org/name"] = {"config.json": b"{}", "model.safetensors": big(), "unused.bin": big()}
    code = "from pygpt import registry; registry.pull('org/name', lambda done, total: print(done, total))"
    done = command("-c", code, module=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "300002 300002"
    assert all(int(line.split()[0]) <= 300_002 for line in done.stdout.splitlines())


def test_offline(hub: Hub, command: Command) -> None:
    hub.repositories["org/name"] = folder()
    failed = command("pull", "org/name", HF_HUB_OFFLINE="1")
    assert "downloading it failed: HF_HUB_OFFLINE is set" in failed.stderr
    assert hub.asked == []


def test_repositories_that_are_not_there(hub: Hub, command: Command) -> None:
    gone = command("pull", "Qwen/Qwen3-0.7B")
    assert "the hub has no repository 'Qwen/Qwen3-0.7B' (similar: Qwen/Qwen3-1.7B" in gone.stderr
    assert gone.stderr.count("\n") == 1
    hub.repositories["org/gated"] = folder()
    hub.gated.add("org/gated")
    assert f"its licence must be accepted at {hub.url}/org/gated" in command("pull", "org/gated").stderr
    hub.repositories["org/empty"] = {"README.md": b""}
    assert "has none of model.safetensors" in command("pull", "org/empty").stderr
