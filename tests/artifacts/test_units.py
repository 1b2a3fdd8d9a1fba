import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from megatron_snow.artifacts.units import Bytes, Duration, Period, Seconds, Tokens, format_bytes, format_count, format_seconds, parse_bytes, parse_tokens


@pytest.mark.parametrize(
    ("text", "count"),
    [("500B", 500 * 10**9), ("12.5B", 12_500_000_000), ("1M", 10**6), ("4_096", 4096), (4096, 4096), ("0.4T", 4 * 10**11), ("1e6", 10**6), ("600K", 600_000)],
)
def test_tokens(text, count):
    assert parse_tokens(text) == count


@pytest.mark.parametrize(("text", "size"), [("8GiB", 8 * 2**30), ("256 MiB", 2**28), ("1KB", 1000), ("512", 512), ("1.5KiB", 1536)])
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["500 billion", "8GiB", "", "-5", "1.5", None, True, [1], "B", "5b"])
def test_wrong_tokens_say_how_to_write_them(text):
    with pytest.raises(ValueError, match=r"write it like 500B"):
        parse_tokens(text)


@given(st.integers(0, 10**15))
def test_tokens_take_any_count(count):
    assert parse_tokens(count) == parse_tokens(str(count)) == count


@given(st.integers(1, 999_999), st.sampled_from(["", "K", "M", "B"]))
def test_format_count_reads_back_within_its_precision(number, suffix):
    count = parse_tokens(f"{number}{suffix}")
    assert parse_tokens(format_count(count)) == pytest.approx(count, rel=1e-3)


def test_formats():
    assert format_count(12_500_000_000) == "12.5B"
    assert format_bytes(3 * 2**30 // 2) == "1.5 GiB"
    assert [format_seconds(s) for s in (3.2, 75, 4000)] == ["3 s", "1 min 15 s", "1 h 06 min"]


class _Model(BaseModel):
    tokens: Tokens = 1
    memory: Bytes = 1
    budget: Seconds = 1
    warmup: Duration = Duration(amount=1, unit="steps")


def test_fields_read_units_and_survive_a_json_round_trip():
    model = _Model.model_validate({"tokens": "500B", "memory": "8GiB", "budget": "2 min", "warmup": "600 steps"})
    assert (model.tokens, model.memory, model.budget) == (500 * 10**9, 2**33, 120)
    assert _Model.model_validate_json(model.model_dump_json()) == model
    assert _Model.model_validate({"warmup": "2.5B"}).warmup == Duration(amount=2_500_000_000, unit="tokens")


@pytest.mark.parametrize("wrong", ["soon", "-3 steps", "1.5 steps", {"amount": -1, "unit": "steps"}])
def test_what_is_no_duration_is_refused(wrong):
    with pytest.raises(ValidationError, match=r"600 steps|greater than or equal to 0"):
        _Model.model_validate({"warmup": wrong})


def test_a_duration_reads_as_it_is_written():
    assert str(Duration(amount=600, unit="steps")) == "600 steps"
    assert str(Duration(amount=2_500_000_000, unit="tokens")) == "2.5B tokens"


@pytest.mark.parametrize("nothing", ["0", "0 steps"])
def test_a_period_is_longer_than_nothing(nothing):
    with pytest.raises(ValidationError, match="is no stretch of training: give 1 at least"):
        TypeAdapter(Period).validate_python(nothing)
    assert TypeAdapter(Period).validate_python("1 step") == Duration(amount=1, unit="steps")
