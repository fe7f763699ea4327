"""Conversations: what an answer continues, where it ends, and that no turn reads what the cache has."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import CancelToken, Chat, Model, Reply, SamplingParams
from pygpt.errors import ContextOverflowError, TokenizerError

END = "<|endoftext|>"
TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}!{% endfor %}a:"
HI = [{"role": "user", "content": "hi"}]
GREEDY = {"temperature": 0.0, "max_tokens": 4}


@pytest.fixture(scope="module")
def chat_model(
    gpt2_folder: Path, with_template: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """A random model with a context of 64 tokens; nearly each byte is a token."""
    return Model.load(with_template(gpt2_folder, tmp_path_factory.mktemp("chat") / "m"), threads=1)


@pytest.fixture
def speaker(speaker_folder: Callable[..., Path]) -> Callable[..., Model]:
    return lambda *turns: Model.load(speaker_folder(*turns), threads=1)


# --- Model.render and Model.chat -------------------------------------------------------------------------------------


def test_an_answer_continues_what_render_gives_and_ends_with_the_turn(speaker: Callable[..., Model]) -> None:
    model = speaker((f"u:hi{END}a:", "hello"))
    assert model.has_chat_template
    assert model.render(HI) == f"u:hi{END}a:"
    done = model.chat(HI, temperature=0)
    assert (done.text, done.finish_reason) == ("hello", "stop")
    assert "".join(piece.text for piece in model.stream_chat(HI, temperature=0)) == "hello"
    assert [c.text for c in model.chat(HI, temperature=0, n=2)] == ["hello", "hello"]
    assert model.chat(HI, temperature=0, stop="l").text == "he"


def test_special_tokens_of_the_template_are_tokens(chat_model: Model) -> None:
    ids = chat_model.tokenizer.encode(chat_model.render(HI), allow_special=True, add_special=False)
    assert ids.count(chat_model.config.n_vocab - 1) == 1
    assert chat_model.chat(HI, seed=3, max_tokens=9) == chat_model.generate(ids, seed=3, max_tokens=9)


def test_a_message_may_be_continued(speaker: Callable[..., Model]) -> None:
    model = speaker((f"u:hi{END}a:hel", "lo"))
    messages = [*HI, {"role": "assistant", "content": "hel"}]
    assert model.render(messages, continue_final_message=True) == f"u:hi{END}a:hel"
    assert model.chat(messages, temperature=0, continue_final_message=True).text == "lo"


def test_an_answer_is_as_long_as_it_takes_unless_told(chat_model: Model) -> None:
    n = len(chat_model.tokenizer.encode(chat_model.render(HI), allow_special=True))
    assert len(chat_model.chat(HI, seed=1, top_k=1).tokens) == 64 - n
    assert len(chat_model.chat(HI, seed=1, params=SamplingParams()).tokens) == 64 - n
    assert len(chat_model.chat(HI, seed=1, params=SamplingParams(max_tokens=3)).tokens) == 3
    assert len(Chat(chat_model, params=SamplingParams(max_tokens=3)).send("hi").tokens) == 3


def test_the_token_after_an_answer_ends_it_whatever_the_configuration_says(
    scripted_folder: Callable[[Iterable[int]], Path], with_template: Callable[..., Path], tmp_path: Path, vocab: Any
) -> None:
    """Nor does tokenizer_config.json name it."""
    other = vocab.byte_ids("!")[0]
    prompt = "u:hi!a:"
    script = [*[other] * (len(prompt) - 1), *vocab.byte_ids("ok!no")]
    folder = with_template(scripted_folder(script), tmp_path / "m", TEMPLATE)
    (folder / "added_tokens.json").write_text(json.dumps({"!": other}), encoding="utf-8")
    config = {"additional_special_tokens": ["!"], "tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = Model.load(folder, threads=1)
    assert other not in model.config.eos_ids
    assert model.chat(HI, temperature=0).text == "ok"


def test_a_model_without_a_template_says_so(model: Model) -> None:
    assert not model.has_chat_template
    for call in (lambda: model.chat(HI), lambda: model.render(HI), lambda: Chat(model)):
        with pytest.raises(TokenizerError, match=r"has no chat template: it was not trained to answer.*generate"):
            call()
    assert Chat(model, template=TEMPLATE).send("hi", max_tokens=2).tokens


def test_the_template_is_kept_by_save(chat_model: Model, tmp_path: Path) -> None:
    chat_model.save(tmp_path / "saved")
    assert Model.load(tmp_path / "saved", threads=1).render(HI) == chat_model.render(HI)


# --- Chat ------------------------------------------------------------------------------------------------------------


def turns(model: Model, *texts: str, **options: Any) -> tuple[Chat, list[Reply]]:
    chat = Chat(model, **{**GREEDY, **options})
    return chat, [chat.send(text) for text in texts]


def test_a_turn_reads_what_is_new_and_says_what_a_fresh_chat_says(chat_model: Model) -> None:
    chat, replies = turns(chat_model, "hi", "and", "so", seed=2, temperature=1.0)
    assert [m["role"] for m in chat.messages] == ["user", "assistant"] * 3
    for i, reply in enumerate(replies):
        messages = chat.messages[: 2 * i + 1]
        whole = chat_model.chat(messages, seed=2, temperature=1.0, max_tokens=4)
        assert (reply.tokens, reply.finish_reason) == (whole.tokens, whole.finish_reason)
        text = chat_model.render(messages)
        assert reply.n_prompt == len(chat_model.tokenizer.encode(text, allow_special=True, add_special=False))
    assert replies[0].n_read == replies[0].n_prompt
    assert all(reply.n_read < reply.n_prompt for reply in replies[1:])


def test_the_second_turn_reads_just_the_new_tokens(speaker: Callable[..., Model]) -> None:
    first = f"u:hi{END}a:"
    second = f"{first}quiz{END}u:bye{END}a:"
    chat = Chat(speaker((first, "quiz"), (second, "ciao")), temperature=0)
    one, two = chat.send("hi"), chat.send("bye")
    assert (one.text, two.text) == ("quiz", "ciao")
    assert one.n_read == one.n_prompt == len("u:hi_a:")
    assert two.n_read == len("_u:bye_a:")  # "_" for the end of the turn, which was drawn and not read
    assert two.n_prompt == one.n_prompt + len("quiz") + two.n_read


def test_retry_reads_one_token_and_takes_the_next_seed(chat_model: Model) -> None:
    chat, (first,) = turns(chat_model, "hi", temperature=1.5, seed=2**64 - 1)
    again = [chat.retry(), chat.retry()]
    assert [r.n_read for r in again] == [1, 1]
    assert [r.seed for r in (first, *again)] == [2**64 - 1, 0, 1]
    for reply in again:
        assert reply.tokens == chat_model.chat(HI, seed=reply.seed, temperature=1.5, max_tokens=4).tokens
    assert chat.retry(seed=9).seed == 9
    assert len(chat.messages) == 2
    assert chat.send("x").seed == 2**64 - 1
    chat.reset()
    with pytest.raises(ValueError, match="nothing to answer yet"):
        chat.retry()


def test_reasoning_is_kept_apart_and_given_back_to_the_template(speaker: Callable[..., Model]) -> None:
    first = f"u:hi{END}a:"
    second = f"{first}<think>Hm.</think>Yes.{END}u:why{END}a:"
    chat = Chat(speaker((first, "<think>\nHm.\n</think>\n\nYes."), (second, "So.")), temperature=0)
    stream = chat.stream("hi")
    sections = list(stream)
    assert {s.part for s in sections} == {"reasoning", "answer"}
    assert "".join(s.text for s in sections) == "Hm.Yes."
    assert stream.reply is not None
    assert (stream.reply.text, stream.reply.reasoning) == ("Yes.", "Hm.")
    assert chat.messages[-1] == {"role": "assistant", "content": "Yes.", "reasoning": "Hm."}
    assert chat.send("why").text == "So."


def test_an_answer_that_is_stopped_keeps_what_was_said(speaker: Callable[..., Model]) -> None:
    model = speaker((f"u:hi{END}a:", "hello"))
    chat = Chat(model, temperature=0)
    stream = chat.stream("hi")
    said = [next(stream).text, next(stream).text]
    stream.cancel()
    assert [s.text for s in stream] == []
    assert stream.reply is not None
    assert stream.reply.finish_reason == "cancelled"
    assert chat.messages[1] == {"role": "assistant", "content": "".join(said)} == {"role": "assistant", "content": "he"}
    left = chat.stream(None)
    next(left)
    assert chat.messages[1]["content"] == "he"  # looking ends nothing
    left.close()
    assert chat.messages[1]["content"] == "h"
    open_one = chat.stream(None)
    next(open_one)
    assert chat.send("so").tokens
    assert open_one.reply is not None
    assert [m["content"] for m in chat.messages][:3] == ["hi", "h", "so"]


def test_a_turn_that_fails_leaves_the_conversation_as_it_was(chat_model: Model) -> None:
    chat, _ = turns(chat_model, "hi")
    before = chat.messages
    token = CancelToken()
    token.cancel()
    assert chat.send("x", cancel=token).tokens == ()
    with pytest.raises(ValueError, match="No x"):
        chat.send({"role": "x", "content": ""})
    with pytest.raises(ContextOverflowError, match=r"leave no room for an answer in the context of 64: begin anew"):
        chat.send("long " * 20)
    with pytest.raises(ValueError, match="n must be 1"):
        chat.send("x", n=2)  # type: ignore[call-arg]
    assert chat.messages == before


def test_ctrl_c_keeps_what_was_said(chat_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(chat_model, **GREEDY)
    stream = chat.stream("hi")
    next(stream)

    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pygpt.generation.Stream.__next__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    monkeypatch.undo()
    assert len(chat.messages) == 2
    assert chat.send("x").n_read < chat.send("y").n_prompt


def test_a_conversation_that_outgrows_the_context_forgets_its_oldest_turns(chat_model: Model) -> None:
    chat = Chat(chat_model, system="S", overflow="forget", temperature=0, max_tokens=4)
    n_forgotten = []
    for text in ("one", "two", "three", "four", "five", "six"):
        reply = chat.send(text)
        n_forgotten.append(chat.n_forgotten)
        seen = [chat.messages[0], *chat.messages[1 + chat.n_forgotten : -1]]
        assert seen[1]["role"] == "user"
        assert reply.tokens == chat_model.chat(seen, temperature=0, max_tokens=4).tokens
        assert reply.n_prompt + 4 <= 64
    assert len(chat.messages) == 13
    assert n_forgotten[0] == 0 < n_forgotten[-1]
    assert sorted(n_forgotten) == n_forgotten
    assert len(set(n_forgotten)) < len(n_forgotten)  # half the context at a time: not all is read anew at each turn
    with pytest.raises(ContextOverflowError, match="the message is too long"):
        chat.send("long " * 20)


def test_reset_and_system(chat_model: Model) -> None:
    chat, _ = turns(chat_model, "hi", system="Be brief.")
    assert chat.system == "Be brief."
    chat.reset()
    assert chat.messages == [{"role": "system", "content": "Be brief."}]
    chat.send("hi")
    chat.system = "Be long."
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
    chat.system = None
    assert [m["role"] for m in chat.messages] == ["user", "assistant"]


def test_a_conversation_is_saved_and_loaded(chat_model: Model, tmp_path: Path) -> None:
    chat, _ = turns(chat_model, "naïve 🙂", system="S")
    chat.save(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8")) == {"messages": chat.messages}
    other = Chat(chat_model, **GREEDY)
    other.load(tmp_path / "c.json")
    assert other.messages == chat.messages
    assert other.system == "S"
    assert other.send("x").tokens == chat.send("x").tokens
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"messages": {}}', '{"messages": [1]}', '{"messages": [{}]}'])
def test_a_damaged_conversation_is_refused(chat_model: Model, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text, encoding="utf-8")
    chat, _ = turns(chat_model, "hi")
    with pytest.raises(ValueError, match=r"c\.json: not "):
        chat.load(tmp_path / "c.json")
    with pytest.raises(FileNotFoundError):
        chat.load(tmp_path / "none.json")
    assert len(chat.messages) == 2


def test_tools_and_results_of_tools(chat_model: Model) -> None:
    template = "{{ tools | length }}" + TEMPLATE
    chat = Chat(chat_model, tools=[{"name": "f"}], template=template, **GREEDY)
    chat.send([{"role": "user", "content": "a"}, {"role": "tool", "content": "b", "name": "f"}])
    assert [m["role"] for m in chat.messages] == ["user", "tool", "assistant"]


def test_a_chat_checks_its_arguments(chat_model: Model) -> None:
    for wrong in (5, [], [5], {"content": "x"}, b"x"):
        with pytest.raises(TypeError, match="message must be a text, or messages"):
            Chat(chat_model).send(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="overflow must be one of error, forget"):
        Chat(chat_model, overflow="drop")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown option 'max_token'"):
        Chat(chat_model, max_token=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="n must be 1"):
        Chat(chat_model, params=SamplingParams(n=2))
    for copies in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="save"):
            copies(Chat(chat_model))


def test_logprobs_come_with_a_reply(chat_model: Model) -> None:
    _, (reply,) = turns(chat_model, "hi", logprobs=1)
    assert reply.logprobs is not None
    assert [entry.token for entry in reply.logprobs] == list(reply.tokens)
    assert np.isfinite([entry.logprob for entry in reply.logprobs]).all()
