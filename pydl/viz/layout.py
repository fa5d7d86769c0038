"""Layered drawing of a directed acyclic graph (Sugiyama, Tagawa, Toda 1981), small and without dependencies.

Four steps: longest-path layers, long edges cut by placeholders, order within layers by barycentres, and coordinates by
least squares under the order (isotonic regression). Layers follow the y axis; the caller swaps axes for other directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
_LONGEST_ROUTED = 16  # edges over more layers than this are drawn straight: placeholders for them would fill the picture


@dataclass
class Layout:
    """Where things are: centres of the nodes, for each edge the points that it passes, and the size of it all."""

    centres: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def layered(sizes: list[tuple[float, float]], edges: list[tuple[int, int]], gap: float = 24, layer_gap: float = 40) -> Layout:
    """Place nodes of the given (width, height); `edges` are (from, to) and run downwards."""
    layer = _layers(len(sizes), edges)
    boxes = list(sizes)
    chains: list[list[int]] = []
    for a, b in edges:
        chain = [a]
        if layer[b] - layer[a] <= _LONGEST_ROUTED:
            for between in range(layer[a] + 1, layer[b]):
                chain.append(len(boxes))
                boxes.append((8.0, 0.0))
                layer.append(between)
        chains.append([*chain, b])
    links = [pair for chain in chains for pair in pairwise(chain)]
    rows = _ordered(layer, links)
    x = _coordinates(rows, links, [w for w, _ in boxes], gap)

    heights = [max(boxes[v][1] for v in row) for row in rows]
    tops = [sum(heights[:i]) + i * layer_gap for i in range(len(rows))]
    shift = min(x[v] - boxes[v][0] / 2 for v in range(len(boxes)))
    x = [value - shift for value in x]
    centre = [(x[v], tops[layer[v]] + heights[layer[v]] / 2) for v in range(len(boxes))]
    routes = []
    for chain in chains:
        a, b = chain[0], chain[-1]
        route = [(x[a], centre[a][1] + boxes[a][1] / 2)]
        for v in chain[1:-1]:  # straight through the layer, so that bends stay between the layers
            route += [(x[v], tops[layer[v]]), (x[v], tops[layer[v]] + heights[layer[v]])]
        routes.append([*route, (x[b], centre[b][1] - boxes[b][1] / 2)])
    width = max(x[v] + boxes[v][0] / 2 for v in range(len(boxes)))
    return Layout(centre[: len(sizes)], routes, width, tops[-1] + heights[-1])


def _layers(n: int, edges: list[tuple[int, int]]) -> list[int]:
    """Longest path from a source; sources then move down to just above what they feed."""
    after: list[list[int]] = [[] for _ in range(n)]
    waiting = [0] * n
    for a, b in edges:
        after[a].append(b)
        waiting[b] += 1
    sources = [v for v in range(n) if not waiting[v]]
    layer = [0] * n
    ready = list(sources)
    while ready:
        v = ready.pop()
        for w in after[v]:
            layer[w] = max(layer[w], layer[v] + 1)
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    for v in sources:
        if after[v]:
            layer[v] = min(layer[w] for w in after[v]) - 1
    least = min(layer)
    return [number - least for number in layer]


def _neighbours(n: int, links: list[tuple[int, int]]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(n)]
    below: list[list[int]] = [[] for _ in range(n)]
    for a, b in links:
        below[a].append(b)
        above[b].append(a)
    return above, below


def _ordered(layer: list[int], links: list[tuple[int, int]], sweeps: int = 12) -> list[list[int]]:
    """The nodes of each layer from left to right, with few crossings: the best of several barycentre sweeps."""
    rows: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for v, number in enumerate(layer):
        rows[number].append(v)
    above, below = _neighbours(len(layer), links)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(sweeps):
        if not fewest:
            break
        down = sweep % 2 == 0
        fixed = above if down else below
        place = {v: i for row in rows for i, v in enumerate(row)}
        for row in rows if down else reversed(rows):
            key = {v: sum(place[u] for u in fixed[v]) / len(fixed[v]) if fixed[v] else place[v] for v in row}
            row.sort(key=key.__getitem__)
            place.update((v, i) for i, v in enumerate(row))
        count = _crossings(rows, below)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    return best


def _crossings(rows: list[list[int]], below: list[list[int]]) -> int:
    """Pairs of links between neighbouring layers that cross: inversions of their lower ends."""
    total = 0
    for upper, lower in pairwise(rows):
        place = {v: i for i, v in enumerate(lower)}
        ends = [i for v in upper for i in sorted(place[w] for w in below[v] if w in place)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :]) if len(ends) < 200 else 0
    return total


def _coordinates(rows: list[list[int]], links: list[tuple[int, int]], widths: list[float], gap: float) -> list[float]:
    """x of each node: near the mean of its neighbours, in order, without overlap; sources hardly pull, so chains are straight."""
    above, below = _neighbours(len(widths), links)
    pull = [1.0 if us else 0.002 for us in above]
    x = [0.0] * len(widths)
    for row in rows:
        _place(row, [0.0] * len(row), pull, widths, gap, x)
    for sweep in range(16):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            near = [(above[v] if down else below[v]) or above[v] or below[v] for v in row]
            wish = [
                sum(pull[u] * x[u] for u in us) / sum(pull[u] for u in us) if us else x[v]
                for v, us in zip(row, near, strict=True)
            ]
            _place(row, wish, pull, widths, gap, x)
    return x


def _place(row: list[int], wish: list[float], pull: list[float], widths: list[float], gap: float, x: list[float]) -> None:
    """Weighted least-squares positions nearest to the wishes, order and gaps kept: pool adjacent violators."""
    offsets, total = [], 0.0
    for i, v in enumerate(row):
        if i:
            total += (widths[row[i - 1]] + widths[v]) / 2 + gap
        offsets.append(total)
    blocks: list[tuple[float, float, int]] = []  # (mean of wish - offset, weight, members)
    for v, w, o in zip(row, wish, offsets, strict=True):
        mean, weight, count = w - o, pull[v], 1
        while blocks and blocks[-1][0] > mean:
            other, heft, members = blocks.pop()
            mean = (mean * weight + other * heft) / (weight + heft)
            weight, count = weight + heft, count + members
        blocks.append((mean, weight, count))
    placed = [mean for mean, _, count in blocks for _ in range(count)]
    for v, p, o in zip(row, placed, offsets, strict=True):
        x[v] = p + o
