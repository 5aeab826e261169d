"""The wording that messages share."""

from __future__ import annotations

import pytest

from glm._messages import counted, first_names, share


@pytest.mark.parametrize(
    ("names", "total", "expected"),
    [
        ("ab", None, "a, b"),
        ("abc", None, "a, b, c"),
        ("abcde", None, "a, b, c and 2 more"),
        ("abcde", 1_500, "a, b, c and 1,497 more"),
        ("ab", 2, "a, b"),
        ("", None, ""),
    ],
)
def test_first_names(names: str, total: int | None, expected: str) -> None:
    assert first_names(names, total=total) == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (1_234, 5_678, "1,234 of 5,678 (22%)"),
        (0, 9, "0 of 9 (0%)"),
        (41, 20_271, "41 of 20,271 (<1%)"),
        (9_999, 10_000, "9,999 of 10,000 (>99%)"),
        (9, 9, "9 of 9 (100%)"),
        (0, 0, "0 of 0"),
    ],
)
def test_a_few_are_not_none_and_most_are_not_all(part: int, whole: int, expected: str) -> None:
    assert share(part, whole) == expected


def test_one_is_no_plural() -> None:
    assert counted(1, "name") == "1 name"
    assert counted(2_000, "name") == "2,000 names"
    assert counted(0, "copy", "copies") == "0 copies"
