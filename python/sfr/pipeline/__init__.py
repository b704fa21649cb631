"""The steps of a run, as the command line and a notebook call them.

They hear only a callable that is told of progress, say what they do through ``logging``, give back
what happened, and raise what went wrong:

    from sfr.pipeline import open_run

    with open_run("work", "thesis", simulation="TNG50-1") as run:
        run.select([99])
        run.render([99])
        run.train(["mass"])
        print(run.report().index)

`sfr.pipeline.quicklook` maps one file, and `sfr.pipeline.semantic` trains and uses the semantic
autoencoder: neither needs a run.
"""

from sfr.pipeline.opening import OpenRun, open_run
from sfr.pipeline.run import Options, Run

__all__ = ["OpenRun", "Options", "Run", "open_run"]
