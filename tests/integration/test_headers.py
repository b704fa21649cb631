"""Headers that contradict themselves, each other, or TNG: wrong numbers, or tracebacks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from sfr import units
from sfr.errors import DataFormatError
from sfr.simulation import open_particle_file, open_simulation

OFFSETS = "postprocessing/offsets/offsets_099.hdf5"
GROUPS = "output/groups_099/fof_subhalo_tab_099.{}.hdf5"
CHUNK = "output/snapdir_099/snap_099.{}.hdf5"
COUNTS = np.array([3, 0, 0, 0, 0, 0], np.int32)


def write(path: Path, *, parameters: dict | None = None, **header) -> Path:
    """Write three cells, with a header as a cutout of TNG has it save for what is given."""
    stated = {
        "Time": 0.5, "Redshift": 1.0, "HubbleParam": 0.6774, "Omega0": 0.3089,
        "OmegaLambda": 0.6911, "BoxSize": 35000.0, "NumPart_ThisFile": COUNTS,
        "NumPart_Total": COUNTS.astype(np.uint32), "MassTable": np.zeros(6),
        "NumFilesPerSnapshot": np.int32(1), "SnapshotNumber": np.int64(33),
        **header,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        attributes = file.create_group("Header").attrs
        for name, value in stated.items():
            if value is not None:
                attributes[name] = value
        for name, value in (parameters or {}).items():
            file.require_group("Parameters").attrs[name] = value
        file["PartType0/Coordinates"] = np.ones((3, 3))
        file["PartType0/Masses"] = np.ones(3, np.float32)
        file["PartType0/Density"] = np.ones(3, np.float32)
    return path


def refused(path: Path) -> str:
    """What is said of a file that cannot be used."""
    with pytest.raises(DataFormatError) as caught:
        open_particle_file(path)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.fixture
def cutout(tmp_path) -> Path:
    return tmp_path / "cutout.hdf5"


@pytest.fixture
def sim(mock_sim, tmp_path) -> Path:
    """Copy of the mock simulation that a test may damage."""
    return Path(shutil.copytree(mock_sim, tmp_path / "sim"))


def state(path: Path, name: str, value: object, group: str = "Header") -> None:
    with h5py.File(path, "r+") as file:
        file.require_group(group).attrs[name] = value


NUMBERS = ("Time", "Redshift", "HubbleParam", "Omega0", "OmegaLambda", "BoxSize")
INTEGERS = ("NumFilesPerSnapshot", "SnapshotNumber")
BY_TYPE = ("NumPart_ThisFile", "NumPart_Total", "NumPart_Total_HighWord", "MassTable")
ODD = {
    "text": "abc",
    "bytes": np.bytes_(b"1"),
    "empty": h5py.Empty("f8"),
    "void": np.void(b"\x01\x02"),
    "compound": np.array((1.0, 2), dtype=[("a", "f8"), ("b", "i4")]),
    "complex": np.complex128(1 + 1j),
    "two": np.array([1.0, 2.0]),
    "none": np.zeros(0),
    "nan": np.nan,
    "infinite": np.inf,
    "strings": np.array(["a", "b"], h5py.string_dtype()),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", [*NUMBERS, *INTEGERS, *BY_TYPE])
def test_attributes_of_other_shapes_and_types_are_named(cutout, name, kind):
    said = refused(write(cutout, **{name: ODD[kind]}))
    assert f"Header/{name}" in said
    assert "allowed: " in said


@pytest.mark.parametrize("name", [*NUMBERS, *INTEGERS, *BY_TYPE])
def test_a_reference_where_a_number_belongs(cutout, name):
    with h5py.File(write(cutout), "r+") as file:
        header = file["Header"]
        header.attrs.create(name, header.ref, dtype=h5py.ref_dtype)
    assert f"Header/{name}" in refused(cutout)


@pytest.mark.parametrize("name", ["UnitLength_in_cm", "ComovingIntegrationOn", "HubbleParam"])
@pytest.mark.parametrize("kind", ["text", "empty", "two", "nan"])
def test_odd_parameters_are_named(cutout, name, kind):
    assert f"Parameters/{name}" in refused(write(cutout, parameters={name: ODD[kind]}))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("NumPart_ThisFile", np.int32(3), "is 3"),
        ("NumPart_ThisFile", COUNTS - 1, "-1"),
        ("NumPart_Total", COUNTS[:5], "[3, 0, 0, 0, 0]"),
        ("NumPart_Total", COUNTS + 0.5, "3.5"),
        ("MassTable", np.array([1.0]), "[1.0]"),
        ("MassTable", -np.ones(6), "-1.0"),
        ("NumFilesPerSnapshot", 0, "is 0"),
        ("NumFilesPerSnapshot", -1, "is -1"),
        ("NumFilesPerSnapshot", 10**9, "is 1000000000"),
        ("NumFilesPerSnapshot", 1.5, "1.5"),
        ("NumFilesPerSnapshot", np.bool_(False), "is 0"),
        ("SnapshotNumber", 2**62, str(2**62)),
        ("HubbleParam", 67.74, "67.74"),
        ("Redshift", -1.0, "-1"),
    ],
)
def test_numbers_that_cannot_be(cutout, name, value, found):
    said = refused(write(cutout, **{name: value}))
    assert f"Header/{name}" in said
    assert found in said
    assert "allowed: " in said


def test_whole_numbers_and_single_precision_may_be_stored_as_floats(cutout):
    floats = {
        name: np.float32(value)
        for name, value in (("Time", 0.5), ("Redshift", 1), ("HubbleParam", 0.6774))
    }
    counts = COUNTS.astype(np.float64)
    write(cutout, **floats, NumPart_Total=counts, NumPart_ThisFile=counts, SnapshotNumber=33.0)
    with open_particle_file(cutout) as file:
        assert file.header.num_part_total == (3, 0, 0, 0, 0, 0)
        assert file.header.snapshot == 33
        assert file.header.hubble_param == pytest.approx(0.6774)


def test_totals_above_32_bits_are_low_and_high_words(cutout):
    low, high = COUNTS.astype(np.uint32), np.array([0, 2, 0, 0, 0, 0], np.uint32)
    low[1] = 1487761408
    with open_particle_file(write(cutout, NumPart_Total=low, NumPart_Total_HighWord=high)) as file:
        assert file.header.num_part_total[1] == 10_077_696_000


def test_attributes_that_nobody_reads_may_be_odd(cutout):
    write(cutout, Git_commit=h5py.Empty("S1"), Flag_Sfr=np.void(b"x"), CutoutRequest=np.nan)
    with open_particle_file(cutout) as file:
        assert file.counts[0] == 3


def test_a_header_that_is_no_group(cutout):
    with h5py.File(write(cutout), "r+") as file:
        del file["Header"]
        file["Header"] = np.ones(3)
        file["Header"].attrs["Time"] = 1.0
    assert "Header that is no group" in refused(cutout)


@pytest.mark.parametrize("name", NUMBERS[:1] + NUMBERS[2:])
def test_a_missing_attribute_is_named(cutout, name):
    assert f"Header has no {name}" in refused(write(cutout, **{name: None}))


# a header against itself


@pytest.mark.parametrize(("time", "redshift"), [(0.25, 0.0), (1.0, 1.0), (0.5, 1.01), (33.0, 1.0)])
def test_a_time_that_does_not_fit_its_redshift_is_not_taken_as_a(cutout, time, redshift):
    """Time 0.25 with Redshift 0 was a = 0.25: densities 64 times too high."""
    said = refused(write(cutout, Time=time, Redshift=redshift))
    assert f"Time is {time:g} and Redshift {redshift:g}" in said
    assert "|Time (1 + Redshift) - 1|" in said


@pytest.mark.parametrize(("time", "redshift"), [(0.9999999999999998, 2.2e-16), (0.909, 0.1)])
def test_rounded_redshifts_are_accepted(cutout, time, redshift):
    with open_particle_file(write(cutout, Time=time, Redshift=redshift)) as file:
        assert file.header.scale_factor == time


def test_densities_of_dark_and_other_matter_must_make_a_flat_universe(cutout):
    assert "a sum of 1" in refused(write(cutout, OmegaLambda=0.3))


@pytest.mark.parametrize("name", ["BoxSize", "HubbleParam", "Omega0"])
def test_parameters_that_contradict_the_header(cutout, name):
    said = refused(write(cutout, parameters={name: 0.5}))
    assert f"Header/{name}" in said
    assert f"Parameters/{name} is 0.5" in said


def test_a_cosmology_that_only_parameters_state_is_read(cutout):
    """GADGET-4 keeps it there."""
    names = ("HubbleParam", "Omega0", "OmegaLambda")
    parameters = dict(zip(names, (0.7, 0.3, 0.7), strict=True)) | {"ComovingIntegrationOn": 1}
    write(cutout, parameters=parameters, **dict.fromkeys(names))
    with open_particle_file(cutout) as file:
        assert file.header.hubble_param == 0.7
        assert file.header.is_cosmological


# runs that are not cosmological


@pytest.mark.parametrize(
    ("header", "parameters"),
    [
        ({"Omega0": 0.0, "OmegaLambda": 0.0}, {}),
        ({"Omega0": None, "OmegaLambda": None}, {"ComovingIntegrationOn": np.int32(0)}),
        ({"Omega0": 0.3, "OmegaLambda": 0.7}, {"ComovingIntegrationOn": np.int32(0)}),
    ],
)
@pytest.mark.parametrize("hubble", [None, 0.0, 1.0, 0.7])
def test_in_a_run_that_is_not_cosmological_time_is_no_scale_factor(
    cutout, header, parameters, hubble
):
    write(cutout, Time=2.3, Redshift=0.0, HubbleParam=hubble, parameters=parameters, **header)
    with open_particle_file(cutout) as file:
        found = file.header
    assert not found.is_cosmological
    assert (found.scale_factor, found.redshift) == (1.0, 0.0)
    assert found.hubble_param == (hubble or 1.0)
    assert found.period == 35000.0


@pytest.mark.parametrize(
    ("box", "parameters"), [(0.0, {}), (None, {}), (100.0, {"PeriodicBoundariesOn": 0})]
)
def test_a_run_without_a_box_has_no_period(cutout, box, parameters):
    write(cutout, Time=0.0, Redshift=0.0, Omega0=0.0, BoxSize=box, parameters=parameters)
    with open_particle_file(cutout) as file:
        assert file.header.period is None


def test_a_run_that_is_not_cosmological_has_no_redshift(cutout):
    assert "Redshift is 1" in refused(write(cutout, Omega0=0.0))


def test_an_empty_universe_is_no_comoving_run(cutout):
    said = refused(write(cutout, Omega0=0.0, parameters={"ComovingIntegrationOn": 1}))
    assert "ComovingIntegrationOn is 1" in said


# units


@pytest.mark.parametrize("group", ["Header", "Parameters", "Units"])
@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("UnitLength_in_cm", 3.085678e24, "BoxSize) times 1000, Density times 1e-09"),
        ("UnitLength_in_cm", 3.085678e21 / 0.6774, "times 1.476233"),
        ("UnitLength_in_cm", 1.0, "times 3.2"),
        ("UnitLength_in_cm", 0.0, "allowed: 3.085678e+21 (ckpc/h)"),
        ("UnitMass_in_g", 1.989e33, "Masses times 1e-10, Density times 1e-10"),
        ("UnitVelocity_in_cm_per_s", 1.0, "InternalEnergy times 1e-10"),
        ("UnitMass_In_CGS", 1.989e33, "Masses times 1e-10"),
    ],
)
def test_units_of_a_file_that_are_not_those_of_tng(cutout, group, name, value, advice):
    """A file in Mpc/h had densities wrong by 2.5e7, one in Msun/h by 1e10."""
    write(cutout)
    state(cutout, name, value, group)
    said = refused(cutout)
    assert f"{group}/{name} is {value:.7g}" in said
    assert advice in said


@pytest.mark.parametrize("how", [float, lambda value: np.array([value])])
@pytest.mark.parametrize(
    ("field", "attribute", "right", "wrong"),
    [
        ("Coordinates", "CGSConversionFactor", 3.085678e21, 3.085678e24),
        ("Coordinates", "h-scale-exponent", -1.0, 0.0),
        ("Density", "aexp-scale-exponent", -3.0, 0.0),
        (
            "Masses",
            "Conversion factor to CGS (not including cosmological corrections)",
            1.989e43,
            1.989e33,
        ),
        ("Masses", "h-scale exponent", -1.0, 0.0),
        ("Density", "a-scale exponent", -3.0, 0.0),
    ],
)
def test_units_of_a_dataset_under_the_names_of_eagle_and_swift(
    cutout, field, attribute, right, wrong, how
):
    """A cutout of EAGLE, in Mpc, was mapped as if it were in kpc."""
    for value in (right, wrong):
        with h5py.File(write(cutout), "r+") as file:
            file[f"PartType0/{field}"].attrs[attribute] = how(value)
        with open_particle_file(cutout) as file:
            if value == right:
                file.check()
                continue
            with pytest.raises(DataFormatError) as caught:
                file.read(0, [field])
            for word in ("cutout.hdf5", f"PartType0/{field}", attribute, "allowed: "):
                assert word in str(caught.value)


def test_the_units_group_of_swift(cutout):
    """Its names were not known: lengths in Mpc were taken for kpc."""
    units_of = {"Unit length in cgs (U_L)": 3.085678e21, "Unit mass in cgs (U_M)": 1.989e43,
                "Unit time in cgs (U_t)": 3.085678e16}  # fmt: skip
    write(cutout)
    for name, value in units_of.items():
        state(cutout, name, np.array([value]), "Units")
    open_particle_file(cutout).close()
    state(cutout, "Unit length in cgs (U_L)", np.array([3.085678e24]), "Units")
    said = refused(cutout)
    assert "Units/Unit length in cgs (U_L) is 3.085678e+24" in said
    # the velocity follows from the time
    assert "BoxSize) times 1000, Velocities times 1000, Density times 1e-09" in said
    state(cutout, "Unit time in cgs (U_t)", np.array([3.085678e19]), "Units")
    assert "Velocities" not in refused(cutout)


def test_mpc_and_msun_together_say_what_to_multiply(cutout):
    write(cutout, UnitLength_in_cm=3.085678e24, UnitMass_in_g=1.989e33)
    assert "Masses times 1e-10, Density times 1e-19" in refused(cutout)


@pytest.mark.parametrize("value", [3.085678e21, 3.08568e21, 3.0857e21, np.float32(3.0856776e21)])
def test_rounded_units_are_those_of_tng(cutout, value):
    write(cutout, UnitLength_in_cm=value, parameters={"UnitLength_in_cm": 3.085678e21})
    open_particle_file(cutout).close()


@pytest.mark.parametrize(
    ("field", "attribute", "value"),
    [
        ("Coordinates", "to_cgs", 3.085678e24),
        ("Coordinates", "to_cgs", 0.0),
        ("Coordinates", "h_scaling", 0.0),
        ("Coordinates", "a_scaling", 0.0),
        ("Coordinates", "length_scaling", 0.0),
        ("Masses", "to_cgs", 1.989e33),
        ("Masses", "mass_scaling", 0.0),
        ("Density", "a_scaling", 0.0),
        ("Density", "h_scaling", 0.0),
        ("Density", "velocity_scaling", 1.0),
        ("Masses", "to_cgs", "g"),
        ("Masses", "to_cgs", np.nan),
    ],
)
def test_units_of_a_dataset_that_are_not_those_of_tng(cutout, field, attribute, value):
    with h5py.File(write(cutout), "r+") as file:
        for name, right in units.FIELD_UNITS[field].attributes().items():
            file[f"PartType0/{field}"].attrs[name] = right
        file[f"PartType0/{field}"].attrs[attribute] = value
    with open_particle_file(cutout) as file:
        for look in (lambda: file.read(0, [field]), file.check):
            with pytest.raises(DataFormatError) as caught:
                look()
            for word in ("cutout.hdf5", f"PartType0/{field}", attribute, "allowed: "):
                assert word in str(caught.value)
        others = {"Coordinates", "Masses", "Density"} - {field}
        assert len(file.read(0, sorted(others))) == 2


def test_rounded_units_of_a_dataset_are_those_of_tng(cutout):
    with h5py.File(write(cutout), "r+") as file:
        file["PartType0/Coordinates"].attrs["to_cgs"] = np.float32(3.0857e21)
        file["PartType0/Density"].attrs["to_cgs"] = 1.989e43 / 3.0857e21**3
        file["PartType0/ElectronAbundance"] = np.ones(3)
        for to_cgs in (0.0, 1.0):
            file["PartType0/ElectronAbundance"].attrs["to_cgs"] = to_cgs
    with open_particle_file(cutout) as file:
        file.check()


def test_the_catalogue_of_a_file_in_other_units(sim):
    with h5py.File(sim / GROUPS.format(1), "r+") as file:
        file["Subhalo/SubhaloMass"].attrs["to_cgs"] = 1.989e33
    assert "SubhaloMass has to_cgs 1.989e+33" in catalogue_refused(sim)
    assert "SubhaloMass has to_cgs 1.989e+33" in said_by_doctor(sim)


# files against each other


def everything(folder: Path) -> Iterator[np.ndarray]:
    with open_simulation(folder) as simulation:
        found = simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"])
        for number in range(found.n_groups_total):
            for part_type in (0, 1, 4):
                yield simulation.particles(99, "group", number, part_type, ["Coordinates"])
        for number in range(found.n_subhalos_total):
            simulation.rows(99, "subhalo", number, 0)


def catalogue_refused(folder: Path) -> str:
    with (
        open_simulation(folder) as simulation,
        pytest.raises(DataFormatError) as caught,
    ):
        simulation.catalogue(99, subhalo_fields=["SubhaloMass"], group_fields=["GroupMass"])
    return str(caught.value)


def all_refused(folder: Path) -> str:
    with pytest.raises(DataFormatError) as caught:
        list(everything(folder))
    return str(caught.value)


def said_by_doctor(folder: Path) -> str:
    """What the inventory finds wrong."""
    with open_simulation(folder) as simulation:
        return "\n".join(s.detail for s in simulation.inventory(99) if not s.ok)


OTHER = {
    "HubbleParam": 1.0,
    "BoxSize": 75000.0,
    "Omega0": 0.3075,
    "OmegaLambda": 0.6925,
    "SnapshotNumber": 98,
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize(
    "which", [GROUPS.format(2), GROUPS.format(3), CHUNK.format(0), CHUNK.format(2)]
)
def test_one_file_that_says_something_else(sim, caplog, which, name):
    """A catalogue with h = 1 beside a snapshot with 0.6774 had masses times 0.68."""
    state(sim / which, name, OTHER[name])
    if name == "BoxSize":
        state(sim / which, name, OTHER[name], "Parameters")
    said = all_refused(sim)
    number = "98" if name == "SnapshotNumber" else f"{OTHER[name]:g}"
    for word in (Path(which).name, name, number):
        assert word in said
    assert Path(which).name in said_by_doctor(sim)
    assert name in said_by_doctor(sim)


@pytest.mark.parametrize("which", ["groups", "snapdir"])
def test_all_files_of_one_kind_say_something_else(sim, which):
    for path in (sim / "output").glob(f"{which}_099/*.hdf5"):
        state(path, "HubbleParam", 1.0)
    said = all_refused(sim)
    assert "HubbleParam is 0.6774" in said or "HubbleParam is 1" in said
    assert "snap_099" in said
    assert "fof_subhalo_tab_099" in said


@pytest.mark.parametrize(
    ("which", "name", "value"),
    [
        (GROUPS, "NumFiles", 5),
        (GROUPS, "Ngroups_Total", 10**6),
        (GROUPS, "Nsubgroups_Total", 3),
        (GROUPS, "Nids_Total", 7),
        (GROUPS, "Ngroups_ThisFile", 1000),
        (GROUPS, "Nsubgroups_ThisFile", 0),
        (CHUNK, "NumFilesPerSnapshot", 3),
        (CHUNK, "NumPart_Total", np.full(6, 10**6, np.uint32)),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_counts_that_do_not_fit_the_other_files(sim, which, name, value, number):
    state(sim / which.format(number), name, value)
    said = all_refused(sim)
    assert f"_099.{number}.hdf5" in said or f"_099.{1 - number}.hdf5" in said
    assert said_by_doctor(sim)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NumFiles", 2),
        ("NumFiles", -1),
        ("NumFiles", 10**9),
        ("Ngroups_Total", -5),
        ("Ngroups_Total", h5py.Empty("i4")),
        ("Nsubgroups_Total", "many"),
        ("Ngroups_ThisFile", np.array([1, 2])),
        ("Time", np.nan),
        ("Redshift", 3.0),
        ("UnitLength_in_cm", 3.085678e24),
    ],
)
def test_a_catalogue_whose_chunks_all_say_what_cannot_be(sim, name, value):
    for number in range(4):
        state(sim / GROUPS.format(number), name, value)
    said = catalogue_refused(sim)
    assert "fof_subhalo_tab_099" in said
    assert name in said
    assert name in said_by_doctor(sim)


def test_totals_that_all_chunks_share_but_do_not_hold(sim):
    for number in range(4):
        with h5py.File(sim / CHUNK.format(number), "r+") as file:
            totals = file["Header"].attrs["NumPart_Total"]
            file["Header"].attrs["NumPart_Total"] = totals + np.uint32(5)
    said = said_by_doctor(sim)
    assert "NumPart_Total" in said
    with open_simulation(sim) as simulation, pytest.raises(DataFormatError, match="NumPart_Total"):
        # what lies in the last chunk is outer fuzz, of no object
        simulation._holding(99, 3, 0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("FileOffsets/Group", lambda v: v[:-1]),
        ("FileOffsets/Group", lambda v: v + np.array([0, 1, 0, 0])),
        ("FileOffsets/Subhalo", lambda v: v + np.array([0, 0, 1, 0])),
        ("FileOffsets/SnapByType", lambda v: v + np.array([[0], [0], [1], [0]])),
    ],
)
def test_offsets_that_do_not_fit_the_chunks(sim, name: str, change: Callable):
    with h5py.File(sim / OFFSETS, "r+") as file:
        values = change(file[name][()])
        del file[name]
        file[name] = values
    assert "offsets" in said_by_doctor(sim)
    assert "offsets" in all_refused(sim)


def test_trees_of_another_simulation(sim):
    for path in (sim / "postprocessing/trees/SubLink").iterdir():
        with h5py.File(path, "r+") as file:
            file["SubfindID"][...] += 1
    with open_simulation(sim) as simulation:
        count = simulation.catalogue(99, subhalo_fields=[], group_fields=[]).n_subhalos_total
        with pytest.raises(DataFormatError, match=r"tree_extended.*not of the same simulation"):
            simulation.main_leaf_ids(99, np.arange(count))


def test_a_simulation_that_is_not_cosmological_is_refused_with_the_reason(sim):
    for path in (sim / "output").glob("*_099/*.hdf5"):
        state(path, "ComovingIntegrationOn", 0, "Parameters")
        state(path, "Redshift", 0.0)
    said = catalogue_refused(sim)
    assert "not of a cosmological run" in said
    assert "sfr map" in said


def test_the_command_line_says_it_too(sfr, sim):
    for path in (sim / "output").glob("*_099/*.hdf5"):
        state(path, "ComovingIntegrationOn", 0, "Parameters")
        state(path, "Redshift", 0.0)
    for command in ("select", "doctor"):
        result = sfr(command, "--sim", sim, "--snap", 99)
        assert result.exit_code == 3, result.output
        assert "cosmological" in result.output
    assert sfr("map", sim / CHUNK.format(0), "--pixels", 32).exit_code == 0
    doctor = sfr("doctor", "--sim", sim / CHUNK.format(0), "--json")
    assert "not cosmological" in doctor.stdout


def test_a_good_simulation_has_nothing_to_say(sim):
    assert said_by_doctor(sim) == ""
    assert sum(len(part["Coordinates"]) for part in everything(sim))
