"""Schedules: hand-computed rates, saving and loading in the middle, errors."""

import json

import numpy as np
import pytest

from pydl import load, optim, save
from pydl.errors import ArgumentError
from pydl.nn import Parameter
from pydl.optim import lr_scheduler as s


def optimizer(lr=1.0, kind=optim.SGD, **options):
    a, b = Parameter(np.zeros(2, np.float32)), Parameter(np.zeros(1, np.float32))
    return kind([{"params": [a]}, {"params": [b], "lr": lr / 2}], lr=lr, **options)


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


def test_known_rates():
    assert rates(s.StepLR(optimizer(), 2, 0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(s.MultiStepLR(optimizer(), [1, 3], 0.5), 5) == [1, 0.5, 0.5, 0.25, 0.25]
    assert rates(s.ExponentialLR(optimizer(), 0.5), 4) == [1, 0.5, 0.25, 0.125]
    assert rates(s.LinearLR(optimizer(), 0.25, 1.0, 3), 5) == [0.25, 0.5, 0.75, 1, 1]
    assert rates(s.ConstantLR(optimizer(), 0.5, 2), 4) == [0.5, 0.5, 1, 1]
    assert rates(s.PolynomialLR(optimizer(), 4), 6) == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])
    assert rates(s.LambdaLR(optimizer(), lambda t: t + 1), 3) == [1, 2, 3]
    assert rates(s.CosineAnnealingLR(optimizer(), 2), 6) == pytest.approx([1, 0.5, 0, 0.5, 1, 0.5])
    assert rates(s.CosineAnnealingWarmRestarts(optimizer(), 2, 2), 7) == pytest.approx(
        [1, 0.5, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 1])
    # 1/4 from 16 features; at the fourth step 4^-0.5 of it, half as much at the second and at the sixteenth
    noam = rates(s.NoamLR(optimizer(), 16, 4), 16)
    assert [noam[i] for i in (0, 1, 3, 15)] == pytest.approx([1 / 32, 1 / 16, 1 / 8, 1 / 16])
    assert rates(s.WarmupCosine(optimizer(), 2, 4, start_factor=0.5), 7) == pytest.approx([0.5, 0.75, 1, 0.5, 0, 0, 0])


def test_groups_keep_their_proportion():
    o = optimizer()
    schedule = s.StepLR(o, 1)
    schedule.step()
    assert [g["lr"] for g in o.param_groups] == pytest.approx([0.1, 0.05])
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.05])
    assert [g["initial_lr"] for g in o.param_groups] == [1.0, 0.5]


def test_one_cycle_moves_momentum_the_other_way():
    for kind, options in ((optim.SGD, {"momentum": 0.9}), (optim.Adam, {})):
        o = optimizer(0.1, kind, **options)
        schedule = s.OneCycleLR(o, 1.0, total_steps=20)
        found = []
        for _ in range(20):
            group = o.param_groups[0]
            found.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))
            schedule.step()
        rate, momentum = np.array(found).T
        assert rate[0] == pytest.approx(0.04)
        assert rate.max() == pytest.approx(1.0)
        assert rate[-1] == pytest.approx(0.04 / 1e4)
        assert momentum[0] == momentum[-1] == pytest.approx(0.95)
        assert rate.argmax() == momentum.argmin() == 5
        assert momentum.min() == pytest.approx(0.85)
        if "betas" in o.param_groups[0]:
            assert o.param_groups[0]["betas"][1] == 0.999
        with pytest.raises(ArgumentError, match="step 21 of a cycle of 20"):
            schedule.step()


def test_plateau():
    o = optimizer()
    schedule = s.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=1, min_lr=0.2)
    seen = []
    for loss in (5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3):
        schedule.step(loss)
        seen.append(o.param_groups[0]["lr"])
    # 4 is the best at the second step; three steps without better, then a step of cooldown, then three more.
    assert seen[:8] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    assert 0.25 in seen
    assert min(seen) == 0.2


SCHEDULES = {
    "lambda": lambda o: s.LambdaLR(o, lambda t: 0.9**t),
    "step": lambda o: s.StepLR(o, 4),
    "multi": lambda o: s.MultiStepLR(o, [3, 9, 12]),
    "exponential": lambda o: s.ExponentialLR(o, 0.9),
    "constant": lambda o: s.ConstantLR(o, 0.5, 12),
    "linear": lambda o: s.LinearLR(o, 0.1, total_iters=12),
    "polynomial": lambda o: s.PolynomialLR(o, 15, 2.0),
    "cosine": lambda o: s.CosineAnnealingLR(o, 7),
    "restarts": lambda o: s.CosineAnnealingWarmRestarts(o, 3, 2),
    "warmup": lambda o: s.WarmupCosine(o, 10, 20),
    "noam": lambda o: s.NoamLR(o, 512, 4),
    "cycle": lambda o: s.OneCycleLR(o, 1.0, 25),
    "sequential": lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=9), s.CosineAnnealingLR(o, 9)], [9]),
    "nested": lambda o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.5, 3), s.SequentialLR(o, [s.StepLR(o, 2), s.ExponentialLR(o, 0.9)], [4])], [7]),
    "plateau": lambda o: s.ReduceLROnPlateau(o, patience=2),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_saved_in_the_middle_and_resumed(make, tmp_path):
    """A fresh optimizer and schedule that load the state go on with the same numbers, bit for bit."""

    def advance(schedule, start, stop):
        found = []
        for i in range(start, stop):
            schedule.step(*((1.0 / (1 + min(i, 5)),) if isinstance(schedule, s.ReduceLROnPlateau) else ()))
            found.append([(g["lr"], g["momentum"]) for g in schedule.optimizer.param_groups])
        return found

    first = optimizer(momentum=0.9)
    schedule = make(first)
    advance(schedule, 0, 8)
    state = schedule.state_dict()
    json.dumps(state)  # plain numbers, texts, lists and dictionaries
    save({"optimizer": first.state_dict(), "schedule": state}, tmp_path / "state.safetensors")
    expected = advance(schedule, 8, 20)
    assert len({row[0] for row in expected}) > 1

    second = optimizer(momentum=0.9)
    resumed = make(second)
    stored = load(tmp_path / "state.safetensors")
    second.load_state_dict(stored["optimizer"])
    resumed.load_state_dict(stored["schedule"])
    assert resumed.get_last_lr() == [g["lr"] for g in second.param_groups]
    assert advance(resumed, 8, 20) == expected


def test_a_saved_state_does_not_change_afterwards():
    schedule = s.StepLR(optimizer(), 1)
    state = schedule.state_dict()
    schedule.step()
    assert state["last_epoch"] == 0
    assert state["_last_lr"] == [1.0, 0.5]


def test_last_epoch_goes_on():
    o = optimizer()
    schedule = s.CosineAnnealingLR(o, 10)
    for _ in range(4):
        schedule.step()
    expected = rates(s.CosineAnnealingLR(o, 10, last_epoch=3), 5)
    again = s.CosineAnnealingLR(optimizer(), 10)
    assert expected[0] != 1.0
    with pytest.raises(ArgumentError, match="no 'initial_lr'"):
        s.StepLR(optimizer(), 3, last_epoch=2)
    assert again.last_epoch == 0


@pytest.mark.parametrize(("call", "message"), [
    (lambda o: s.StepLR([], 3), "expected an Optimizer, got list"),
    (lambda o: s.StepLR(o, 0), "step_size must be a whole number"),
    (lambda o: s.LambdaLR(o, [lambda t: t]), "1 functions for 2 groups"),
    (lambda o: s.ConstantLR(o, 0.0), r"factor must be in \(0, 1\]"),
    (lambda o: s.LinearLR(o, 0.0), r"start_factor must be in \(0, 1\]"),
    (lambda o: s.CosineAnnealingLR(o, 0), "T_max"),
    (lambda o: s.CosineAnnealingWarmRestarts(o, 3).step(-1), "must not be negative"),
    (lambda o: s.OneCycleLR(o, 1.0), "give total_steps"),
    (lambda o: s.OneCycleLR(o, [1.0], 10), "1 numbers for 2 groups"),
    (lambda o: s.OneCycleLR(o, 1.0, 10, anneal_strategy="sine"), "'sine'"),
    (lambda o: s.OneCycleLR(o, 1.0, 10, pct_start=2.0), "pct_start"),
    (lambda o: s.OneCycleLR(optimizer(kind=optim.Adagrad), 1.0, 10), "Adagrad has no momentum to cycle"),
    (lambda o: s.ReduceLROnPlateau(o, factor=1.0), "factor must be between"),
    (lambda o: s.ReduceLROnPlateau(o, "least"), "'least'"),
    (lambda o: s.SequentialLR(o, [s.StepLR(o, 1)], [3]), "need 0 milestones"),
    (lambda o: s.SequentialLR(o, [s.StepLR(o, 1), s.StepLR(optimizer(), 1)], [3]), r"schedulers\[1\].*another optimizer"),
    (lambda o: s.SequentialLR(o, [s.StepLR(o, 1), s.ReduceLROnPlateau(o)], [3]), "waits for a metric"),
    (lambda o: s.WarmupCosine(o, 10, 10), "warmup_steps=10"),
    (lambda o: s.NoamLR(o, 512, 0), "warmup_steps"),
    (lambda o: s.StepLR(o, 2).load_state_dict(s.ExponentialLR(o, 0.5).state_dict()), "missing .'step_size'."),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(optimizer())
