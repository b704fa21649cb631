"""Pictures made elsewhere: honoured or refused, never changed without a word."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from sfr.errors import DataFormatError, DataMissingError
from sfr.imaging.png import read_png
from sfr.pictures import read_pictures

#: Not symmetric in any way, so that every turn shows.
GREY = (np.arange(20 * 30).reshape(20, 30) % 251).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
DEEP = (np.arange(20 * 30).reshape(20, 30) * 100).astype(np.uint16)


def png(path, colour, depth, rows, *chunks):
    """Write a PNG by hand: Pillow writes no colours of 16 bits, and not every chunk."""

    def chunk(kind, content):
        data = kind + content
        return struct.pack(">I", len(content)) + data + struct.pack(">I", zlib.crc32(data))

    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, colour, 0, 0, 0)
    order = ">u2" if depth == 16 else "u1"
    body = b"".join(b"\0" + row.astype(order).tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(chunk(*extra) for extra in chunks)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )
    return path


def saved(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def one(path, **options):
    (found,) = read_pictures(path, **options)
    return found


# -- honoured ----------------------------------------------------------------------------------

#: What the stored picture must undergo to be seen as it is meant, by EXIF's orientation.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.swapaxes(a[::-1], 0, 1),
    7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
    8: lambda a: np.swapaxes(a, 0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("array", [GREY, RGB, DEEP], ids=["grey", "rgb", "deep"])
def test_orientation_turned_a_galaxy_from_30_to_120_deg(tmp_path, array, suffix, orientation):
    if suffix == "jpg":
        if array is DEEP:
            pytest.skip("JPEG holds 8 bits")
        # smooth, so that compression changes little
        array = np.sort(np.sort(array, axis=0), axis=1)
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    saved(path, array, exif=exif, **options)
    found, wanted = one(path), TURNED[orientation](array)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.astype(int), wanted.astype(int), atol=8 * (suffix == "jpg"))
    assert found.dtype == array.dtype


def test_sixteen_bits_grey_are_kept_from_png_and_tiff_of_any_kind(tmp_path):
    np.testing.assert_array_equal(one(png(tmp_path / "a.png", 0, 16, DEEP)), DEEP)
    np.testing.assert_array_equal(one(saved(tmp_path / "a.tif", DEEP)), DEEP)
    for kind in ("<i4", "<f4"):
        array = DEEP.astype(kind) - 500
        np.testing.assert_array_equal(one(saved(tmp_path / "b.tif", array)), array)


def test_a_palette_is_the_colours_that_it_names(tmp_path):
    few = RGB // 128 * 255
    image = Image.fromarray(few).quantize(8)
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(one(tmp_path / "p.png"), few)
    np.testing.assert_array_equal(read_png(tmp_path / "p.png"), few)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_that_hides_nothing_changes_nothing(tmp_path, mode):
    array = RGB if mode == "RGBA" else GREY
    np.testing.assert_array_equal(one(saved(tmp_path / "a.png", array, mode)), array)


def test_one_bit_and_interlaced_pictures_are_as_they_look(tmp_path):
    bits = GREY > 100
    saved(tmp_path / "a.png", bits)
    np.testing.assert_array_equal(one(tmp_path / "a.png"), bits * np.uint8(255))
    # Adam7 of one pixel is one pixel
    path = png(tmp_path / "b.png", 0, 8, GREY[:1, :1])
    data = bytearray(path.read_bytes())
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))
    assert one(path).tolist() == GREY[:1, :1].tolist()


def test_every_page_of_a_tiff_is_a_picture(tmp_path):
    pages = [Image.fromarray(array) for array in (DEEP, DEEP[::-1], DEEP // 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    found = read_pictures(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, [DEEP, DEEP[::-1], DEEP // 2])


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_pixels_that_are_not_square_make_a_round_galaxy_an_ellipse(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    assert one(saved(path, GREY, dpi=(72, 72))).shape == GREY.shape
    saved(path, GREY, dpi=(72, 144))
    with pytest.raises(DataFormatError, match="not square"):
        read_pictures(path)


def test_a_value_for_no_data_is_no_brightness(tmp_path):
    saved(tmp_path / "a.tif", DEEP.astype(np.float32), tiffinfo={42113: "-9999"})
    with pytest.raises(DataFormatError, match=r"no data, '-9999"):
        read_pictures(tmp_path / "a.tif")


@pytest.mark.parametrize("gamma", [45455, 100000])
def test_gamma_of_a_screen_is_none_and_that_of_intensities_where_asked_for(tmp_path, gamma):
    path = png(tmp_path / "a.png", 0, 8, GREY, (b"gAMA", struct.pack(">I", gamma)))
    np.testing.assert_array_equal(one(path, linear=True), GREY)
    if gamma == 100000:
        with pytest.raises(DataFormatError, match="gamma of 1"):
            one(path)


def test_what_states_srgb_in_other_words_changes_nothing(tmp_path):
    srgb = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    numbers = struct.pack(">8I", *(round(1e5 * number) for number in srgb))
    found = one(png(tmp_path / "a.png", 0, 8, GREY, (b"cHRM", numbers)))
    np.testing.assert_array_equal(found, GREY)
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 1}
    np.testing.assert_array_equal(one(saved(tmp_path / "b.png", RGB, exif=exif)), RGB)


def test_srgb_profile_is_what_pictures_are_anyhow(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(one(saved(tmp_path / "a.png", RGB, icc_profile=profile)), RGB)


# -- refused -----------------------------------------------------------------------------------


def transparent(mode):
    array = np.array(Image.fromarray(RGB).convert(mode))
    array[3, 4, -1] = 0
    return Image.fromarray(array, mode) if mode == "RGBA" else Image.fromarray(array)


def write_transparent(path):
    transparent("RGBA").save(path)


def write_half_transparent(path):
    array = np.array(Image.fromarray(RGB).convert("RGBA"))
    array[..., 3] = 254
    Image.fromarray(array).save(path)


def write_colour_key(path):
    saved(path, RGB, transparency=tuple(RGB[5, 5].tolist()))


def write_grey_key(path):
    saved(path, GREY, transparency=int(GREY[5, 5]))


def write_palette_key(path):
    Image.fromarray(RGB).quantize(8).save(path, transparency=0)


def write_deep_key(path):
    png(path, 0, 16, DEEP, (b"tRNS", struct.pack(">H", int(DEEP[5, 5]))))


def write_deep_colours(path):
    png(path, 2, 16, np.stack([DEEP] * 3, 2).reshape(20, 90).reshape(20, 30, 3).reshape(20, -1))


def write_animation(path):
    frames = [Image.fromarray(array) for array in (RGB, RGB[::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def write_gamma(path):
    png(path, 0, 8, GREY, (b"gAMA", struct.pack(">I", 55555)))


def write_cicp(path):
    png(path, 0, 8, GREY, (b"cICP", bytes([9, 16, 0, 1])))


def write_profile(path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    saved(path, RGB, icc_profile=profile)


def write_linear_srgb(path):
    """A profile whose name has sRGB in it, as GIMP's, and whose numbers are linear."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = profile.index(b"para")
    profile[curve : curve + 16] = b"para" + bytes(8) + struct.pack(">I", 0x10000)
    saved(path, RGB, icc_profile=bytes(profile))


def write_primaries(path):
    display_p3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    numbers = struct.pack(">8I", *(round(1e5 * number) for number in display_p3))
    png(path, 0, 8, GREY, (b"cHRM", numbers))


def write_adobe(path):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 2}
    saved(path, RGB, exif=exif)


def write_adobe_of_cameras(path):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    saved(path, RGB, exif=exif)


def write_bad_profile(path):
    saved(path, RGB, icc_profile=b"no profile")


def write_bad_orientation(path):
    exif = Image.Exif()
    exif[0x0112] = 9
    saved(path, RGB, exif=exif)


REFUSED = {
    "transparent in": [
        write_transparent,
        write_half_transparent,
        write_colour_key,
        write_grey_key,
        write_palette_key,
    ],
    "transparent grey": [write_deep_key],
    "16 bits a colour": [write_deep_colours],
    "holds 2 pictures": [write_animation],
    "gamma of 0.555": [write_gamma],
    "cICP": [write_cicp],
    "colour profile": [write_profile, write_linear_srgb, write_bad_profile],
    "primary colours": [write_primaries],
    "Adobe RGB": [write_adobe, write_adobe_of_cameras],
    "orientation 9": [write_bad_orientation],
}


@pytest.mark.parametrize(
    ("reason", "write"), [(reason, write) for reason, all_ in REFUSED.items() for write in all_]
)
def test_what_changes_a_picture_was_dropped(tmp_path, reason, write):
    path = tmp_path / "a.png"
    write(path)
    with pytest.raises(DataFormatError, match=reason):
        read_pictures(path)
    with pytest.raises(DataFormatError, match=reason):
        read_png(path)


def tiff(path, bits, kind, data, *, photometric=1, samples=1, subfile=0):
    """Write a TIFF of one strip by hand: Pillow does not write these kinds."""
    entries = [
        (254, 4, subfile),
        (256, 4, 30),
        (257, 4, 20),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, samples),
        (278, 4, 20),
        (279, 4, len(data)),
        (339, 3, kind),
    ]
    if samples > 1:
        # all channels have the same bits; their list lies behind the entries
        place = 8 + len(data) + 2 + 12 * len(entries) + 4
        entries[3], entries[10] = (258, 3, None), (339, 3, None)
    text = b""
    lists = b""
    for tag, type_, value in entries:
        if value is None:
            numbers = [bits if tag == 258 else kind] * samples
            text += struct.pack("<HHII", tag, type_, samples, place + len(lists))
            lists += struct.pack(f"<{samples}H", *numbers)
        elif type_ == 3:
            text += struct.pack("<HHIHH", tag, type_, 1, value, 0)
        else:
            text += struct.pack("<HHII", tag, type_, 1, value)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(entries)) + text + bytes(4) + lists)
    return path


def test_tiffs_that_would_be_read_as_something_else_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    plain = tiff(path, 16, 1, DEEP.astype("<u2").tobytes())
    np.testing.assert_array_equal(one(plain), DEEP)
    cases = {
        "negative": (16, 1, DEEP.astype("<u2").tobytes(), {"photometric": 0}),
        "signed numbers of 8 bits": (8, 2, GREY.tobytes(), {}),
        "unsigned numbers of 32 bits": (32, 1, (DEEP.astype("<u4") << 16).tobytes(), {}),
        "smaller copies": (16, 1, DEEP.astype("<u2").tobytes(), {"subfile": 1}),
        "16 bits a colour": (
            16,
            1,
            np.stack([DEEP] * 3, 2).astype("<u2").tobytes(),
            {"photometric": 2, "samples": 3},
        ),
    }
    for reason, (bits, kind, data, more) in cases.items():
        with pytest.raises(DataFormatError, match=reason):
            read_pictures(tiff(path, bits, kind, data, **more))


def test_a_negative_of_8_bits_is_turned(tmp_path):
    path = tiff(tmp_path / "a.tif", 8, 1, GREY.tobytes(), photometric=0)
    np.testing.assert_array_equal(one(path), 255 - GREY)


def test_colours_that_are_inks_are_refused(tmp_path):
    for suffix in ("jpg", "tif"):
        saved(tmp_path / f"a.{suffix}", RGB, "CMYK")
        with pytest.raises(DataFormatError, match="kind CMYK"):
            read_pictures(tmp_path / f"a.{suffix}")


def test_other_formats_and_damaged_files_say_what_is_read(tmp_path):
    saved(tmp_path / "gif.png", GREY, format="GIF")
    (tmp_path / "cut.png").write_bytes(saved(tmp_path / "a.png", RGB).read_bytes()[:-200])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    for name in ("gif.png", "cut.png", "bad.png"):
        with pytest.raises(DataFormatError, match=f"{name} cannot be read as PNG or JPEG or TIFF"):
            read_pictures(tmp_path / name)
    with pytest.raises(DataMissingError, match=r"none\.png is not there"):
        read_pictures(tmp_path / "none.png")


def test_a_picture_of_billions_of_pixels_was_a_traceback(tmp_path):
    path = png(tmp_path / "a.png", 0, 8, GREY)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))
    with pytest.raises(DataFormatError, match=r"a\.png cannot be read"):
        read_pictures(path)


# -- the composite of a galaxy -----------------------------------------------------------------


def test_a_composite_is_png_in_colours_of_8_bits(tmp_path):
    for write, reason in (
        (lambda p: saved(p, GREY), "is grey"),
        (lambda p: png(p, 0, 16, DEEP), "more than 8 bits"),
        (lambda p: saved(p, RGB, format="JPEG"), "cannot be read as PNG"),
    ):
        write(tmp_path / "a.png")
        with pytest.raises(DataFormatError, match=reason):
            read_png(tmp_path / "a.png")


def test_reading_does_not_depend_on_what_pillow_keeps_open(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, format="PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    found = read_png(tmp_path / "a.png")
    assert found.flags.writeable
    np.testing.assert_array_equal(found, RGB)
