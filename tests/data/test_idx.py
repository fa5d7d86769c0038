import gzip
import struct

import numpy as np
import pytest

from pydl.data import IdxError, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", list(CODES))
@pytest.mark.parametrize("compress", [False, True])
def test_every_type(tmp_path, dtype, compress):
    array = (np.random.default_rng(0).random((3, 4, 2)) * 100 - (0 if dtype == "u1" else 50)).astype(dtype)
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    found = read_idx(path)
    assert np.array_equal(found, array)
    assert found.dtype == dtype
    assert found.dtype.isnative
    assert found.flags.writeable


def test_empty(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    assert read_idx(path).shape == (0, 28, 28)


GOOD = idx_bytes(np.random.default_rng(1).integers(0, 256, (50, 7, 7)).astype(np.uint8))
ZIPPED = gzip.compress(GOOD)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"not an IDX file: it starts with the bytes \(none\)"),
        (b"\x89PNG" + GOOD, "not an IDX file: it starts with the bytes 89 50 4e 47"),
        (b"\0\0\x07\1" + GOOD, "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (GOOD[:9], "ends within its header"),
        (GOOD[:-1], r"truncated or damaged: its header promises 2450 bytes|truncated: 2449 bytes"),
        (GOOD[:1000], "truncated"),
        (GOOD + b"x", "more data than the 2450 bytes"),
        (b"\0\0\x08\3" + b"\xff" * 12, "promises 79228162458924105385300197375 bytes"),
        (ZIPPED[:-100], "damaged gzip file"),
        (ZIPPED[:200] + b"????" + ZIPPED[204:], "damaged gzip file"),
        (ZIPPED[:-8] + b"0000" + ZIPPED[-4:], "damaged gzip file"),
        (gzip.compress(GOOD[:-1]), "truncated: 2449 bytes of data, its header promises 2450"),
        (gzip.compress(GOOD + b"x"), "more data"),
        (gzip.compress(b"<html>404</html>"), "not an IDX file: it starts with the bytes 3c 68 74 6d"),
    ],
)
def test_damaged_files(tmp_path, data, message):
    path = tmp_path / "digits-idx3"
    path.write_bytes(data)
    with pytest.raises(IdxError, match=message) as caught:
        read_idx(path)
    assert "digits-idx3" in str(caught.value)
