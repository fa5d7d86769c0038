"""Where the time and the memory of a step go: `profile` records operations, `machine_limits` says what they could reach.

>>> import pydl
>>> from pydl import nn, profiler
>>> model, x = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4)), pydl.randn(8, 32)
>>> with profiler.profile(schedule=profiler.schedule(warmup=1, active=2, repeat=1), model=model) as p:
...     for _ in range(3):
...         model(x).sum().backward()
...         p.step()
>>> sorted(row.name for row in p.result.by_layer() if row.kind == "Linear")
['0', '2']
"""

from pydl.profiler.compare import compare
from pydl.profiler.events import Event
from pydl.profiler.limits import MachineLimits, machine_limits
from pydl.profiler.result import Profile, Row
from pydl.profiler.session import ProfilerAction, profile, record_function, schedule

load = Profile.load

__all__ = [
    "Event", "MachineLimits", "Profile", "ProfilerAction", "Row", "compare", "load", "machine_limits", "profile",
    "record_function", "schedule",
]
