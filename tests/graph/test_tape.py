"""The tape: accumulation, freeing, version check, modes, hooks, higher derivatives, anomaly mode."""

import gc
import threading
import weakref

import numpy as np
import pytest

import pydl
from pydl.errors import GraphError, NonFiniteError, ShapeError


def leaf(*shape, seed=0, dtype=np.float64):
    return pydl.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


class TestBackward:
    def test_the_documented_example(self):
        a, b, c = (pydl.tensor(v, requires_grad=True) for v in (5.0, 3.0, 2.0))
        j = 3 * (a + b * c)
        j.backward()
        assert [j.item(), a.grad.item(), b.grad.item(), c.grad.item()] == [33, 3, 6, 9]

    def test_gradients_of_all_paths_add_up(self):
        x = pydl.tensor(3.0, requires_grad=True)
        y = x * x
        (y * x + y + x).backward()
        assert x.grad.item() == 3 * 9 + 2 * 3 + 1

    def test_gradients_add_up_over_calls_until_cleared(self):
        x = leaf(4)
        for k in (1, 2, 3):
            (2 * x).sum().backward()
            assert x.grad.tolist() == [2 * k] * 4

    def test_the_gradient_of_one_branch_is_not_shared_with_the_other(self):
        a, b = leaf(3, seed=1), leaf(3, seed=2)
        (a + b).sum().backward()
        with pydl.no_grad():
            a.grad.mul_(5)
        assert b.grad.tolist() == [1, 1, 1]

    def test_a_deep_chain_needs_no_recursion(self):
        x = y = pydl.tensor(1.0, requires_grad=True)
        for _ in range(20_000):
            y = y + 1
        y.backward()
        assert x.grad.item() == 1
        del y

    def test_a_vector_needs_a_gradient(self):
        x = leaf(3)
        with pytest.raises(GraphError, match=r"shape \(3,\).*\.sum\(\)"):
            (x * 2).backward()
        (x * 2).backward(pydl.tensor([1.0, 2.0, 3.0], dtype=np.float64))
        assert x.grad.tolist() == [2, 4, 6]
        with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
            (x * 2).backward(pydl.ones(2, dtype=np.float64))

    def test_nothing_to_differentiate(self):
        with pytest.raises(GraphError, match="requires_grad"):
            pydl.ones(3).sum().backward()

    def test_several_outputs(self):
        x = leaf(6)
        a, _ = x.split(3)
        (a * 2).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2, 0, 0, 0])


class TestSavedArrays:
    def test_backward_twice_says_how(self):
        x = leaf(3)
        y = (x * x).sum()
        y.backward()
        with pytest.raises(GraphError, match="retain_graph=True"):
            y.backward()

    def test_retain_graph(self):
        x = leaf(3)
        y = (x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy())

    def test_saved_memory_goes_while_backward_runs(self):
        x = pydl.ones(1 << 20, requires_grad=True)
        y = x
        for _ in range(8):
            y = pydl.exp(y * 0.01)
        y = y.sum()
        held = pydl.memory.current()
        y.backward()
        gc.collect()
        assert held - pydl.memory.current() >= 7 * 4 * (1 << 20)  # eight saved results of 4 MB, less the new gradient

    def test_a_graph_is_freed_with_its_result_without_the_garbage_collector(self):
        gc.disable()
        try:
            x = leaf(10)
            y = pydl.tanh(x * 2)
            node = y.grad_fn
            alive = [weakref.ref(t) for t in (y,)]
            del y, node
            assert all(r() is None for r in alive)
        finally:
            gc.enable()

    @pytest.mark.parametrize("change", ["add_", "mul_", "zero_", "fill_", "copy_", "setitem", "view"])
    def test_a_change_in_place_of_a_saved_tensor_is_caught(self, change):
        w, x = leaf(4), leaf(4, seed=1)
        y = (w * x).sum()
        with pydl.no_grad():
            if change == "setitem":
                x[0] = 5
            elif change == "view":
                x[1:3].add_(1)
            else:
                getattr(x, change)(*{"zero_": ()}.get(change, (x.detach() + 1 if change == "copy_" else 2,)))
        with pytest.raises(GraphError, match=r"\[mul\].*changed in place.*clone"):
            y.backward()

    def test_a_change_of_an_output_that_backward_needs_is_caught(self):
        x = leaf(4)
        y = pydl.exp(x)
        with pydl.no_grad():
            y.mul_(2)
        with pytest.raises(GraphError, match=r"\[exp\]"):
            y.sum().backward()

    def test_a_change_that_nothing_saved_is_allowed(self):
        x = leaf(4)
        y = x + 1
        with pydl.no_grad():
            y.mul_(2)
        y.sum().backward()
        assert x.grad.tolist() == [1] * 4

    def test_in_place_on_a_leaf_that_records_is_refused(self):
        x = leaf(4)
        with pytest.raises(GraphError, match="no_grad"):
            x.add_(1)
        with pydl.no_grad():
            x.add_(1)


class TestModes:
    def test_no_grad_and_enable_grad(self):
        x = leaf(2)
        with pydl.no_grad():
            assert not (x * 2).requires_grad
            with pydl.enable_grad():
                assert (x * 2).requires_grad
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad

    def test_as_a_decorator(self):
        @pydl.no_grad()
        def double(x):
            return x * 2

        assert not double(leaf(2)).requires_grad

    def test_the_mode_returns_after_an_exception(self):
        with pytest.raises(RuntimeError), pydl.no_grad():
            raise RuntimeError
        assert pydl.is_grad_enabled()

    def test_inference_tensors_cannot_enter_a_recorded_operation_that_saves_them(self):
        with pydl.inference_mode():
            x = pydl.ones(3) * 2
            assert x.is_inference
        w = leaf(3, dtype=np.float32)
        with pytest.raises(GraphError, match="inference_mode"):
            w * x
        (w * x.clone()).sum().backward()
        with pytest.raises(GraphError, match="inference_mode"):
            x.requires_grad_()

    def test_modes_belong_to_a_thread(self):
        seen = []
        with pydl.no_grad():
            t = threading.Thread(target=lambda: seen.append(pydl.is_grad_enabled()))
            t.start()
            t.join()
        assert seen == [True]

    def test_only_floating_tensors_require_gradients(self):
        with pytest.raises(GraphError, match=r"int64.*float32"):
            pydl.tensor([1, 2], requires_grad=True)


class TestHooks:
    def test_a_hook_sees_and_replaces_the_gradient(self):
        x = leaf(3)
        seen = []
        y = x * 2
        handle = y.register_hook(lambda g: seen.append(g.tolist()) or g * 10)
        y.sum().backward()
        assert seen == [[1, 1, 1]]
        assert x.grad.tolist() == [20] * 3
        handle.remove()
        x.grad = None
        (x * 2).sum().backward()
        assert x.grad.tolist() == [2] * 3

    def test_a_hook_of_a_leaf_sees_the_whole_gradient_once(self):
        x = leaf(3)
        seen = []
        x.register_hook(lambda g: seen.append(g.tolist()))
        (x * 2 + x * 3).sum().backward()
        assert seen == [[5, 5, 5]]

    def test_retain_grad(self):
        x = leaf(3)
        y = x * 2
        y.retain_grad()
        (y * 3).sum().backward()
        assert y.grad.tolist() == [3] * 3

    def test_hooks_need_a_gradient(self):
        with pytest.raises(GraphError, match="does not require a gradient"):
            pydl.ones(2).register_hook(print)


class TestHigherDerivatives:
    def test_of_a_power(self):
        x = pydl.tensor(2.0, requires_grad=True)
        y = x**5
        expected = [80.0, 160.0, 240.0, 240.0, 120.0]
        for value in expected:
            (y,) = pydl.autograd.grad(y, x, create_graph=True)
            assert y.item() == pytest.approx(value)

    def test_a_gradient_penalty_trains(self):
        w, x = leaf(4, 1), leaf(8, 4, seed=1)
        out = pydl.tanh(x @ w)
        (g,) = pydl.autograd.grad(out.sum(), x, create_graph=True)
        penalty = ((g**2).sum(1) - 1).square().mean()
        penalty.backward()

        def value(weights):
            t = pydl.tensor(weights)
            slope = (1 - np.tanh(x.detach().numpy() @ t.numpy()) ** 2) * t.numpy().T
            return np.mean(((slope**2).sum(1) - 1) ** 2)

        w0, h = w.detach().numpy(), 1e-6
        for i in range(4):
            e = np.zeros((4, 1))
            e[i] = h
            assert w.grad.numpy()[i, 0] == pytest.approx((value(w0 + e) - value(w0 - e)) / (2 * h), rel=1e-5, abs=1e-9)

    def test_hessian_vector_product(self):
        x, v = leaf(5), np.arange(5.0)
        (g,) = pydl.autograd.grad((pydl.exp(x) * x).sum(), x, create_graph=True)
        (hv,) = pydl.autograd.grad((g * pydl.tensor(v)).sum(), x)
        data = x.detach().numpy()
        np.testing.assert_allclose(hv.numpy(), (2 + data) * np.exp(data) * v, rtol=1e-12)

    def test_an_operation_with_a_native_backward_says_so(self):
        x = leaf(1, 2, 5, 5)
        y = pydl.conv2d(x, leaf(3, 2, 3, 3, seed=1)).sum()
        with pytest.raises(GraphError, match=r"\[conv.*create_graph"):
            pydl.autograd.grad(y, x, create_graph=True)


class TestGrad:
    def test_returns_and_stores_nothing(self):
        x, y = leaf(3), leaf(3, seed=1)
        dx, dy = pydl.autograd.grad((x * y).sum(), [x, y])
        np.testing.assert_array_equal(dx.numpy(), y.detach().numpy())
        np.testing.assert_array_equal(dy.numpy(), x.detach().numpy())
        assert x.grad is None
        assert y.grad is None

    def test_of_an_intermediate_result(self):
        x = leaf(3)
        y = x * 2
        (g,) = pydl.autograd.grad((y**2).sum(), y)
        np.testing.assert_allclose(g.numpy(), 4 * x.detach().numpy())

    def test_unused_inputs(self):
        x, y = leaf(3), leaf(3)
        with pytest.raises(GraphError, match=r"inputs\[1\].*allow_unused"):
            pydl.autograd.grad((x * 2).sum(), [x, y])
        assert pydl.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)[1] is None


class TestAnomaly:
    def test_names_the_operation_and_the_module(self):
        class Bad(pydl.nn.Module):
            def forward(self, x):
                return pydl.log(x - 1)

        model = pydl.nn.Sequential(pydl.nn.Identity(), Bad())
        with pydl.autograd.detect_anomaly(), pytest.raises(NonFiniteError, match=r"\[log\].*1.*NaN"):
            model(pydl.zeros(3))

    def test_in_backward(self):
        x = pydl.tensor([0.0, 1.0], requires_grad=True)
        with pydl.autograd.detect_anomaly():
            y = pydl.sqrt(x).sum()
            with pytest.raises(NonFiniteError, match=r"\[sqrt\].*backward.*Inf"):
                y.backward()

    def test_off_by_default(self):
        assert np.isnan(pydl.log(pydl.tensor(-1.0)).item())
