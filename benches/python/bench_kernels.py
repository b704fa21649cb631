"""The kernels beside NumPy, histogram libraries and a hand-written loop, on the same cells."""

from __future__ import annotations

import numpy as np
import peers
from timing import medians, table

from sfr.render.reference import KERNELS

N = 4_000_000
#: Goals: how many times faster than each peer with two threads.
GOALS = {"NumPy": 35, "fast-histogram": 6, "the published way": 7, "fused C, 2 threads": 1}


def check(found: np.ndarray, expected: np.ndarray, rtol: float, name: str) -> None:
    scale = np.abs(expected).max(axis=(1, 2), keepdims=True)
    worst = float((np.abs(found - expected) / scale).max())
    if not worst <= rtol:
        raise SystemExit(f"{name}: maps differ by {worst:.1e} of the largest pixel")


def run(rounds: int) -> str:
    loops, g = peers.Loops(), peers.gas(N)
    expected = peers.ours(g, 2)
    jobs = {
        "NumPy": lambda: peers.with_numpy(g),
        "the published way": lambda: loops.listing(g),
        "fast-histogram": lambda: peers.with_fast_histogram(g),
        "boost-histogram, 2 threads": lambda: peers.with_boost_histogram(g),
        "swiftsimio's histogram": lambda: peers.with_swiftsimio(g),
        "fused C, 1 thread": lambda: loops.fused(g, 1),
        "fused C, 2 threads": lambda: loops.fused(g, 2),
        "sfr project, 1 thread": lambda: peers.ours(g, 1),
        "sfr project, 2 threads": lambda: peers.ours(g, 2),
    }
    for name, job in jobs.items():
        rtol = 1e-3 if name in ("the published way", "swiftsimio's histogram") else 1e-11
        if name != "swiftsimio's histogram":  # its index is rounded in single precision
            check(job(), expected, rtol, name)
    times = medians(jobs, rounds)
    best = times["sfr project, 2 threads"]
    rows = [
        (name, f"{1e3 * t:.1f}", f"{1e9 * t / N:.1f}", f"{t / best:.2f}", GOALS.get(name, ""))
        for name, t in times.items()
    ]
    text = [
        f"{N:,} cells, {BYTES} bytes each; T and K made, unwrapped, turned, culled (75 % are in "
        f"the frame) and binned to 256 x 256 pixels of three channels.",
        table(("way", "ms", "ns a cell", "times ours", "goal"), rows),
        _bandwidth(loops, g, times, rounds),
        _scaling(),
        _extra(g, rounds),
        _each(rounds),
    ]
    return "\n\n".join(text)


BYTES = 3 * 8 + 4 * 4


def _bandwidth(loops: peers.Loops, g: peers.Gas, times: dict[str, float], rounds: int) -> str:
    read = medians(
        {f"{n} thread": lambda n=n: loops.read(g.coordinates, n) for n in (1, 2)}, rounds
    )
    rates = [g.coordinates.nbytes / t / 1e9 for t in read.values()]
    one, two = times["sfr project, 1 thread"], times["sfr project, 2 threads"]
    return (
        f"Two threads are {one / two:.2f} times as fast as one (goal 1.7). `project` reads "
        f"{N * BYTES / two / 1e9:.1f} GB/s with two threads; the machine gives {rates[0]:.1f} GB/s "
        f"to one thread, {rates[1]:.1f} to two."
    )


def _scaling() -> str:
    sizes = [1_000_000, 4_000_000, 10_000_000, 40_000_000]
    g = peers.gas(sizes[-1])
    parts = [g.first(n) for n in sizes]
    jobs = {str(len(p.masses)): lambda p=p: peers.ours(p, 2) for p in parts}
    small = peers.gas(1000)
    times = medians(jobs, 5)
    fixed = medians({"small": lambda: peers.ours(small, 2)}, 20)["small"]
    slopes = [
        (b - a) / (m - n)
        for (n, a), (m, b) in zip(
            list(zip(sizes, times.values(), strict=True))[:-1],
            list(zip(sizes, times.values(), strict=True))[1:],
            strict=True,
        )
    ]
    rows = [(f"{int(n):,}", f"{1e3 * t:.1f}", f"{1e9 * t / int(n):.2f}") for n, t in times.items()]
    shown = ", ".join(f"{1e9 * slope:.2f}" for slope in slopes)
    return (
        table(("cells", "ms, 2 threads", "ns a cell"), rows)
        + f"\n\nA call with 1000 cells takes {1e3 * fixed:.2f} ms (goal: a <= 2 ms). Slopes b "
        f"between the sizes: {shown} ns a cell (goal: flat within 20 %)."
    )


def _extra(g: peers.Gas, rounds: int) -> str:
    times = medians({str(k): lambda k=k: peers.ours(g, 2, k) for k in (0, 1)}, rounds)
    more = times["1"] / times["0"] - 1
    return f"One more stored channel costs {more:.0%} (goal: 15 %)."


def _each(rounds: int) -> str:
    """Every kernel beside its NumPy twin."""
    n = 1_000_000
    rows = []
    for kernel in KERNELS:
        inputs = kernel.inputs(n, np.random.default_rng(1))
        jobs = {
            "ours": lambda kernel=kernel, inputs=inputs: kernel.function(**inputs),
            "twin": lambda kernel=kernel, inputs=inputs: kernel.twin(**inputs),
        }
        times = medians(jobs, rounds)
        ratio = times["twin"] / times["ours"]
        rows.append((kernel.name, f"{1e3 * times['ours']:.2f}", f"{ratio:.1f}"))
    return f"Every kernel on {n:,} particles, all cores:\n\n" + table(
        ("kernel", "ms", "times faster than NumPy"), rows
    )
