"""Make the pictures of docs/images that show pygpt at work: the terminal, and the server's page.

    python docs/site/screenshots.py

It needs Chromium, the extra `clients`, and a model that answers. Texts are drawn with seeds, so a picture changes only
where what it shows does; but for times. PNGs of few colours, so that they stay small.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text
from terminal import printed

IMAGES = Path(__file__).resolve().parents[1] / "images"
COLUMNS = 88
SHELL = """<style>
body { margin: 0; background: #101512 }
pre { margin: 0; padding: 20px 24px; width: max-content; color: #d8e0dc; font: 15px/1.45 ui-monospace, monospace }
</style>"""
SESSION = (
    'pygpt generate "The old house" --seed 5 --max-tokens 60',
    'pygpt score "The cat sat on the mat." --tokens',
)


def terminal(browser: Browser) -> Page:
    """A session in the terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command in SESSION:
        with tempfile.TemporaryDirectory() as folder:
            out, status = printed(command, Path(folder), TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES="40")
        if status:
            raise SystemExit(f"{command}: {out}")
        console.print(Text(f"$ {command}", style="bold #7fc9ae"))
        console.print(Text.from_ansi(out.replace("\r\n", "\n").rstrip()))
    page = browser.new_page(device_scale_factor=1.5)
    page.set_content(SHELL + console.export_html(inline_styles=True, code_format="<pre>{code}</pre>"))
    return page


@contextlib.contextmanager
def serving(model: str) -> Iterator[str]:
    """The address of a server of the model."""
    command = ["pygpt", "serve", f"qwen2.5-coder={model}", "--port", "0", "--max-tokens", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        found = None
        while found is None:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("pygpt serve ended")
            found = re.search(r"http://\S+", line)
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def conversation(browser: Browser, address: str, colours: str, questions: tuple[str, ...]) -> Page:
    """The server's page after some questions."""
    page = browser.new_page(viewport={"width": 1000, "height": 600}, color_scheme=colours)
    page.goto(address)
    page.click("#open-settings")
    page.fill("#settings [name=temperature]", "0")
    page.click("#settings .close")
    for question in questions:
        page.fill("#message", question)
        page.click("#send")
        page.wait_for_selector("#send", state="visible", timeout=120_000)  # where the button to stop was
    return page


def point_at(page: Page, n: int) -> Page:
    """Shows the card of a token of the last answer."""
    page.locator(".message.assistant").last.locator(".token").nth(n).hover()
    page.wait_for_selector("#card", state="visible")
    return page


def save(shown: Any, name: str) -> None:
    """A PNG with a palette."""
    from PIL import Image

    path = IMAGES / f"{name}.png"
    shown.screenshot(path=path)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(64)
    few.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of docs/images that show pygpt at work.")
    parser.add_argument("--model", default="Qwen/Qwen2.5-Coder-0.5B-Instruct", help="a model that answers")
    model = parser.parse_args().model
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        save(terminal(browser).locator("pre"), "terminal")
        with serving(model) as address:
            questions = ("What is the capital of France?", "Which river flows through it?")
            save(point_at(conversation(browser, address, "light", questions), 5), "page")
            dark = conversation(browser, address, "dark", questions[:1])
            dark.get_by_text("Tokens", exact=True).click()
            save(point_at(dark, 5), "page-tokens")
        browser.close()


if __name__ == "__main__":
    main()
