"""What users do with tensors: making, looking, indexing, converting, changing."""

import copy
import pickle

import numpy as np
import pytest

import pydl
from pydl.errors import ArgumentError, DTypeError, GraphError, ShapeError


class TestMaking:
    @pytest.mark.parametrize(
        ("value", "dtype"),
        [(1, "int64"), (1.5, "float32"), (True, "bool"), ([1, 2], "int64"), ([[1.0], [2.0]], "float32"), ([], "float32"),
         (np.float64(2), "float64"), (np.arange(3, dtype=np.uint8), "uint8"), (np.zeros(2), "float64")],
    )  # fmt: skip
    def test_dtype_follows_the_value(self, value, dtype):
        assert pydl.tensor(value).dtype == np.dtype(dtype)

    def test_tensor_copies_and_from_numpy_shares(self):
        a = np.zeros(3, np.float32)
        copied, shared = pydl.tensor(a), pydl.from_numpy(a)
        a[0] = 7
        assert copied[0].item() == 0
        assert shared[0].item() == 7
        assert shared.numpy() is a

    def test_factories(self):
        assert pydl.zeros(2, 3).shape == (2, 3)
        assert pydl.ones((2, 3)).sum().item() == 6
        assert pydl.full((2,), 7).dtype == pydl.int64
        assert pydl.arange(3).tolist() == [0, 1, 2]
        assert pydl.arange(1, 2, 0.5).dtype == pydl.float32
        assert pydl.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
        assert pydl.eye(2).tolist() == [[1, 0], [0, 1]]

    def test_ragged_lists_are_refused(self):
        with pytest.raises((ArgumentError, ShapeError, ValueError)):
            pydl.tensor([[1, 2], [3]])


class TestLeavingAndEntering:
    def test_numpy_shares_memory_both_ways(self):
        t = pydl.zeros(3)
        t.numpy()[1] = 5
        assert t.tolist() == [0, 5, 0]

    def test_numpy_of_a_recorded_tensor_is_refused(self):
        with pytest.raises(GraphError, match=r"detach\(\)\.numpy\(\)"):
            pydl.ones(2, requires_grad=True).numpy()

    def test_array_protocol(self):
        t = pydl.tensor([[1.0, 2.0]])
        np.testing.assert_array_equal(np.asarray(t), [[1, 2]])
        assert np.asarray(t, dtype=np.int32).dtype == np.int32
        assert isinstance(np.ones(2) + t, pydl.Tensor)

    def test_dlpack_both_ways(self):
        t = pydl.tensor([1.0, 2.0])
        a = np.from_dlpack(t)
        np.testing.assert_array_equal(a, [1, 2])
        assert np.shares_memory(a, t.numpy())
        back = pydl.from_dlpack(np.arange(4.0))
        assert back.tolist() == [0, 1, 2, 3]

    def test_item(self):
        assert pydl.tensor([[3.5]]).item() == 3.5
        with pytest.raises(ArgumentError, match=r"2 elements.*\(2,\)"):
            pydl.ones(2).item()

    def test_to(self):
        t = pydl.tensor([1.7, -2.2])
        assert t.to(pydl.int64).tolist() == [1, -2]
        assert t.to(pydl.float32) is t
        assert t.double().dtype == pydl.float64
        with pytest.raises(ArgumentError, match="cuda"):
            t.to("cuda")

    def test_casts_are_differentiable(self):
        x = pydl.ones(2, requires_grad=True)
        x.double().sum().backward()
        assert x.grad.dtype == pydl.float32

    def test_truth(self):
        assert pydl.tensor(1.0)
        assert not pydl.tensor([0])
        with pytest.raises(ArgumentError, match="ambiguous"):
            bool(pydl.ones(2))

    def test_pickle_is_refused_with_the_alternative(self):
        with pytest.raises(TypeError, match=r"pydl\.save"):
            pickle.dumps(pydl.ones(2))

    def test_deepcopy(self):
        x = pydl.ones(2, requires_grad=True)
        y = copy.deepcopy(x)
        assert y.requires_grad
        assert not np.shares_memory(x.detach().numpy(), y.detach().numpy())
        with pytest.raises(GraphError, match="leaf"):
            copy.deepcopy(x * 2)


class TestRepr:
    def test_shows_values_and_state(self):
        assert repr(pydl.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
        assert "requires_grad=True" in repr(pydl.ones(1, requires_grad=True))
        assert "grad_fn=<mul>" in repr(pydl.ones(1, requires_grad=True) * 2)
        assert "dtype=float64" in repr(pydl.zeros(1, dtype=pydl.float64))

    def test_large_tensors_are_abbreviated_with_their_shape(self):
        text = repr(pydl.zeros(100, 100))
        assert len(text) < 500
        assert "shape=(100, 100)" in text

    def test_formats_like_a_number(self):
        assert f"{pydl.tensor(3.14159):.2f}" == "3.14"


INDICES = [
    0, -1, slice(None), slice(1, None), slice(None, None, 2), slice(None, None, -1), ..., None,
    (0, 1), (slice(None), 2), (..., -1), (None, 0), (slice(None), None, slice(1, 3)), (0, ..., None),
    [0, 2], ([0, 1], [2, 3]), (slice(None), [0, 0, 1]), ([1, 0], slice(1, 3)), (np.array([[0, 1], [2, 0]]),),
    np.array([True, False, True]), (slice(None), np.array([True, False, True, True])), (0, [1, 1]), ([], slice(None)),
]  # fmt: skip


class TestIndexing:
    data = np.random.default_rng(0).normal(size=(3, 4, 5))

    @pytest.mark.parametrize("index", INDICES, ids=str)
    def test_values_and_gradient(self, index):
        x = pydl.tensor(self.data, requires_grad=True)
        plain = tuple(np.array(i, np.int64) if isinstance(i, list) else i for i in index) if isinstance(index, tuple) else index
        y = x[index]
        np.testing.assert_array_equal(y.detach().numpy(), self.data[plain])
        weights = np.arange(1.0, 1 + y.numel()).reshape(y.shape)
        (y * pydl.tensor(weights)).sum().backward()
        expected = np.zeros_like(self.data)
        np.add.at(expected, plain, weights)
        np.testing.assert_allclose(x.grad.numpy(), expected)

    def test_a_mask_from_a_comparison(self):
        x = pydl.tensor(self.data)
        np.testing.assert_array_equal(x[x > 0].numpy(), self.data[self.data > 0])

    def test_tensors_as_indices(self):
        x = pydl.tensor(self.data)
        np.testing.assert_array_equal(x[pydl.tensor([2, 0])].numpy(), self.data[[2, 0]])
        np.testing.assert_array_equal(x[:, pydl.tensor(1)].numpy(), self.data[:, 1])

    def test_basic_indexing_is_a_view(self):
        x = pydl.zeros(3, 4)
        x[1][2] = 5
        x[:, 0] += 1
        assert x.tolist() == [[1, 0, 0, 0], [1, 0, 5, 0], [1, 0, 0, 0]]

    @pytest.mark.parametrize("index", [3, -4, (0, 4), ([3],), (0, 0, 0, 0), 1.5, "a"])
    def test_bad_indices_are_named(self, index):
        with pytest.raises((ArgumentError, DTypeError, IndexError)):
            pydl.tensor(self.data)[index]

    def test_assignment(self):
        x = pydl.tensor(self.data)
        expected = self.data.copy()
        for index, value in ((0, 1.0), ((slice(None), 1), np.arange(5.0)), ([0, 2], 3.0), (self.data > 1, -1.0)):
            x[index] = pydl.tensor(value) if isinstance(value, np.ndarray) else value
            expected[index] = value
        np.testing.assert_array_equal(x.numpy(), expected)
        with pytest.raises(ShapeError, match=r"setitem.*\(7,\)"):
            x[0, 0] = pydl.ones(7)


class TestArithmetic:
    def test_operators(self):
        a = np.array([3.0, -2.0, 5.0])
        x = pydl.tensor(a)
        for ours, theirs in (
            (x + 1, a + 1), (1 - x, 1 - a), (2 * x, 2 * a), (1 / x, 1 / a), (x**2, a**2), (2**x, 2**a), (-x, -a),
            (abs(x), abs(a)), (x @ x, a @ a), (x > 0, a > 0), (x == 5, a == 5), (x != 5, a != 5), (x <= -2, a <= -2),
        ):  # fmt: skip
            np.testing.assert_allclose(ours.numpy(), theirs)

    def test_in_place_operators_under_no_grad(self):
        x = pydl.ones(3, requires_grad=True)
        with pydl.no_grad():
            x += 2
            x *= 3
            x -= 1
            x /= 4
        assert x.tolist() == [2, 2, 2]
        assert x.is_leaf
        assert x.requires_grad

    def test_a_number_does_not_change_the_dtype(self):
        for dtype in (np.float32, np.float64):
            assert (pydl.ones(2, dtype=dtype) * 2.5).dtype == dtype
        assert (pydl.tensor([1, 2]) * 2).dtype == pydl.int64
        assert (pydl.tensor([1, 2]) * 2.5).dtype == pydl.float32

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ShapeError, match=r"\[add\].*\(2, 3\).*\(4,\)"):
            pydl.ones(2, 3) + pydl.ones(4)

    def test_detach_shares_memory_and_stops_gradients(self):
        x = pydl.ones(3, requires_grad=True)
        d = x.detach()
        assert not d.requires_grad
        assert np.shares_memory(d.numpy(), x.data)
        (x * x.detach()).sum().backward()
        assert x.grad.tolist() == [1, 1, 1]
