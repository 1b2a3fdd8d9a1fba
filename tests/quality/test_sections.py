from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.quality.sections import SLICE_CHARACTERS, from_slices, slices, windows


@given(st.integers(0, 2000), st.integers(8, 300))
def test_windows_are_distinct_full_and_cover_both_ends(length, section):
    found = windows(length, section)
    assert len(found) == min(3, max(1, -(-length // section)))
    assert len(set(found)) == len(found)
    assert found[0][0] == 0 and found[-1][1] == length
    if length > section:
        assert all(end - first == section for first, end in found)
    if len(found) == 3:
        first, end = found[1]
        assert abs(first - (length - end)) <= 1  # as much before the middle as after it


def test_a_short_file_is_not_scored_thrice():
    assert windows(20, 32) == [(0, 20)]
    assert windows(33, 32) == [(0, 32), (1, 33)]


def test_a_text_is_cut_only_where_it_is_longer_than_its_slices():
    width = SLICE_CHARACTERS * 16
    assert slices("x" * (3 * width), 16) == ["x" * 3 * width]
    text = "".join(chr(97 + i % 26) for i in range(10 * width + 5))
    top, middle, bottom = slices(text, 16)
    assert text.startswith(top) and text.endswith(bottom) and len(top) == len(middle) == len(bottom) == width
    at = text.index(middle)
    assert len({len(part) for part in (top, middle, bottom)}) == 1 and at % 26 == (len(text) - width) // 2 % 26


def test_sections_of_slices_are_the_first_the_central_and_the_last_tokens():
    top, middle, bottom = list(range(100)), list(range(200, 300)), list(range(400, 500))
    assert from_slices([top, middle, bottom], 10) == [list(range(10)), list(range(245, 255)), list(range(490, 500))]
    assert from_slices([[1, 2], [3], [4, 5]], 10) == [[1, 2], [3], [4, 5]]  # slices of little but white space
    assert from_slices([list(range(25))], 10) == [list(range(10)), list(range(7, 17)), list(range(15, 25))]
