"""Anonymous memory and time of one large group: ``big_group.py FILE mapped|read``."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace

import numpy as np
import peers
from timing import anonymous_mb

from sfr.recipe import load_recipe
from sfr.render.orient import Orientation
from sfr.render.project import make_maps
from sfr.simulation import open_particle_file


def main(path: str, how: str) -> None:
    recipe = replace(load_recipe("thesis").maps, candidates=())
    orientation = Orientation(peers.ROTATION, "none", 0, np.nan)
    with open_particle_file(path) as file:
        before, peak, stop = anonymous_mb(), [0.0], threading.Event()

        def watch() -> None:
            while not stop.wait(0.005):
                peak[0] = max(peak[0], anonymous_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.perf_counter()
        segments = file.segments(0, mapped=how == "mapped")
        made = make_maps(segments, peers.CENTRE, orientation, file.header, recipe, threads=2)
        seconds = time.perf_counter() - begin
        stop.set()
        watcher.join()
    rate = 1e9 * seconds / made.ledger.n_read
    print(f"{peak[0] - before:.0f} MB above the interpreter, {rate:.1f} ns a cell")


main(*sys.argv[1:])
