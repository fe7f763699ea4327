"""A server in a process of its own, and what clients run in: a home folder of their own and no network but the
loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pygpt import Model, checkpoint

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


class Service(NamedTuple):
    """A running server of one model, "tiny", and the same model here."""

    port: int
    model: Model

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """What clients call base_url, or api_base."""
        return f"{self.url}/v1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves "tiny" with a chat template; answers are short."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(checkpoint.locate("tiny"), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [str(Path(sys.executable).with_name("pygpt")), "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--max-tokens", "32", "--log-level", "error"], cwd=folder.parent
    )
    try:
        wait_for(port, process)
        yield Service(port, Model.load(folder, threads=1))
    finally:
        process.terminate()
        assert process.wait(30) == 0


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server does not answer")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs a command in an empty home folder; what it prints. Of a script in Python, `script` is the text."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "HF_HOME": str(home), "LLM_USER_PATH": str(home)}
    telemetry = {"DO_NOT_TRACK": "1", "LANGCHAIN_TRACING_V2": "false", "OPENAI_API_KEY": "none"}

    def call(*command: str, script: str = "", **environment: str) -> str:
        if script:
            command = (sys.executable, "-c", script)
        done = subprocess.run(
            command,
            cwd=home,
            env={**kept, **offline, **places, **telemetry, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        return done.stdout

    return call


@pytest.fixture
def found(run: Callable[..., str]) -> Callable[..., Any]:
    """What a script in Python prints as its last line, in JSON."""
    return lambda script, **environment: json.loads(run(script=script, **environment).splitlines()[-1])
