from collections import OrderedDict, namedtuple

import ml_dtypes
import numpy as np
import pytest

import pydl
from pydl.data import default_collate, default_convert
from pydl.errors import DTypeError, ShapeError

Pair = namedtuple("Pair", "x y")


DTYPES = ["float32", "float64", "int32", "uint8", "bool", "float16", "uint16", ml_dtypes.bfloat16, ">f4"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_stacked(dtype):
    arrays = [np.random.default_rng(i).integers(0, 2, (3, 4)).astype(dtype) for i in range(5)]
    arrays[1], arrays[2] = np.asfortranarray(arrays[1]), arrays[2][::-1]
    found = default_collate(arrays)
    assert np.array_equal(found.numpy(), np.stack(arrays))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.numpy().ctypes.data % 64 == 0
    assert default_collate([pydl.from_numpy(a) for a in arrays]).tolist() == found.tolist()


def test_scalars():
    cases = [
        ((1, 2), "int64"), ((0.5, 1.5), "float32"), ((1, 0.5), "float32"), ((True, False), "bool"),
        ((np.float64(1), np.float64(2)), "float64"), ((np.float32(1), np.float32(2)), "float32"),
        ((np.uint8(1), np.uint8(2)), "uint8"),
    ]  # fmt: skip
    for values, dtype in cases:
        found = default_collate(values)
        assert (found.dtype, found.tolist()) == (dtype, list(values))
    assert default_collate([np.array(3.0), np.array(4.0)]).tolist() == [3, 4]
    assert default_collate([pydl.tensor(3.0), pydl.tensor(4.0)]).shape == (2,)
    assert default_collate([np.zeros((0, 3)), np.zeros((0, 3))]).shape == (2, 0, 3)


def test_nested():
    samples = [{"a": (i, [float(i), "t"]), "p": Pair(np.full(2, i), b"b")} for i in range(2)]
    batch = default_collate(samples)
    assert batch["a"][0].tolist() == [0, 1]
    assert isinstance(batch["a"], tuple)
    assert isinstance(batch["a"][1], list)
    assert batch["a"][1][1] == ["t", "t"]
    assert batch["p"].x.tolist() == [[0, 0], [1, 1]]
    assert batch["p"].y == [b"b", b"b"]
    assert list(default_collate([OrderedDict(b=1, a=2)])) == ["b", "a"]


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([np.zeros(2), np.zeros(3)], ShapeError, r"shapes differ: sample 0 has \(2,\), sample 1 has \(3,\).*collate_fn"),
        ([(0, np.zeros(2)), (0, np.zeros(3))], ShapeError, r"shapes differ at \[1\]"),
        ([{"m": np.zeros(2)}, {"m": np.zeros((2, 1))}], ShapeError, r"shapes differ at \['m'\]"),
        ([np.zeros(2), np.zeros(2, np.float32)], DTypeError, "dtypes differ: sample 0 has float64, sample 1 has float32"),
        ([np.zeros(2), "text"], DTypeError, "types differ: sample 0 is a ndarray, sample 1 is a str"),
        ([1, None], DTypeError, "sample 0 is a int, sample 1 is a NoneType"),
        (["text", 1], DTypeError, "sample 0 is a str, sample 1 is a int"),
        ([(1, 2), (1,)], ShapeError, "numbers of fields differ: sample 0 has 2, sample 1 has 1"),
        ([(1, 2), 1], DTypeError, "types differ"),
        ([{"a": 1}, {"b": 1}], ShapeError, r"keys differ: sample 0 has \('a',\), sample 1 has \('b',\)"),
        ([None, None], DTypeError, "sample 0 is of type NoneType.*PIL"),
        ([np.array(["a"]), np.array(["b"])], DTypeError, "no tensor can hold"),
        ([1j, 2j], DTypeError, "no tensor can hold"),
        ([1, np.zeros(2)], ShapeError, r"sample 0 has \(\), sample 1 has \(2,\)"),
        ([], ShapeError, "at least one sample"),
    ],
)
def test_what_does_not_fit(samples, error, message):
    with pytest.raises(error, match=message):
        default_collate(samples)


def test_convert():
    found = default_convert({"a": np.zeros(2), "b": [Pair(np.float32(1), "t")], "c": (1, None)})
    assert isinstance(found["a"], pydl.Tensor)
    assert found["b"][0].x.item() == 1
    assert found["b"][0].y == "t"
    assert found["c"] == (1, None)
