"""Padding, buckets by length, and windows for truncated backpropagation through time."""

import numpy as np
import pytest

import pydl
from pydl.data import DataLoader, Dataset
from pydl.errors import ArgumentError, ShapeError
from pydl.text import BPTTBatches, BucketSampler, PadCollate, pad_ids


def test_pad_ids():
    ids, lengths = pad_ids([[1, 2, 3], np.array([4]), []], pad=9)
    assert ids.data.tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]
    assert lengths.data.tolist() == [3, 1, 0]
    assert pad_ids([[1, 2, 3], [4], []], pad=9, side="left")[0].data.tolist() == [[1, 2, 3], [9, 9, 4], [9, 9, 9]]
    ids, lengths = pad_ids([[1, 2, 3], [4]], length=2)
    assert ids.data.tolist() == [[1, 2], [4, 0]]
    assert lengths.data.tolist() == [2, 1]
    with pytest.raises(ShapeError, match=r"sequences\[1\] of shape \(1, 1\)"):
        pad_ids([[1], [[2]]])
    with pytest.raises(ShapeError, match="float64"):
        pad_ids([[1.5]])


class Pairs(Dataset):
    def __init__(self, n=100):
        self.rng = np.random.default_rng(0)
        self.rows = [self.rng.integers(1, 9, k) for k in self.rng.integers(1, 30, n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], self.rows[i][::-1].copy(), float(i)


def test_collate_puts_lengths_behind():
    data = Pairs(4)
    a, la, b, lb, x = PadCollate(pad=(0, 7))([data[i] for i in range(4)])
    longest = max(map(len, data.rows))
    assert a.data.shape == b.data.shape == (4, longest)
    assert la.data.tolist() == lb.data.tolist() == [len(r) for r in data.rows]
    assert x.data.dtype == np.float32
    for i, row in enumerate(data.rows):
        assert a.data[i, : len(row)].tolist() == row.tolist()
        assert b.data[i].tolist() == row[::-1].tolist() + [7] * (longest - len(row))
        assert not a.data[i, len(row) :].any()
    assert len(PadCollate(lengths=False)([data[0]])) == 3
    assert [t.data.ndim for t in PadCollate(lengths=[1])([data[0]])] == [2, 2, 1, 1]


def padding(batches, lengths):
    return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum() - 1


def test_buckets_hold_everything_once_with_little_padding():
    lengths = np.random.default_rng(1).integers(1, 200, 5000)
    sampler = BucketSampler(lengths, 32, generator=pydl.Generator(5))
    batches = sampler.batches()
    assert len(sampler) == len(batches) == -(-5000 // 32) or len(batches) <= 5000 // 32 + 4
    assert sorted(np.concatenate(batches).tolist()) == list(range(5000))
    assert padding(batches, lengths) < 0.03
    plain = np.array_split(np.random.default_rng(2).permutation(5000), 157)
    assert padding(plain, lengths) > 0.5  # what it would be without buckets
    assert not np.all(np.diff([lengths[b].max() for b in batches]) >= 0)  # not from short to long


def test_buckets_depend_on_seed_and_epoch_alone():
    lengths = np.arange(100) % 17
    a, b = (BucketSampler(lengths, 8, pool=3, generator=pydl.Generator(3)) for _ in range(2))
    assert a.order().tolist() == b.order().tolist() == a.order().tolist()
    a.set_epoch(1)
    assert a.order().tolist() != b.order().tolist()
    assert BucketSampler(lengths, 8, pool=3, generator=pydl.Generator(4)).order().tolist() != b.order().tolist()
    c = BucketSampler(lengths, 8, shuffle=False)
    assert np.all(np.diff(lengths[c.order()]) >= 0)


def test_buckets_by_tokens():
    lengths = np.random.default_rng(1).integers(1, 60, 500)
    lengths[7] = 1000
    sampler = BucketSampler(lengths, max_tokens=256, pool=10)
    batches = sampler.batches()
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(b) * lengths[b].max() <= 256 or len(b) == 1 for b in batches)
    assert any(b.tolist() == [7] for b in batches)


def test_buckets_drop_the_incomplete_and_accept_nothing():
    assert all(len(b) == 8 for b in BucketSampler(np.ones(30), 8, drop_last=True))
    assert list(BucketSampler([], 8)) == []
    with pytest.raises(ArgumentError, match="non-negative"):
        BucketSampler([1, -1])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_with_buckets_resumes(workers):
    data = Pairs()
    lengths = [len(r) for r in data.rows]

    def loader():
        return DataLoader(data, batch_sampler=BucketSampler(lengths, 8, pool=4), collate_fn=PadCollate(), num_workers=workers,
                          worker_type="thread")

    first = loader()
    list(first)  # epoch 0
    running = iter(first)
    given = [next(running)[0].data.tolist() for _ in range(3)]
    state = first.state_dict()
    rest = [batch[0].data.tolist() for batch in running]
    second = loader()
    second.load_state_dict(state)
    assert [batch[0].data.tolist() for batch in second] == rest
    assert len(given) + len(rest) == len(second)


@pytest.mark.parametrize(("n", "rows", "steps"), [(101, 4, 7), (50, 7, 7), (8, 7, 3), (13, 1, 100), (13, 3, 4)])
def test_bptt_windows_go_on_where_the_last_ended(n, rows, steps):
    ids = np.arange(n) * 3
    batches = BPTTBatches(pydl.from_numpy(ids), rows, steps)
    pairs = list(batches)
    assert len(pairs) == len(batches)
    inputs = np.concatenate([x.data for x, _ in pairs], 1)
    targets = np.concatenate([y.data for _, y in pairs], 1)
    assert np.array_equal(targets, inputs + 3)  # one token ahead
    assert np.array_equal(inputs.ravel(), ids[: inputs.size])  # rows are contiguous pieces
    assert n - 1 - inputs.size < rows
    assert batches.tokens == inputs.size
    assert {x.shape[1] for x, _ in pairs[:-1]} <= {steps}


def test_bptt_pieces_are_one_pass():
    ids = np.arange(203)
    batches = BPTTBatches(ids, 4, 7, pieces=3)
    seen = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        assert len(batches) == len(list(batches)) in (2, 3)
        seen += [x.data for x, _ in batches]
    assert np.array_equal(np.concatenate(seen, 1), batches.inputs)
    batches.set_epoch(3)
    assert np.array_equal(next(iter(batches))[0].data, batches.inputs[:, :7])
    with pytest.raises(ArgumentError, match="has 8 windows of 7"):
        BPTTBatches(ids, 4, 7, pieces=9)


def test_bptt_overlap_is_read_but_not_predicted():
    batches = BPTTBatches(np.arange(101), 2, 10, overlap=6)
    predicted = []
    for i, (x, y) in enumerate(batches):
        before = 6 if i else 0
        assert x.data.shape == y.data.shape == (2, 10 + before)
        assert (y.data[:, :before] == -100).all()
        assert np.array_equal(y.data[:, before:], x.data[:, before:] + 1)
        assert np.all(np.diff(x.data, axis=1) == 1)
        predicted.append(y.data[:, before:])
    assert np.array_equal(np.concatenate(predicted, 1), batches.targets)


def test_bptt_errors():
    with pytest.raises(ArgumentError, match="at least 9"):
        BPTTBatches(np.arange(8), 8, 3)
    with pytest.raises(ShapeError, match="one axis"):
        BPTTBatches(np.zeros((3, 3), int), 1, 1)
