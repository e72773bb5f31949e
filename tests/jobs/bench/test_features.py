"""The benchmark takes the speech encoders that `features.dtype=auto` takes."""

import pytest

from jobs.bench.features import best_dtype

RATES = {"released": 3.0, "float32": 3.4, "bfloat16": 6.0, "int8": 8.5}


@pytest.mark.parametrize(
    ("rates", "errors", "best"),
    [
        (RATES, {"bfloat16": 0.007, "int8": 0.011}, "int8"),
        (RATES, {"bfloat16": 0.007, "int8": 0.03}, "bfloat16"),
        (RATES, {"bfloat16": float("nan"), "int8": float("inf")}, "float32"),
        (RATES | {"bfloat16": 3.5, "int8": 3.6}, {"bfloat16": 0.007, "int8": 0.011}, "float32"),
        (RATES, {}, "float32"),
    ],
)
def test_the_fastest_that_keeps_the_features_is_taken_if_it_is_worth_it(rates, errors, best):
    assert best_dtype(rates, errors) == best
