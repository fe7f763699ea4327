"""Generation: what is drawn, where it stops, and what the text is."""

import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pygpt
from pygpt import CancelToken, Model
from pygpt.errors import ContextOverflowError
from pygpt.generation import SamplingOptions
from pygpt.generation.text import StopFilter

Scripted = Callable[[Iterable[int]], Model]
PROMPT = "in the"


def greedy_by_hand(model: Model, prompt: list[int], n: int) -> list[int]:
    """At most n tokens, each the likeliest after a computation of all before it; the end token is the last."""
    ids = list(prompt)
    while len(ids) < len(prompt) + n and (len(ids) == len(prompt) or ids[-1] not in model.config.eos_ids):
        ids.append(int(np.argmax(model.logits(ids)[-1])))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompt", [PROMPT, "a", "on and on"])
def test_greedy_is_the_argmax_of_recomputed_logits(model: Model, prompt: str) -> None:
    done = model.generate(prompt, max_tokens=20, temperature=0)
    expected = greedy_by_hand(model, model.tokenizer.encode(prompt), 20)
    assert list(done.tokens) == expected
    assert done.finish_reason == ("stop" if expected[-1] in model.config.eos_ids else "length")


def test_a_prompt_may_be_ids_of_any_kind(model: Model) -> None:
    ids = model.tokenizer.encode(PROMPT)
    expected = model.generate(PROMPT, max_tokens=8, temperature=0)
    for prompt in (ids, tuple(ids), np.array(ids, np.int64), np.array(ids, np.uint16), np.array(ids)[::1]):
        assert model.generate(prompt, max_tokens=8, temperature=0).tokens == expected.tokens


@pytest.mark.parametrize("same", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}, {"temperature": 1e-6}])
def test_the_narrowest_filters_equal_greedy(model: Model, same: dict[str, float]) -> None:
    greedy = model.generate(PROMPT, max_tokens=16, temperature=0)
    options = SamplingOptions(temperature=2.0, top_p=None, seed=3)
    assert model.generate(PROMPT, max_tokens=16, **{**options, **same}).tokens == greedy.tokens


def test_a_seed_repeats_and_another_differs(model: Model) -> None:
    runs = [model.generate(PROMPT, max_tokens=30, temperature=2.0, top_p=None, seed=s) for s in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0].tokens != runs[2].tokens


def test_without_a_seed_each_run_draws_a_fresh_one_and_says_it(model: Model) -> None:
    first, second = (model.generate(PROMPT, max_tokens=30, temperature=2.0, top_p=None) for _ in range(2))
    assert first.seed != second.seed
    again = model.generate(PROMPT, max_tokens=30, temperature=2.0, top_p=None, seed=first.seed)
    assert again == first


def test_n_sequences_differ_and_the_first_is_the_single_one(model: Model) -> None:
    options = SamplingOptions(max_tokens=24, temperature=2.0, top_p=None, seed=1, logprobs=2)
    single = model.generate(PROMPT, **options)
    several = model.generate(PROMPT, n=3, **options)
    assert isinstance(several, list)
    assert several[0] == single
    assert len({c.tokens for c in several}) == 3


def test_n_sequences_may_end_at_different_lengths(model: Model) -> None:
    several = model.generate(PROMPT, n=8, max_tokens=40, temperature=3.0, top_p=None, seed=0, stop=["a", "e", "\x00"])
    assert isinstance(several, list)
    assert len({len(c.tokens) for c in several}) > 1
    alone = model.generate(PROMPT, max_tokens=40, temperature=3.0, top_p=None, seed=0, stop=["a", "e", "\x00"])
    assert several[0] == alone


def test_a_repetition_penalty_forbids_repeats_when_it_is_huge(model: Model) -> None:
    plain = model.generate(PROMPT, max_tokens=40, temperature=0)
    done = model.generate(PROMPT, max_tokens=40, temperature=0, repetition_penalty=1e30)
    assert len(set(done.tokens)) == len(done.tokens)
    assert not set(done.tokens) & set(model.tokenizer.encode(PROMPT))
    assert len(set(plain.tokens)) < len(plain.tokens)


def test_a_presence_penalty_forbids_repeats_of_the_new_text_alone(model: Model) -> None:
    done = model.generate(PROMPT, max_tokens=40, temperature=0, presence_penalty=1e30)
    assert len(set(done.tokens)) == len(done.tokens)
    ids = model.tokenizer.encode(PROMPT)
    best = int(np.argmax(model.logits(ids)[-1]))
    assert model.generate([*ids, best], max_tokens=1, temperature=0, presence_penalty=1e30).tokens == (
        int(np.argmax(model.logits([*ids, best])[-1])),
    )
    counted = model.generate(PROMPT, max_tokens=40, temperature=0, frequency_penalty=0.5)
    assert max(map(counted.tokens.count, counted.tokens)) < 40
    assert counted != model.generate(PROMPT, max_tokens=40, temperature=0)


def test_biases_ban_and_choose(model: Model) -> None:
    plain = model.generate(PROMPT, max_tokens=1, temperature=0).tokens[0]
    assert model.generate(PROMPT, max_tokens=8, temperature=0, logit_bias={7: 1e9}).tokens == (7,) * 8
    banned = model.generate(PROMPT, max_tokens=40, temperature=2.0, logit_bias={plain: -math.inf}, seed=1)
    assert plain not in banned.tokens
    with pytest.raises(ValueError, match="logit_bias of 264 is for no token of the vocabulary of 264"):
        model.generate(PROMPT, logit_bias={3: 1.0, 264: 1.0})


def test_a_processor_changes_logits_first(model: Model) -> None:
    seen: list[list[int]] = []

    def only_7_after_8(tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
        seen.append(tokens.tolist())
        if tokens[-1] == 8:
            return np.where(np.arange(len(logits)) == 7, 0.0, -np.inf)  # other floats are taken as well
        logits[:] = 0.0
        logits[8] = 1e9
        return None

    done = model.generate([3, 5], max_tokens=4, temperature=1, seed=0, logprobs=1, logits_processor=only_7_after_8)
    assert done.tokens == (8, 7, 8, 7)
    assert seen == [[3, 5], [3, 5, 8], [3, 5, 8, 7], [3, 5, 8, 7, 8]]
    assert done.logprobs is not None
    plain = model.generate([3, 5], max_tokens=1, logprobs=1, logit_bias={8: 1e9})
    assert plain.logprobs is not None
    assert done.logprobs[0] == plain.logprobs[0]  # the model's own
    speculated = model.generate([3, 5, 8, 7], max_tokens=9, logits_processor=only_7_after_8, speculate="prompt")
    assert speculated.tokens == (8, 7, 8, 7, 8, 7, 8, 7, 8)


@pytest.mark.parametrize("returned", [np.zeros(3, np.float32), "x", np.zeros((264, 1)), np.arange(264)])
def test_a_processor_that_returns_no_logits_is_refused(model: Model, returned: Any) -> None:
    with pytest.raises(ValueError, match=r"^logits_processor must return None or float logits of shape"):
        model.generate(PROMPT, max_tokens=1, logits_processor=lambda tokens, logits: returned)


def test_top_k_draws_only_from_the_k_likeliest(model: Model) -> None:
    done = model.generate(PROMPT, max_tokens=40, temperature=5.0, top_k=3, top_p=None, seed=0, logprobs=3)
    assert done.logprobs is not None
    for entry in done.logprobs:
        assert entry.token in [token for token, _ in entry.top]
    assert any(entry.token != entry.top[0][0] for entry in done.logprobs)


def test_logprobs_are_the_models_own(model: Model) -> None:
    done = model.generate(PROMPT, max_tokens=12, temperature=0.3, repetition_penalty=1.3, seed=2, logprobs=4)
    ids = model.tokenizer.encode(PROMPT)
    scores = model.score([*ids, *done.tokens])[len(ids) - 1 :]
    assert done.logprobs is not None
    assert [e.token for e in done.logprobs] == list(done.tokens)
    assert [e.logprob for e in done.logprobs] == scores.tolist()
    rows = model.logits([*ids, *done.tokens])[len(ids) - 1 : -1]
    for entry, row in zip(done.logprobs, rows, strict=True):
        assert [token for token, _ in entry.top] == np.argsort(-row, kind="stable")[:4].tolist()
    assert model.generate(PROMPT, max_tokens=3).logprobs is None
    only_chosen = model.generate(PROMPT, max_tokens=3, logprobs=0).logprobs
    assert only_chosen is not None
    assert [e.top for e in only_chosen] == [()] * len(only_chosen)


# --- where it ends -------------------------------------------------------------------------------------------------


def test_the_end_token_stops_and_is_not_text(scripted: Scripted, vocab) -> None:
    model = scripted([*vocab.byte_ids("xhello"), vocab.end_id, *vocab.byte_ids("more")])
    done = model.generate([0], temperature=0)
    assert (done.text, done.finish_reason) == ("xhello", "stop")
    assert done.tokens[-1] == vocab.end_id
    assert len(done.tokens) == 7


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("lo w", "hel"),
        (["zzz", "world"], "hello "),
        (["world", "o w"], "hell"),
        ("h", ""),
        (["hello world!", "d"], "hello worl"),
        ("!?", "hello world!"),
        ("wor1d", "hello world!"),
        ((), "hello world!"),
    ],
)
def test_stop_strings_span_tokens_and_are_not_text(scripted: Scripted, vocab, stop: str | list[str], text: str) -> None:
    model = scripted([*vocab.byte_ids("hello world!"), vocab.end_id])
    done = model.generate([0], temperature=0, stop=stop)
    assert (done.text, done.finish_reason) == (text, "stop")
    pieces = list(model.stream([0], temperature=0, stop=stop))
    assert "".join(p.text for p in pieces) == text
    assert tuple(p.token for p in pieces) == done.tokens


def test_a_stream_holds_back_what_could_become_a_stop_string(scripted: Scripted, vocab) -> None:
    model = scripted([*vocab.byte_ids("ab abc abd"), vocab.end_id])
    pieces = [p.text for p in model.stream([0], temperature=0, stop="abd")]
    assert pieces == ["", "", "ab ", "", "", "abc", " ", "", "", ""]


def test_held_back_text_is_given_at_the_end(scripted: Scripted, vocab) -> None:
    model = scripted(vocab.byte_ids("hello wonder"))
    done = model.generate([0], temperature=0, stop="world", max_tokens=8)
    assert (done.text, done.finish_reason) == ("hello wo", "length")


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 3, 4, 5, 6, 7), (2, 6)])
def test_the_stop_filter_does_not_depend_on_the_cuts(cuts: tuple[int, ...]) -> None:
    text = "xabcaby"
    for stops, expected in ((("abc", "b"), "xa"), (("caby", "aby"), "xab"), (("ab", "abc"), "x"), (("zz",), text)):
        stop_filter = StopFilter(stops)
        out, hit = "", False
        for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
            if not hit:
                more, hit = stop_filter.feed(text[start:end])
                out += more
        assert out + ("" if hit else stop_filter.finish()) == expected


def test_the_context_ends_a_generation(model: Model) -> None:
    n_ctx = model.config.n_ctx
    for room, max_tokens in ((5, None), (5, 99), (1, 9)):
        prompt = [1] * (n_ctx - room)
        expected = greedy_by_hand(model, prompt, room)
        assert not set(expected) & set(model.config.eos_ids)  # or it is not the context that ends it
        done = model.generate(prompt, max_tokens=max_tokens, temperature=0)
        assert (list(done.tokens), done.finish_reason) == (expected, "length")
        assert len(done.tokens) == room


@pytest.mark.parametrize("extra", [0, 1])
def test_a_prompt_that_fills_the_context_is_refused(model: Model, extra: int) -> None:
    n_tokens = model.config.n_ctx + extra
    with pytest.raises(ContextOverflowError, match=f"{n_tokens} tokens.* context of {model.config.n_ctx}"):
        model.generate([1] * n_tokens)


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["aé€😀z", "日本語テキスト", "👩‍👩‍👧‍👦 ok"])
def test_a_stream_never_yields_half_a_character(scripted: Scripted, vocab, text: str) -> None:
    model = scripted([*vocab.byte_ids(text), vocab.end_id])
    pieces = [p.text for p in model.stream([0], temperature=0)]
    assert "".join(pieces) == text
    assert [p for p in pieces if p] == list(text)


def test_an_incomplete_character_at_the_end_is_left_out(scripted: Scripted, vocab) -> None:
    model = scripted(vocab.byte_ids("ab😀"))
    done = model.generate([0], temperature=0, max_tokens=5)
    assert (done.text, len(done.tokens)) == ("ab", 5)


def test_bytes_that_are_no_character_become_replacement_characters(scripted: Scripted, vocab) -> None:
    euro = vocab.byte_ids("€")
    model = scripted([*vocab.byte_ids("a"), *euro[:2], *vocab.byte_ids("b"), vocab.end_id])
    assert model.generate([0], temperature=0).text == "a\ufffdb"


def test_a_stream_gives_what_generate_gives(model: Model) -> None:
    options = SamplingOptions(max_tokens=30, temperature=1.5, seed=9, logprobs=1, stop=["q"])
    several = model.generate(PROMPT, n=3, **options)
    stream = model.stream(PROMPT, n=3, **options)
    pieces = list(stream)
    assert isinstance(several, list)
    assert stream.seed == 9
    for i, done in enumerate(several):
        own = [p for p in pieces if p.index == i]
        assert "".join(p.text for p in own) == done.text
        assert tuple(p.token for p in own) == done.tokens
        assert tuple(p.logprob for p in own) == done.logprobs
        assert [p.finish_reason for p in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == done.finish_reason


def test_arguments_are_checked_before_the_first_piece(model: Model) -> None:
    with pytest.raises(ValueError, match="temperature"):
        model.stream(PROMPT, temperature=-1)
    with pytest.raises(ContextOverflowError):
        model.stream([1] * 100)


# --- cancelling ----------------------------------------------------------------------------------------------------


def test_cancelling_a_stream_ends_it_with_a_last_piece(model: Model) -> None:
    stream = model.stream(PROMPT, n=2, temperature=1.0, seed=0)
    first = [next(stream), next(stream)]
    stream.cancel()
    rest = list(stream)
    assert [p.index for p in first] == [0, 1]
    assert [(p.token, p.index, p.finish_reason) for p in rest] == [(None, 0, "cancelled"), (None, 1, "cancelled")]


def test_a_token_that_is_cancelled_already_stops_at_once(model: Model) -> None:
    cancel = CancelToken()
    assert not cancel.cancelled
    cancel.cancel()
    assert cancel.cancelled
    done = model.generate(PROMPT, n=2, cancel=cancel, logprobs=1)
    assert isinstance(done, list)
    assert [(c.text, c.tokens, c.finish_reason, c.logprobs) for c in done] == [("", (), "cancelled", ())] * 2


def test_cancelling_from_another_thread_keeps_what_there_is(gpt2_folder) -> None:
    model = Model.load(gpt2_folder, threads=1)
    cancel = CancelToken()
    result: list[pygpt.Completion] = []

    def work() -> None:
        while not cancel.cancelled:  # generations are short; keep one running until the cancel comes
            result.append(model.generate(PROMPT, max_tokens=None, temperature=1.0, cancel=cancel))

    thread = threading.Thread(target=work)
    thread.start()
    threading.Event().wait(0.05)
    cancel.cancel()
    thread.join(timeout=30)
    assert not thread.is_alive()
    expected = model.generate(PROMPT, max_tokens=None, temperature=1.0, seed=result[-1].seed)
    assert result[-1].tokens == expected.tokens[: len(result[-1].tokens)]
