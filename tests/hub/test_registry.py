"""The table of names, and what is listed and removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pygpt import registry
from pygpt.checkpoint.hub import Reference, reference
from pygpt.checkpoint.names import Package
from pygpt.cli._app import app
from pygpt.errors import CheckpointError

Fill = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_table() -> None:
    names = [entry.name for entry in registry.TABLE]
    assert len(set(names)) == len(names)
    for entry in registry.TABLE:
        assert entry.name == entry.name.lower()
        assert reference(entry.name) == Reference(entry.name)
        assert entry.licence
        assert entry.megabytes > 0
        if isinstance(entry.source, Package):
            assert abs(entry.source.n_bytes / 1e6 - entry.megabytes) < 1
            assert len(entry.source.sha256) == 64
        else:
            assert reference(entry.source) == Reference(entry.source)
            assert "/" in entry.source


def models() -> dict[str, int]:
    return {model.name: model.n_bytes for model in registry.on_disk() if model.name != "tiny"}


def test_listed_are_models_that_load(cache: Path, fill: Fill) -> None:
    fill("openai-community/gpt2", {"config.json": "{}", "model.safetensors": "12345", "tokenizer.json": "{}"})
    fill("org/other", {"config.json": "{}", "pytorch_model.bin": "123"})
    fill("org/both", {"config.json": "{}", "model.safetensors": "12", "a.gguf": "1", "b-00001-of-00001.gguf": "22"})
    fill("org/broken", {"model.safetensors": "1"})
    fill("org/parts", {"a-00001-of-00002.gguf": "1"})
    fill("org/encoder", {"config.json": "{}"})
    (cache / "datasets--org--name").mkdir()
    (cache / "models--..--..").mkdir()
    both = {"org/both": 4, "org/both/a.gguf": 1, "org/both/b-00001-of-00001.gguf": 2}
    assert models() == {"gpt2": 9, "org/other": 5, **both}
    assert "tiny" in [model.name for model in registry.on_disk()]
    for model in registry.on_disk():
        assert registry.locate(model.name) == model.path
    listed = run("list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == sorted([*models(), "tiny"])
    everything = run("list", "--all").stdout.splitlines()
    assert [line.split()[0] for line in everything] == [entry.name for entry in registry.TABLE]
    assert "here" in next(line for line in everything if line.startswith("gpt2 "))


def test_removed_is_the_repository(cache: Path, fill: Fill) -> None:
    snapshot = fill("openai-community/gpt2", {"config.json": "{}", "model.safetensors": "12345"})
    fill("openai-community/gpt2", {"config.json": "{}"}, revision="f" * 40, main=False)
    result = run("rm", "gpt2")
    assert result.stdout == "gpt2: 1 MB freed\n"
    assert not snapshot.parents[1].exists()
    assert models() == {}


def test_removed_is_one_gguf_model_and_no_more(cache: Path, fill: Fill) -> None:
    files = {"a-Q8_0.gguf": "11", "b-F16-00001-of-00002.gguf": "2", "b-F16-00002-of-00002.gguf": "33"}
    snapshot = fill("org/name", files)
    blobs = snapshot.parents[1] / "blobs"
    assert registry.remove("org/name:f16") == 3
    assert [f.name for f in snapshot.iterdir()] == ["a-Q8_0.gguf"]
    assert len(list(blobs.iterdir())) == 1
    fill("org/name", {"a-Q8_0.gguf": "11"}, revision="f" * 40, main=False)
    assert registry.remove("org/name/a-Q8_0.gguf") == 0  # another revision has the same file
    assert len(list(blobs.iterdir())) == 1


def test_removed_where_there_are_no_links(cache: Path, fill: Fill) -> None:
    snapshot = fill("org/name", {"a.gguf": "1"})
    (snapshot / "b.gguf").write_text("22", encoding="utf-8")
    assert registry.remove("org/name/b.gguf") == 2
    assert models() == {"org/name/a.gguf": 1}


def test_what_lies_outside_of_the_cache_stays(tmp_path: Path, cache: Path, fill: Fill) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_text("123", encoding="utf-8")
    snapshot = fill("org/name", {"a.gguf": "1"})
    (snapshot / "b.gguf").symlink_to(mine)
    assert registry.remove("org/name/b.gguf") == 0
    assert registry.remove("org/name") == 1 + len(COMMIT) + 1
    assert mine.is_file()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny", "is part of pygpt"),
        (".", "a file or folder, and no name"),
        ("gpt2", "not on this machine; models that can be removed: org/here"),
        ("smollm2", "not on this machine"),
        ("org/here:Q8_0", "not on this machine"),
        ("smolm2", "did you mean 'smollm2'"),
        ("org/here@v1", "to remove all revisions of it, name org/here"),
    ],
)
def test_what_cannot_be_removed(fill: Fill, name: str, said: str) -> None:
    fill("org/here")
    with pytest.raises(CheckpointError, match=said):
        registry.remove(name)
    assert list(models()) == ["org/here"]


def test_pull_of_what_needs_none(cache: Path, tmp_path: Path) -> None:
    assert registry.pull("tiny").is_dir()
    assert registry.pull(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match="must not be empty"):
        registry.pull("")
    assert run("pull", "smolm2").exit_code == 1
