"""Files of heads that no network was trained for, as a training leaves them."""

import numpy as np

from sfr.run.names import ModelId
from sfr.run.tables import read_table, write_table
from sfr.train.output import HISTORY, PREDICTIONS, CaseFiles, seed_column


def add_head(workspace, case, seed, table, entry, *, fold=0, losses=None):
    """Write a head beside those that its case has.

    ``table`` has the columns of predictions.csv before those of the seeds, as far as they are not
    plain, and ``prediction``; ``losses`` are those of ``history.csv``.
    """
    files = CaseFiles(workspace, case)
    found = files.read()
    n = len(table["truth"])
    plain = {"view": np.zeros(n, int), "fold": np.zeros(n, int)}
    columns = {name: table[name] if name in table else plain[name] for name in PREDICTIONS}
    if found.metrics:
        columns = {**found.predictions, **columns}
    columns[seed_column(seed)] = np.asarray(table["prediction"])
    write_table(workspace, files.predictions, columns)
    head = {"case": case, "fold": fold, "seed": seed}
    entries = {**found.metrics, ModelId(case, fold, seed): {**entry, **head}}
    workspace.write_json(files.metrics, {"heads": [entries[model] for model in sorted(entries)]})
    if losses is not None:
        mine = {"fold": [fold] * len(losses), "seed": [seed] * len(losses)}
        mine |= {"epoch": np.arange(1, len(losses) + 1), "loss": losses}
        mine["validation_loss"] = np.full(len(losses), np.nan)
        if files.history.is_file():
            known = read_table(files.history, HISTORY)
            others = known["seed"] != seed
            mine = {name: np.concatenate([known[name][others], mine[name]]) for name in HISTORY}
        write_table(workspace, files.history, mine)
