"""Which heads train side by side: by what is faster, where no byte depends on it."""

from types import SimpleNamespace

import pytest

from sfr.recipe import load_recipe
from sfr.run.names import ModelId
from sfr.train import fit


def batches(monkeypatch, tmp_path, *, cases, seeds, workers=None, size=10, **changes):
    """Cases and seeds of each batch."""
    backend = changes.pop("backend", "tensorflow")
    monkeypatch.setattr(fit, "stated_backend", lambda: backend)
    file = tmp_path / "features.npy"
    file.write_bytes(b"0" * size)
    recipe = load_recipe("thesis").with_fields("train", **changes)
    training = SimpleNamespace(recipe=recipe, is_ridge=False, features_file=lambda case: file)
    pending = {f"c{i}": [ModelId(f"c{i}", 0, k) for k in range(seeds)] for i in range(cases)}
    crew = None if workers is None else SimpleNamespace(count=workers)
    found = fit._batches(training, pending, crew)
    every = sorted(model for batch in found for model in batch)
    assert every == sorted(model for models in pending.values() for model in models)
    return [[(model.case, model.seed) for model in batch] for batch in found]


def test_cases_of_one_head_share_a_program_as_far_as_memory_allows(monkeypatch, tmp_path):
    monkeypatch.setattr(fit, "_TOGETHER_BYTES", 25)
    found = batches(monkeypatch, tmp_path, cases=5, seeds=1)
    assert [[case for case, _ in batch] for batch in found] == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    # a case that is larger than that trains by itself
    assert len(batches(monkeypatch, tmp_path, cases=3, seeds=1, size=30)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"seeds": 8},
        {"seeds": 1, "backend": "jax"},
        {"seeds": 1, "batch_order": "shared"},
        {"seeds": 8, "workers": 9, "backend": "torch"},
        {"seeds": 8, "workers": 9, "batch_order": "shared"},
        {"seeds": 1, "workers": 1},
        {"seeds": 8, "workers": 3},
    ],
)
def test_else_a_case_trains_by_itself_with_all_its_heads(monkeypatch, tmp_path, fields):
    found = batches(monkeypatch, tmp_path, cases=3, **fields)
    assert found == [[(f"c{i}", k) for k in range(fields["seeds"])] for i in range(3)]


def test_more_workers_than_cases_share_the_heads_of_a_case(monkeypatch, tmp_path):
    found = batches(monkeypatch, tmp_path, cases=2, seeds=8, workers=5)
    assert [len(batch) for batch in found] == [2, 3, 3] * 2
    assert all(len({case for case, _ in batch}) == 1 for batch in found)
    # never more than there are heads
    assert len(batches(monkeypatch, tmp_path, cases=2, seeds=2, workers=50)) == 4
