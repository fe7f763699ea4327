"""Finding checkpoints by name in the hub's cache, without a network and without the hub's client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pygpt.checkpoint import locate
from pygpt.checkpoint.hub import Reference, cache_folder, reference
from pygpt.errors import CheckpointError

Fill = Callable[..., Path]
SMALL = {"config.json": "", "tokenizer.json": ""}
INDEX = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}'


def test_an_existing_path_as_it_is(tmp_path: Path, fill: Fill) -> None:
    assert locate(tmp_path) == tmp_path
    (tmp_path / "org").mkdir()
    fill("org")
    assert locate("org") == Path("org")  # before the hub


def test_cached(fill: Fill) -> None:
    for name in ("gpt2", "HuggingFaceTB/SmolLM2-135M"):
        snapshot = fill(name)
        assert locate(name) == snapshot


def test_a_short_name_is_its_repository(fill: Fill) -> None:
    snapshot = fill("openai-community/gpt2")
    assert locate("gpt2") == locate("GPT2") == locate("openai-community/gpt2") == snapshot


def test_the_branch_main_decides(fill: Fill) -> None:
    fill("org/name", revision="f" * 40, main=False)
    wanted = fill("org/name")
    assert locate("org/name") == wanted


def test_a_lone_snapshot_needs_no_branch(fill: Fill) -> None:
    snapshot = fill("org/name", main=False)
    assert locate("org/name") == snapshot


def test_revisions(cache: Path, fill: Fill) -> None:
    old, new = fill("org/name", revision="a" * 40, main=False), fill("org/name", revision="b" * 40)
    branch = cache / "models--org--name" / "refs" / "refs" / "pr" / "1"
    branch.parent.mkdir(parents=True)
    branch.write_text("a" * 40, encoding="utf-8")
    assert locate("org/name") == locate(f"org/name@{'b' * 40}") == new
    assert locate("org/name@refs/pr/1") == locate(f"org/name@{'a' * 40}") == old
    with pytest.raises(CheckpointError, match="has no weights of it"):
        locate("org/name@v2")


@pytest.mark.parametrize("revision", ["../../../elsewhere", "/etc", ""])
def test_a_branch_that_points_elsewhere(cache: Path, fill: Fill, revision: str) -> None:
    fill("org/name")
    (cache / "models--org--name" / "refs" / "main").write_text(revision, encoding="utf-8")
    with pytest.raises(CheckpointError, match="has no weights of it"):
        locate("org/name")


def test_not_cached_and_no_client(cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        locate("org/name")
    message = str(caught.value)
    assert str(cache / "models--org--name") in message
    assert "'org/name' is no file or folder" in message
    assert "pip install 'pygpt-cpu[hub]'" in message


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        (SMALL, "has no weights of it"),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": "", **SMALL}, "lacks its model-2.safetensors"),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": ""}, "its config.json, model-2.safetensors"),
        ({"pytorch_model.bin.index.json": INDEX, "model-1.safetensors": "", **SMALL}, "its model-2.safetensors"),
        ({"model.safetensors": ""}, "lacks its config.json"),
    ],
)
def test_a_broken_download_is_not_enough(fill: Fill, files: dict[str, str], lacks: str) -> None:
    snapshot = fill("org/name", files)
    (snapshot / "model-2.safetensors").symlink_to(snapshot / "blob")  # whose file was not written
    with pytest.raises(CheckpointError, match=rf"the Hugging Face hub .*{lacks} .* pip install"):
        locate("org/name")


def test_without_a_tokenizer_where_the_hub_cannot_be_asked(fill: Fill) -> None:
    snapshot = fill("org/name", {"config.json": "", "model.safetensors": ""})
    assert locate("org/name") == snapshot


@pytest.mark.parametrize("index", ["", "{}", '{"weight_map": {"a": "../x"}}'])
def test_a_damaged_index_is_left_to_its_reader(fill: Fill, index: str) -> None:
    snapshot = fill("org/name", {"model.safetensors.index.json": index, **SMALL})
    assert locate("org/name") == snapshot


# --- GGUF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        (["model.Q8_0.GGUF"], "org/name", "model.Q8_0.GGUF"),
        (["a-q8_0.gguf", "a-q4_k_m.gguf", "a-f16.gguf"], "org/name", "a-q4_k_m.gguf"),
        (["a-Q8_0.gguf", "a-F16.gguf"], "org/name", "a-Q8_0.gguf"),
        (["a-Q8_0.gguf", "a-IQ4_XS.gguf"], "org/name:iq4_xs", "a-IQ4_XS.gguf"),
        (["a-Q4_K_M.gguf", "a-Q4_K.gguf", "mmproj-Q4_K.gguf"], "org/name:Q4_K", "a-Q4_K.gguf"),
        (["BF16/a-00001-of-00002.gguf", "BF16/a-00002-of-00002.gguf"], "org/name", "BF16/a-00001-of-00002.gguf"),
        (["a-Q2_K-00001-of-00002.gguf", "a-Q2_K-00002-of-00002.gguf"], "org/name:Q2_K", "a-Q2_K-00001-of-00002.gguf"),
        (["x/a.gguf", "b.gguf"], "org/name/x/a.gguf", "x/a.gguf"),
    ],
)
def test_which_gguf_file(fill: Fill, files: list[str], name: str, found: str) -> None:
    snapshot = fill("org/name", dict.fromkeys(files, ""))
    assert locate(name) == snapshot / found


def test_the_other_weights_are_taken_unless_gguf_is_asked_for(fill: Fill) -> None:
    snapshot = fill("org/name", {**SMALL, "model.safetensors": "", "a.Q8_0.gguf": ""})
    assert locate("org/name") == snapshot
    assert locate("org/name:Q8_0") == snapshot / "a.Q8_0.gguf"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/name", "has several files of weights; there are a-F16.gguf, b-F16.gguf"),
        ("org/name:F16", "has several files of F16"),
        ("org/name:Q4_0", "has no file of Q4_0; there are a-F16.gguf, b-F16.gguf"),
        ("org/name/c.gguf", "has no file of c.gguf"),
        ("org/name/c-00001-of-00002.gguf", "has no file of c"),  # the second part is not there
    ],
)
def test_gguf_files_that_are_not_there(fill: Fill, name: str, said: str) -> None:
    fill("org/name", dict.fromkeys(("a-F16.gguf", "b-F16.gguf", "c-00001-of-00002.gguf"), ""))
    with pytest.raises(CheckpointError, match=said):
        locate(name)


# --- names ---------------------------------------------------------------------------------------------------------


def test_references() -> None:
    assert reference("org/name") == Reference("org/name")
    assert reference("org/name@v1.0") == Reference("org/name", revision="v1.0")
    assert reference("org/na.me-GGUF:Q4_K_M@refs/pr/3") == Reference("org/na.me-GGUF", None, "Q4_K_M", "refs/pr/3")
    assert reference("org/name/a/b.gguf@x") == Reference("org/name", "a/b.gguf", None, "x")
    for text in ("org/../x", "org/name/a/../b.gguf", "/org/name", "org/name:", "org/name@", "org/x.gguf", "a:b:c"):
        assert reference(text) is None, text


@pytest.mark.parametrize(
    "name", ["./missing", "/missing", "a/b/c", "missing.gguf", "dir/missing.safetensors", "a/..", "a..b", "a b", "-a"]
)
def test_what_cannot_be_a_name(cache: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        locate(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("smolm2", "did you mean 'smollm2'"),
        ("Qwen-3-0.6B", "'qwen3-0.6b'"),
        ("tinny", "did you mean 'tiny'"),
        ("xyzzy", "a model of the Hugging Face hub is named ORG/NAME"),
    ],
)
def test_the_nearest_names(cache: Path, name: str, near: str) -> None:
    with pytest.raises(CheckpointError, match=near):
        locate(name)


def test_names_that_are_no_names(cache: Path) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        locate("")
    with pytest.raises(CheckpointError, match=r"cannot be looked up: [A-Z]"):
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
