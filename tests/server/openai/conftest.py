"""A server at a real socket, in a thread of the tests' process, asked through OpenAI's own client."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from starlette.applications import Starlette

from pygpt import Model
from pygpt.server.app import create_app
from pygpt.server.settings import Settings


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[tuple[str, Starlette]]:
    """The address and the application."""
    app = create_app(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who asks before it has started waits
        config = uvicorn.Config(app, log_config=None, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", app
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[tuple[str, Starlette]]]:
    """A server of NAME=SOURCE models: its address and the application."""
    return lambda *models: running(Settings(models=models, threads=1))


@pytest.fixture(scope="session")
def server(gpt2_folder: Path, chat_folder: Path) -> Iterator[tuple[str, Starlette]]:
    """Serves "gpt2", random and small, and "chat", the same with a chat template."""
    with running(Settings(models=(f"gpt2={gpt2_folder}", f"chat={chat_folder}"), threads=1)) as found:
        yield found


@pytest.fixture(scope="session")
def chat_folder(
    gpt2_folder: Path, with_template: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return with_template(gpt2_folder, tmp_path_factory.mktemp("chat") / "m")


@pytest.fixture(scope="session")
def chat_model(chat_folder: Path) -> Model:
    return Model.load(chat_folder, threads=1)


@pytest.fixture(scope="session")
def base_url(server: tuple[str, Starlette]) -> str:
    return server[0]


@pytest.fixture(scope="session")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def roomy_folder(
    scripted_folder: Callable[..., Path],
    with_template: Callable[..., Path],
    vocab: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A model with room for some hundred tokens, to which all tokens but the last are equal."""
    return with_template(scripted_folder([vocab.end_id] * 500), tmp_path_factory.mktemp("roomy") / "m")


@pytest.fixture(scope="session")
def roomy(roomy_folder: Path) -> Iterator[openai.OpenAI]:
    """A client of a server of "chat", that model."""
    with (
        running(Settings(models=(f"chat={roomy_folder}",), threads=1)) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


@pytest.fixture
def thinker(speaker_folder: Callable[..., Path]) -> Iterator[openai.OpenAI]:
    """A client of a server of "thinker", which thinks before it answers "hi"."""
    folder = speaker_folder(("u:hi<|endoftext|>a:", "<think>Hm.</think>Yes"))
    with (
        running(Settings(models=(f"thinker={folder}",), threads=1)) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


@pytest.fixture
def refused(client: openai.OpenAI) -> Callable[..., openai.BadRequestError]:
    """Sends what the server must refuse with status 400, and gives the error."""

    def send(path: str, **body: Any) -> openai.BadRequestError:
        with pytest.raises(openai.BadRequestError) as caught:
            client.post(path, body=body, cast_to=object)
        return caught.value

    return send
