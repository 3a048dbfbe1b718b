"""A run as a state: it comes back as it was, from whoever has the key, and from nobody else."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.reasoning_react.engine import state
from plugins.reasoning_react.engine.chat import Message, Tool, ToolCall, Usage
from plugins.reasoning_react.engine.run import Action, Budget, Mode, Observation, Run, Step, StopReason
from plugins.reasoning_react.engine.run_json import packed
from plugins.reasoning_react.engine.state import Keys, digest_of, open_state, seal
from shared.errors import InvalidArgument, LimitReached, StartError

SECRET = b"a secret of thirty-two bytes ..."
KEYS = Keys(SECRET)
MOST = 2**20
HEADER = len(b"hector-react") + 2 + 8  # bytes of a state before its JSON
TOOL = Tool("look", "Looks.\nClosely.", {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}}, True)


def full() -> Run:
    """A run none of whose fields is what it is by default."""
    call = ToolCall("c0", "look", '{"b": "ö"}', b"\x00\xff")
    return Run(
        id="r1",
        nonce="7f3a9c21d0e4b586",
        began=1_700_000_000.25,
        expires=1_800_000_000.5,
        question="Why “so”?",
        context="because",
        history=(
            Message("user", "hi"),
            Message("assistant", "", (call,), reasoning="hm", opaque=b"o"),
            Message("tool", "5", (), "c0", "look"),
        ),
        history_left_out=1,
        llm="big",
        model="m",
        temperature=0.0,
        mode=Mode.TEXT,
        mode_is_fixed=True,
        host_executes=True,
        max_iterations=7,
        budget=Budget(1, 2, 3.5),
        given_tools=(TOOL, Tool("put", "", {}, False, True, True)),
        tool_digests={"look": "d1", "put": "d2"},
        iteration=3,
        steps=[
            Step(
                "t",
                [Action("i1", "look", "{}", "c1", b"\x01"), Action("i2", "put", '{"a":1}')],
                [Observation("i1", "5\n\x00\u2028", True, True), Observation("i2", "")],
                "Thought: t",
                "r",
                b"\x02",
                "n",
            ),
            Step(),
        ],
        pending=True,
        usage=Usage(1, 2, 3, 4, 5),
        usage_is_whole=False,
        estimated_tokens=9,
        tool_calls=2,
        repairs=1,
        left_out=1,
        summary="1. look",
        done=True,
        answer="42",
        stop_reason=StopReason.MAX_TOKENS,
    )


def small() -> Run:
    return Run(id="r1", nonce="n", began=1.0, expires=2e9, question="Why?")


def long_run(steps: int = 20, size: int = 2_000) -> Run:
    """Observations of `size` characters, as JSON and prose of tools are."""
    run = small()
    record = '{"id": 17, "title": "A title of some words", "price": 23.29}\n'
    for number in range(steps):
        call = Action(f"{number:032x}", "search", f'{{"query": "thing {number}"}}', f"call_{number:024}")
        run.steps.append(Step("I look for the next.", [call], [Observation(call.id, (record * size)[:size])]))
    run.tool_digests = {f"tool_{number}": "0" * 32 for number in range(10)}
    return run


def sealed(run: Run, keys: Keys = KEYS, most_bytes: int = MOST) -> bytes:
    return seal(run, keys, most_bytes=most_bytes)


def opened(data: bytes, keys: Keys = KEYS, now: float = 1_750_000_000.0, most_bytes: int = MOST) -> Run:
    return open_state(data, keys, now=now, most_bytes=most_bytes)


def refusal(data: bytes, **options: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        opened(data, **options)
    assert refused.value.violations[0][0] == "state"
    assert SECRET.decode() not in refused.value.message
    return refused.value


# ---------------------------------------------------------------- there and back


def test_every_field_comes_back() -> None:
    """A run opens as it was sealed, each of its fields; and the same run gives the same bytes."""
    for field in dataclasses.fields(Run):
        assert getattr(full(), field.name) not in (field.default, None), f"{field.name} is not looked at"
    assert opened(sealed(full())) == full()
    assert sealed(opened(sealed(full()))) == sealed(full())


def test_no_field_is_forgotten() -> None:
    """Whatever field of a run or of a part of it changes, the state changes: none is missing in it."""
    run = full()
    before = sealed(run)
    parts: list[tuple[Any, Any]] = [
        (run, lambda one: one),
        (run.steps[0], lambda one: replace(run, steps=[one, run.steps[1]])),
        (run.steps[0].actions[0], lambda one: with_step(run, actions=[one, run.steps[0].actions[1]])),
        (run.steps[0].observations[0], lambda one: with_step(run, observations=[one, run.steps[0].observations[1]])),
        (run.history[1], lambda one: replace(run, history=(run.history[0], one, run.history[2]))),
        (run.history[1].tool_calls[0], lambda one: with_call(run, one)),
        (run.given_tools[0], lambda one: replace(run, given_tools=(one, run.given_tools[1]))),
        (run.budget, lambda one: replace(run, budget=one)),
        (run.usage, lambda one: replace(run, usage=one)),
    ]
    for part, whole in parts:
        for field in dataclasses.fields(part):
            changed = whole(replace(part, **{field.name: other(getattr(part, field.name))}))
            assert sealed(changed) != before, f"{type(part).__name__}.{field.name}"
            assert opened(sealed(changed)) == changed, f"{type(part).__name__}.{field.name}"


def with_step(run: Run, **fields: Any) -> Run:
    return replace(run, steps=[replace(run.steps[0], **fields), run.steps[1]])


def with_call(run: Run, call: ToolCall) -> Run:
    return replace(run, history=(run.history[0], replace(run.history[1], tool_calls=(call,)), run.history[2]))


def other(value: Any) -> Any:
    """A value of the same kind that is another."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case Mode():
            return Mode.NATIVE
        case StopReason():
            return StopReason.DENIED
        case tuple() | list():
            return value[:-1]
        case dict():
            return {}
        case Budget():
            return Budget()
        case _:
            return None


texts = st.text(st.characters(), max_size=20)  # halves of surrogate pairs included
observations = st.builds(Observation, texts, texts, st.booleans(), st.booleans())
actions = st.builds(Action, texts, texts, texts, texts, st.binary(max_size=5))
steps = st.builds(
    Step,
    texts,
    st.lists(actions, max_size=3),
    st.lists(observations, max_size=3),
    texts,
    texts,
    st.binary(max_size=5),
    texts,
)


@given(
    st.lists(steps, max_size=4), texts, st.floats(allow_nan=False, allow_infinity=False), st.dictionaries(texts, texts)
)
@settings(max_examples=100, deadline=None)
def test_any_run_comes_back(those: list[Step], question: str, number: float, digests: dict[str, str]) -> None:
    """Whatever is in the texts of a run, halves of characters, NUL and line breaks included, comes back as it was."""
    run = replace(small(), steps=those, question=question, began=number, tool_digests=digests)
    assert opened(sealed(run)) == run


@pytest.mark.parametrize(
    "text", ["\ud800", "\udfff\ud800", "a\x00b", "\r\n\u2028\ufeff", "\U0010ffff", "x" * 1_000_000]
)
def test_unusual_questions(text: str) -> None:
    """A question of any characters and of a million of them comes back as it was."""
    run = replace(small(), question=text)
    assert opened(sealed(run, most_bytes=2 * MOST), most_bytes=2 * MOST) == run


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "parameters",
    [{"a": float("nan")}, {"a": float("-inf")}, {"a": 10**5_000}, {"a": b"x"}, {"a": {1, 2}}, nested(100_000)],
    ids=["nan", "infinity", "digits", "bytes", "set", "deep"],
)
def test_what_json_cannot_hold(parameters: dict[str, Any]) -> None:
    """Parameters that JSON has no way to write are refused in words, when sealed and when digested."""
    tool = replace(TOOL, parameters=parameters)
    with pytest.raises(InvalidArgument, match=r"cannot be made a state.*JSON") as refused:
        sealed(replace(small(), given_tools=(tool,)))
    assert refused.value.reason == "BAD_STATE"
    with pytest.raises(InvalidArgument, match="the parameters of the tool look are no JSON"):
        digest_of([tool])


def test_a_number_without_end() -> None:
    """A budget of infinite seconds is refused in words: JSON has no such number."""
    with pytest.raises(InvalidArgument, match="NaN"):
        sealed(replace(small(), budget=Budget(0, 0, float("inf"))))


# ---------------------------------------------------------------- nobody else's


def test_every_changed_byte_is_refused() -> None:
    """Each bit of a state, changed alone, makes it one that is refused; never a guess, never a bug."""
    whole = sealed(small())
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            error = refusal(bytes(changed))
            assert error.reason in ("BAD_STATE", "STATE_VERSION", "STATE_KEY_UNKNOWN", "STATE_TAMPERED"), place
            assert place < HEADER or error.reason == "STATE_TAMPERED", place


def test_changed_bytes_of_a_large_state() -> None:
    """So does a changed, missing or additional byte anywhere in a state of 50 kB."""
    rng = random.Random(7)
    whole = sealed(long_run())
    for _ in range(1_000):
        changed = bytearray(whole)
        place = rng.randrange(len(whole))
        match rng.randrange(3):
            case 0:
                changed[place] ^= rng.randrange(1, 256)
            case 1:
                del changed[place : place + rng.randrange(1, 50)]
            case 2:
                changed[place:place] = rng.randbytes(rng.randrange(1, 50))
        refusal(bytes(changed))


def test_a_state_that_is_longer_or_shorter() -> None:
    """What is cut off at any place, or has something after it, is refused."""
    whole = sealed(small())
    for length in range(len(whole)):
        refusal(whole[:length])
    for more in (b"\x00", b" ", b"{}", whole):
        assert refusal(whole + more).reason == "STATE_TAMPERED"


def test_parts_of_two_states() -> None:
    """The HMAC of one state does not go with the run of another, and an earlier state's run not with a later's."""
    one, two = sealed(small()), sealed(replace(small(), question="How?"))
    assert refusal(one[:-32] + two[-32:]).reason == "STATE_TAMPERED"


def test_nothing_is_read_before_it_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON of a state that was tampered with is not parsed."""
    changed = bytearray(sealed(small()))
    changed[-40] ^= 1
    monkeypatch.setattr(json, "loads", pytest.fail)
    assert refusal(bytes(changed)).reason == "STATE_TAMPERED"


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", b"\x80\x04K\x01.", b"hector-react", b"hector-react\x00\x01", b"\xff" * 99]
)
def test_what_is_no_state(data: bytes) -> None:
    """Bytes of another kind are refused, and the message says what to send."""
    error = refusal(data)
    assert error.reason == "BAD_STATE"
    assert "send that of" in error.message


def test_a_large_state_is_not_looked_at() -> None:
    """A state above the limit is refused before its HMAC is computed."""

    class Untouched(Keys):
        def mac(self, key_id: bytes, data: bytes | memoryview) -> bytes | None:
            raise AssertionError("it was hashed")

    whole = sealed(long_run())
    error = refusal(whole, keys=Untouched(SECRET), most_bytes=len(whole) - 1)
    assert error.reason == "BAD_STATE"
    assert f"{len(whole):,} bytes" in error.message
    assert opened(whole, most_bytes=len(whole)) == long_run()


def test_another_version() -> None:
    """A state of a later version is refused, and the message says what can be done."""
    whole = bytearray(sealed(small()))
    whole[HEADER - 9] += 1
    error = refusal(bytes(whole))
    assert error.reason == "STATE_VERSION"
    assert f"version {state.VERSION + 1}" in error.message
    assert "Initialize" in error.message


# ---------------------------------------------------------------- keys and time


def test_older_keys() -> None:
    """A state of an older key opens, and what is sealed next has the new one."""
    old, new = b"the key of last year, long enough", b"the key of this year, long enough"
    before = sealed(full(), Keys(old))
    both = Keys(new, [old, b"yet another key, and long enough."])
    assert opened(before, both) == full()
    after = sealed(opened(before, both), both)
    assert opened(after, Keys(new)) == full()
    assert refusal(before, keys=Keys(new)).reason == "STATE_KEY_UNKNOWN"
    error = refusal(after, keys=Keys(old))
    assert error.reason == "STATE_KEY_UNKNOWN"
    assert "older_state_keys" in error.message


def test_a_key_is_not_shown() -> None:
    """Neither a Keys nor a state holds the secret's text."""
    assert SECRET.decode() not in repr(KEYS) + str(vars(KEYS))
    assert SECRET not in sealed(full())


@pytest.mark.parametrize(("secret", "older"), [(b"", []), (SECRET[:31], []), (SECRET, [b"short"])])
def test_a_key_that_can_be_guessed(secret: bytes, older: list[bytes]) -> None:
    """A key of fewer than 32 bytes is refused at the start, with how to make one."""
    with pytest.raises(StartError, match="openssl rand"):
        Keys(secret, older)


def test_an_expired_state() -> None:
    """A state opens until its time is over, and then not, whatever the number of its time is."""
    whole = sealed(small())
    assert opened(whole, now=2e9 - 0.5) == small()
    for now in (2e9, 3e9):
        error = refusal(whole, now=now)
        assert error.reason == "STATE_EXPIRED"
        assert "state_ttl" in error.message
    for expires in (-1e300, 0.0, 1):
        assert refusal(sealed(replace(small(), expires=expires))).reason == "STATE_EXPIRED"


# ---------------------------------------------------------------- what was sealed by somebody with the key, but not so


def forged(fields: Any) -> bytes:
    """What a server with the key, and another idea of a run, would have sealed."""
    data = sealed(small())[:HEADER] + json.dumps(fields).encode()
    mac = KEYS.mac(KEYS.id, data)
    assert mac is not None
    return data + mac


def test_the_forger_is_one() -> None:
    """Fields as they should be are taken from `forged`: what is refused below is refused for the fields."""
    assert opened(forged(packed(full()))) == full()


def test_missing_and_unknown_fields() -> None:
    """A run without one of its fields, or with one more, is refused as BAD_STATE."""
    fields = packed(full())
    for name in fields:
        error = refusal(forged({key: value for key, value in fields.items() if key != name}))
        assert error.reason == "BAD_STATE", name
    assert refusal(forged({**fields, "more": 1})).reason == "BAD_STATE"
    wrong: tuple[Any, ...] = (None, [], "x", 1, [fields], {})
    for whole in wrong:
        assert refusal(forged(whole)).reason == "BAD_STATE"


WRONG: tuple[Any, ...] = (None, True, 7, 1.5, "x", "é", [], ["x"], [[]], {}, {"a": 1}, "A" * 5)


def test_fields_of_another_kind() -> None:
    """Any value anywhere in a run, replaced by one of another kind, is refused as BAD_STATE or opens; never a bug."""
    places = list(_places(packed(full())))
    assert len(places) > 100
    refused = 0
    for place in places:
        for wrong in WRONG:
            fields = json.loads(json.dumps(packed(full())))
            target = fields
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = wrong
            refused += reason_of(forged(fields)) == "BAD_STATE"
    assert refused > len(places) * len(WRONG) // 2


def reason_of(data: bytes) -> str:
    """Why a state is refused; empty: it is not."""
    try:
        opened(data)
    except InvalidArgument as error:
        return error.reason
    return ""


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path and "parameters" not in path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


@pytest.mark.parametrize("text", ["QQ", "QQ==QQ==", "Q Q==", "QQ=\n=", "Q!Q=="])
def test_bytes_that_are_no_base64(text: str) -> None:
    """Text that is not just the Base64 of some bytes is refused where bytes are kept."""
    fields = packed(full())
    fields["steps"][0][5] = text
    assert refusal(forged(fields)).reason == "BAD_STATE"


def test_lists_of_another_length() -> None:
    """A list that stands for a record, with one item more or fewer, is refused as BAD_STATE."""
    fields = packed(full())
    for name, item in (("steps", 0), ("history", 1), ("given_tools", 0), ("budget", None), ("usage", None)):
        for is_longer in (False, True):
            copy = json.loads(json.dumps(fields))
            record = copy[name] if item is None else copy[name][item]
            record[:] = [*record, "x"] if is_longer else record[:-1]
            assert refusal(forged(copy)).reason == "BAD_STATE", name


def test_what_is_sealed_is_no_json() -> None:
    """Bytes that are no JSON, or too deep, are refused as BAD_STATE also where the HMAC is right."""
    for payload in (b"", b"{", b"\xff\xfe", b"[" * 200_000, b"1" * 5_000, b'{"a":NaN}'):
        data = sealed(small())[:HEADER] + payload
        mac = KEYS.mac(KEYS.id, data)
        assert mac is not None
        assert refusal(data + mac).reason == "BAD_STATE"


# ---------------------------------------------------------------- size and time


def test_the_size_of_twenty_steps() -> None:
    """Twenty steps with observations of 2 kB take 64 kB at most, and are verified and loaded in 1 ms (here: in ten)."""
    run = long_run()
    whole = sealed(run)
    assert len(whole) <= 64_000
    times = []
    for _ in range(20):
        start = time.perf_counter()
        opened(whole)
        times.append(time.perf_counter() - start)
    assert min(times) <= 0.010


def test_a_state_becomes_lighter() -> None:
    """Where a state would be too large, the oldest steps are left out and cut; the newest, all actions and thoughts and
    all else stay, and the run says what is left out."""
    run = long_run()
    run.steps[1].thought = ""
    for step in run.steps:
        step.opaque, step.reasoning, step.text = b"o" * 300, "r" * 300, "t" * 300
    whole = sealed(replace(run, steps=list(run.steps)))
    lighter = replace(run, steps=list(run.steps))
    data = sealed(lighter, most_bytes=len(whole) * 2 // 3)
    assert len(data) <= len(whole) * 2 // 3
    after = opened(data)
    assert after == lighter
    assert 0 < after.left_out < len(run.steps)
    assert after.steps[after.left_out :] == run.steps[after.left_out :]
    assert [step.actions for step in after.steps] == [step.actions for step in run.steps]
    assert [step.thought for step in after.steps] == [step.thought or step.reasoning for step in run.steps]
    for step in after.steps[: after.left_out]:
        assert (step.opaque, step.reasoning, step.text) == (b"", "", "")
        assert len(step.observations[0].content) <= 400
        assert "not kept" in step.observations[0].content
    assert len(after.summary.splitlines()) == after.left_out
    assert replace(after, steps=[], left_out=0, summary="") == replace(run, steps=[])


def test_a_state_that_cannot_become_lighter() -> None:
    """What is too large without its steps, and a last step that is, are refused with the setting to raise."""
    for run in (replace(small(), question="x" * 5_000), long_run(1, 5_000), long_run(30, 200)):
        with pytest.raises(LimitReached, match="max_state_bytes") as refused:
            sealed(run, most_bytes=5_000)
        assert refused.value.reason == "STATE_TOO_LARGE"


# ---------------------------------------------------------------- digests


def test_digests_change_with_the_tool() -> None:
    """A tool's digest is another one whatever changes in it, and the same where only the order of keys does."""
    before = digest_of([TOOL])["look"]
    for field in dataclasses.fields(Tool):
        if field.name != "name":
            changed = replace(TOOL, **{field.name: other(getattr(TOOL, field.name))})
            assert digest_of([changed])["look"] != before, field.name
    assert digest_of([replace(TOOL, name="x")])["x"] != before
    properties = dict(reversed(TOOL.parameters["properties"].items()))
    assert digest_of([replace(TOOL, parameters={"properties": properties, "type": "object"})])["look"] == before
    assert digest_of([]) == {}


def test_the_order_of_parameters_stays() -> None:
    """A given tool's parameters come back in the order that the model is to see them in."""
    after = opened(sealed(replace(small(), given_tools=(TOOL,))))
    assert list(after.given_tools[0].parameters["properties"]) == ["b", "a"]
