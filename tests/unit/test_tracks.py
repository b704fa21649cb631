"""Galaxies over snapshots without merger trees."""

import numpy as np

from sfr.sample.tracks import _MATCHED, Bound, _untracked_id, follow, match

BOX = 35000.0


def snapshot(most_bound, position, mass):
    return {
        "most_bound": np.array(most_bound, np.uint64),
        "position": np.array(position, float),
        "mass": np.array(mass, float),
    }


def places(n, seed=0):
    return np.random.default_rng(seed).uniform(0, BOX, (n, 3))


def test_the_most_bound_particle_tells_wherever_the_galaxy_is():
    at = places(3)
    first = snapshot([7, 2**63 + 5, 9], at, [1, 2, 3])
    second = snapshot([9, 2**63 + 5, 7], at, [3, 2, 1])
    pairs, by_particle = match(first, second, steps=10, period=BOX)
    assert sorted(pairs.tolist()) == [[0, 2], [1, 1], [2, 0]]
    assert by_particle == 3


def test_a_particle_that_went_over_to_another_galaxy_tells_nothing():
    """Stellar masses differ by more than a factor of 3, or two subhaloes claim the particle."""
    at = places(4)
    first = snapshot([7, 8, 8, 0], at, [1, 1, 1, 1])
    second = snapshot([7, 8, 0, 0], places(4, 1), [3.1, 1, 1, 1])
    assert match(first, second, steps=1, period=BOX)[0].size == 0


def test_without_particles_the_nearest_of_like_mass_is_the_same_over_the_edge_of_the_box():
    at = np.array([[10.0, 500.0, 500.0], [9000.0, 500.0, 500.0], [20000.0, 0.0, 0.0]])
    moved = np.mod(at + np.array([-40.0, 0.0, 0.0]), BOX)
    first, second = snapshot([0] * 3, at, [1, 1, 1]), snapshot([0] * 3, moved, [1, 1.4, 1.6])
    assert match(first, second, steps=1, period=BOX)[0].tolist() == [[0, 0], [1, 1]]
    assert match(first, second, steps=1, period=None)[0].tolist() == [[1, 1]]
    # too long ago for positions
    assert match(first, second, steps=4, period=BOX)[0].size == 0


def test_only_galaxies_that_are_nearest_to_each_other_match():
    first = snapshot([0, 0], [[0, 0, 0], [100, 0, 0]], [1, 1])
    second = snapshot([0], [[90, 0, 0]], [1])
    assert match(first, second, steps=1, period=None)[0].tolist() == [[1, 0]]
    none = snapshot([], np.zeros((0, 3)), [])
    assert match(first, none, steps=1, period=BOX)[0].shape == (0, 2)


def sample(snapshots, galaxies=5, ids=None):
    """The same galaxies at all times, each subhalo under another number."""
    rows = [(snap, i) for snap in snapshots for i in range(galaxies)]
    at = places(galaxies)
    snap, galaxy = (np.array(column) for column in zip(*rows, strict=True))
    subhalo = 10 * galaxy + snap % 3
    table = {
        "snapshot": snap,
        "subhalo_id": subhalo,
        "galaxy_id": _untracked_id(snap, subhalo) if ids is None else ids,
        "stellar_mass_msun": 1e10 * (1.0 + galaxy),
    }
    return table | {f"{axis}_ckpc_h": at[galaxy, k] for k, axis in enumerate("xyz")}


def particles(table, snap):
    rows = table["snapshot"] == snap
    found = {int(s): 900 + int(s) // 10 for s in table["subhalo_id"][rows]}
    return Bound(found, BOX)


def test_galaxies_without_trees_have_one_id_over_snapshots():
    table = sample([97, 98, 99])
    ids = follow(table, {snap: particles(table, snap) for snap in (97, 98, 99)})
    assert ids.reshape(3, 5).tolist() == [[_MATCHED + 99 * 10**12 + 10 * i for i in range(5)]] * 3
    # a second time, from what was found the first time
    again = follow({**table, "galaxy_id": ids}, {s: particles(table, s) for s in (97, 98, 99)})
    assert again.tolist() == ids.tolist()
    # and by position alone
    assert follow(table, {s: Bound({}, BOX) for s in (97, 98, 99)}).tolist() == ids.tolist()


def test_a_galaxy_that_fails_the_cuts_at_one_time_is_the_same_before_and_after():
    table = sample([96, 97, 98, 99])
    kept = ~((table["snapshot"] == 97) & (table["subhalo_id"] // 10 == 2))
    kept &= ~((table["snapshot"] == 98) & (table["subhalo_id"] // 10 == 2))
    table = {name: column[kept] for name, column in table.items()}
    ids = follow(table, {snap: particles(table, snap) for snap in (96, 97, 98, 99)})
    galaxy = table["subhalo_id"] // 10
    assert [np.unique(ids[galaxy == i]).size for i in range(5)] == [1] * 5
    assert np.unique(ids).size == 5


def test_one_snapshot_without_trees_is_as_it_was():
    table = sample([99])
    assert follow(table, {99: particles(table, 99)}).tolist() == table["galaxy_id"].tolist()


def test_ids_of_trees_stay_and_are_handed_to_snapshots_without():
    tree = np.array([70, 71, -3, 73, 74])
    for without in (97, 98, 99):
        table = sample([97, 98, 99])
        has_trees = table["snapshot"] != without
        table["galaxy_id"] = np.where(has_trees, np.tile(tree, 3), table["galaxy_id"])
        bound = {s: particles(table, s) if s == without else None for s in (97, 98, 99)}
        ids = follow(table, bound)
        assert ids[has_trees].tolist() == table["galaxy_id"][has_trees].tolist()
        found = ids[~has_trees]
        assert found[[0, 1, 3, 4]].tolist() == [70, 71, 73, 74]
        assert found[2] not in (70, 71, 73, 74)


def test_a_tree_at_one_end_of_a_chain_names_all_of_it():
    table = sample([97, 98, 99])
    table["galaxy_id"] = np.where(
        table["snapshot"] == 97, 50 + table["subhalo_id"] // 10, table["galaxy_id"]
    )
    bound = {97: None, 98: particles(table, 98), 99: particles(table, 99)}
    assert follow(table, bound).reshape(3, 5).tolist() == [[50, 51, 52, 53, 54]] * 3


def test_with_trees_everywhere_nothing_changes():
    table = sample([98, 99], ids=np.array([5, 6, -7, 8, 9] * 2))
    assert follow(table, {98: None, 99: None}).tolist() == table["galaxy_id"].tolist()


def test_what_is_kept_of_a_snapshot_is_read_back():
    found = Bound({3: 2**64 - 1, 4: 0}, None)
    assert Bound.of_json(found.to_json()) == found
    assert Bound.of_json(None) is None
