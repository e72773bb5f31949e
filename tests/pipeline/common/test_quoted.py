"""What a message shows of a value."""

import pytest

from pipeline.common.quoted import quoted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("face.jpg ", "'face.jpg '"),
        ("a\u200bb\0\u00a0c", r"'a\u200bb\x00\xa0c'"),
        ("예시", "'예시'"),
        (1.5, "1.5"),
        (None, "None"),
        (7, "7"),
        (10**200, "a number"),
        (b"\x89PNG" * 1000, "4,000 bytes"),
        ({"bytes": b"\x89PNG" * 1000, "path": None}, "a struct with bytes, path"),
        ({f"n{i}": i for i in range(9)}, "a struct with n0, n1, n2, n3, n4, ..."),
        ([1] * 9, "a list"),
    ],
)
def test_a_value_is_shown_or_its_kind_is_said(value, shown):
    assert quoted(value) == shown


def test_long_texts_are_cut_after_their_secrets_are_gone():
    text = quoted("x" * 60 + "s3://key:" + "y" * 60 + "@bucket/" + "z" * 60)
    assert len(text) < 120
    assert "yyy" not in text
    assert text.endswith("... (197 characters)")
    assert len(quoted("\0" * 1_000_000)) < 400
