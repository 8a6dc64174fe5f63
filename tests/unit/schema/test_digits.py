"""Which digits a double holds."""

import random

import pyarrow as pa
import pytest

from pushengine.schema.digits import MisfitError, require_digits, require_precision


def survives(*texts):
    strings = pa.array(texts)
    try:
        require_precision(strings, strings.cast(pa.float64()), has_exponents=True)
    except MisfitError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123456789012.345", True),
        ("-0.000123456789012345", True),
        ("123456789012345000000.0", True),
        ("99999999999999.99", False),
        ("90071992547409.93", False),
        ("99999999999999.98", True),
        ("0.30000000000000004", True),
        ("0.10000000000000001", True),
        ("0.1000000000000000", True),
        ("1.2345678901234568e-05", True),
        ("9.0071992547409931e+15", False),
        ("1.5000000000000000000000", True),
        ("1.23456789012345678", False),
        ("000.000", True),
        ("-0.0", True),
        ("5.960464477539063e-08", True),
        ("0.00000005960464477539063", True),
        ("5e-324", True),
        ("4.9406564584124654e-324", True),
        ("1.23456789012345e-320", False),
        ("1e-400", False),
        ("0e-400", True),
        ("1e999", False),
        ("0." + "0" * 400 + "1", False),
        ("9007199254740991", True),
        ("9007199254740992", False),
        ("9007199254740993.0", False),
        ("9007199254740994.0", True),
        ("+90071992547409.93", False),
    ],
)
def test_a_number_survives_if_its_digits_do(text, expected):
    assert survives(text) is expected
    assert survives("1.5", "0.30000000000000004", text, "2") is expected


def test_every_number_is_judged_as_printing_it_would():
    rng = random.Random(7)
    for _ in range(3000):
        digits = rng.choice([15, 16, 17])
        number = str(rng.randrange(10 ** (digits - 1), 10**digits) // 10 * 10 + rng.randint(1, 9))
        scale = rng.randint(1, 26)
        padded = number.rjust(scale + 1, "0")
        text = f"{padded[:-scale]}.{padded[-scale:]}" + "0" * rng.randint(0, 3)
        printed = f"{float(text):.{digits - 1}e}"
        expected = printed[0] + printed[2 : digits + 1] == number
        strings = pa.array([text])
        try:
            require_digits(strings, strings.cast(pa.float64()), has_exponents=False)
        except MisfitError:
            assert not expected, text
        else:
            assert expected, text
