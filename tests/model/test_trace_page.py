"""The page of a trace, and its tokens in a notebook: what they say is what the trace says, and text stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pygpt
from pygpt import Model, Site
from pygpt.trace_html import MILLIBITS, SCALE, UNKNOWN
from pygpt.trace_text import line

HOSTILE = "</script><img src=x onerror=alert(1)>\n<!-- & \"q\" 'a' {{data}} \u202eabc\t 你好 🎈 naïve"


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load("tiny", threads=1)


def unpacked(entry: dict[str, Any]) -> NDArray[Any]:
    data = zlib.decompress(base64.b64decode(entry["data"]))
    return np.frombuffer(data, np.dtype(entry["type"]).newbyteorder("<")).reshape(entry["shape"])


def bits(entry: dict[str, Any]) -> NDArray[Any]:
    stored = unpacked(entry)
    return np.where(stored == UNKNOWN, np.nan, stored / MILLIBITS)


class Elements(HTMLParser):
    """The tags of a page, and what stands in its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.raw: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in ("script", "style"):
            self.raw.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.raw[-1] += data
        else:
            self.text += data


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="trace">(.*?)</script>', page, re.S)
    assert found is not None
    contents: dict[str, Any] = json.loads(found[1])
    return contents


def test_the_page_has_what_the_trace_has(tiny: Model) -> None:
    trace = tiny.trace("The cat sat on the mat, and the dog", layers=[0, 3, 5], attention=True, top=4)
    data = data_of(trace.html("tiny", top=3))
    words = data["words"]
    assert [words[i] for i in data["tokens"]] == list(trace.pieces)
    assert data["ids"] == list(trace.ids)
    assert data["layers"] == [0, 3, 5]
    half = 0.5 / MILLIBITS + 1e-6
    np.testing.assert_allclose(bits(data["surprisal"]), trace.surprisal, atol=half)
    np.testing.assert_allclose(bits(data["entropy"]), trace.entropy, atol=half)
    for found, expected in ((data["next"], trace.alternatives), (data["lens"], trace.lens(top=3))):
        assert [words[i] for i in unpacked(found["words"]).flat] == expected.pieces.ravel().tolist()
        np.testing.assert_allclose(bits(found["bits"]), -np.log2(expected.probabilities), atol=half)


def test_attention_is_rounded_to_percents(tiny: Model) -> None:
    trace = tiny.trace("The cat sat on the mat, and the dog", attention=True)
    assert trace.attention is not None
    stored = data_of(trace.html())["attention"]
    assert stored["scale"] == list(SCALE)
    n_head, n_token = trace.attention.shape[1:3]
    keys, queries = np.triu_indices(n_token)
    for layer, expected in zip(stored["layers"], trace.attention, strict=True):
        maps = np.zeros_like(expected)
        maps[:, queries, keys] = np.array(SCALE)[unpacked(layer)]
        assert maps.shape == (n_head, n_token, n_token)
        assert np.abs(maps - expected).max() <= 0.005 + 1e-6
        small = expected < 0.0035
        assert np.abs(maps - expected)[small].max() <= 0.0015 + 1e-6


def test_what_overflowed_is_shown_as_none(model: Model) -> None:
    data = data_of(model.trace([1, 2, 3], patch={Site("hidden", 0): 3e38}).html())
    assert bits(data["next"]["bits"]).min() > 65
    assert np.isnan(bits(data["surprisal"])).all()
    trace = model.trace([1, 2, 3], attention=True, patch={Site("queries", 0): 3e38, Site("keys", 0): -3e38})
    assert trace.attention is not None
    assert np.isnan(trace.attention[0]).any()
    assert not unpacked(data_of(trace.html())["attention"]["layers"][0]).any()


def test_text_of_any_kind_stays_text(tiny: Model) -> None:
    trace = tiny.trace(HOSTILE, attention=True)
    plain = Elements(tiny.trace("a", attention=True).html("m"))
    page = Elements(trace.html("m"))
    assert page.tags == plain.tags
    assert page.text == plain.text
    assert Elements(trace.html(HOSTILE)).tags == plain.tags
    assert "".join(tiny.tokenizer.decode(data_of(trace.html())["ids"])) == HOSTILE
    shown = Elements(trace._repr_html_())
    assert set(shown.tags) == {"div", "span"}
    assert {name for name, _ in shown.attributes} == {"style", "title"}
    assert shown.text.startswith(HOSTILE[:30])
    assert "⟨202E⟩abc⟨0009⟩" in shown.text


def test_nothing_is_fetched_and_the_policy_knows_the_script(tiny: Model) -> None:
    page = tiny.trace("Once upon a time").html()
    found = Elements(page)
    assert not {"link", "img", "iframe", "object", "base", "form", "a"} & {*found.tags} - {"link"}
    sources = [value for name, value in found.attributes if name in ("src", "href", "srcset", "action", "style")]
    assert [value[:19] for value in sources if value] == ["data:image/svg+xml,"]
    assert "@import" not in page
    assert "url(" not in page
    policy = next(
        html.unescape(value) for name, value in found.attributes if name == "content" and value[:11] == "default-src"
    )
    style, _, script = found.raw
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)}
    assert {*re.findall(r"'sha256-([^']+)'", policy)} == hashes
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert f'"version":"{pygpt.__version__}"' in page


def test_parts_of_characters_are_bytes_and_their_end_is_the_character(tiny: Model) -> None:
    trace = tiny.trace("a你𐍈")
    data = data_of(trace.html())
    shown = [data["words"][i] for i in data["tokens"]]
    assert shown == ["a", *([f"\\x{byte:02x}"] for byte in "你𐍈".encode())]
    assert data["whole"] == {"3": "你", "7": "𐍈"}
    assert "\ufffd" not in trace._repr_html_()
    assert [line(text) for text in ("a b\n", "", "\u200b")] == ["a␣b↵", "∅", "⟨200B⟩"]


def test_several_hundred_tokens_are_small(tiny: Model) -> None:
    ids = np.random.default_rng(0).integers(0, 4000, 400)
    page = tiny.trace(ids, attention=True).html()
    assert len(page.encode()) < 1_000_000  # the weights of attention are 15 million bytes
    assert len(tiny.trace(ids).html().encode()) < 200_000


def test_a_trace_of_less_has_a_page(tiny: Model, model: Model) -> None:
    for trace in (tiny.trace("a"), tiny.trace("a b", layers=[], attention=True), model.trace([1, 2, 3], top=1)):
        data = data_of(trace.html(top=2))
        assert data["attention"] is None
        assert (data["lens"] is None) == (not trace.layers)
        assert "tokens" in trace._repr_html_()


def test_a_model_without_a_tokenizer_has_numbers(tiny: Model) -> None:
    config = tiny.config
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in config.tensor_shapes().items()}
    trace = Model.from_tensors(config, tensors, threads=1).trace([5, 6])
    data = data_of(trace.html())
    assert [data["words"][i] for i in data["tokens"]] == ["#5", "#6"]
    assert "#5" in trace._repr_html_()


def test_wrong_arguments_are_named(tiny: Model) -> None:
    trace = tiny.trace("a")
    with pytest.raises(TypeError, match="model must be of type str"):
        trace.html(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top must be"):
        trace.html(top=0)
