"""Names in a sentence: one builder for all."""

import pytest

from ferd_eval.errors import listed


@pytest.mark.parametrize(
    ("names", "most", "last", "text"),
    [
        ("", 3, "and", ""),
        ("a", 3, "or", "a"),
        ("ab", 3, "or", "a or b"),
        ("abc", 3, "and", "a, b and c"),
        ("abcd", 3, "or", "a, b, c or d"),
        ("abcde", 3, "or", "a, b, c or one of 2 more"),
        ("abcdef", 5, "and", "a, b, c, d, e and f"),
        ("abcdefg", 5, "and", "a, b, c, d, e and 2 more"),
        ("abc", 2, "or", "a, b or c"),
    ],
)
def test_the_rest_is_counted_only_where_it_is_several(
    names: str, most: int, last: str, text: str
) -> None:
    assert listed(names, most, last) == text
