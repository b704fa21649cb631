"""The plan of shards: a function of the sample and the recipe alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfr.recipe import load_recipe
from sfr.render.plan import SHARD_SIZE, deal_out, plan_shards

MAPS = load_recipe("thesis").maps


def sample(group_ids, n_gas, n_stars=None):
    group_ids, n_gas = np.array(group_ids, np.int64), np.array(n_gas, np.int64)
    return {
        "subhalo_id": np.arange(len(group_ids)),
        "group_id": group_ids,
        "n_gas_group": n_gas,
        "n_stars": np.zeros_like(n_gas) if n_stars is None else np.array(n_stars),
    }


groups = st.lists(
    st.tuples(st.integers(1, 70), st.integers(0, 10**8)), min_size=1, max_size=40
)  # galaxies of a group, its gas cells


def expand(drawn):
    sizes = [size for size, _ in drawn]
    return sample(
        np.repeat(np.arange(len(drawn)), sizes), np.repeat([cells for _, cells in drawn], sizes)
    )


@given(groups)
def test_every_galaxy_is_in_one_shard_in_file_order_and_groups_stay_whole(drawn):
    rows = expand(drawn)
    shards = plan_shards(rows, MAPS)
    np.testing.assert_array_equal(np.concatenate(shards), np.arange(len(rows["group_id"])))
    assert all(0 < len(shard) <= SHARD_SIZE for shard in shards)
    for group, (size, _) in enumerate(drawn):
        holding = [i for i, shard in enumerate(shards) if group in rows["group_id"][shard]]
        assert len(holding) <= -(-size // SHARD_SIZE) + (size > SHARD_SIZE)


@given(groups, st.randoms(use_true_random=False))
def test_the_order_of_the_sample_does_not_matter(drawn, random):
    rows = expand(drawn)
    order = list(range(len(rows["group_id"])))
    random.shuffle(order)
    shuffled = {name: column[order] for name, column in rows.items()}
    found = [shuffled["subhalo_id"][shard].tolist() for shard in plan_shards(shuffled, MAPS)]
    assert found == [shard.tolist() for shard in plan_shards(rows, MAPS)]


def test_shards_are_even_in_cost():
    rng = np.random.default_rng(1)
    cells = rng.lognormal(14, 1.0, 700).astype(int)
    shards = plan_shards(sample(np.arange(700), cells), MAPS)
    costs = np.array([cells[shard].sum() for shard in shards])
    assert len(shards) > 30
    assert costs.std() / costs.mean() < 0.35
    assert costs.max() < 2 * costs.mean() + cells.max()


def test_small_galaxies_fill_shards_evenly():
    sizes = [len(shard) for shard in plan_shards(sample(np.arange(1000), [2000] * 1000), MAPS)]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > SHARD_SIZE / 2


def test_one_galaxy_and_one_huge_one():
    assert [s.tolist() for s in plan_shards(sample([7], [0]), MAPS)] == [[0]]
    huge = plan_shards(sample(np.arange(41), [1000] * 20 + [10**9] + [1000] * 20), MAPS)
    assert [s.tolist() for s in huge] == [[*range(20)], [20], [*range(21, 41)]]


@pytest.mark.parametrize("pixels", [256, 1024, 4096])
def test_large_maps_make_small_shards(pixels):
    recipe = replace(MAPS, pixels=pixels)
    for shard in plan_shards(sample(np.arange(100), [1000] * 100), recipe):
        assert len(shard) == 1 or len(shard) * 12 * pixels**2 <= 64 * 2**20


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("seed", range(5))
def test_parts_have_all_shards_once_and_about_the_same_work(n, seed):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0.5, 1.5, 40) * 1e7
    parts = deal_out(costs, n, 99)
    work = np.bincount(parts, costs, minlength=n)
    assert work.min() > 0
    assert work.max() <= work.sum() / n + costs.max()
    # runs of shards: each is begun once
    assert np.count_nonzero(np.diff(parts)) == n - 1


def test_one_large_shard_leaves_no_part_without_work():
    assert sorted(deal_out(np.array([100, 1, 1, 1]), 4, 0)) == [0, 1, 2, 3]
    assert sorted(deal_out(np.array([1, 1, 1, 100]), 4, 0)) == [0, 1, 2, 3]
    assert deal_out(np.array([100, 1, 1, 1]), 2, 0).tolist() == [0, 1, 1, 1]


def test_parts_that_few_shards_leave_without_work_take_turns():
    """``--shard 1/3`` got 0 of 40 galaxies, the others 18 and 22, in every snapshot."""
    work = np.zeros(3)
    for snapshot in range(89, 100):
        work += np.bincount(deal_out(np.array([18, 22]), 3, snapshot), [18, 22], minlength=3)
    assert work.sum() == 11 * 40
    assert np.ptp(work) < 30
