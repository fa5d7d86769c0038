"""Optimizers and schedules against PyTorch, step by step."""

import numpy as np
import pytest

import pydl
from pydl import optim
from pydl.optim import lr_scheduler

torch = pytest.importorskip("torch")
peer_schedules = torch.optim.lr_scheduler

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3, "maximize": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True, "alpha": 0.9}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.2}),
    ("Adagrad", {"lr": 0.1, "eps": 1e-3, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"weight_decay": 0.1, "momentum_decay": 0.01, "maximize": True}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.2), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.01, "alpha": 0.5, "t0": 5, "weight_decay": 0.1, "maximize": True}),
]


def both(arrays, dtype):
    ours = [pydl.nn.Parameter(a.astype(dtype)) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a.astype(dtype))) for a in arrays]
    return ours, theirs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_twenty_steps(name, options, dtype):
    """Two groups with their own rates; the last parameter has no gradient until step 5."""
    rng = np.random.default_rng(0)
    ours, theirs = both([rng.standard_normal(s) for s in ((4, 5), (7,), (), (33, 3, 2))], dtype)

    def groups(p):
        own = {} if name == "Rprop" else {"weight_decay": 0.02}  # Rprop has none
        return [{"params": p[:2]}, {"params": p[2:], "lr": 0.03, **own}]

    mine, peer = getattr(optim, name)(groups(ours), **options), getattr(torch.optim, name)(groups(theirs), **options)
    rtol = 2e-6 if dtype == np.float32 else {"NAdam": 1e-8, "ASGD": 1e-6}.get(name, 1e-13)  # float32 numbers there
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = None if i == 3 and step < 5 else rng.standard_normal(p.shape).astype(dtype)
            p.grad = None if g is None else pydl.tensor(np.asarray(g, dtype))
            q.grad = None if g is None else torch.tensor(np.asarray(g, dtype))
        mine.step()
        peer.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=rtol, atol=rtol)


def test_defaults_are_the_same():
    import inspect

    for name in sorted({n for n, _ in OPTIMIZERS} | {"LBFGS"}):
        peer = inspect.signature(getattr(torch.optim, name)).parameters
        for key, parameter in inspect.signature(getattr(optim, name)).parameters.items():
            assert parameter.default == peer[key].default, (name, key)
    for name in lr_scheduler.__all__:
        if name in ("NoamLR", "WarmupCosine"):
            continue
        peer = inspect.signature(getattr(peer_schedules, name)).parameters
        own = inspect.signature(getattr(lr_scheduler, name)).parameters
        assert list(own) == list(peer), name
        assert [p.default for p in own.values()] == [p.default for p in peer.values()], name


SCHEDULES = [
    ("LambdaLR", {"lr_lambda": lambda t: 0.97**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 1 / (1 + t), lambda t: 1.0 + t / 60]}),
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [30, 5, 5, 41], "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [0, 60]}),
    ("ExponentialLR", {"gamma": 0.95}),
    ("CosineAnnealingLR", {"T_max": 60}),
    ("CosineAnnealingLR", {"T_max": 13, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingWarmRestarts", {"T_0": 9}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.001}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 40}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 20}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 33}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 50, "power": 2.5}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 61}),
    ("OneCycleLR", {"max_lr": [1.0, 0.2], "epochs": 10, "steps_per_epoch": 7, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 80, "three_phase": True, "pct_start": 0.4, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 70, "base_momentum": 0.7, "max_momentum": 0.9, "final_div_factor": 5.0}),
]


def pair_of_optimizers(name="SGD", **options):
    ours, theirs = both([np.zeros(2), np.zeros(3)], np.float32)
    mine = getattr(optim, name)([{"params": ours[:1]}, {"params": ours[1:], "lr": 0.02}], lr=0.5, **options)
    peer = getattr(torch.optim, name)([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.02}], lr=0.5, **options)
    return mine, peer


def settings(optimizer):
    return [[g["lr"], g.get("momentum", 0.0), *g.get("betas", ())] for g in optimizer.param_groups]


def compare(mine, peer, ours, theirs, steps=60, metrics=None):
    """The rates (and momenta) of both after each step."""
    moved = set()
    for i in range(steps + 1):
        np.testing.assert_allclose(settings(mine), settings(peer), rtol=1e-9, atol=1e-12, err_msg=f"step {i}")
        np.testing.assert_allclose(ours.get_last_lr(), theirs.get_last_lr(), rtol=1e-9, atol=1e-12)
        moved.add(mine.param_groups[0]["lr"])
        if i == steps:
            break
        peer.step()
        for s in (ours, theirs):
            s.step() if metrics is None else s.step(metrics[i])
    assert len(moved) > 1, "a rate that never moves proves nothing"


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_schedule(name, arguments, optimizer):
    mine, peer = pair_of_optimizers(optimizer, **({"momentum": 0.9} if optimizer == "SGD" else {}))
    ours, theirs = getattr(lr_scheduler, name)(mine, **arguments), getattr(peer_schedules, name)(peer, **arguments)
    compare(mine, peer, ours, theirs)


@pytest.mark.parametrize("arguments", [
    {}, {"patience": 3, "factor": 0.5}, {"patience": 2, "cooldown": 4, "min_lr": [0.01, 0.001]},
    {"mode": "max", "patience": 1, "threshold": 0.1, "threshold_mode": "abs"}, {"mode": "max", "threshold": 0.2, "patience": 4},
    {"threshold_mode": "abs", "threshold": 0.3, "patience": 3}, {"patience": 0, "eps": 1e-3},
])  # fmt: skip
def test_plateau(arguments):
    mine, peer = pair_of_optimizers()
    ours, theirs = lr_scheduler.ReduceLROnPlateau(mine, **arguments), peer_schedules.ReduceLROnPlateau(peer, **arguments)
    rng = np.random.default_rng(3)
    metrics = [float(v) for v in 2 + np.exp(-np.arange(60) / 10) + 0.2 * rng.standard_normal(60)]
    metrics[7] = float("nan")
    compare(mine, peer, ours, theirs, metrics=metrics)


def test_sequential():
    mine, peer = pair_of_optimizers()

    def make(module, optimizer):
        return module.SequentialLR(optimizer, [
            module.LinearLR(optimizer, 0.1, total_iters=10), module.CosineAnnealingLR(optimizer, 20),
            module.ExponentialLR(optimizer, 0.9), module.CosineAnnealingWarmRestarts(optimizer, 5),
        ], [10, 30, 45])

    compare(mine, peer, make(lr_scheduler, mine), make(peer_schedules, peer))


def test_warmup_cosine():
    mine, peer = pair_of_optimizers()
    theirs = peer_schedules.SequentialLR(peer, [
        peer_schedules.LinearLR(peer, 0.01, total_iters=12), peer_schedules.CosineAnnealingLR(peer, 48, eta_min=0.003),
    ], [12])
    compare(mine, peer, lr_scheduler.WarmupCosine(mine, 12, 60, eta_min=0.003), theirs)


def test_two_schedules_on_one_optimizer_multiply():
    mine, peer = pair_of_optimizers()
    ours = [lr_scheduler.LinearLR(mine, 0.2, total_iters=15), lr_scheduler.CosineAnnealingLR(mine, 25, eta_min=0.01)]
    theirs = [peer_schedules.LinearLR(peer, 0.2, total_iters=15), peer_schedules.CosineAnnealingLR(peer, 25, eta_min=0.01)]
    for _ in range(60):
        np.testing.assert_allclose(settings(mine), settings(peer), rtol=1e-9, atol=1e-12)
        peer.step()
        for s in ours + theirs:
            s.step()


def test_fractional_epochs():
    mine, peer = pair_of_optimizers()
    ours = lr_scheduler.CosineAnnealingWarmRestarts(mine, 3, T_mult=2)
    theirs = peer_schedules.CosineAnnealingWarmRestarts(peer, 3, T_mult=2)
    for i in range(120):
        peer.step()
        ours.step(i / 6)
        theirs.step(i / 6)
        np.testing.assert_allclose(settings(mine), settings(peer), rtol=1e-9)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs(search):
    """Rosenbrock's valley beside PyTorch, without a line search step by step the same."""
    start = np.array([-1.2, 1.0, 0.5])
    mine, peer = pydl.nn.Parameter(start), torch.nn.Parameter(torch.tensor(start))
    options = {"lr": 0.1 if search is None else 1, "max_iter": 10, "line_search_fn": search, "history_size": 5}
    pairs = [(optim.LBFGS([mine], **options), mine), (torch.optim.LBFGS([peer], **options), peer)]
    for _ in range(12 if search else 6):
        for optimizer, p in pairs:
            def closure(optimizer=optimizer, p=p):
                optimizer.zero_grad()
                loss = (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()
                loss.backward()
                return loss

            before = optimizer.step(closure)
        if search is None:
            np.testing.assert_allclose(mine.detach().numpy(), peer.detach().numpy(), rtol=1e-6)
    if search:
        np.testing.assert_allclose(mine.detach().numpy(), [1, 1, 1], atol=1e-4)
        assert before.item() < 1e-6


@pytest.mark.parametrize(("name", "arguments"), [
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.97}),
    ("MultiplicativeLR", {"lr_lambda": [lambda t: 0.9, lambda t: 1 - 1 / (t + 2)]}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7}),
    ("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": 0.2, "step_size_up": 7, "step_size_down": 3, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 5, "mode": "exp_range", "gamma": 0.95, "base_momentum": 0.7}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 5, "scale_fn": lambda x: 0.8**x, "scale_mode": "iterations"}),
])
def test_more_schedules(name, arguments):
    mine, peer = pair_of_optimizers("SGD", momentum=0.9)
    compare(mine, peer, getattr(lr_scheduler, name)(mine, **arguments), getattr(peer_schedules, name)(peer, **arguments))


def test_chained():
    mine, peer = pair_of_optimizers()

    def make(module, optimizer):
        return module.ChainedScheduler([module.ConstantLR(optimizer, 0.1, 20), module.ExponentialLR(optimizer, 0.95)], optimizer)

    compare(mine, peer, make(lr_scheduler, mine), make(peer_schedules, peer))
