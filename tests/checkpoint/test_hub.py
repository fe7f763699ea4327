"""Finding checkpoints by name, without a network."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from pygpt.checkpoint.hub import cache_folder, locate
from pygpt.errors import CheckpointError

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no client to download with."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # makes its import fail
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "hub"


def fill(cache: Path, name: str, revision: str = REVISION, *, main: bool = True) -> Path:
    model = cache / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        (snapshot / file).touch()
    if main:
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(revision + "\n", encoding="utf-8")
    return snapshot


def test_an_existing_path_as_it_is(tmp_path: Path, cache: Path) -> None:
    assert locate(tmp_path) == tmp_path
    (tmp_path / "org").mkdir()
    fill(cache, "org")
    assert locate("org") == Path("org")  # before the hub


def test_cached(cache: Path) -> None:
    for name in ("gpt2", "HuggingFaceTB/SmolLM2-135M"):
        snapshot = fill(cache, name)
        assert locate(name) == snapshot


def test_the_branch_main_decides(cache: Path) -> None:
    fill(cache, "org/name", "f" * 40, main=False)
    wanted = fill(cache, "org/name")
    assert locate("org/name") == wanted


def test_a_lone_snapshot_needs_no_branch(cache: Path) -> None:
    snapshot = fill(cache, "org/name", main=False)
    assert locate("org/name") == snapshot


@pytest.mark.parametrize("revision", ["../../../elsewhere", "/etc", ""])
def test_a_branch_that_points_elsewhere(cache: Path, revision: str) -> None:
    fill(cache, "org/name")
    (cache / "models--org--name" / "refs" / "main").write_text(revision, encoding="utf-8")
    with pytest.raises(CheckpointError, match="has no weights of it"):
        locate("org/name")


def test_not_cached_and_no_client(cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        locate("org/name")
    message = str(caught.value)
    assert str(cache / "models--org--name" / "snapshots") in message
    assert "'org/name' is neither a file or folder nor a built-in model (tiny)" in message
    assert "pip install 'pygpt-cpu[hub]'" in message


def test_a_snapshot_without_weights_is_not_enough(cache: Path) -> None:
    (fill(cache, "org/name") / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights of it"):
        locate("org/name")


def broken_client(monkeypatch: pytest.MonkeyPatch, snapshot: Path, *missing: str) -> list[str]:
    """A client of the hub that fetches the missing files; gives the ids it was asked for."""
    asked = []

    def snapshot_download(hub_id: str, **patterns: object) -> str:
        asked.append(hub_id)
        for name in missing:
            (snapshot / name).unlink(missing_ok=True)
            (snapshot / name).touch()
        return str(snapshot)

    client = types.ModuleType("huggingface_hub")
    client.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return asked


INDEX = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}'


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": "", "config.json": ""}, "model-2.safetensors"),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": ""}, "config.json, model-2.safetensors"),
        ({"model.safetensors": ""}, "config.json"),
    ],
)
def test_a_broken_download_goes_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], lacks: str
) -> None:
    snapshot = fill(cache, "org/name")
    for old in snapshot.iterdir():
        old.unlink()
    for name, text in files.items():
        (snapshot / name).write_text(text, encoding="utf-8")
    (snapshot / "model-2.safetensors").symlink_to(snapshot / "blob")  # whose file was not written
    with pytest.raises(CheckpointError, match=rf"the Hugging Face hub lacks its {lacks} .* pip install"):
        locate("org/name")
    asked = broken_client(monkeypatch, snapshot, "config.json", "model-2.safetensors", "tokenizer.json")
    assert locate("org/name") == snapshot
    assert locate("org/name") == snapshot
    assert asked == ["org/name"]


def test_only_the_hub_knows_whether_a_tokenizer_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fill(cache, "org/name")
    (snapshot / "tokenizer.json").unlink()
    assert locate("org/name") == snapshot  # it cannot be asked
    asked = broken_client(monkeypatch, snapshot, "tokenizer.json")
    assert locate("org/name") == snapshot
    assert asked == ["org/name"]
    assert (snapshot / "tokenizer.json").is_file()


@pytest.mark.parametrize("index", ["", "{}", '{"weight_map": {"a": "../x"}}'])
def test_a_damaged_index_is_left_to_its_reader(cache: Path, index: str) -> None:
    snapshot = fill(cache, "org/name")
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    assert locate("org/name") == snapshot


def test_a_gguf_file_is_whole(cache: Path) -> None:
    snapshot = fill(cache, "org/name")
    for old in snapshot.iterdir():
        old.unlink()
    (snapshot / "model.Q8_0.GGUF").touch()
    assert locate("org/name") == snapshot


def test_download(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(hub_id: str, **patterns: object) -> str:
        asked.append(hub_id)
        if hub_id == "org/gone":
            raise ConnectionError("no route to host")
        return str(tmp_path)

    client = types.ModuleType("huggingface_hub")
    client.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    assert locate("org/name") == tmp_path
    with pytest.raises(CheckpointError, match="downloading it failed: no route to host"):
        locate("org/gone")
    fill(cache, "org/cached")
    locate("org/cached")
    assert asked == ["org/name", "org/gone"]


@pytest.mark.parametrize(
    "name", ["./missing", "/missing", "a/b/c", "missing.gguf", "dir/missing.safetensors", "a/..", "a..b", "a b", "-a"]
)
def test_what_cannot_be_a_hub_id(cache: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        locate(name)


def test_names_that_are_no_names(cache: Path) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        locate("")
    with pytest.raises(CheckpointError, match="cannot be looked up"):
        locate("x" * 5000)


def test_built_in(cache: Path) -> None:
    """The model is shipped, or its absence is said."""
    try:
        assert locate("tiny").is_dir()
    except CheckpointError as error:
        assert "the built-in model 'tiny' is not part of this installation" in str(error)  # noqa: PT017


def test_environment(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "huggingface" / "hub"
