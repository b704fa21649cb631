"""Tables that people edit: as spreadsheets save them, rows by key, what is theirs and what not."""

import csv
import dataclasses
import io
import logging

import numpy as np
import pytest
from tests.unit.test_select import Catalogues

from sfr.errors import DataFormatError, DataMissingError, EmptySelectionError
from sfr.paths import chosen_files
from sfr.recipe import load_recipe
from sfr.render.plan import maps_fingerprint
from sfr.report.tables import subset_rows
from sfr.run.edited_tables import edits_in_words, read_sample, read_split, sample_edits
from sfr.run.tables import SAMPLE, SPLIT, read_table
from sfr.run.workspace import Workspace
from sfr.sample.select import select
from sfr.sample.split import is_current, split
from sfr.semantic.files import SUFFIXES, read_images
from sfr.train.rows import read_rows

RECIPE = load_recipe("thesis")
BY_IMAGE = RECIPE.split
BY_GALAXY = dataclasses.replace(BY_IMAGE, by="galaxy", test_fraction=0.25)


class Simulation(Catalogues):
    """Twelve galaxies a snapshot; some snapshots without, some without a catalogue."""

    empty: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()

    def __init__(self):
        rows = [(1, 0, 1.0 + i, 50.0 + i, 0.1 * (i + 1)) for i in range(12)]
        super().__init__(rows, [300.0], leaves=[10**14 + 123456789 * i for i in range(12)])

    def catalogue(self, snap, **options):
        found = super().catalogue(snap, **options)
        if snap in self.empty:
            found.subhalos["SubhaloFlag"][:] = False
        redshift = (99 - snap) / 50
        return dataclasses.replace(
            found, header=dataclasses.replace(found.header, redshift=redshift)
        )

    def identity(self, snap):
        if snap in self.absent:
            raise DataMissingError(f"the catalogue of snapshot {snap} is not there")
        return super().identity(snap)


@pytest.fixture
def run(tmp_path):
    """A folder with the sample of snapshot 99, and what it was made of."""
    simulation, workspace = Simulation(), Workspace(tmp_path)
    select(simulation, workspace, RECIPE, [99])
    return simulation, workspace


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))


def write(path, rows, delimiter=",", encoding="utf-8", end="\n", names=None):
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(names or rows[0]), delimiter=delimiter, lineterminator=end, extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def edit(path, change):
    rows = rows_of(path)
    changed = change(rows)
    write(path, rows if changed is None else changed)


def set_cell(row, name, value):
    def change(rows):
        rows[row][name] = value

    return change


def ids(workspace, snapshot=99):
    sample = read_sample(workspace)
    return sample["subhalo_id"][sample["snapshot"] == snapshot].tolist()


# -- spreadsheets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "saved",
    [
        {"encoding": "utf-8-sig"},
        {"encoding": "utf-16"},
        {"delimiter": ";"},
        {"delimiter": "\t", "end": "\r\n"},
        {"end": "\r"},
    ],
)
def test_a_byte_order_mark_cost_a_user_s_table(run, saved):
    simulation, workspace = run
    before = read_sample(workspace)
    write(workspace.sample_csv, rows_of(workspace.sample_csv)[::-1], **saved)
    after = read_sample(workspace)
    for name in SAMPLE:
        np.testing.assert_array_equal(after[name], before[name])
    assert edits_in_words(workspace) == {}
    assert select(simulation, workspace, RECIPE, [99]).cuts[0].reason == ""


def test_blank_rows_empty_columns_and_quotation_marks_are_no_content(run):
    _, workspace = run
    before = read_sample(workspace)
    rows = [list(row.values()) for row in rows_of(workspace.sample_csv)]
    lines = [",".join([*SAMPLE, "", ""])]
    lines += [",".join([*(f'"{cell}"' for cell in row), "", ""]) for row in rows]
    lines += ["," * (len(SAMPLE) + 1), "", "  "]
    workspace.sample_csv.write_text("sep=,\n" + "\n".join(lines) + "\n")
    after = read_sample(workspace)
    for name in SAMPLE:
        np.testing.assert_array_equal(after[name], before[name])


def test_whole_numbers_and_digits_that_a_spreadsheet_rewrote(run):
    _, workspace = run
    before = read_sample(workspace)

    def rewrite(rows):
        for row in rows:
            for name in ("snapshot", "subhalo_id", "group_id", "n_stars"):
                row[name] += ".0"
            row["galaxy_id"] = f"{int(row['galaxy_id']):.5E}"
            row["stellar_mass_msun"] = f"{float(row['stellar_mass_msun']):.4e}"

    edit(workspace.sample_csv, rewrite)
    after = read_sample(workspace)
    for name in SAMPLE:
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_cell(0, "subhalo_id", "1.23E+15"), r"line 2: subhalo_id = '1.23E\+15'.*digits"),
        (set_cell(1, "subhalo_id", "1.5"), r"line 3: subhalo_id = '1.5' is not a whole number"),
        (set_cell(1, "ssfr_per_yr", "1,5e-12"), r"line 3: ssfr_per_yr.*decimal point"),
        (set_cell(2, "ssfr_per_yr", "#REF!"), r"line 4: ssfr_per_yr = '#REF!' is not a number"),
        (set_cell(2, "ssfr_per_yr", ""), r"line 4: ssfr_per_yr = ''; allowed: 0 or more"),
        (set_cell(2, "group_id", "7"), r"line 4: group_id = '7', the catalogue has 0"),
        (set_cell(3, "x_ckpc_h", "1.25"), r"line 5: x_ckpc_h = '1.25', the catalogue has 9.0"),
        (set_cell(3, "sfr_msun_per_yr", ""), r"line 5: sfr_msun_per_yr = ''"),
        (set_cell(3, "subhalo_id", "77"), r"line 5: subhalo 77 of snapshot 99 was not selected"),
        (set_cell(3, "snapshot", "98"), r"line 5: (subhalo 3 of snapshot 98 was not|redshift)"),
        (lambda rows: [*rows, rows[4]], r"line 14: Snap99ID4.png is there twice.* line 6"),
    ],
)
def test_what_the_catalogue_says_cannot_be_edited(run, change, words):
    simulation, workspace = run
    edit(workspace.sample_csv, change)
    theirs = workspace.sample_csv.read_bytes()
    for use in (
        lambda: read_sample(workspace),
        lambda: split(workspace, BY_IMAGE),
        lambda: select(simulation, workspace, RECIPE, [99]),
    ):
        with pytest.raises(DataFormatError, match=words) as raised:
            use()
        assert "delete" not in str(raised.value)
    assert workspace.sample_csv.read_bytes() == theirs


def test_what_is_no_table_is_named_and_not_to_be_deleted(run):
    _, workspace = run
    good = workspace.sample_csv.read_text()
    for data, words in (
        (b"PK\x03\x04rest", "file of a spreadsheet"),
        ("\n".join([*good.splitlines()[:3], "caf\xe9"]).encode("latin-1"), "line 4.*UTF-8"),
        (good.replace("group_id", "galaxy_id", 1).encode(), "'galaxy_id' is there twice"),
        (good.replace("ssfr_per_yr", "label", 1).encode(), "'ssfr_per_yr' is missing"),
        (good[:-60].encode(), "line 13: .* cells"),
        (good.replace("\n", ",note\n").encode().replace(b",note", b"", 1), "line 2: 19 cells"),
    ):
        workspace.sample_csv.write_bytes(data)
        with pytest.raises(DataFormatError, match=words) as raised:
            read_sample(workspace)
        assert "delete" not in str(raised.value)


# -- sample.csv ------------------------------------------------------------------------------------


def test_rows_removed_from_the_sample_came_back(run, caplog):
    simulation, workspace = run
    edit(workspace.sample_csv, lambda rows: rows[2:])
    theirs = workspace.sample_csv.read_bytes()
    again = select(simulation, workspace, RECIPE, [99])
    assert workspace.sample_csv.read_bytes() == theirs
    assert again.cuts[0].n_selected == 10
    both = select(simulation, workspace, RECIPE, [98])
    assert ids(workspace) == list(range(2, 12))
    assert ids(workspace, 98) == list(range(12))
    assert "2 rows are taken out, and stay so" in caplog.text
    assert both.edits.removed == {99: 2}
    select(simulation, workspace, RECIPE, [99], force=True)
    assert ids(workspace) == list(range(12))
    assert workspace.old(workspace.sample_csv).is_file()


def test_edited_labels_count_and_are_said(run):
    simulation, workspace = run
    label = float(rows_of(workspace.sample_csv)[5]["ssfr_per_yr"])
    edit(workspace.sample_csv, set_cell(5, "ssfr_per_yr", repr(label * 100)))
    assert edits_in_words(workspace) == {
        "sample.csv": "1 label differs from the catalogue's by up to 2 dex"
    }
    select(simulation, workspace, RECIPE, [98, 99])
    sample = read_sample(workspace)
    assert sample["ssfr_per_yr"][12 + 5] == label * 100
    assert sample["ssfr_per_yr"][5] == label
    by_snapshot = {row["snapshot"]: row for row in rows_of(workspace.by_snapshot_csv)}
    assert float(by_snapshot["99"]["max_ssfr"]) == label * 100
    select(simulation, workspace, RECIPE, [98], force=True)
    assert sample_edits(workspace).labels == 1, "edits of other snapshots are not lost"
    select(simulation, workspace, RECIPE, [99], force=True)
    assert edits_in_words(workspace) == {}


def test_columns_of_one_s_own_are_kept_when_rows_are_added(run):
    simulation, workspace = run

    def note(rows):
        for row in rows:
            row["note"] = f"galaxy {row['subhalo_id']}"

    edit(workspace.sample_csv, note)
    select(simulation, workspace, RECIPE, [98])
    found = {(row["snapshot"], row["subhalo_id"]): row["note"] for row in rows_of(
        workspace.sample_csv
    )}  # fmt: skip
    assert found["99", "7"] == "galaxy 7"
    assert found["98", "7"] == ""


def test_edits_stay_where_the_cuts_change_and_it_is_said(run, caplog):
    simulation, workspace = run
    label = float(rows_of(workspace.sample_csv)[9]["ssfr_per_yr"])

    def change(rows):
        rows[9]["ssfr_per_yr"] = repr(label * 10)
        del rows[8]

    edit(workspace.sample_csv, change)
    narrow = RECIPE.with_fields("sample", stellar_mass_min=3.5)
    select(simulation, workspace, narrow, [99])
    assert ids(workspace) == [3, 4, 5, 6, 7, 9, 10, 11]
    assert read_sample(workspace)["ssfr_per_yr"][5] == label * 10
    assert "stay so with the changed [sample]" in caplog.text
    assert "3 rows do not pass [sample] any more" in caplog.text
    select(simulation, workspace, RECIPE, [99])
    assert ids(workspace) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]


def test_a_sample_written_before_the_first_selection_was_replaced(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.sample_csv.write_text("snapshot;subhalo_id;ssfr_per_yr\n99;4;3e-11\n99;2;4e-11\n")
    select(Simulation(), workspace, RECIPE, [98, 99])
    assert ids(workspace) == [2, 4]
    assert ids(workspace, 98) == list(range(12))
    assert read_sample(workspace)["ssfr_per_yr"][-2:].tolist() == [4e-11, 3e-11]
    assert workspace.sample_csv.read_text().startswith("snapshot,subhalo_id,group_id,")


def test_a_killed_selection_leaves_no_rows_that_seem_removed(run, monkeypatch):
    simulation, workspace = run
    kept = workspace.kept(workspace.sample_csv)

    def killed(workspace, path, table):
        if path == kept:
            raise KeyboardInterrupt
        write_table(workspace, path, table)

    from sfr.sample.select import write_table

    monkeypatch.setattr("sfr.sample.select.write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        select(simulation, workspace, RECIPE, [98])
    monkeypatch.undo()
    found = select(simulation, workspace, RECIPE, [98])
    assert len(found.sample["snapshot"]) == 24
    assert edits_in_words(workspace) == {}


def test_columns_of_the_catalogue_that_are_gone_are_filled_in(run):
    _, workspace = run
    before = read_sample(workspace)
    names = ["subhalo_id", "ssfr_per_yr", "snapshot"]
    write(workspace.sample_csv, rows_of(workspace.sample_csv), names=names)
    for name in SAMPLE:
        np.testing.assert_array_equal(read_sample(workspace)[name], before[name])


def test_edits_since_the_last_split_are_seen_without_writing(run):
    _, workspace = run
    assert is_current(workspace, BY_IMAGE)
    split(workspace, BY_IMAGE)
    assert is_current(workspace, BY_IMAGE)
    edit(workspace.sample_csv, set_cell(0, "ssfr_per_yr", "1e-10"))
    assert not is_current(workspace, BY_IMAGE)
    split(workspace, BY_IMAGE)
    assert is_current(workspace, BY_IMAGE)
    edit(workspace.split_csv, set_cell(0, "subset", "validation"))
    theirs = workspace.split_csv.read_bytes()
    assert not is_current(workspace, BY_IMAGE)
    assert workspace.split_csv.read_bytes() == theirs
    split(workspace, BY_IMAGE)
    assert is_current(workspace, BY_IMAGE)


# -- snapshots without galaxies --------------------------------------------------------------------


def test_one_snapshot_without_galaxies_stopped_all_others(tmp_path):
    simulation, workspace = Simulation(), Workspace(tmp_path)
    simulation.empty, simulation.absent = (98,), (100,)
    found = select(simulation, workspace, RECIPE, [97, 98, 99, 100])
    assert [cut.snapshot for cut in found.cuts] == [97, 99]
    assert "no galaxy passes the cuts" in found.failures[98]
    assert "not there" in found.failures[100]
    simulation.empty = ()
    assert select(simulation, workspace, RECIPE, [98]).failures == {}
    assert sorted(set(read_sample(workspace)["snapshot"].tolist())) == [97, 98, 99]
    with pytest.raises(DataMissingError, match="snapshot 100"):
        select(simulation, Workspace(tmp_path / "other"), RECIPE, [100])


# -- split.csv -------------------------------------------------------------------------------------


def subsets(workspace):
    return {name: place.subset for name, place in read_split(workspace).items()}


def test_a_split_written_before_the_first_one_was_replaced(run, caplog):
    simulation, workspace = run
    theirs = {f"Snap99ID{i}.png": "test" if i in (3, 5) else "train" for i in range(12)}
    lines = [f"{name},{subset}" for name, subset in theirs.items()]
    workspace.split_csv.write_text("filename,subset\n" + "\n".join(lines) + "\n")
    found = split(workspace, BY_IMAGE)
    assert subsets(workspace) == theirs
    assert str(found.edits) == "12 images are placed by hand"
    assert set(rows_of(workspace.split_csv)[0]) == set(SPLIT)
    assert split(workspace, BY_IMAGE).reason == ""
    split(workspace, dataclasses.replace(BY_IMAGE, seed=7))
    assert subsets(workspace) == theirs
    assert "[split] has changed, but images" in caplog.text
    select(simulation, workspace, RECIPE, [98])
    extended = split(workspace, BY_IMAGE)
    assert {name: subsets(workspace)[name] for name in theirs} == theirs
    assert sum(extended.counts.values()) == 24
    split(workspace, BY_IMAGE, force=True)
    assert subsets(workspace) != theirs
    assert workspace.old(workspace.split_csv).is_file()


def test_one_image_moved_drew_all_anew(run):
    _, workspace = run
    split(workspace, BY_IMAGE)
    before = subsets(workspace)
    moved = next(name for name, subset in before.items() if subset == "train")
    row = list(before).index(moved)
    edit(workspace.split_csv, set_cell(row, "subset", "test"))
    theirs = workspace.split_csv.read_bytes()
    found = split(workspace, BY_IMAGE)
    assert found.reason == "edited by hand"
    assert str(found.edits) == "1 image is placed by hand"
    assert workspace.split_csv.read_bytes() == theirs
    assert subsets(workspace) == {**before, moved: "test"}
    assert found.counts["test"] == list(before.values()).count("test") + 1


def test_images_that_are_not_listed_are_left_out_and_those_of_later_snapshots_drawn(run):
    simulation, workspace = run
    lines = [f"Snap99ID{i}.png,{'test' if i < 2 else 'train'}" for i in range(8)]
    workspace.split_csv.write_text("filename,subset\n" + "\n".join(lines) + "\n")
    found = split(workspace, BY_IMAGE)
    assert sum(found.counts.values()) == 8
    assert str(found.edits) == "8 images are placed by hand, 4 are not listed and so left out"
    select(simulation, workspace, RECIPE, [98])
    assert sum(split(workspace, BY_IMAGE).counts.values()) == 20
    assert "Snap99ID9.png" not in subsets(workspace)


def test_a_galaxy_in_two_subsets_is_counted_and_no_row_moves(run):
    simulation, workspace = run
    select(simulation, workspace, RECIPE, [98, 99])
    split(workspace, BY_GALAXY)
    before = subsets(workspace)
    row = list(before).index("Snap99ID4.png")
    other = "test" if before["Snap99ID4.png"] == "train" else "train"
    edit(workspace.split_csv, set_cell(row, "subset", other))
    select(simulation, workspace, RECIPE, [97])
    found = split(workspace, BY_GALAXY)
    after = subsets(workspace)
    expected = {**before, "Snap99ID4.png": other}
    assert {name: after[name] for name in expected} == expected
    assert after["Snap97ID4.png"] == "train"
    assert found.audit.n_same_galaxy == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_cell(0, "subset", "val"), r"line 2: subset 'val' is none of train, validation, test"),
        (set_cell(1, "filename", "Snap99ID77.png"), r"line 3: Snap99ID77.png is not in sample.csv"),
        (set_cell(1, "filename", "galaxy.png"), r"line 3: 'galaxy.png' is not an image name"),
        (set_cell(1, "fold", "3"), r"line 3: fold = 3, but fold 1 tests no image"),
        (set_cell(0, "fold", "3"), r"line 2: fold = 3 with subset 'train'; allowed: the fold that"),
        (lambda rows: [*rows, rows[0]], r"line 14: Snap99ID0.png is there twice.* line 2"),
        (lambda rows: [{"filename": "Snap99ID1.png"}], r"'subset' is missing"),
    ],
)
def test_a_split_that_cannot_be_is_named_by_its_line(run, change, words):
    _, workspace = run
    split(workspace, BY_IMAGE)
    edit(workspace.split_csv, change)
    theirs = workspace.split_csv.read_bytes()
    with pytest.raises(DataFormatError, match=words):
        split(workspace, BY_IMAGE)
    assert workspace.split_csv.read_bytes() == theirs


def test_a_split_without_a_test_image_is_refused(run):
    _, workspace = run
    lines = [f"Snap99ID{i}.png,train" for i in range(12)]
    workspace.split_csv.write_text("filename,subset\n" + "\n".join(lines) + "\n")
    with pytest.raises(EmptySelectionError, match="no image of subset 'test'"):
        split(workspace, BY_IMAGE)


def test_images_that_the_sample_lost_leave_a_split_with_a_word(run, caplog):
    _, workspace = run
    split(workspace, BY_IMAGE)
    edit(workspace.split_csv, set_cell(0, "subset", "validation"))
    split(workspace, BY_IMAGE)
    edit(workspace.sample_csv, lambda rows: rows[:-2])
    caplog.set_level(logging.WARNING)
    assert sum(split(workspace, BY_IMAGE).counts.values()) == 10
    assert "2 images that the sample has lost are taken out" in caplog.text
    assert subsets(workspace)["Snap99ID0.png"] == "validation"


# -- rows by key -----------------------------------------------------------------------------------


def test_the_leak_audit_depended_on_the_order_of_rows(run):
    simulation, workspace = run
    select(simulation, workspace, RECIPE, [97, 98, 99])
    first = split(workspace, BY_IMAGE)
    assert first.audit.n_same_galaxy > 0
    for path in (workspace.split_csv, workspace.sample_csv):
        edit(path, lambda rows: sorted(rows, key=lambda row: str(row)[::-1]))
        again = split(workspace, BY_IMAGE)
        assert (again.audit, again.counts, again.reason) == (first.audit, first.counts, "")


def test_tables_that_nobody_touched_are_what_was_written(run):
    simulation, workspace = run
    split(workspace, BY_IMAGE)
    before = [path.read_bytes() for path in (workspace.sample_csv, workspace.split_csv)]
    select(simulation, workspace, RECIPE, [99])
    split(workspace, BY_IMAGE)
    assert [path.read_bytes() for path in (workspace.sample_csv, workspace.split_csv)] == before
    assert read_table(workspace.kept(workspace.sample_csv), SAMPLE)["snapshot"].size == 12


def test_labels_and_subsets_are_bound_to_images_in_any_order_of_rows(run):
    simulation, workspace = run
    select(simulation, workspace, RECIPE, [98, 99])
    split(workspace, BY_IMAGE)
    workspace.images.mkdir()
    for name in subsets(workspace):
        (workspace.images / name).touch()
    sample, rows, counted = (
        read_sample(workspace),
        read_rows(workspace, RECIPE),
        subset_rows(workspace),
    )
    maps = [maps_fingerprint(workspace, RECIPE, sample, snap) for snap in (98, 99)]
    for path in (workspace.split_csv, workspace.sample_csv):
        edit(path, lambda rows: sorted(rows, key=lambda row: str(row)[::-1]))
    assert read_rows(workspace, RECIPE).digest() == rows.digest()
    assert subset_rows(workspace) == counted
    sample = read_sample(workspace)
    assert [maps_fingerprint(workspace, RECIPE, sample, snap) for snap in (98, 99)] == maps


# -- files given as input --------------------------------------------------------------------------


def test_one_path_that_is_not_there_stopped_all_others(tmp_path):
    paths = [tmp_path / name for name in ("a.npy", "none.npy", "b.npy", "misspelt")]
    for path in paths[::2]:
        np.save(path, np.ones((8, 8)))
    chosen = chosen_files(paths, SUFFIXES)
    assert chosen == paths
    problems = [image.problem for path in chosen for image in read_images(path)]
    assert problems == ["", "cannot be read: it is not there"] * 2
    with pytest.raises(DataMissingError, match=r"none.npy is not there"):
        chosen_files(paths[1::2], SUFFIXES)
