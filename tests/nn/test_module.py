"""The module system: attributes, walking, state, modes, hooks, printing."""

import copy

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.errors import ArgumentError, GraphError, ShapeError
from pydl.nn.module import StateDictError


class Block(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1, bias=False)
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.register_buffer("count", pydl.tensor(np.zeros(2, np.float32)))
        self.register_buffer("scratch", pydl.zeros(1), persistent=False)

    def forward(self, x):
        return self.second(pydl.tanh(self.first(x))) * self.scale


NAMES = ["scale", "first.weight", "first.bias", "second.weight"]


# --------------------------------------------------------------------------- attributes


def test_parameters_and_buffers_are_found():
    block = Block()
    assert [n for n, _ in block.named_parameters()] == NAMES
    assert [n for n, _ in block.named_parameters(prefix="net")] == [f"net.{n}" for n in NAMES]
    assert [n for n, _ in block.named_parameters(recurse=False)] == ["scale"]
    assert sum(p.numel() for p in block.parameters()) == 1 + 6 + 3 + 3
    assert [n for n, _ in block.named_buffers()] == ["count", "scratch"]
    assert [n for n, _ in block.named_modules()] == ["", "first", "second"]
    assert [n for n, _ in block.named_children()] == ["first", "second"]
    assert block.get_submodule("first") is block.first
    assert block.get_submodule("") is block
    assert block.get_parameter("first.bias") is block.first.bias
    assert block.get_buffer("count") is block.count
    assert {"first", "scale", "count"} <= set(dir(block))


def test_a_shared_parameter_counts_once():
    block = Block()
    block.tied = nn.Linear(2, 3)
    block.tied.weight = block.first.weight
    block.again = block.first
    names = [n for n, _ in block.named_parameters()]
    assert names == [*NAMES, "tied.bias"]
    assert [n for n, _ in block.named_modules()] == ["", "first", "second", "tied"]
    everywhere = [n for n, _ in block.named_parameters(remove_duplicate=False)]
    assert everywhere == [*NAMES, "tied.weight", "tied.bias", "again.weight", "again.bias"]
    assert list(block.state_dict()) == [
        "scale", "count", "first.weight", "first.bias", "second.weight", "tied.weight", "tied.bias", "again.weight", "again.bias"]
    x = pydl.ones(1, 2)
    (block.first(x) + block.tied(x)).sum().backward()
    np.testing.assert_array_equal(block.first.weight.grad.numpy(), np.full((3, 2), 2.0))


def test_replacing_keeps_the_order():
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(np.zeros((3, 2), np.float32))
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
    layer.bias = None
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    assert layer.bias is None
    assert layer(pydl.ones(1, 2)).shape == (1, 3)


def test_an_attribute_changes_its_kind():
    m = nn.Module()
    m.x = 3
    m.x = nn.Parameter(np.zeros(1))
    assert list(m.state_dict()) == ["x"]
    del m.x
    assert not hasattr(m, "x")
    m.x = nn.Linear(1, 1)
    m.x = nn.Parameter(np.zeros(1))
    assert [n for n, _ in m.named_children()] == []
    assert [n for n, _ in m.named_parameters()] == ["x"]


@pytest.mark.parametrize(("change", "message"), [
    (lambda m: setattr(m, "scale", 1.0), "Block.scale: expected a Parameter or None, got float"),
    (lambda m: setattr(m, "first", 1.0), "Block.first: expected a Module or None, got float"),
    (lambda m: setattr(m, "count", 1.0), "Block.count: expected a Tensor or None, got float"),
    (lambda m: m.register_parameter("a.b", None), "without dots"),
    (lambda m: m.register_buffer("", None), "not empty"),
    (lambda m: m.register_buffer("forward", None), "'forward' is an attribute already"),
    (lambda m: m.register_parameter("p", pydl.zeros(1)), "'p' must be a Parameter, got Tensor"),
    (lambda m: m.register_buffer("b", np.zeros(1)), "'b' must be a Tensor, got ndarray"),
    (lambda m: m.register_module("c", pydl.relu), "'c' must be a Module, got function"),
    (lambda m: m.get_submodule("first.x"), "Linear has no part 'x'"),
    (lambda m: m.get_parameter("first.x"), r"no parameter 'first.x'; that module has \['weight', 'bias'\]"),
    (lambda m: m.get_buffer("x"), "no buffer 'x'"),
])  # fmt: skip
def test_attribute_errors(change, message):
    with pytest.raises(ArgumentError, match=message):
        change(Block())


def test_init_must_come_first():
    class Late(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(GraphError, match=r"Late.layer: call super\(\).__init__\(\)"):
        Late()
    with pytest.raises(AttributeError, match="'Block' has no attribute 'third'"):
        _ = Block().third
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)


def test_an_error_names_the_path_of_the_layer():
    net = nn.Sequential({"body": nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1))})
    with pytest.raises(ShapeError, match=r"^in module body\.1: \[linear\]"):
        net(pydl.ones(1, 2))


def test_deep_copy():
    block = Block()
    block.first.weight.grad = pydl.ones(3, 2)
    block.second.requires_grad_(False)
    twin = copy.deepcopy(block)
    assert [n for n, _ in twin.named_parameters()] == NAMES
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in block.parameters()]
    with pydl.no_grad():
        twin.first.weight.fill_(7)
    assert not (block.first.weight.detach().numpy() == 7).any()
    assert isinstance(twin.first.weight, nn.Parameter)


# --------------------------------------------------------------------------- state


def test_state_dict_goes_round():
    a, b = Block(), Block()
    a.count.fill_(5)
    state = a.state_dict()
    assert list(state) == ["scale", "count", "first.weight", "first.bias", "second.weight"]
    assert list(a.state_dict(prefix="net.")) == [f"net.{k}" for k in state]
    assert not any(t.requires_grad for t in state.values())
    x = pydl.tensor(np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32))
    assert a(x).tolist() != b(x).tolist()
    assert b.load_state_dict(state) == ([], [])
    assert a(x).tolist() == b(x).tolist()
    assert b.count.tolist() == [5, 5]
    with pydl.no_grad():
        a.scale.fill_(9)
    assert state["scale"].tolist() == [9]  # shares the memory, as in PyTorch
    assert b.scale.tolist() == [1]
    assert b.load_state_dict({k: v.numpy().astype(np.float64) for k, v in state.items()}) == ([], [])
    assert b.scale.dtype == pydl.float32


def test_load_reports_everything_at_once():
    block = Block()
    before = {k: v.numpy().copy() for k, v in block.state_dict().items()}
    state = dict(block.state_dict())
    del state["first.bias"], state["count"]
    state |= {"head.weight": pydl.zeros(1), "first.weight": pydl.zeros(4, 2), "second.weight": pydl.zeros(1, 4)}
    with pytest.raises(StateDictError) as caught:
        block.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict for Block: missing: count, first.bias | unexpected: head.weight | "
        "wrong shape: first.weight is (4, 2), expected (3, 2); second.weight is (1, 4), expected (1, 3)"
    )
    with pytest.raises(StateDictError, match=r"Block: wrong shape: first.weight is \(4, 2\)"):
        block.load_state_dict(state, strict=False)
    for name, value in block.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])  # nothing was copied
    del state["first.weight"], state["second.weight"]
    state["scale"] = pydl.tensor([4.0])
    report = block.load_state_dict(state, strict=False)
    assert report.missing_keys == ["count", "first.weight", "first.bias", "second.weight"]
    assert report.unexpected_keys == ["head.weight"]
    assert block.scale.tolist() == [4]


def test_saved_for_backward_values_are_protected():
    block = Block()
    loss = block(pydl.ones(1, 2)).sum()
    block.load_state_dict(Block().state_dict())
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


# --------------------------------------------------------------------------- modes


def test_train_and_eval():
    class Frozen(nn.Linear):
        def train(self, mode=True):
            return super().train(False)

    net = nn.Sequential(nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1)]), Frozen(1, 1))
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert [m.training for m in net.modules()] == [True, True, True, True, False]  # its own train() decides


def test_freeze():
    block = Block()
    assert block.first.freeze() is block.first
    assert [p.requires_grad for p in block.parameters()] == [True, False, False, True]
    block(pydl.ones(1, 2)).sum().backward()
    assert [p.grad is not None for p in block.parameters()] == [True, False, False, True]
    block.unfreeze()
    assert all(p.requires_grad for p in block.parameters())
    assert not any(p.requires_grad for p in block.requires_grad_(False).parameters())


def test_zero_grad():
    block = Block()
    block(pydl.ones(1, 2)).sum().backward()
    block.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_conversion():
    block = Block()
    block.register_buffer("steps", pydl.tensor([3]))
    block(pydl.ones(1, 2)).sum().backward()
    expected = block.first.weight.detach().numpy().astype(np.float64)
    assert block.double() is block
    assert {p.dtype for p in block.parameters()} == {pydl.float64}
    assert {p.grad.dtype for p in block.parameters()} == {pydl.float64}
    assert block.count.dtype == pydl.float64
    assert block.steps.dtype == pydl.int64
    np.testing.assert_array_equal(block.first.weight.detach().numpy(), expected)
    assert block(pydl.ones(1, 2, dtype=pydl.float64)).dtype == pydl.float64
    assert {p.dtype for p in block.float().parameters()} == {pydl.float32}
    weight = block.first.weight
    assert block.to("cpu") is block.to(device="cpu") is block.cpu() is block
    assert block.first.weight.dtype == pydl.float32
    with pytest.raises(ArgumentError, match="device 'cuda' is not available"):
        block.to("cuda")
    with pytest.raises(ArgumentError, match="int64 is no floating type"):
        block.to(pydl.int64)
    assert block.to("cpu", dtype=pydl.float64).first.weight is weight  # the same parameters, so optimizers keep them


def test_apply_goes_from_the_leaves_up():
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


# --------------------------------------------------------------------------- hooks


def test_forward_hooks():
    layer = nn.Linear(2, 2)
    log = []
    layer.register_forward_pre_hook(lambda m, args: log.append(("pre", m is layer, args[0].tolist())))
    double = layer.register_forward_pre_hook(lambda m, args: args[0] * 2)
    layer.register_forward_hook(lambda m, args, out: log.append(("post", args[0].tolist())))
    negate = layer.register_forward_hook(lambda m, args, out: -out)
    x = pydl.ones(1, 2)
    out = layer(x)
    np.testing.assert_allclose(out.detach().numpy(), -pydl.linear(x * 2, layer.weight, layer.bias).detach().numpy())
    assert log == [("pre", True, [[1, 1]]), ("post", [[2, 2]])]
    double.remove()
    negate.remove()
    np.testing.assert_array_equal(layer(x).detach().numpy(), pydl.linear(x, layer.weight, layer.bias).detach().numpy())
    with layer.register_forward_hook(lambda m, args, out: out * 0):
        assert layer(x).tolist() == [[0, 0]]
    assert layer(x).tolist() != [[0, 0]]


def test_hooks_with_keywords_and_order():
    class Scaled(nn.Module):
        def forward(self, x, scale=1.0):
            return x * scale

    m, log = Scaled(), []
    m.register_forward_pre_hook(lambda m, args, kwargs: (args, {**kwargs, "scale": 3.0}), with_kwargs=True)
    m.register_forward_hook(lambda m, args, kwargs, out: log.append(kwargs["scale"]), with_kwargs=True)
    m.register_forward_hook(lambda m, args, out: log.append("first"), prepend=True)
    assert m(pydl.ones(1), scale=2.0).tolist() == [3]
    assert log == ["first", 3.0]


def test_full_backward_hook():
    layer = nn.Linear(2, 3)
    seen = {}
    layer.register_full_backward_pre_hook(lambda m, grad_output: seen.update(pre=grad_output))
    layer.register_full_backward_hook(lambda m, grad_input, grad_output: seen.update(inputs=grad_input, outputs=grad_output))
    x = pydl.tensor([[1.0, 2.0]], requires_grad=True)
    layer(x * 1).backward(pydl.tensor([[1.0, 2.0, 3.0]]))
    assert len(seen["inputs"]) == len(seen["outputs"]) == 1
    assert seen["pre"][0].tolist() == seen["outputs"][0].tolist() == [[1, 2, 3]]
    expected = np.float32([[1, 2, 3]]) @ layer.weight.detach().numpy()
    np.testing.assert_allclose(seen["inputs"][0].numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(layer.weight.grad.numpy(), [[1, 2], [2, 4], [3, 6]])


def test_full_backward_hooks_change_gradients():
    layer = nn.Linear(2, 2)
    x = pydl.ones(1, 2)
    x.requires_grad = True
    layer(x).sum().backward()
    plain, weight = x.grad.numpy().copy(), layer.weight.grad.numpy().copy()
    x.grad = None
    layer.zero_grad()
    layer.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 10,))
    handle = layer.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0] + 1,))
    layer(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), plain * 10 + 1, rtol=1e-6)
    np.testing.assert_allclose(layer.weight.grad.numpy(), weight * 10, rtol=1e-6)
    handle.remove()
    x.grad = None
    layer(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), plain * 10, rtol=1e-6)


def test_full_backward_hook_with_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, a, k, b):
            return a * b * k, a + b, pydl.tensor([1])

    m, seen = Two(), []
    m.register_full_backward_hook(lambda m, grad_input, grad_output: seen.append((grad_input, grad_output)))
    a, b = (pydl.tensor([v], requires_grad=True) for v in (2.0, 3.0))
    product, total, _ = m(a, 10, b)
    product.backward(retain_graph=True)
    ((ga, gk, gb), (gp, gt, gi)), = seen
    assert (ga.tolist(), gk, gb.tolist()) == ([30], None, [20])
    assert (gp.tolist(), gt, gi) == ([1], None, None)  # `total` is not part of this loss
    (product + total).sum().backward()
    assert a.grad.tolist() == [30 + 31]


def test_full_backward_hook_without_differentiable_input():
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda m, grad_input, grad_output: seen.append((grad_input, grad_output[0].tolist())))
    layer(pydl.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1]])]
    with pydl.no_grad():
        layer(pydl.ones(1, 2))
    assert len(seen) == 1


# --------------------------------------------------------------------------- printing


def test_repr_is_nested():
    net = nn.Sequential({"conv": nn.Conv2d(1, 4, 3, padding=1), "body": nn.Sequential(nn.ReLU(), nn.LeakyReLU(0.2)),
                         "head": nn.ModuleDict({"a": nn.Linear(4, 2, bias=False)})})
    assert repr(net) == """Sequential(
  (conv): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=1)
  (body): Sequential(
    (0): ReLU()
    (1): LeakyReLU(negative_slope=0.2)
  )
  (head): ModuleDict(
    (a): Linear(in_features=4, out_features=2, bias=False)
  )
)"""
    assert repr(nn.Linear(1, 2)) == "Linear(in_features=1, out_features=2, bias=True)"


def test_static_tools_see_every_name():
    """`pydl.nn` re-exports by star imports of files with a literal `__all__`: nothing is put in at run time only."""
    import ast
    from pathlib import Path

    folder = Path(nn.__file__).parent
    names = set()
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            tree = ast.parse((folder / f"{node.module.rpartition('.')[2]}.py").read_text())
            lists = [n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"]
            assert len(lists) == 1, node.module
            names |= set(ast.literal_eval(lists[0]))
    at_run_time = {n for n, v in vars(nn).items() if isinstance(v, type) and issubclass(v, nn.Module)}
    assert at_run_time <= names
    assert names <= set(vars(nn))
