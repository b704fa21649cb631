"""How often an interval of r holds the true r, and how often the best of equal cases seems better.

Galaxies with one image each; label and prediction are Gaussian. What it prints stands in
docs/training.md.
"""

from __future__ import annotations

import argparse

import numpy as np

from sfr.train.bootstrap import percentiles, resampled_r
from sfr.train.evaluate import ScoredHead, compare, metrics

GALAXIES = (4, 6, 8, 10, 20, 40, 80)
TRUE_R = (0.6, 0.9)
CASES, SHARED = 10, 0.5


def coverage(rng: np.random.Generator, galaxies: int, true_r: float, trials: int) -> float:
    """Return the share of 95 % intervals that hold the true r."""
    held = 0
    for _ in range(trials):
        truth, noise = rng.standard_normal((2, galaxies))
        prediction = true_r * truth + np.sqrt(1 - true_r**2) * noise
        found = percentiles(resampled_r(truth, prediction[None], np.arange(galaxies))[0])
        held += found is not None and found[0] < true_r < found[1]
    return held / trials


def false_lead(rng: np.random.Generator, galaxies: int, trials: int) -> tuple[float, float]:
    """Return how often the best of equal cases is ahead of one: all pairs together, each pair."""
    together = single = 0
    names, galaxy = np.array([f"{i:04d}" for i in range(galaxies)]), np.arange(galaxies)
    for _ in range(trials):
        truth, shared = rng.standard_normal((2, galaxies))
        own = rng.standard_normal((CASES, galaxies))
        errors = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
        heads = {}
        for case, prediction in enumerate(truth + 0.6 * errors):
            found = metrics(truth, prediction)
            heads[str(case)] = [ScoredHead("", 0, found, names, galaxy, truth, prediction)]
        result = compare(heads)
        best = result.best(result.r)
        others = [case for case in result.r if case != best]
        together += any(result.is_ahead(best, case) for case in others)
        for case in others:
            lead = percentiles(result.draws[best] - result.draws[case])
            if lead is not None and lead[0] > 0:
                single += 1
                break
    return together / trials, single / trials


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    print("galaxies" + "".join(f"  r = {r}" for r in TRUE_R))
    for galaxies in GALAXIES:
        shares = [coverage(rng, galaxies, r, trials) for r in TRUE_R]
        print(f"{galaxies:8d}" + "".join(f"  {share:7.3f}" for share in shares), flush=True)
    print(f"\n{CASES} equal cases: all pairs at 95 %, each pair at 95 %")
    for galaxies in GALAXIES[2:]:
        together, single = false_lead(rng, galaxies, trials // 3)
        print(f"{galaxies:8d}  {together:7.3f}  {single:7.3f}", flush=True)


if __name__ == "__main__":
    main()
