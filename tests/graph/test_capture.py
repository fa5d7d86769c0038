"""Captured steps: the same bits as eager ones, and what cannot be captured is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.graph.capture import Capture, CaptureWarning, capture


class _Words(nn.Module):
    """Embedding, LSTM, scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.rnn = nn.LSTM(8, 12, num_layers=2, batch_first=True, dropout=0.2)
        self.out = nn.Linear(12, 20)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(self.embedding(x))[0]).reshape(-1, 20)


class _Encoder(nn.Module):
    """A small transformer encoder over words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True), 2)
        self.out = nn.Linear(16, 20)

    def forward(self, x: Any) -> Any:
        return self.out(self.body(self.embedding(x))).reshape(-1, 20)


def _mlp() -> Any:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))


def _conv() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip


def _vectors(rng: np.random.Generator) -> Any:
    return pydl.tensor(rng.standard_normal((6, 10)).astype(np.float32)), pydl.tensor(rng.integers(0, 4, 6))


def _images(rng: np.random.Generator) -> Any:
    return pydl.tensor(rng.standard_normal((4, 3, 8, 8)).astype(np.float32)), pydl.tensor(rng.integers(0, 4, 4))


def _tokens(rng: np.random.Generator) -> Any:
    return pydl.tensor(rng.integers(0, 20, (3, 7))), pydl.tensor(rng.integers(0, 20, 21))


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "mlp": (_mlp, _vectors), "conv": (_conv, _images), "lstm": (_Words, _tokens), "transformer": (_Encoder, _tokens),
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: optim.AdamW(p, lr=1e-2),
}


def _train(network: str, optimizer: str, captured: bool, steps: int = 9) -> tuple[list[Any], list[Any], Any]:
    pydl.manual_seed(3)
    build, batch = NETWORKS[network]
    model = build()
    opt = OPTIMIZERS[optimizer](model.parameters())

    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run: Any = capture(step) if captured else step
    rng = np.random.default_rng(0)
    losses = []
    for i in range(steps):
        if i == 6:
            opt.param_groups[0]["lr"] *= 0.5
        losses.append(run(*batch(rng)))
    if captured:
        assert run.replays
    state = [t.numpy().copy() for t in model.state_dict().values()]
    state += [p.grad.numpy().copy() for p in model.parameters()]
    return [float(loss) for loss in losses], state, pydl.get_rng_state()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_captured_training_has_the_bits_of_eager_training(network: str, optimizer: str) -> None:
    losses, state, random_state = _train(network, optimizer, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captured = _train(network, optimizer, True)
    assert captured[0] == losses
    for mine, expected in zip(captured[1], state, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert captured[2] == random_state


def test_captured_training_does_not_depend_on_threads() -> None:
    threads = pydl.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            pydl.set_num_threads(n)
            results.append(_train("conv", "sgd", True))
        assert results[0][0] == results[1][0]
    finally:
        pydl.set_num_threads(threads)


def _values(n: int = 4) -> Any:
    return pydl.tensor(np.arange(1, n + 1, dtype=np.float32))


def _replayed(step: Callable[..., Any], *args: Any) -> Capture:
    """The step after the calls that record it, without a warning."""
    run = capture(step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            run(*args)
    assert run.replays
    return run


def _refused(step: Callable[..., Any], match: str, *args: Any) -> None:
    run = capture(step)

    def several() -> None:
        for _ in range(5):
            run(*args)

    with pytest.warns(CaptureWarning, match=match):
        several()
    assert not run.replays


# ---------------------------------------------------------------------------- what is honoured


def test_results_are_new_tensors() -> None:
    run = _replayed(lambda x: (x * 2, {"sum": x.sum()}), _values())
    first, second = run(_values()), run(_values() * 10)
    np.testing.assert_array_equal(first[0].numpy(), [2, 4, 6, 8])
    np.testing.assert_array_equal(second[0].numpy(), [20, 40, 60, 80])
    assert (first[1]["sum"].item(), second[1]["sum"].item()) == (10, 100)


def test_shapes_and_python_arguments_have_recordings_of_their_own() -> None:
    run = _replayed(lambda x, factor: x * factor, _values(), 2.0)
    for n, factor in ((4, 3.0), (5, 2.0), (4, 2.0)):
        for _ in range(5):
            np.testing.assert_array_equal(run(_values(n), factor).numpy(), _values(n).numpy() * np.float32(factor))


def test_dropout_goes_on_in_the_stream_of_random_numbers() -> None:
    def step(x: Any) -> Any:
        return pydl.nn.functional.dropout(x, 0.5, True)

    x = pydl.ones(64)
    run = _replayed(step, x)
    for seed in (5, 6):
        pydl.manual_seed(seed)
        captured = [run(x).numpy() for _ in range(3)]
        after = pydl.get_rng_state()
        pydl.manual_seed(seed)
        for mine in captured:
            np.testing.assert_array_equal(mine, step(x).numpy())
        assert pydl.get_rng_state() == after


def test_random_numbers_made_in_the_step_go_on() -> None:
    run = _replayed(lambda x: x + pydl.randn(4), _values())
    pydl.manual_seed(1)
    captured = [run(_values()).numpy() for _ in range(3)]
    pydl.manual_seed(1)
    for mine in captured:
        np.testing.assert_array_equal(mine, (_values() + pydl.randn(4)).numpy())


def test_batch_norm_counts_its_batches() -> None:
    norm = nn.BatchNorm1d(3)
    run = _replayed(lambda x: norm(x).detach().sum(), pydl.ones(4, 3))
    run(pydl.ones(4, 3))
    assert norm.num_batches_tracked.item() == 5


def test_optimizer_state_goes_on() -> None:
    weight = nn.Parameter(_values())
    opt = optim.Adam([weight])

    def step() -> Any:
        opt.zero_grad()
        (weight * weight).sum().backward()
        opt.step()

    run = _replayed(step)
    run()
    assert opt.state[weight]["step"] == 5
    assert weight.version == 5


def test_weights_loaded_in_place_are_used() -> None:
    model = nn.Linear(4, 2)

    def step(x: Any) -> Any:
        with pydl.no_grad():
            return model(x)

    run = _replayed(step, _values())
    model.load_state_dict({"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)})
    with pytest.warns(CaptureWarning, match="recorded anew: the content"):
        np.testing.assert_array_equal(run(_values()).numpy(), [10, 10])


# ---------------------------------------------------------------------------- what is recorded anew


@pytest.mark.filterwarnings("ignore::pydl.graph.capture.CaptureWarning")
def test_a_changed_mode_is_seen() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))

    def step(x: Any) -> Any:
        with pydl.no_grad():
            return model(x)

    run = _replayed(step, _values())
    model.eval()
    for _ in range(5):
        np.testing.assert_array_equal(run(_values()).numpy(), step(_values()).numpy())
    assert run.replays


@pytest.mark.parametrize("change", ["number", "tensor", "attribute", "frozen", "memory"])
def test_a_changed_surrounding_is_seen(change: str) -> None:
    model = nn.Linear(4, 1)
    scale, offset = 2.0, _values()
    model.factor = 3.0

    def step(x: Any) -> Any:
        model.zero_grad()
        loss = (model(x) * scale + offset * model.factor).sum()
        loss.backward()
        return loss, model.bias.grad is None

    run = _replayed(step, _values())
    if change == "number":
        scale = 5.0
    elif change == "tensor":
        offset = _values() * 7
    elif change == "attribute":
        model.factor = 4.0
    elif change == "frozen":
        model.bias.requires_grad = False
    else:
        model.weight.data = model.weight.data * 2

    def agree() -> None:
        loss, without = run(_values())
        expected, expected_without = step(_values())
        assert (loss.item(), without) == (expected.item(), expected_without)

    with pytest.warns(CaptureWarning, match="recorded anew"):
        agree()
    for _ in range(4):
        agree()
    assert run.replays


def test_a_gradient_that_is_there_already_is_added_to() -> None:
    weight = nn.Parameter(_values())

    def step(x: Any) -> Any:
        (weight * x).sum().backward()

    run = capture(step)
    for _ in range(4):
        weight.grad = None
        run(_values())
    assert run.replays
    with pytest.warns(CaptureWarning, match=r"\.grad of a parameter"):
        run(_values())
    np.testing.assert_array_equal(weight.grad.numpy(), 2 * _values().numpy())


# ---------------------------------------------------------------------------- what is refused


def test_values_that_reach_python_are_refused() -> None:
    def condition(x: Any) -> Any:
        y = x.sum()
        return x * 2 if y.item() > 0 else x

    def truth(x: Any) -> Any:
        return x * 2 if (x.sum() > 0) else x

    def through_data(x: Any) -> Any:
        y = x * 2
        y.data[0] = 5
        return y + 1

    for step in (condition, truth, through_data):
        _refused(step, "values are read or written outside of kernels", _values())
    _refused(condition, r"between \[sum\] and \[mul\]", _values())


def test_operations_that_numpy_computes_are_refused_by_name() -> None:
    _refused(lambda x: pydl.sort(x)[0], r"\[\w+\]", _values())
    _refused(lambda x: x.to(pydl.int64) + 1, r"\[\w+\]", _values())


def test_python_state_that_moves_is_refused() -> None:
    count = 0
    kept: list[Any] = []
    rng = np.random.default_rng(0)

    def counts(x: Any) -> Any:
        nonlocal count
        count += 1
        return x * 2

    def keeps(x: Any) -> Any:
        kept.append(x * 2)
        return x + 1

    def number(x: Any) -> Any:
        return x * rng.random()

    def global_random(x: Any) -> Any:
        return x * np.random.rand()  # noqa: NPY002

    def array(x: Any) -> Any:
        return x * pydl.from_numpy(rng.random(4).astype(np.float32))

    _refused(counts, "it changes count itself", _values())
    _refused(keeps, "beyond its end", _values())
    _refused(number, r"\[mul\] is given Python numbers that are not the same", _values())
    _refused(global_random, "NumPy's or Python's global generator", _values())
    _refused(array, "not the same in each step", _values())


def test_gradients_that_add_up_are_refused() -> None:
    weight = nn.Parameter(_values())

    def step(x: Any) -> Any:
        (weight * x).sum().backward()

    _refused(step, "zero_grad", _values())
    np.testing.assert_array_equal(weight.grad.numpy(), 5 * _values().numpy())


def test_a_scheduler_inside_is_refused() -> None:
    weight = nn.Parameter(_values())
    opt = optim.SGD([weight], lr=1.0)
    scheduler = optim.lr_scheduler.ExponentialLR(opt, 0.5)

    def step(x: Any) -> Any:
        opt.zero_grad()
        (weight * x).sum().backward()
        opt.step()
        scheduler.step()

    _refused(step, "itself, and Python code is not replayed", _values())
    assert opt.param_groups[0]["lr"] == 0.5**5


def test_other_reasons_are_named() -> None:
    model = nn.Linear(4, 2)
    _refused(model, "calls no backward", _values())
    _refused(lambda x: x.add_(1), "changes an argument in place|outside of kernels", _values())
    _refused(lambda x: x * 2, "an argument requires a gradient", _values().requires_grad_())
    model.register_forward_hook(lambda *_: None)
    _refused(pydl.no_grad()(lambda x: model(x)), "hooks", _values())


def test_wrong_data_in_a_replay_is_an_error() -> None:
    table = nn.Embedding(4, 2)

    def step(x: Any) -> Any:
        with pydl.no_grad():
            return table(x)

    run = _replayed(step, pydl.tensor([1, 2]))
    with pytest.raises(pydl.errors.ArgumentError, match="out of range"):
        run(pydl.tensor([1, 9]))


def test_an_error_in_a_recording_leaves_no_trace() -> None:
    fails = True

    def step(x: Any) -> Any:
        if fails:
            raise RuntimeError("on purpose")
        return x * 2

    run = capture(step)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="on purpose"):
            run(_values())
    fails = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        for _ in range(5):
            np.testing.assert_array_equal(run(_values()).numpy(), [2, 4, 6, 8])
    assert not pydl.graph.engine.is_recording()


def test_every_binding_calls_its_kernels_through_the_tape() -> None:
    folder = Path(__file__).parents[2] / "csrc" / "bindings"
    if not folder.is_dir():
        pytest.skip("an installed package has no sources beside it")
    # Bytes moved for the data loader, probes of the machine, and the tape itself; the optimizer keeps its own arguments.
    own = {"rows.cpp", "probe.cpp", "capture.cpp", "optim.cpp"}
    assert {p.name for p in folder.glob("*.cpp") if "gil_scoped_release" in p.read_text()} == own


def test_memory_of_a_recording_is_given_back() -> None:
    run = _replayed(lambda x: x * 2 + 1, pydl.ones(1 << 16))
    assert 0 < run.memory < 16 << 20
    results = [run(pydl.ones(1 << 16)) for _ in range(2)]
    del run
    np.testing.assert_array_equal(results[1].numpy()[:2], [3, 3])


OPTIMIZER_NAMES = [n for n in optim.__all__
                   if isinstance(getattr(optim, n), type) and issubclass(getattr(optim, n), optim.Optimizer)
                   and n not in ("Optimizer", "LBFGS", "SparseAdam")]


@pytest.mark.filterwarnings("ignore::pydl.graph.capture.CaptureWarning")
@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_every_optimizer_goes_on_as_in_eager_steps(name: str) -> None:
    def train(captured: bool) -> Any:
        pydl.manual_seed(0)
        model = _mlp()
        opt = getattr(optim, name)(model.parameters())

        def step(x: Any, y: Any) -> None:
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            opt.step()

        run = capture(step) if captured else step
        rng = np.random.default_rng(0)
        for _ in range(6):
            run(*_vectors(rng))
        state = [(k, np.array(getattr(v, "data", v))) for p in model.parameters() for k, v in opt.state[p].items()]
        return [p.detach().numpy().copy() for p in model.parameters()], state

    (weights, state), (expected, expected_state) = train(True), train(False)
    for mine, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert [k for k, _ in state] == [k for k, _ in expected_state]
    for (_, mine), (_, other) in zip(state, expected_state, strict=True):
        np.testing.assert_array_equal(mine, other)
