"""User-defined operations, gradient checkpointing, gradcheck."""

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.autograd import Function, gradcheck
from pydl.errors import ArgumentError, GraphError


def leaf(*shape, seed=0):
    return pydl.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad


class WrongCube(Cube):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3.01 * x * x * grad


class TestFunction:
    def test_forward_and_backward(self):
        x = leaf(4)
        Cube.apply(x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)

    def test_twice_differentiable(self):
        x = leaf(4)
        (g,) = pydl.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
        (h,) = pydl.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(h.numpy(), 6 * x.detach().numpy())

    def test_several_inputs_outputs_and_constants(self):
        class SumAndScaled(Function):
            @staticmethod
            def forward(ctx, a, b, factor):
                ctx.factor = factor
                return a + b, a * factor

            @staticmethod
            def backward(ctx, g_sum, g_scaled):
                assert ctx.needs_input_grad == (True, True, False)
                return g_sum + g_scaled * ctx.factor, g_sum, None

        a, b = leaf(3), leaf(3, seed=1)
        total, scaled = SumAndScaled.apply(a, b, 5.0)
        (total + scaled).sum().backward()
        assert a.grad.tolist() == [6] * 3
        assert b.grad.tolist() == [1] * 3
        a.grad = b.grad = None
        SumAndScaled.apply(a, b, 5.0)[1].sum().backward()  # the other output's gradient comes as zeros
        assert a.grad.tolist() == [5] * 3

    def test_gradcheck_accepts_the_right_and_refuses_the_wrong(self):
        assert gradcheck(Cube.apply, (leaf(5),))
        with pytest.raises(GraphError):
            gradcheck(WrongCube.apply, (leaf(5),))
        assert not gradcheck(WrongCube.apply, (leaf(5),), raise_exception=False)

    def test_gradcheck_wants_float64(self):
        with pytest.raises(ArgumentError, match="float64"):
            gradcheck(pydl.exp, (pydl.ones(3, requires_grad=True),))


class TestCheckpoint:
    def network(self):
        pydl.manual_seed(3)
        layers = [m for _ in range(4) for m in (nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.2))]
        return nn.Sequential(*layers)

    def test_same_bits_with_dropout(self):
        x = pydl.randn(16, 32, generator=pydl.Generator(1))
        results = []
        for saving in (False, True):
            model = self.network()
            pydl.manual_seed(9)
            out = pydl.checkpoint(model, x) if saving else model(x)
            (out**2).sum().backward()
            results.append([out.detach().numpy().tobytes(), *(p.grad.numpy().tobytes() for p in model.parameters())])
        assert results[0] == results[1]

    def test_the_generator_goes_on_as_without(self):
        x = leaf(4)
        pydl.manual_seed(0)
        y = pydl.checkpoint(lambda t: pydl.dropout(t, 0.5), x)
        expected = pydl.rand(3).tolist()
        y.sum().backward()
        after = pydl.get_rng_state()
        pydl.manual_seed(0)
        pydl.dropout(x, 0.5)
        assert pydl.rand(3).tolist() == expected
        assert pydl.get_rng_state() == after

    def test_less_memory(self):
        def chain(t):
            for _ in range(10):
                t = pydl.exp(t * 0.01)
            return t

        held = []
        for saving in (False, True):
            x = pydl.ones(1 << 18, requires_grad=True)
            before = pydl.memory.current()
            y = pydl.checkpoint(chain, x) if saving else chain(x)
            held.append(pydl.memory.current() - before)
            y.sum().backward()
        assert held[1] * 5 < held[0]

    def test_inputs_get_gradients_too(self):
        x, y = leaf(3), leaf(3, seed=1)
        pydl.checkpoint(lambda a, b: a * b, x, y).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
        np.testing.assert_array_equal(y.grad.numpy(), x.detach().numpy())

    def test_second_derivative_is_refused(self):
        x = leaf(3)
        y = pydl.checkpoint(pydl.exp, x).sum()
        with pytest.raises(GraphError, match="checkpoint"):
            pydl.autograd.grad(y, x, create_graph=True)
