import numpy as np
import pytest

import pydl
from pydl import _core
from pydl.data import (
    ArrayDataset,
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    k_fold,
    random_split,
)
from pydl.errors import ArgumentError, ShapeError


class Letters(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return "abcd"[i]


def test_tensor_dataset_gives_what_it_was_given():
    data = TensorDataset(pydl.tensor([[1.0, 2.0], [3.0, 4.0]]), np.array([5, 6]))
    x, y = data[1]
    assert isinstance(x, pydl.Tensor)
    assert x.tolist() == [3, 4]
    assert isinstance(y, np.int64)
    assert len(data) == 2
    assert [t.shape for t in data.tensors] == [(2, 2), (2,)]
    with pytest.raises(ShapeError, match=r"\(2, 2\), \(3,\)"):
        TensorDataset(np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(ArgumentError):
        TensorDataset()


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool", "float16", "uint16"])
@pytest.mark.parametrize("make", [lambda a: a, lambda a: a[::-1], np.asfortranarray, lambda a: a[:, :1]])
def test_rows_of_any_array(dtype, make):
    array = make(np.random.default_rng(0).integers(0, 2, (9, 5, 3)).astype(dtype))
    index = np.array([8, 0, 0, -1, 4])
    found = TensorDataset(array).take(index)[0]
    assert found.dtype == dtype
    assert np.array_equal(found, array[index])
    assert TensorDataset(array).take(index[:0])[0].shape == (0, *array.shape[1:])
    for bad in (9, -10):
        with pytest.raises(IndexError, match=f"{bad}"):
            TensorDataset(array).take(np.array([bad]))


def test_native_rows_refuse_what_is_not_safe():
    a, out = np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32)
    for index in ([3, 0], [-1, 0]):
        with pytest.raises(ValueError, match="outside of 0 to 2"):
            _core.take_rows(a, np.array(index), out)
    for args in ((a, np.array([0]), out), (a.astype(np.float64), np.array([0, 1]), out), (a, np.array([0, 1]), out.T[:, :1]),
                 (a, np.array([0, 1], np.int32), out), (np.zeros((3, 3), np.float32), np.array([0, 1]), out)):
        with pytest.raises(ValueError):
            _core.take_rows(*args)
    for rows in ([a[0]], [a[0], a[0].astype(np.float64)], [a[0], np.zeros(3, np.float32)], [a[0], a[:2, 0]], [a[0], 3]):
        with pytest.raises(ValueError):
            _core.stack_rows(rows, out)
    with pytest.raises(ValueError):
        _core.stack_rows([np.array([None]), np.array([None])], np.array([[None], [None]]))


def test_array_dataset_transforms():
    data = ArrayDataset(np.arange(6.0).reshape(3, 2), np.arange(3), transform=lambda x: -x, target_transform=str)
    assert data[2][0].tolist() == [-4, -5]
    assert data[2][1] == "2"
    batch = next(iter(DataLoader(data, 3)))
    assert batch[0].tolist() == [[0, -1], [-2, -3], [-4, -5]]
    assert batch[1] == ["0", "1", "2"]
    assert next(iter(DataLoader(ArrayDataset(np.arange(3)), 3)))[0].tolist() == [0, 1, 2]
    with pytest.raises(ArgumentError, match="needs a target"):
        ArrayDataset(np.arange(3), target_transform=str)


def test_subset_and_concat():
    both = Letters() + Subset(Letters(), [3, 0, -2])
    assert [both[i] for i in range(len(both))] == list("abcddac")
    assert both[-1] == "c"
    assert both[np.int64(4)] == "d"
    for bad in (7, -8):
        with pytest.raises(IndexError, match=f"index {bad} in a data set of 7"):
            both[bad]
    with pytest.raises(ArgumentError, match="from 0 to 4 for a data set of 4"):
        Subset(Letters(), [0, 4])
    with pytest.raises(ArgumentError):
        ConcatDataset([IterableDataset()])


def test_base_classes_say_what_is_missing():
    with pytest.raises(NotImplementedError, match="Dataset must define __len__"):
        len(Dataset())
    with pytest.raises(NotImplementedError, match="__getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(IterableDataset())


def test_random_split():
    parts = random_split(range(10), [7, 3], generator=pydl.Generator(1))
    assert [len(p) for p in parts] == [7, 3]
    assert sorted([*parts[0], *parts[1]]) == list(range(10))
    again = random_split(range(10), [7, 3], generator=pydl.Generator(1))
    assert list(again[0]) == list(parts[0])
    assert list(random_split(range(10), [7, 3], generator=pydl.Generator(2))[0]) != list(parts[0])
    assert [len(p) for p in random_split(range(11), [0.5, 0.3, 0.2])] == [6, 3, 2]
    assert [len(p) for p in random_split(range(10), [0.1] * 10)] == [1] * 10
    for bad in ([7, 4], [0.5, 0.4], [-1, 11], [2.5, 7.5]):
        with pytest.raises(ArgumentError, match="add up to"):
            random_split(range(10), bad)


def test_k_fold():
    pairs = list(k_fold(range(11), 3, generator=pydl.Generator(0)))
    assert [len(v) for _, v in pairs] == [4, 4, 3]
    assert sorted(i for _, v in pairs for i in v) == list(range(11))
    for train, valid in pairs:
        assert sorted([*train, *valid]) == list(range(11))
    assert list(next(iter(k_fold(range(4), 2, shuffle=False)))[1]) == [0, 1]
    for k in (1, 12):
        with pytest.raises(ArgumentError, match=f"k={k} for 11 samples"):
            k_fold(range(11), k)


# --------------------------------------------------------------------------- samplers


def test_random_sampler():
    sampler = RandomSampler(range(50), generator=pydl.Generator(3))
    first = list(sampler)
    assert sorted(first) == list(range(50))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    some = RandomSampler(range(50), num_samples=5)
    assert len(set(some)) == len(some) == 5
    repeated = list(RandomSampler(range(3), replacement=True, num_samples=1000))
    assert [repeated.count(i) > 250 for i in range(3)] == [True] * 3
    with pytest.raises(ArgumentError, match="num_samples=4 of 3"):
        RandomSampler(range(3), num_samples=4)
    assert list(RandomSampler([])) == []
    subset = SubsetRandomSampler([3, 5, 9])
    assert (sorted(subset), len(subset)) == ([3, 5, 9], 3)


def test_weighted_sampler():
    drawn = np.bincount(list(WeightedRandomSampler([1, 0, 3], 8000, generator=pydl.Generator(1))), minlength=3)
    assert drawn[1] == 0
    assert abs(drawn[2] / 8000 - 0.75) < 0.02
    assert sorted(WeightedRandomSampler([1, 5, 0, 2], 3, replacement=False)) == [0, 1, 3]
    bad = (([0, 0], 1, True), ([1, -1], 1, True), ([1, np.nan], 1, True), ([[1]], 1, True), ([1, 0], 2, False))
    for weights, n, replacement in bad:
        with pytest.raises(ArgumentError):
            WeightedRandomSampler(weights, n, replacement)


def test_batch_sampler_of_an_iterable():
    assert list(BatchSampler(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert len(BatchSampler("abcde", 2)) == 3
    assert len(BatchSampler("abcde", 2, drop_last=True)) == 2
    assert [b.tolist() for b in BatchSampler(RandomSampler(range(5)), 2, drop_last=True)] == [
        b.tolist() for b in BatchSampler(RandomSampler(range(5)), 2)
    ][:2]
