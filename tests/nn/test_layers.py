"""Layers: shapes, initial weights, errors at construction, printing; values are checked in tests/ops and tests/parity."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.errors import ArgumentError, GraphError, NonFiniteError, ShapeError


def weights(layer):
    return {n: p.detach().numpy() for n, p in layer.named_parameters()}


@pytest.mark.parametrize(("layer", "shapes", "fan_in"), [
    (lambda: nn.Linear(50, 80), {"weight": (80, 50), "bias": (80,)}, 50),
    (lambda: nn.Bilinear(50, 20, 30), {"weight": (30, 50, 20), "bias": (30,)}, 50),
    (lambda: nn.Conv1d(20, 60, 5), {"weight": (60, 20, 5), "bias": (60,)}, 100),
    (lambda: nn.Conv2d(20, 60, (3, 2), groups=4), {"weight": (60, 5, 3, 2), "bias": (60,)}, 30),
    (lambda: nn.Conv3d(10, 60, 2), {"weight": (60, 10, 2, 2, 2), "bias": (60,)}, 80),
    (lambda: nn.ConvTranspose2d(60, 20, 3, groups=2), {"weight": (60, 10, 3, 3), "bias": (20,)}, 90),
])  # fmt: skip
def test_initial_weights(layer, shapes, fan_in):
    """Uniform within 1 / sqrt(fan_in), which with groups counts the channels of one group."""
    pydl.manual_seed(0)
    found = weights(layer())
    assert {n: w.shape for n, w in found.items()} == shapes
    bound = fan_in**-0.5
    for w in found.values():
        assert 0.9 * bound < np.abs(w).max() <= bound * (1 + 1e-6)
    assert abs(found["weight"].std() / (bound / 3**0.5) - 1) < 0.05
    pydl.manual_seed(0)
    again = weights(layer())
    np.testing.assert_array_equal(found["weight"], again["weight"])


def test_layers_without_bias():
    for layer in (nn.Linear(2, 3, bias=False), nn.Bilinear(2, 3, 4, bias=False), nn.Conv1d(2, 3, 2, bias=False)):
        assert layer.bias is None
        assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize(("layer", "x", "y"), [
    (nn.Linear(3, 4), (2, 5, 3), (2, 5, 4)), (nn.Linear(3, 4), (3,), (4,)), (nn.Conv1d(2, 3, 3), (2, 9), (3, 7)),
    (nn.Conv2d(2, 4, 3, stride=2, padding=1), (5, 2, 9, 8), (5, 4, 5, 4)),
    (nn.Conv2d(2, 4, 3, padding="full"), (5, 2, 9, 8), (5, 4, 11, 10)),
    (nn.Conv2d(2, 4, 3, padding="same", padding_mode="reflect", dilation=2), (5, 2, 9, 8), (5, 4, 9, 8)),
    (nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1), (5, 2, 4, 6), (5, 4, 8, 12)),
    (nn.Flatten(), (2, 3, 4, 5), (2, 60)), (nn.Unflatten(1, (3, -1)), (2, 12), (2, 3, 4)), (nn.Identity(1, a=2), (2, 3), (2, 3)),
    (nn.ReplicationPad2d((1, 2, 3, 4)), (2, 3, 4, 5), (2, 3, 11, 8)), (nn.CircularPad1d(2), (3, 4), (3, 8)),
    (nn.ConstantPad3d(1, 2.0), (2, 3, 4, 5, 6), (2, 3, 6, 7, 8)), (nn.Unfold(2, stride=2), (2, 3, 4, 6), (2, 12, 6)),
    (nn.Fold((4, 6), 2, stride=2), (2, 12, 6), (2, 3, 4, 6)), (nn.PReLU(3), (2, 3, 4), (2, 3, 4)),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else str(v))  # fmt: skip
def test_shapes(layer, x, y):
    out = layer(pydl.ones(*x))
    assert out.shape == y
    assert type(layer).__name__ in repr(layer)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError, "groups=2 must divide in_channels=3 and out_channels=4"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ArgumentError, "padding_mode='mirror'"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ArgumentError, "kernel_size=.*expected one number or 2"),
    (lambda: nn.ConvTranspose1d(3, 4, 3, padding_mode="reflect"), ArgumentError, "expected 'zeros'"),
    (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same")(pydl.ones(1, 3, 5, 5)), ArgumentError, "needs stride 1"),
    (lambda: nn.Linear(3, 4)(pydl.ones(2, 4)), ShapeError, r"\[linear\] input of shape \(2, 4\).*expects 3"),
    (lambda: nn.Bilinear(0, 2, 3), ArgumentError, "in1_features"),
    (lambda: nn.PReLU(0), ArgumentError, "num_parameters"),
    (lambda: nn.PReLU(3)(pydl.ones(2, 4)), ShapeError, r"\[prelu\] weight of shape \(3,\)"),
    (lambda: nn.Softmax2d()(pydl.ones(2, 4)), ShapeError, r"\[softmax2d\]"),
    (lambda: nn.ZeroPad2d((1, 2)), ArgumentError, "expected one number or 4"),
    (lambda: nn.ZeroPad2d(1)(pydl.ones(2, 4)), ShapeError, "ZeroPad2d: input must have 3 or 4 axes"),
    (lambda: nn.ReflectionPad1d(4)(pydl.ones(1, 2, 4)), ShapeError, "at most 3 on each side"),
])  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_prelu_starts_at_a_quarter():
    assert nn.PReLU().weight.tolist() == [0.25]
    assert nn.PReLU(2, 0.5).weight.tolist() == [0.5, 0.5]


# --------------------------------------------------------------------------- modules of functions


def test_arguments_are_attributes():
    layer = nn.LeakyReLU(0.5)
    x = pydl.tensor([-2.0, 2.0])
    assert layer(x).tolist() == [-1, 2]
    layer.negative_slope = 0.25
    assert layer(x).tolist() == [-0.5, 2]
    assert repr(layer) == "LeakyReLU(negative_slope=0.25)"
    assert repr(nn.LeakyReLU()) == "LeakyReLU()"
    assert repr(nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)) == (
        "CrossEntropyLoss(reduction='sum', label_smoothing=0.1)")


def test_help_shows_the_function_s_arguments():
    import inspect

    assert str(inspect.signature(nn.Softplus)).startswith("(beta: 'float' = 1.0, threshold: 'float' = 20.0)")
    assert "log(1 + e^(beta x)) / beta" in nn.Softplus.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'slope'"):
        nn.LeakyReLU(slope=1)


def test_class_weights_are_saved_with_the_loss():
    loss = nn.CrossEntropyLoss(pydl.tensor([1.0, 3.0]))
    assert list(loss.state_dict()) == ["weight"]
    assert list(nn.CrossEntropyLoss().state_dict()) == []
    logits, target = pydl.tensor([[0.0, 0.0], [0.0, 0.0]]), pydl.tensor([0, 1])
    assert loss(logits, target).item() == pytest.approx(np.log(2))
    loss.weight = pydl.tensor([1.0, 1.0])
    loss.double()
    assert loss(logits.double(), target).item() == pytest.approx(np.log(2))


def test_a_class_of_one_s_own():
    class Leaky(nn.LeakyReLU):
        def __init__(self):
            super().__init__(0.5)

    assert Leaky()(pydl.tensor([-2.0])).tolist() == [-1]


@pytest.mark.parametrize("name", nn.functional_modules.__all__)
def test_every_module_of_a_function(name):
    kind = getattr(nn, name)
    made = kind(0.1, 2.0) if name == "Threshold" else kind()
    assert made.__doc__.startswith("Module form of `pydl.")
    rng = np.random.default_rng(0)
    x = pydl.tensor(rng.uniform(0.1, 0.9, (4, 6)).astype(np.float32), requires_grad=True)
    y = pydl.tensor(rng.uniform(0.1, 0.9, (4, 6)).astype(np.float32))
    numbers, signs = pydl.tensor(rng.integers(0, 6, 4)), pydl.tensor(np.float32([1, -1, 1, -1]))
    rest = {
        "CrossEntropyLoss": (numbers,), "NLLLoss": (numbers,), "MultiMarginLoss": (numbers,), "GaussianNLLLoss": (y, y),
        "TripletMarginLoss": (y, y * 0.3), "TripletMarginWithDistanceLoss": (y, y * 0.3), "PairwiseDistance": (y,),
        "MultiLabelMarginLoss": (pydl.zeros(4, 6).long(),), "CTCLoss": (pydl.ones(6, 1).long(), [4] * 6, [1] * 6),
        "CosineEmbeddingLoss": (y, signs), "MarginRankingLoss": (y, signs.unsqueeze(1)),
    }.get(name, (y,) if name.endswith("Loss") or name == "CosineSimilarity" else ())  # fmt: skip
    out = made(pydl.log_softmax(x.unsqueeze(2) * pydl.ones(3), 2) if name == "CTCLoss" else x, *rest)
    usual = () if name.endswith("Loss") else (4, 6)
    expected = {"CosineSimilarity": (4,), "PairwiseDistance": (4,), "GLU": (4, 3)}.get(name, usual)
    assert out.shape == expected
    out.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


# --------------------------------------------------------------------------- nn.utils


def gradients(*arrays):
    params = [nn.Parameter(np.zeros_like(np.float32(a))) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = pydl.tensor(np.float32(a))
    return params


def test_clip_grad_norm():
    params = gradients([3.0, 0.0], [[4.0]])
    params.append(nn.Parameter(np.zeros(3, np.float32)))
    assert nn.utils.clip_grad_norm_(params, 1.0).item() == 5
    np.testing.assert_allclose(params[0].grad.numpy(), [0.6, 0], rtol=1e-5)
    np.testing.assert_allclose(params[1].grad.numpy(), [[0.8]], rtol=1e-5)
    kept = params[0].grad.numpy().copy()
    assert nn.utils.clip_grad_norm_(params, 10.0).item() == pytest.approx(1)
    np.testing.assert_array_equal(params[0].grad.numpy(), kept)  # below the bound nothing changes, not by one bit
    assert nn.utils.clip_grad_norm_(params[0], 0.3, float("inf")).item() == pytest.approx(0.6)
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_clip_grad_norm_of_bad_gradients(bad):
    params = gradients([1.0, bad], [2.0])
    before = [p.grad.numpy().copy() for p in params]
    with pytest.raises(NonFiniteError, match="the norm of the gradients is"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    for p, g in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)
    assert not np.isfinite(nn.utils.clip_grad_norm_(params, 1.0).item())


def test_clip_grad_value():
    (p,) = gradients([-3.0, 0.5, 2.0])
    nn.utils.clip_grad_value_(p, 1.0)
    assert p.grad.tolist() == [-1, 0.5, 1]
    with pytest.raises(ArgumentError, match="clip_value=0"):
        nn.utils.clip_grad_value_(p, 0)


def test_parameters_as_a_vector():
    net = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(net.parameters())
    np.testing.assert_array_equal(vector.detach().numpy(), np.concatenate([w.ravel() for w in weights(net).values()]))
    vector.sum().backward()
    assert net.weight.grad.tolist() == [[1, 1, 1], [1, 1, 1]]
    loss = net(pydl.ones(1, 3)).sum()
    nn.utils.vector_to_parameters(pydl.arange(8).float(), net.parameters())
    assert net.weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert net.bias.tolist() == [6, 7]
    assert net.weight.requires_grad
    with pytest.raises(ShapeError, match=r"\(7,\), the parameters have 8"):
        nn.utils.vector_to_parameters(pydl.zeros(7), net.parameters())
    x = pydl.tensor(np.ones((1, 3), np.float32), requires_grad=True)
    loss = net(x).sum()
    nn.utils.vector_to_parameters(pydl.zeros(8), net.parameters())
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()
