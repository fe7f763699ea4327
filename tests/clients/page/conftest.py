"""The page of a real `pygpt serve` in a real headless Chromium.

    pip install ".[clients]" && pytest tests/clients/page -o "python_files=page_*.py"

The browser is the system's, or the one that `playwright install chromium` brought.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pygpt import Model

if TYPE_CHECKING:  # pytest reads this file wherever it looks for tests, also where there is no extra `clients`
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

PATIENCE = 90  # seconds, also of a machine that has other things to do
TINY_TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
PROMPT = "u:go<|endoftext|>a:"  # of the speakers below, for a user's "go"
CODE = 'def f(x):\n    return "<b>" + x * 2  # *no* **Markdown** here'
MARKDOWN = f"""It is **bold**, *slanted* and `code`.

## A heading

1. one
2. two
   - inner
   - *more*

```python
{CODE}
```

| a | b |
| --- | --- |
| 1 | 2 |

> said 🎈

---
2 * 3 * 4 is snake_case_name."""
HOSTILE = """<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>
[click](javascript:window.hacked=3) <svg onload=window.hacked=4>
```html
<iframe srcdoc="<script>parent.hacked=5</script>"></iframe>
```
`<b onmouseover=window.hacked=6>` </div></article></body> &lt;i&gt; \u202e{{7*7}}"""
THOUGHT = ("<think>Hm. It is easy.</think>", "Four.")
SLOW = " ".join(f"word{i}." for i in range(190))  # of some 1,500 tokens


@dataclass(frozen=True)
class Server:
    """One that runs: its address, and the folders of its models by name."""

    url: str
    models: dict[str, Path]
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def speakers(
    scripted_folder: Callable[..., Path],
    with_template: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    vocab: Any,
    model: Model,
) -> dict[str, Path]:
    """Models that answer "go" with a given text, byte for byte."""
    folder = tmp_path_factory.mktemp("speakers")
    n_prompt = len(model.tokenizer.encode(PROMPT, allow_special=True))

    def make(name: str, text: str, **options: Any) -> Path:
        ids = [*vocab.byte_ids(text), vocab.end_id]
        script = [vocab.end_id] * (n_prompt - 1) + ids + [vocab.end_id] * 200
        return with_template(scripted_folder(script, **options), folder / name)

    return {
        "markdown": make("markdown", MARKDOWN),
        "hostile": make("hostile", HOSTILE),
        "thinker": make("thinker", "".join(THOUGHT)),
        "slow": make("slow", SLOW, n_layer=60),  # of layers that add nothing but time
    }


@pytest.fixture(scope="session")
def markdown_text() -> str:
    return MARKDOWN


@pytest.fixture(scope="session")
def markdown_code() -> str:
    return CODE


@pytest.fixture(scope="session")
def hostile_text() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def thought() -> tuple[str, str]:
    return THOUGHT


@pytest.fixture(scope="session")
def story(with_template: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model, which answers messages by going on with them."""
    folder = tmp_path_factory.mktemp("story")
    Model.load("tiny", threads=1).save(folder / "tiny")
    return with_template(folder / "tiny", folder / "story", TINY_TEMPLATE)


@contextlib.contextmanager
def serving(models: dict[str, Path], folder: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "pygpt", "serve", *(f"{name}={path}" for name, path in models.items())]
    with (
        (folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            [*command, "--threads", "1", "--cache-memory", "0.5", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            found = re.search(r" at (http://\S+)", process.stdout.readline())
            if found is None:
                pytest.fail((folder / "log").read_text(encoding="utf-8"))
            yield Server(found[1], models, process)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server(speakers: dict[str, Path], story: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = {"story": story, "tiny": Path("tiny"), **speakers}
    with serving(models, tmp_path_factory.mktemp("server"), "--port", "0") as server:
        yield server


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """A server of a test's own."""
    return serving


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        # Its sandbox wants rights that a container may not give; what it opens is our own page.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """The page, opened by a browser that knows nothing of it yet."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.sent: list[dict[str, Any]] = []  # bodies of requests for answers
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)
        self.url = url

    def _said(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _asked(self, request: Any) -> None:
        if request.method == "POST":
            self.sent.append(request.post_data_json)

    def open(self, model: str | None = None) -> Visit:
        self.page.goto(self.url)
        self.page.wait_for_selector("#model option", state="attached")
        if model is not None:
            self.page.select_option("#model", model)
        return self

    def begin(self) -> None:
        """A new conversation."""
        if not self.page.is_visible("#new"):
            self.page.click("#open-sidebar")
        self.page.click("#new")

    def send(self, text: str, *, wait: bool = True) -> None:
        self.page.fill("#message", text)
        self.page.click("#send")
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until the answer has ended."""
        self.page.wait_for_selector("#send", state="visible")

    def until(self, holds: Callable[[], bool]) -> None:
        """The policy of the page forbids what Playwright's own `wait_for_function` does."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end
            self.page.wait_for_timeout(10)

    def set(self, **values: object) -> None:
        """Fill fields of the settings."""
        self.page.click("#open-settings")
        for name, value in values.items():
            self.page.fill(f"#settings [name={name}]", str(value))
        self.page.click("#settings .close")

    @property
    def answers(self) -> list[str]:
        """The texts of the model, as they are in the page."""
        return self.page.locator(".message.assistant .body > .text").all_text_contents()

    @property
    def last(self) -> str:
        """The last message as the browser keeps it."""
        return str(self.kept()[0]["messages"][-1]["content"])

    @property
    def tokens(self) -> Locator:
        """Those of the last answer that can be pointed at."""
        return self.page.locator(".message.assistant").last.locator(".body > .text .token")

    @property
    def numbers(self) -> list[int]:
        """Which tokens those are: white space at the ends of lines is not shown, so 0 need not be the first."""
        return [int(span.get_attribute("data-token") or "") for span in self.tokens.all()]

    def kept(self) -> list[dict[str, Any]]:
        """The conversations as the browser keeps them, the last one first."""
        read = "Object.keys(localStorage).filter(n => n.startsWith('pygpt.conversation.')).map(n => localStorage[n])"
        found = [json.loads(text) for text in self.page.evaluate(read)]
        return sorted(found, key=lambda conversation: -conversation["updated"])


@pytest.fixture
def visits(browser: Browser, server: Server) -> Iterator[Callable[..., Visit]]:
    """Makes a Visit; its options are those of a browser's context. No script may fail in one."""
    made: list[Visit] = []

    def make(*, url: str = server.url, **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE * 1000)
        made.append(Visit(context, url))
        return made[-1]

    yield make
    for visit in made:
        visit.context.close()
    errors: Iterable[str] = [error for visit in made for error in visit.errors]
    assert list(errors) == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    return visits()
