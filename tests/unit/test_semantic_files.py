"""Users' images: the numbers that a file means, or the reason why there are none."""

import bz2
import gzip

import numpy as np
import pytest
from PIL import Image

from sfr.semantic.figures import examples_figure
from sfr.semantic.files import read_images

fits = pytest.importorskip("astropy.io.fits")

IMAGE = (np.arange(20 * 24).reshape(20, 24) - 100).astype(np.int16)


def read(path, **options):
    return list(read_images(path, **options))


def only(path, **options):
    (found,) = read(path, **options)
    assert found.problem == ""
    return found


# -- FITS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 20, 24), (1, 20, 24), (20, 1, 24)])
def test_axes_of_length_1_of_radio_astronomy_are_no_image_axes(tmp_path, shape):
    fits.PrimaryHDU(IMAGE.reshape(shape)).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(only(tmp_path / "a.fits").array, IMAGE)


def test_a_cube_is_a_stack_also_behind_axes_of_length_1(tmp_path):
    cube = np.stack([IMAGE, IMAGE + 1])[np.newaxis]
    fits.PrimaryHDU(cube).writeto(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits")
    assert [image.label for image in found] == ["[0]", "[1]"]
    np.testing.assert_array_equal([image.array for image in found], cube[0])


def scaled(path, raw, **cards):
    """Write integers with the cards as they are."""
    unit = fits.PrimaryHDU(raw)
    for name, value in cards.items():
        unit.header[name] = value
    unit.writeto(path)
    return path


def test_bscale_bzero_and_blank_are_applied(tmp_path):
    path = scaled(tmp_path / "a.fits", IMAGE, BSCALE=0.5, BZERO=3.0, BLANK=-100)
    wanted = np.where(IMAGE == -100, np.nan, IMAGE * 0.5 + 3.0)
    np.testing.assert_allclose(only(path).array, wanted)


def test_blank_of_unsigned_numbers_was_a_bright_pixel(tmp_path):
    """BZERO = 32768 is how FITS stores unsigned numbers; astropy then forgets BLANK."""
    path = scaled(tmp_path / "a.fits", IMAGE, BSCALE=1, BZERO=32768, BLANK=-100)
    wanted = np.where(IMAGE == -100, np.nan, IMAGE + 32768.0)
    np.testing.assert_allclose(only(path).array, wanted)


def test_blank_of_a_packed_image_is_no_brightness(tmp_path):
    unit = fits.CompImageHDU(IMAGE, compression_type="RICE_1")
    unit.header["BLANK"] = -100
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz")
    wanted = np.where(IMAGE == -100, np.nan, IMAGE)
    np.testing.assert_allclose(only(tmp_path / "a.fits.fz").array, wanted)


def test_packed_fits_files_are_read_by_their_names(tmp_path):
    fits.PrimaryHDU(IMAGE).writeto(tmp_path / "a.fits")
    data = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fit.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.fits.bz2").write_bytes(bz2.compress(data))
    units = [fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, compression_type="RICE_1")]
    fits.HDUList(units).writeto(tmp_path / "a.fits.fz")
    for name in ("a.fit.gz", "a.fits.bz2", "a.fits.fz"):
        np.testing.assert_array_equal(only(tmp_path / name).array, IMAGE, err_msg=name)


def test_of_several_images_of_a_file_one_is_chosen_and_named(tmp_path):
    def write(path, *names):
        units = [fits.ImageHDU(IMAGE * (k + 1), name=name) for k, name in enumerate(names)]
        fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
        return path

    science = write(tmp_path / "sci.fits", "ERR", "SCI", "DQ")
    found = only(science)
    assert found.label == "SCI"
    np.testing.assert_array_equal(found.array, IMAGE * 2)
    for hdu in ("3", "dq"):
        np.testing.assert_array_equal(only(science, hdu=hdu).array, IMAGE * 3)
    masked = fits.HDUList([fits.PrimaryHDU(IMAGE), fits.ImageHDU(IMAGE * 5)])
    masked.writeto(tmp_path / "masked.fits")
    found = only(tmp_path / "masked.fits")
    assert found.label == "PRIMARY"
    np.testing.assert_array_equal(found.array, IMAGE)
    (found,) = read(write(tmp_path / "two.fits", "A", "B"))
    assert "several HDUs hold an image; give --hdu, one of: 1 A, 2 B" in found.problem
    (found,) = read(science, hdu="7")
    assert "HDU '7' is not one with an image" in found.problem
    (found,) = read(write(tmp_path / "twice.fits", "SCI", "SCI"))
    assert "give --hdu, one of: 1 SCI, 2 SCI" in found.problem


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"CDELT1": -1e-4, "CDELT2": 3e-4}, "not square"),
        ({"CD1_1": -1e-4, "CD2_2": 2e-4}, "not square"),
        (
            {"CDELT1": 1.0, "CDELT2": 2.0, "PC1_1": 0.0, "PC1_2": 1.0, "PC2_1": 1.0, "PC2_2": 0.0},
            "not square",
        ),
        ({"BUNIT": "mag/arcsec**2"}, "a logarithm"),
        ({"CDELT1": -1e-4, "CDELT2": 1.0001e-4, "BUNIT": "MJy/sr"}, ""),
        ({"CD1_1": 0.8, "CD1_2": 0.6, "CD2_1": -0.6, "CD2_2": 0.8}, ""),
        ({"CDELT1": 2.0}, ""),
    ],
)
@pytest.mark.parametrize("axes", [(), (1, 1)])
def test_what_a_fits_header_says_of_pixels_was_dropped(tmp_path, header, reason, axes):
    """A galaxy in pixels of 1 by 3 arcsec came out with an ellipticity of its own."""
    unit = fits.PrimaryHDU(IMAGE.reshape(*axes, *IMAGE.shape))
    unit.header.update(header)
    unit.writeto(tmp_path / "a.fits")
    (found,) = read(tmp_path / "a.fits")
    assert (reason in found.problem) if reason else found.problem == ""


def test_a_file_of_tables_has_no_image(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.zeros(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
    (found,) = read(tmp_path / "a.fits")
    assert "no HDU holds an image" in found.problem


# -- npy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        IMAGE,
        np.asfortranarray(IMAGE),
        IMAGE.astype(">i2"),
        IMAGE.astype(">f8"),
        IMAGE[::2].repeat(2, 0)[::1],
        IMAGE[np.newaxis],
        IMAGE[:, :, np.newaxis],
        IMAGE[np.newaxis, np.newaxis],
    ],
)
def test_npy_of_any_order_is_the_same_image(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(only(tmp_path / "a.npy").array, np.squeeze(array))


@pytest.mark.parametrize("colours", [2, 3, 4])
def test_an_image_with_colours_was_a_stack_of_strips(tmp_path, colours):
    np.save(tmp_path / "a.npy", np.zeros((20, 24, colours)))
    (found,) = read(tmp_path / "a.npy")
    assert f"image with {colours} colours" in found.problem
    np.save(tmp_path / "a.npy", np.zeros((colours, 20, 24)))
    assert len(read(tmp_path / "a.npy")) == colours


def test_an_archive_under_the_name_of_an_array_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGE)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    (found,) = read(tmp_path / "a.npy")
    assert "npz" in found.problem


# -- pictures ----------------------------------------------------------------------------------


def test_pages_of_a_tiff_are_images_with_row_0_at_the_bottom(tmp_path):
    pages = [Image.fromarray((IMAGE + 100 + k).astype(np.uint16)) for k in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    found = read(tmp_path / "a.tif")
    assert [image.label for image in found] == ["[0]", "[1]", "[2]"]
    np.testing.assert_array_equal(found[2].array, (IMAGE + 102)[::-1])


def test_what_cannot_be_taken_says_why(tmp_path):
    array = np.zeros((20, 24, 4), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    (found,) = read(tmp_path / "a.png")
    assert found.array is None
    assert "transparent in 100 %" in found.problem


def test_the_figure_of_a_very_bright_image_has_a_range():
    image = np.random.default_rng(1).normal(size=(16, 16)) * 1e300
    assert examples_figure([image], [0.9 * image], ["bright"]).startswith(b"\x89PNG")
