"""What a server read of prompts: known to the next request, and to the next server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

ASKED = {"model": "tiny", "prompt": list(range(1, 200)), "max_tokens": 4, "seed": 1, "temperature": 1}


async def ask(client: httpx.AsyncClient) -> tuple[str, int]:
    done = (await client.post("/v1/completions", json=ASKED)).json()
    return done["choices"][0]["text"], done["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_prompts_are_kept(serving: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def twice(client: httpx.AsyncClient) -> list[tuple[str, int]]:
        return [await ask(client), await ask(client)]

    folder = tmp_path / "kept"
    (text, none), (again, cached) = serving(twice)
    assert (again, none, cached) == (text, 0, 198)
    assert serving(ask, prefix_folder=folder) == (text, 0)
    assert [path.name for path in folder.iterdir()] == ["tiny.prefixes"]
    assert serving(ask, prefix_folder=folder) == (text, 198)
    assert serving(ask, prefix_folder=folder, kv="int8")[1] == 0  # of other keys and values
    assert "begins without the prompts of before" in caplog.text
    (folder / "tiny.prefixes").unlink()
    (folder / "tiny.prefixes").mkdir()
    assert serving(ask, prefix_folder=folder) == (text, 0)
    assert "its prompts cannot be kept" in caplog.text
