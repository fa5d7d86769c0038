"""Containers: order, names, indexing, what they register."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.errors import ArgumentError, ShapeError


def linears(n):
    return [nn.Linear(i + 1, i + 2) for i in range(n)]


def test_sequential():
    a, b, c = linears(3)
    net = nn.Sequential(a, b, c)
    x = pydl.ones(2, 1)
    np.testing.assert_array_equal(net(x).detach().numpy(), c(b(a(x))).detach().numpy())
    assert list(net.state_dict()) == [f"{i}.{n}" for i in range(3) for n in ("weight", "bias")]
    assert len(net) == 3
    assert list(net) == [a, b, c]
    assert net[-1] is c
    assert nn.Sequential()(x) is x


def test_sequential_with_names():
    a, b, c = linears(3)
    net = nn.Sequential({"in": a, "mid": b, "out": c})
    assert list(net.state_dict()) == [f"{i}.{n}" for i in ("in", "mid", "out") for n in ("weight", "bias")]
    part = net[1:]
    assert isinstance(part, nn.Sequential)
    assert [n for n, _ in part.named_children()] == ["mid", "out"]  # as in PyTorch, a slice keeps the names
    assert part[0] is b
    assert net.mid is b
    net.insert(1, nn.ReLU())
    assert [n for n, _ in net.named_children()] == ["in", "1", "mid", "out"]


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda m: nn.Sequential(*m)])
def test_list_methods(kind):
    a, b, c, d, e = linears(5)
    members = kind([a, b])
    assert members.append(c) is members
    members.extend([d])
    members += [e]
    assert list(members) == [a, b, c, d, e]
    assert [n for n, _ in members.named_children()] == list("01234")
    assert list(members[1:4:2]) == [b, d]
    assert type(members[:2]) is type(members)
    del members[0]
    assert list(members) == [b, c, d, e]
    assert [n for n, _ in members.named_children()] == list("0123")
    members.insert(1, a)
    assert list(members) == [b, a, c, d, e]
    assert members.pop() is e
    assert members.pop(0) is b
    del members[1:]
    assert list(members) == [a]
    members[-1] = d
    assert list(members) == [d]
    assert len(list(members.parameters())) == 2
    with pytest.raises(ArgumentError, match="index 1 for 1 modules"):
        members[1]


def test_module_list_is_not_called():
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        nn.ModuleList([nn.ReLU()])(pydl.ones(1))
    with pytest.raises(ArgumentError, match="must be a Module, got int"):
        nn.ModuleList([1])


def test_module_dict():
    a, b = linears(2)
    members = nn.ModuleDict({"a": a})
    members["b"] = b
    assert (list(members), list(members.keys()), list(members.values())) == (["a", "b"], ["a", "b"], [a, b])
    assert dict(members.items()) == {"a": a, "b": b}
    assert "a" in members
    assert members["b"] is b
    assert list(members.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert members.pop("a") is a
    members.update({"c": a})
    del members["b"]
    assert list(members) == ["c"]
    members.clear()
    assert len(members) == 0
    assert not list(members.parameters())


def test_parameter_list_and_dict():
    p, q = (nn.Parameter(np.full(2, v, np.float32)) for v in (1.0, 2.0))
    members = nn.ParameterList([p])
    assert members.append(q) is members
    assert list(members) == list(members.parameters()) == [p, q]
    assert members[1] is q
    assert len(members) == 2
    assert list(members.state_dict()) == ["0", "1"]
    with pytest.raises(ArgumentError, match="expected a Parameter, got Tensor"):
        members.append(pydl.zeros(1))
    named = nn.ParameterDict({"p": p})
    named["q"] = q
    assert (list(named), list(named.keys()), list(named.values())) == (["p", "q"], ["p", "q"], [p, q])
    assert "p" in named
    assert named["q"] is q
    assert [n for n, _ in named.items()] == ["p", "q"]
    del named["p"]
    assert [n for n, _ in named.named_parameters()] == ["q"]
    assert len(named) == 1


def test_messages_name_the_lists_that_modules_are_in():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2)])
            self.heads = nn.ModuleDict({"one": nn.ModuleList([nn.Linear(2, 3)])})
            self.layers.append(nn.Linear(2, 2))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.heads["one"][0](x)

    net = nn.Sequential(Net())
    y = net(pydl.ones(1, 2))
    assert y.node.module_path == "0.heads.one.0"
    assert y.node.next_nodes[0].module_path == "0.layers.1"
    with pytest.raises(ShapeError, match=r"^in module 0\.layers\.0: \[linear\]"):
        net(pydl.ones(1, 3))
