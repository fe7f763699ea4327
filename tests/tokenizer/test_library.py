"""What goes through Hugging Face's library: Unigram, normalisers, GPT-1's words, other tokenizer.json files."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.model_file import read_model_file

DATA = Path(__file__).resolve().parents[1] / "data"
GOLDENS: dict[str, Any] = json.loads((DATA / "pieces" / "goldens.json").read_text(encoding="utf-8"))
TEXTS: list[str] = GOLDENS["texts"]
VOCAB: dict[str, int] = json.loads((DATA / "tokens" / "vocab.json").read_text(encoding="utf-8"))
MERGES = [tuple(m.split()) for m in (DATA / "tokens" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]]
WORDS = {t: i for i, t in enumerate(["<unk>", *"abcdeh,.'", *(f"{c}</w>" for c in "abcdeh,.'"), "th", "he</w>", "ab"])}
WORDS |= {"t": len(WORDS), "t</w>": len(WORDS) + 1, "the</w>": len(WORDS) + 2}
WORD_MERGES = [("t", "h"), ("h", "e</w>"), ("th", "e</w>"), ("t", "he</w>"), ("a", "b")]

Maker = Callable[..., Any]


def metadata(name: str, **changes: object) -> dict[str, object]:
    """A model of SentencePiece as GGUF files hold it."""
    model = read_model_file(DATA / "pieces" / f"{name}.model")
    return {
        "tokenizer.ggml.model": "t5" if model.model_type == 1 else "llama",
        "tokenizer.ggml.tokens": [piece.encode() for piece in model.pieces],
        "tokenizer.ggml.scores": np.array(model.scores, np.float32),
        "tokenizer.ggml.token_type": np.array(model.types, np.int32),
        "tokenizer.ggml.bos_token_id": model.bos_id,
        "tokenizer.ggml.eos_token_id": model.eos_id,
        "tokenizer.ggml.unknown_token_id": model.unk_id,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": model.remove_extra_whitespaces,
        "tokenizer.ggml.precompiled_charsmap": np.frombuffer(model.charsmap, np.uint8),
    } | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def folder(name: str, target: Path, **config: object) -> Tokenizer:
    """A checkpoint's folder with tokenizer.model."""
    (target / "tokenizer.model").write_bytes((DATA / "pieces" / f"{name}.model").read_bytes())
    (target / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "bos_token": "<s>"} | config))
    tokenizer = Tokenizer.from_folder(target)
    assert tokenizer is not None
    return tokenizer


def check(tokenizer: Tokenizer, name: str) -> None:
    for text, ids, decoded in zip(TEXTS, GOLDENS[name], GOLDENS[f"{name}-decoded"], strict=True):
        if "unigram" in name and (text == "<0x0A>" or "aaaaaaa" in text):
            continue  # the library finds the token of a byte by its name, and chooses between equals in its own way
        assert tokenizer.encode(text) == ids, text
        if "normalized" in name and "\u2581" in text:
            continue  # a text that begins with spaces after all
        assert tokenizer.decode(ids) == decoded
        stream = tokenizer.stream()
        for _ in range(2):
            assert "".join([*map(stream.push, ids), stream.finish()]) == decoded


@pytest.mark.parametrize("name", ["llama", "gemma", "normalized", "unigram", "unigram-normalized"])
def test_sentencepiece_equals_original(name: str, tmp_path: Path) -> None:
    model = folder(name, tmp_path)
    check(model, name)
    gguf = Tokenizer.from_gguf(metadata(name), "x.gguf")
    check(gguf, name)
    (tmp_path / "saved").mkdir()
    gguf.save(tmp_path / "saved")
    saved = Tokenizer.from_folder(tmp_path / "saved")
    assert saved is not None
    check(saved, name)
    assert saved.special_tokens == gguf.special_tokens == model.special_tokens
    (tmp_path / "copied").mkdir()
    model.save(tmp_path / "copied")
    copied = Tokenizer.from_folder(tmp_path / "copied")
    assert copied is not None
    check(copied, name)


@pytest.mark.parametrize("name", ["llama", "unigram-normalized"])
def test_special_tokens_of_tokenizer_model(name: str, tmp_path: Path) -> None:
    tokenizer = folder(name, tmp_path, add_bos_token=True)
    plain = tokenizer.encode("to be", add_special=False)
    assert tokenizer.encode("to be") == [1, *plain]
    assert tokenizer.encode("<s>to be", add_special=False, allow_special=True) == [1, *plain]
    for text in ("<s>to be<unk>", "\U0010ffff1", "\U0010ffff 1"):
        assert not {0, 1} & {*tokenizer.encode(text, add_special=False)}
    assert tokenizer.decode([1, *plain]).startswith("<s>")
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    (tmp_path / "tokenizer_config.json").unlink()
    alone = Tokenizer.from_folder(tmp_path)
    assert alone is not None
    assert (alone.bos_id, alone.eos_id, alone.encode("to be")) == (1, 2, [1, *plain])
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLNetTokenizer"}')
    other = Tokenizer.from_folder(tmp_path)
    assert other is not None
    with pytest.raises(TokenizerError, match=r"'XLNetTokenizer': of tokenizer\.model pygpt reads Llama"):
        other.encode("a")


def test_a_text_goes_on() -> None:
    tokenizer = Tokenizer.from_gguf(metadata("unigram"), "x.gguf")
    ids = tokenizer.encode("to be")
    assert tokenizer.decode(ids, after=[1]) == "to be"
    assert tokenizer.decode(ids, after=[1, *ids]) == " to be"
    stream = tokenizer.stream(after=[1, *ids])
    for _ in range(2):
        assert "".join([*map(stream.push, ids), stream.finish()]) == " to be"
    assert tokenizer.decode([10**6, *ids, 899 + 10]) == "to be"
    half = tokenizer.encode("\U0001d4b3")[:-1]
    stream = tokenizer.stream()
    assert {*map(stream.push, half)} == {""}
    assert "\ufffd" in stream.finish()


@pytest.mark.parametrize("name", ["llama", "gemma", "unigram"])
def test_the_bytes_of_tokens(name: str) -> None:
    """Together they are the text, also where a token is a part of a character."""
    tokenizer = Tokenizer.from_gguf(metadata(name), "x.gguf")
    text = "to be, \U0001d4b3 or\nnot"
    ids = tokenizer.encode(text, add_special=False, continues=True)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
    spaced = b"" if name == "gemma" else b" "
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode("to", add_special=False))) == spaced + b"to"
    special = tokenizer.special_tokens
    assert {tokenizer.token_bytes(i).decode(): i for i in special.values()} == special
    assert tokenizer.token_bytes(10**6) == b""
    with pytest.raises(ValueError, match="0 or more"):
        tokenizer.token_bytes(-1)


def gpt1() -> Any:
    """As transformers makes it of vocab.json and merges.txt."""
    library = tokenizers.Tokenizer(
        models.BPE(vocab=WORDS, merges=WORD_MERGES, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.BPEDecoder(suffix="</w>")
    library.add_special_tokens(["<unk>"])
    return library


@pytest.mark.parametrize("kind", [None, "OpenAIGPTTokenizer"])
def test_words_of_gpt1(kind: str | None, tmp_path: Path) -> None:
    """Lower-cased words that end in </w>, as its own two files have them and as tokenizer.json."""
    (tmp_path / "vocab.json").write_text(json.dumps(WORDS))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, WORD_MERGES)) + "\n")
    if kind is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "do_lower_case": True}))
    tokenizer = Tokenizer.from_folder(tmp_path)
    library = gpt1()
    (tmp_path / "other").mkdir()
    library.save(str(tmp_path / "other" / "tokenizer.json"))
    other = Tokenizer.from_folder(tmp_path / "other")
    assert tokenizer is not None
    assert other is not None
    assert tokenizer.encode("The ab, Thé") == [WORDS[t] for t in ("the</w>", "a", "b</w>", ",</w>", "the</w>")]
    for text in [*TEXTS, "the the the. bad 'bed'", "a b\nc\td"]:
        library.encode_special_tokens = True
        ids = library.encode(text).ids
        assert tokenizer.encode(text) == other.encode(text) == ids
        decoded = library.decode(ids, skip_special_tokens=False)
        stream = tokenizer.stream()
        assert tokenizer.decode(ids) == "".join([*map(stream.push, ids), stream.finish()]) == decoded
    assert tokenizer.decode([WORDS["the</w>"]], after=[WORDS["the</w>"]]) == " the"
    assert tokenizer.special_tokens == {"<unk>": 0}


def byte_level(**steps: Any) -> Any:
    library = tokenizers.Tokenizer(models.BPE(vocab=VOCAB, merges=MERGES))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    for name, step in steps.items():
        setattr(library, name, step)
    return library


def byte_level_last(*steps: Any) -> Any:
    return byte_level(pre_tokenizer=pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(False, use_regex=False)]))


def of_characters(**steps: Any) -> Any:
    model = read_model_file(DATA / "pieces" / "llama.model")
    vocab = {piece: i for i, piece in enumerate(model.pieces)}
    merges = [(t[:n], t[n:]) for t in vocab for n in range(1, len(t)) if t[:n] in vocab and t[n:] in vocab]
    bpe = models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    library = tokenizers.Tokenizer(bpe)
    library.decoder = decoders.Metaspace()
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    for name, step in steps.items():
        setattr(library, name, step)
    return library


OTHERS = {
    "lower case": byte_level(normalizer=normalizers.Lowercase()),
    "punctuation": byte_level_last(pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(False)),
    "anchors": byte_level_last(pre_tokenizers.Split(Regex(r"^\w+|\b"), "isolated")),
    "merged with previous": byte_level_last(pre_tokenizers.Split(" ", "merged_with_previous")),
    "Mistral": of_characters(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "words": of_characters(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always", split=True)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_equal_the_library(name: str, tmp_path: Path) -> None:
    library = OTHERS[name]
    library.add_special_tokens(["<s>"])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer is not None
    r = random.Random(0)
    alphabet = sorted({*"".join(TEXTS)})
    texts = [*TEXTS, "<s>a<s> b", *("".join(r.choices(alphabet, k=r.randint(1, 30))) for _ in range(100))]
    for text in texts:
        for allow in (False, True):
            library.encode_special_tokens = not allow
            ids = library.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, allow_special=allow, add_special=False) == ids, text
            assert tokenizer.decode(ids) == library.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", ["llama", "gemma", "unigram", "Mistral", "words", "lower case"])
def test_a_text_in_parts(name: str, tmp_path: Path) -> None:
    """Cut between words, the parts have the tokens of the whole; only the first gets the space before a text."""
    if name in OTHERS:
        OTHERS[name].save(str(tmp_path / "tokenizer.json"))
        found = Tokenizer.from_folder(tmp_path)
        assert found is not None
        tokenizer = found.with_special({"<sep>": 5000})
    else:
        tokenizer = Tokenizer.from_gguf(metadata(name), "x.gguf").with_special({"<sep>": 5000})
    first, second = "So shaken as we are,", " so wan with care,\nFind we a time"
    for begin, rest in ((first, second), (first, "\n\nx"), ("", first), (first, second + "<sep>" + first)):
        ids = tokenizer.encode(begin, allow_special=True) if begin else []
        ids += tokenizer.encode(rest, allow_special=True, continues=bool(begin))
        assert ids == tokenizer.encode(begin + rest, allow_special=True)
    assert (
        tokenizer.decode(tokenizer.encode(second, continues=True), after=tokenizer.encode(first)).lower()
        == second.lower()
    )


@pytest.mark.parametrize("name", ["llama", "unigram"])
def test_copies(name: str) -> None:
    tokenizer = pickle.loads(pickle.dumps(Tokenizer.from_gguf(metadata(name), "x.gguf")))
    assert tokenizer.encode("to be") == Tokenizer.from_gguf(metadata(name), "x.gguf").encode("to be")


def test_a_token_beyond_a_gap_keeps_its_id(document: Maker, from_json: Maker) -> None:
    added = [{"id": i, "content": t, "special": True} for t, i in (("<a>", 5000), ("<b>", 4000))]
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = from_json(document(added_tokens=added, normalizer={"type": "Lowercase"}, decoder=decoder))
    assert tokenizer.encode("x<a>X<b>", allow_special=True) == [VOCAB["x"], 5000, VOCAB["x"], 4000]
    assert tokenizer.decode([5000, VOCAB["x"], 4000]) == "<a>x<b>"
    assert (tokenizer.n_vocab, tokenizer.special_tokens) == (5001, {"<a>": 5000, "<b>": 4000})
    more = tokenizer.with_special({"<c>": 6000})
    assert more.encode("<c>", allow_special=True) == [6000]


def test_lone_surrogates_and_long_words() -> None:
    tokenizer = Tokenizer.from_gguf(metadata("unigram"), "x.gguf")
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
    for text in ("to" * 50_000, "\U0001d4b3" * 10_000):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_pieces_of_llama2c() -> None:
    """Its rule is SentencePiece's; spaces are spelled as they are, control tokens on lines of their own."""
    model = read_model_file(DATA / "pieces" / "llama.model")
    names = {1: "\n<s>\n", 2: "\n</s>\n"}
    pieces = [names.get(i, piece.replace("\u2581", " ")).encode() for i, piece in enumerate(model.pieces)]
    tokenizer = Tokenizer.from_pieces(pieces, model.scores, bos_id=1, eos_id=2, source="tokenizer.bin")
    for text, ids in zip(TEXTS, GOLDENS["llama"], strict=True):
        assert tokenizer.encode(text) == [1, *ids]
    assert tokenizer.decode(tokenizer.encode("to be"), after=[]) == "<s> to be"
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.n_vocab) == (1, 2, 900)
    damaged = {"pieces": [pieces[:-1], [b"\xff"] * 900], "bos_id": [900, -1], "scores": [[np.nan] * 900]}
    for key, value in [(key, value) for key, values in damaged.items() for value in values]:
        arguments: dict[str, Any] = {"pieces": pieces, "scores": model.scores, "bos_id": 1, "eos_id": 2, key: value}
        with pytest.raises(TokenizerError, match=r"tokenizer\.bin: "):
            Tokenizer.from_pieces(**arguments, source="tokenizer.bin").encode("a")


def test_llama2cs_own_vocabulary() -> None:
    """That of stories260K, against the loop of llama2.c's run.c."""
    path = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K" / "tok512.bin"
    if not path.is_file():
        pytest.skip("the vocabulary is not at ../shared/models/stories260K/tok512.bin")
    data, at = path.read_bytes(), 4
    pieces, scores = [], []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        scores.append(score)
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    tokenizer = Tokenizer.from_pieces(pieces, scores, bos_id=1, eos_id=2, source=path.name)
    ids = {piece: i for i, piece in enumerate(pieces)}
    for text in [
        "Once upon a time, there was a little girl.",
        *(t for t in TEXTS if "\u2581" not in t and len(t) < 300),
    ]:
        tokens = [1, ids[b" "]] if text else [1]
        for character in map(str.encode, text):
            tokens += [ids[character]] if character in ids else [byte + 3 for byte in character]
        while True:
            found = [ids.get(pieces[a] + pieces[b]) for a, b in itertools.pairwise(tokens)]
            places = [place for place, i in enumerate(found) if i is not None]
            if not places:
                break
            best = max(places, key=lambda place: scores[found[place] or 0])  # the leftmost of equal ones
            tokens[best : best + 2] = [found[best] or 0]
        assert tokenizer.encode(text) == tokens
