"""Numbers that functions take: what an array says besides them is never lost without a word."""

import numpy as np
import pytest

from sfr import errors, units
from sfr.arrays import real
from sfr.imaging.lupton import lupton_rgb
from sfr.recipe import load_recipe
from sfr.train.evaluate import metrics

MASKED = np.ma.masked_array([1.0, 2.0, 3.0], [True, False, False])


class Measured(np.ndarray):
    """An array with a unit, as astropy's Quantity and unyt's array are."""

    unit = "Mpc"


@pytest.mark.parametrize(
    "value",
    [
        [1.0, 2.0, 3.0],
        (1, 2, 3),
        np.array([1, 2, 3], ">i2"),
        np.array([1, 2, 3], ">f4"),
        np.arange(1.0, 7.0).reshape(3, 2)[:, 0] * 0 + [1, 2, 3],
        np.array([3.0, 2.0, 1.0])[::-1],
        [np.float32(1), np.int8(2), np.array(3.0)],
    ],
)
def test_numbers_of_any_kind_are_taken(value):
    found = real(value, "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.0, 2.0, 3.0])


def test_float64_is_not_copied_and_may_be_read_only(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(real(mapped, "x"), mapped)


@pytest.mark.parametrize(
    "value",
    [
        MASKED,
        np.ma.masked_array([1.0]),
        [1.0, np.ma.masked],
        np.ones(3).view(Measured),
        [np.ones(3).view(Measured)],
        [1 + 2j],
        np.complex128(1),
        [True, False],
        True,
        "12",
        ["1", "2"],
        [None, 1.0],
        np.array([1.0], object),
        np.array(["2020"], "M8[Y]"),
    ],
)
def test_what_is_more_or_other_than_real_numbers_is_refused(value):
    with pytest.raises(errors.DTypeError, match="x: got"):
        real(value, "x")


def test_whole_numbers_beyond_float64():
    with pytest.raises(errors.RangeError, match=str(2**60 + 1)):
        real(np.array([[1, 2**60 + 1]]), "x")
    assert real([2**60, -(2**53)], "x")[0] == 2.0**60


def test_a_quantity_of_astropy_is_not_taken_for_its_number():
    astropy_units = pytest.importorskip("astropy.units")
    with pytest.raises(errors.DTypeError, match=r"mass_code.*Quantity.*unit"):
        units.mass_msun([1.0] * astropy_units.Msun, 0.7)


@pytest.mark.parametrize(
    "call",
    [
        lambda: units.mass_msun(MASKED, 0.7),
        lambda: units.temperature_k([1.0] * 3, MASKED),
        lambda: metrics(MASKED, [1.0, 2.0, 3.0]),
        lambda: metrics([1.0, 2.0, 3.0], np.array([1 + 1j, 2, 3])),
        lambda: lupton_rgb(
            np.ma.masked_array(np.ones((3, 2, 2)), True), load_recipe("thesis").image
        ),
    ],
)
def test_functions_of_the_package_do_not_drop_a_mask(call):
    with pytest.raises(errors.DTypeError):
        call()
