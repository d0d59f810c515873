"""A protobuf reader gets the values that the profile writer wrote."""

from hypothesis import given
from hypothesis import strategies as st

from common.telemetry.pprof import Frame, ProfileWriter, ValueType
from tests.unit.telemetry.pprof_reader import ReadProfile

SPACE = ValueType("space", "bytes")
OUTER = Frame("outer", "/srv/outer.py", 7, 3)
INNER = Frame("inner", "/srv/inner.py", 300, 290)
LARGEST = 2**63 - 1


def _writer(*types: ValueType) -> ProfileWriter:
    return ProfileWriter(types or (SPACE,), SPACE, 1, default="space")


def _written(writer: ProfileWriter) -> ReadProfile:
    return ReadProfile(writer.write("python", 1_700_000_000_000_000_000, 2_000_000_000))


def test_the_first_string_is_empty() -> None:
    """The format reserves index 0 for "no text"."""
    assert _written(_writer()).text(0) == ""


def test_a_sample_is_read_back_with_its_stack_its_values_and_its_labels() -> None:
    """Stacks are in order from the innermost frame outward, and values in the order of the types."""
    writer = _writer(ValueType("objects", "count"), SPACE)
    writer.add([INNER, OUTER], [2, 512], {"thread_name": "main"})

    (sample,) = _written(writer).samples
    assert [(f.function, f.filename, f.line, f.start_line) for f in sample.stack] == [tuple(INNER), tuple(OUTER)]
    assert sample.values == {"objects": 2, "space": 512}
    assert sample.labels == {"thread_name": "main"}


@given(st.integers(-LARGEST - 1, LARGEST))
def test_every_64_bit_number_is_read_back(number: int) -> None:
    """Negative numbers are valid: they show freed memory."""
    writer = _writer()
    writer.add([INNER], [number], {})
    assert _written(writer).total("space") == number


@given(st.text())
def test_every_name_can_be_written(name: str) -> None:
    """Code compiled at run time may have any name: characters that are invalid in UTF-8 are replaced."""
    writer = _writer()
    writer.add([Frame(name, "<string>", 1)], [1], {})
    read = _written(writer).samples[0].stack[0].function
    assert read == name.encode(errors="replace").decode()


def test_functions_and_locations_are_written_once() -> None:
    """Samples refer to them by ID, because a busy service has thousands of samples with the same few hundred lines."""
    writer = _writer()
    for _ in range(3):
        writer.add([INNER, OUTER], [1], {})
    writer.add([INNER._replace(line=301), OUTER], [1], {})

    message = _written(writer).message
    assert [each.id for each in message.function] == [1, 2]
    assert [each.id for each in message.location] == [1, 2, 3]


def test_the_mapping_declares_that_symbols_are_resolved() -> None:
    """Otherwise, readers would search a binary for functions, files, and lines."""
    writer = _writer()
    writer.add([INNER, OUTER], [1], {})

    message = _written(writer).message
    (mapping,) = message.mapping
    assert (mapping.has_functions, mapping.has_filenames, mapping.has_line_numbers) == (1, 1, 1)
    assert {each.mapping_id for each in message.location} == {mapping.id}


def test_the_profile_has_its_type_its_start_and_its_duration() -> None:
    """Backends index a profile by these four fields."""
    profile = _written(_writer())
    message = profile.message
    assert (message.time_nanos, message.duration_nanos) == (1_700_000_000_000_000_000, 2_000_000_000)
    assert (profile.text(message.period_type.type), profile.text(message.period_type.unit)) == ("space", "bytes")
    assert (message.period, profile.text(message.default_sample_type)) == (1, "space")
