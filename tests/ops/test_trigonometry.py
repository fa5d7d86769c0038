"""Tangent, hyperbolic functions and inverses: against float64 NumPy over their whole domains, gradients twice."""

import numpy as np
import pytest
from records import OpRecord, draw, run_records

import pydl
from pydl.errors import DTypeError, ShapeError

WIDE = draw(37, low=-4.0, high=4.0)
UNIT = draw(5, 7, low=-0.95, high=0.95)
RECORDS = [
    OpRecord("tan", pydl.tan, np.tan, (draw(3, 9, low=-1.3, high=1.3),), double_backward=True),
    OpRecord("asin", pydl.asin, np.arcsin, (UNIT,), double_backward=True),
    OpRecord("acos", pydl.acos, np.arccos, (UNIT,), double_backward=True),
    OpRecord("atan", pydl.atan, np.arctan, (WIDE,), double_backward=True, zero_size=(draw(0, 3),), large=(draw(300, 301),)),
    OpRecord("sinh", pydl.sinh, np.sinh, (WIDE,), double_backward=True),
    OpRecord("cosh", pydl.cosh, np.cosh, (WIDE,), double_backward=True),
    OpRecord("asinh", pydl.asinh, np.arcsinh, (WIDE,), double_backward=True),
    OpRecord("acosh", pydl.acosh, np.arccosh, (draw(37, low=1.05, high=9.0),), double_backward=True),
    OpRecord("atanh", pydl.atanh, np.arctanh, (UNIT,), double_backward=True),
    OpRecord("atan2", pydl.atan2, np.arctan2, (draw(4, 5), draw(5, away_from=0.0)), double_backward=True, errors=[
        (lambda: pydl.atan2(pydl.zeros(2), pydl.zeros(3)), ShapeError, r"\[atan2\] .* input \(2,\), other \(3,\)"),
    ]),
]  # fmt: skip
test_ops = run_records(RECORDS)

FUNCTIONS = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 3e-15)])
def test_relative_error_from_the_smallest_to_the_largest(name, dtype, rtol):
    """Near 0, near the poles and far out, where the plain formulas cancel or overflow."""
    small = np.geomspace(1e-30, 0.999, 200)
    x = np.concatenate([-small[::-1], [0.0, -0.0], small, 1 + small, np.geomspace(2, 80 if "h" in name[-4:] else 1e30, 99)])
    x = np.concatenate([x, -x[-99:], [1.0, -1.0, np.inf, -np.inf, np.nan]]).astype(dtype)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        expected = FUNCTIONS[name](x.astype(np.longdouble)).astype(dtype)
    found = getattr(pydl, name)(pydl.tensor(x)).numpy()
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected) & (expected != 0)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=rtol)
    np.testing.assert_array_equal(found[~np.isfinite(expected)], expected[~np.isfinite(expected)])


def test_integers_are_refused():
    with pytest.raises(DTypeError, match=r"\[atan\] expected a float32 or float64 tensor, got int64"):
        pydl.atan(pydl.tensor([1, 2]))
