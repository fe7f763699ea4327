"""`pygpt generate --prompt-cache`: the same text, and what was read before is not read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pygpt import Model, Session, _core
from pygpt.cli._app import app


def run(folder: Path, prompt: str, cache: Path | None, *more: object) -> Result:
    options = ["--max-tokens", 5, "--seed", 1, *([] if cache is None else ["--prompt-cache", cache]), *more]
    return CliRunner().invoke(app, [str(a) for a in ("generate", prompt, "-m", folder, *options)])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    append = Session.append

    def counted(self: Session, ids: list[int]) -> object:
        counts.append(len(ids))
        return append(self, ids)

    monkeypatch.setattr(Session, "append", counted)
    return counts


def test_what_was_read_is_not_read_again(gpt2_folder: Path, model: Model, tmp_path: Path, read: list[int]) -> None:
    cache = tmp_path / "cache"
    prompts = ["in the on and", "in the on and", "in the on in", "in the", "of of"]
    for prompt in prompts:
        done = run(gpt2_folder, prompt, cache)
        assert done.exit_code == 0, done.output
        assert done.output == run(gpt2_folder, prompt, None).output
        assert model.load_session(cache).tokens.tolist() == model.tokenizer.encode(prompt)
    n = [len(model.tokenizer.encode(prompt)) for prompt in prompts]
    assert read[0] == n[0]
    assert len(read) == 3  # the second and the fourth read nothing
    assert read[1] < n[2]
    assert read[2] == n[4]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    several = run(gpt2_folder, "in the", cache, "-n", 2, "--json", "--stats")
    assert several.stdout == run(gpt2_folder, "in the", None, "-n", 2, "--json").stdout


def test_a_file_that_cannot_be_used(gpt2_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(gpt2_folder, "in the", cache, "--kv", "int8").exit_code == 0
    before = cache.read_bytes()
    done = run(gpt2_folder, "in the", cache)
    assert done.exit_code != 0
    assert "its keys and values are in the format 'int8'" in " ".join(done.output.split())
    assert "delete it to begin anew" in " ".join(done.output.split())
    assert cache.read_bytes() == before
    cache.write_bytes(before[:-1])
    assert "not a whole safetensors file" in " ".join(run(gpt2_folder, "in the", cache).output.split())
    cache.write_bytes(before[:-1] + b"x")
    assert "its checksum is another" in " ".join(run(gpt2_folder, "in the", cache, "--kv", "int8").output.split())
    for prompt, path, message in (
        ("in", tmp_path / "no" / "cache", "does not exist"),
        ("", tmp_path / "new", "the prompt must not be empty"),
        ("on " * 80, tmp_path / "new", "leave no room for a new one"),
    ):
        done = run(gpt2_folder, prompt, path)
        assert done.exit_code != 0
        assert message in " ".join(done.output.replace("│", " ").split())
        assert not path.exists()


def test_it_is_kept_when_the_text_is_not_read_to_its_end(
    gpt2_folder: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = _core.draw
    calls: list[int] = []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_core, "draw", interrupted)
    assert run(gpt2_folder, "in the", tmp_path / "cache").exit_code != 0
    assert model.load_session(tmp_path / "cache").tokens.tolist() == model.tokenizer.encode("in the")
