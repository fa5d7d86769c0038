"""Optimizers: groups, state, errors, closure, thread counts; the rules themselves are checked in tests/parity."""

import numpy as np
import pytest
from records import ISAS, instruction_set, threads

import pydl
from pydl import nn, optim
from pydl.errors import ArgumentError, ShapeError

RULES = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01),
    "centered": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
}
every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)


def parameters(seed=0, dtype=np.float32, shapes=((5, 3), (2,), (), (3, 4, 5, 2))):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(np.asarray(rng.standard_normal(s), dtype)) for s in shapes]


def give_gradients(params, seed):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = pydl.tensor(np.asarray(rng.standard_normal(p.shape), p.dtype))


def run(make, params, steps, first=0):
    optimizer = make(params)
    for i in range(first, first + steps):
        give_gradients(params, i)
        optimizer.step()
    return optimizer


def bits(params):
    return [p.detach().numpy().tobytes() for p in params]


# --------------------------------------------------------------------------- the rules, by hand


def test_sgd_by_hand():
    p = nn.Parameter(np.float32([1.0, -2.0]))
    o = optim.SGD([p], lr=0.5, momentum=0.5, dampening=0.5)
    p.grad = pydl.tensor([2.0, 4.0])
    o.step()
    assert p.tolist() == [0.0, -4.0]  # the first step ignores dampening: v = g
    o.step()
    assert p.tolist() == [-1.0, -6.0]  # v = v / 2 + g / 2 = g
    assert o.state[p]["momentum_buffer"].tolist() == [2.0, 4.0]


def test_adam_moves_by_the_rate_at_first():
    p = nn.Parameter(np.float64([1.0, -2.0, 3.0]))
    p.grad = pydl.tensor(np.float64([1e-3, -5.0, 700.0]))
    optim.Adam([p], lr=0.25).step()
    np.testing.assert_allclose(p.detach().numpy(), [0.75, -1.75, 2.75], rtol=1e-5)


def test_momentum_switched_on_later_starts_at_the_gradient():
    p = nn.Parameter(np.float32([0.0]))
    o = optim.SGD([p], lr=1.0)
    p.grad = pydl.tensor([1.0])
    o.step()
    o.param_groups[0].update(momentum=0.5, dampening=0.5)
    o.step()
    assert p.tolist() == [-2.0]


@every_rule
def test_every_instruction_set(make):
    results = []
    for isa in ISAS:
        with instruction_set(isa):
            params = parameters(dtype=np.float64)
            run(make, params, 5)
            results.append([p.detach().numpy().copy() for p in params])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


@every_rule
def test_thread_counts_give_the_same_bits(make):
    results = []
    for n in (1, 2, 3):
        with threads(n):
            params = parameters(shapes=((200, 333), (7,), (40000,)))
            run(make, params, 3)
            results.append(bits(params))
    assert results[0] == results[1] == results[2]


@every_rule
def test_memory_layout_does_not_matter(make):
    """A channels-last parameter, gradients in C order, a parameter with gaps in memory: the same numbers."""
    plain = parameters(shapes=((3, 4, 5, 2), (6, 7)))
    run(make, plain, 4)
    start = [p.detach().numpy() for p in parameters(shapes=((3, 4, 5, 2), (6, 7)))]
    wide = np.zeros((12, 14), np.float32)
    wide[::2, ::2] = start[1]
    other = [nn.Parameter(np.zeros(1)) for _ in range(2)]
    other[0].data = np.ascontiguousarray(start[0].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    other[1].data = wide[::2, ::2]
    run(make, other, 4)
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    assert not wide[1::2].any(), "memory between the elements was written"


def test_native_step_refuses_gaps():
    from pydl import _core

    gaps = np.zeros((4, 4), np.float32)[:, ::2]
    with pytest.raises(ValueError, match="gaps"):
        _core.optim_step(0, [gaps], [gaps], [], [], [], {"lr": 0.1})


def test_version_check_sees_a_step():
    p = nn.Parameter(np.float32([2.0]))
    loss = (p * p).sum()
    p.grad = pydl.tensor([1.0])
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(pydl.errors.GraphError, match="changed in place"):
        loss.backward()


# --------------------------------------------------------------------------- groups


def test_groups_have_options_of_their_own():
    a, b = parameters(shapes=((2,), (2,)))
    before = [p.detach().numpy().copy() for p in (a, b)]
    o = optim.SGD([{"params": a}, {"params": [b], "lr": 0.0}], lr=1.0)
    o.add_param_group({"params": nn.Parameter(np.zeros(1, np.float32)), "momentum": 0.5})
    assert [g["lr"] for g in o.param_groups] == [1.0, 0.0, 1.0]
    assert [g["momentum"] for g in o.param_groups] == [0, 0, 0.5]
    a.grad = b.grad = pydl.tensor([1.0, 2.0])
    o.step()
    np.testing.assert_array_equal(a.detach().numpy(), before[0] - np.float32([1, 2]))
    np.testing.assert_array_equal(b.detach().numpy(), before[1])


def test_only_parameters_with_a_gradient_move():
    a, b = parameters(shapes=((2,), (2,)))
    o = optim.Adam([a, b])
    kept = b.detach().numpy().copy()
    a.grad = pydl.tensor([1.0, 1.0])
    o.step()
    np.testing.assert_array_equal(b.detach().numpy(), kept)
    assert list(o.state) == [a]


def test_zero_grad():
    (p,) = parameters(shapes=((3,),))
    o = optim.SGD([p])
    p.grad = pydl.tensor([1.0, 2.0, 3.0])
    kept = p.grad
    o.zero_grad(set_to_none=False)
    assert p.grad is kept
    assert kept.tolist() == [0, 0, 0]
    o.zero_grad()
    assert p.grad is None


def test_closure():
    p = nn.Parameter(np.float32([4.0]))
    o = optim.SGD([p], lr=0.25)

    def closure():
        o.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with pydl.no_grad():
        loss = o.step(closure)
    assert loss.item() == 16.0
    assert p.tolist() == [2.0]
    assert o.step() is None


@every_rule
def test_training_reduces_the_loss(make):
    rng = np.random.default_rng(0)
    x = pydl.tensor(rng.standard_normal((64, 5)).astype(np.float32))
    y = pydl.tensor((x.numpy() @ np.float32([1, -2, 3, 0, 1]))[:, None])
    pydl.manual_seed(0)
    layer = nn.Linear(5, 1)
    o = make(layer.parameters())
    losses = []
    for _ in range(60):
        o.zero_grad()
        loss = pydl.mse_loss(layer(x), y)
        loss.backward()
        o.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# --------------------------------------------------------------------------- state


@every_rule
def test_state_goes_round(make, tmp_path):
    """Save after 4 steps, load into a fresh optimizer, go on: the same bits as without interruption."""
    straight = parameters()
    run(make, straight, 9)
    params = parameters()
    o = run(make, params, 4)
    pydl.save(o.state_dict(), tmp_path / "o.safetensors")
    resumed = [nn.Parameter(p.detach()) for p in params]
    fresh = make(resumed)
    fresh.load_state_dict(pydl.load(tmp_path / "o.safetensors"))
    for i in range(4, 9):
        give_gradients(resumed, i)
        fresh.step()
    assert bits(resumed) == bits(straight)
    assert fresh.param_groups[0].keys() == o.param_groups[0].keys()
    assert {type(v) for v in fresh.param_groups[0].values()} == {type(v) for v in o.param_groups[0].values()}


def test_loaded_state_is_a_copy():
    params = parameters()
    o = run(RULES["adam"], params, 2)
    state = o.state_dict()
    assert list(state["state"]) == [0, 1, 2, 3]
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["param_groups"][0]["params"] == [0, 1, 2, 3]
    other = RULES["adam"](parameters(1))
    other.load_state_dict(state)
    kept = state["state"][0]["exp_avg"].numpy().copy()
    give_gradients(other.param_groups[0]["params"], 5)
    other.step()
    np.testing.assert_array_equal(state["state"][0]["exp_avg"].numpy(), kept)


def test_load_errors_leave_the_optimizer_as_it_was():
    o = run(RULES["adam"], parameters(), 1)
    before = o.state_dict()
    wrong_groups = optim.Adam([{"params": parameters()[:2]}, {"params": parameters()[2:]}]).state_dict()
    with pytest.raises(ArgumentError, match=r"groups of \[2, 2\] parameters, this one has \[4\]"):
        o.load_state_dict(wrong_groups)
    with pytest.raises(ArgumentError, match="another kind of optimizer, without"):
        o.load_state_dict(run(RULES["sgd"], parameters(), 1).state_dict())
    other = run(RULES["adam"], parameters(shapes=((5, 3), (9,), (), (3, 4, 5, 2))), 1)
    with pytest.raises(ShapeError, match=r"exp_avg of parameter 1 is \(9,\), expected \(2,\)"):
        o.load_state_dict(other.state_dict())
    after = o.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"][1]["exp_avg"].tolist() == before["state"][1]["exp_avg"].tolist()


# --------------------------------------------------------------------------- errors


P = nn.Parameter(np.zeros(3, np.float32))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: optim.SGD([]), "got no parameters"),
    (lambda: optim.SGD(P), "params is one tensor"),
    (lambda: optim.SGD([P, P]), "listed twice"),
    (lambda: optim.SGD([{"params": [P]}, {"params": [P]}]), "listed twice"),
    (lambda: optim.SGD([P * 2]), "computed, not a leaf"),
    (lambda: optim.SGD([1.0]), "expected tensors, got float"),
    (lambda: optim.SGD([{"lr": 1.0}]), "the key 'params'"),
    (lambda: optim.SGD([{"params": [P], "rate": 1.0}]), "unknown options .'rate'."),
    (lambda: optim.SGD([P], lr=-1.0), "lr must not be negative, got -1.0"),
    (lambda: optim.SGD([P], lr=float("nan")), "lr must not be negative, got nan"),
    (lambda: optim.SGD([P], nesterov=True), "nesterov needs a momentum"),
    (lambda: optim.Adam([P], betas=(0.9, 1.0)), r"betas\[1\] must be in"),
    (lambda: optim.RMSprop([P], alpha=-0.1), "alpha must not be negative"),
    (lambda: optim.Adagrad([P], lr_decay=-0.1), "lr_decay must not be negative"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_gradient_of_another_shape():
    p = nn.Parameter(np.zeros(3, np.float32))
    p.grad = pydl.zeros(4)
    with pytest.raises(ShapeError, match=r"gradient \(4,\) for a parameter \(3,\)"):
        optim.SGD([p]).step()


def test_repr():
    assert repr(optim.SGD([P], lr=0.5)).startswith("SGD(1 groups, lr=0.5, momentum=0")


def test_lbfgs_goes_on_from_its_state(tmp_path):
    """Saved and loaded half-way, it takes the same steps."""

    def run(optimizer, p, steps):
        def closure():
            optimizer.zero_grad()
            loss = ((p - pydl.tensor([1.0, 2.0, 3.0])) ** 4).sum()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    p = pydl.nn.Parameter(pydl.zeros(3))
    first = optim.LBFGS([p], max_iter=2, line_search_fn="strong_wolfe")
    run(first, p, 2)
    pydl.save({"p": p.detach(), "state": first.state_dict()}, tmp_path / "state.safetensors")
    run(first, p, 2)
    saved = pydl.load(tmp_path / "state.safetensors")
    q = pydl.nn.Parameter(saved["p"])
    second = optim.LBFGS([q], max_iter=2, line_search_fn="strong_wolfe")
    second.load_state_dict(saved["state"])
    run(second, q, 2)
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    with pytest.raises(ArgumentError, match="LBFGS: step needs a closure"):
        second.step()
    with pytest.raises(ArgumentError, match="line_search_fn='armijo'; expected None or 'strong_wolfe'"):
        optim.LBFGS([q], line_search_fn="armijo")
