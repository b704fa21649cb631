"""Particles in segments, weights made in the kernel, and what is never looked at."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfr import units
from sfr.errors import DTypeError, ShapeError
from sfr.render import kernels, reference

BLOCK = 1 << 16
FRAME = {
    "center": (0.1, -0.2, 9.9),
    "box_size": 10.0,
    "rotation": kernels.face_on_rotation((1, -2, 0.5)),
    "half_width": (1.5, 1.0),
}
FACTORS = units.thermal_factors(0.9, 0.6774)


def cells(n, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {
        "coordinates": rng.normal(0, 1.2, (n, 3)).astype(dtype) % 10,
        "u": (10 ** rng.uniform(2, 5, n)).astype(np.float32),
        "xe": rng.uniform(0, 1.2, n).astype(np.float32),
        "rho": (10 ** rng.uniform(-8, -3, n)).astype(np.float32),
        "m": rng.uniform(1, 2, n).astype(dtype),
    }


def weights(c, rows=slice(None)):
    part = {name: values[rows] for name, values in c.items()}
    return [
        kernels.Thermal(part["u"], part["xe"], FACTORS, part["rho"]),
        part["m"],
        kernels.Weight(kernels.Thermal(part["u"], part["xe"], FACTORS), log10=True),
        kernels.Weight(
            kernels.Thermal(part["u"], part["xe"], FACTORS, part["rho"]), True, part["m"]
        ),
    ]


def by_segments(c, cuts, threads=None, **options):
    def pieces():
        for start, stop in itertools.pairwise(cuts):
            yield c["coordinates"][start:stop], weights(c, slice(start, stop))

    return kernels.project_segments(
        pieces(), columns=4, bins=(31, 40), threads=threads, **{**FRAME, **options}
    )


@pytest.mark.parametrize("reach", ["dense", "sparse"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_segments_threads_or_the_way_in(reach, dtype):
    n = 3 * BLOCK + 12345
    c = cells(n, dtype=dtype)
    if reach == "sparse":  # few particles of a batch in the frame: the other way through the kernel
        c["coordinates"] = np.random.default_rng(1).uniform(0, 10, (n, 3)).astype(dtype)
    whole = kernels.project(c["coordinates"], weights(c), bins=(31, 40), **FRAME)
    for cuts in ([0, n], [0, 1, 255, 257, BLOCK - 1, BLOCK + 3, 2 * BLOCK, n - 1, n], [0, 0, n, n]):
        for threads in (1, 2, 3):
            part = by_segments(c, cuts, threads)
            assert part.maps.tobytes() == whole.maps.tobytes()
            assert part.ledger.sum_in_frame == whole.ledger.sum_in_frame
            assert part.ledger[:-1] == whole.ledger[:-1]
            assert part.ledger.sum_out_of_frame == ()


def test_frames_in_one_pass_have_the_bits_of_each_alone():
    n = 2 * BLOCK + 99
    c = cells(n)
    frames = [
        kernels.Frame(FRAME["center"], 1.0),
        kernels.Frame((1.0, 2.0, 9.0), (0.3, 0.6), 2.0, FRAME["rotation"]),
        kernels.Frame(FRAME["center"], 4.9),
    ]
    cuts = list(itertools.pairwise([0, 300, BLOCK + 5, n]))

    def shoot(frames, **options):
        pieces = ((c["coordinates"][a:b], weights(c, slice(a, b))) for a, b in cuts)
        return kernels.project_frames(pieces, frames, box_size=10.0, bins=16, **options)

    for options in ({"whole": True, "threads": 1}, {"threads": 3}):
        together = shoot(frames, **options)
        for frame, found in zip(frames, together, strict=True):
            (alone,) = shoot([frame], **options)
            assert found.maps.tobytes() == alone.maps.tobytes()
            assert found.ledger == alone.ledger
            assert found.ledger.n_in_frame > 100
            assert len(found.ledger.sum_out_of_frame) == (4 if "whole" in options else 0)


@given(st.data(), st.integers(0, 700), st.sampled_from([None, 1.0]))
def test_any_cuts_give_what_the_twin_gives(data, n, depth):
    c = cells(n, seed=n, dtype=data.draw(st.sampled_from([np.float32, np.float64])))
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=5))})
    found = by_segments(c, cuts, depth=depth)
    expected = reference.project(c["coordinates"], weights(c), bins=(31, 40), depth=depth, **FRAME)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-12, atol=1e-300)
    assert found.ledger[:5] == expected.ledger[:5]
    np.testing.assert_allclose(
        found.ledger.sum_in_frame, expected.ledger.sum_in_frame, rtol=1e-12, atol=1e-300
    )


def test_the_published_vectors_come_out_of_the_kernel():
    """The table of TNG_FORMAT section 6."""
    rows = [
        (3e4, 1.16, 1e-7, 1.0, 1.42392e6, 190.295),
        (3e4, 1.16, 1e-7, 0.909586, 1.42392e6, 157.440),
        (3e4, 1.16, 1e-7, 0.5, 1.42392e6, 47.5739),
        (250.0, 1e-4, 1e-3, 1.0, 24621.2, 3.63264),
    ]
    for u, xe, rho, a, temperature, entropy in rows:
        u, xe, rho = (np.array([value]) for value in (u, xe, rho))
        factors = units.thermal_factors(a, 0.6774)
        found = kernels.project(
            np.zeros((1, 3)),
            [kernels.Thermal(u, xe, factors), kernels.Thermal(u, xe, factors, rho)],
            center=(0, 0, 0), box_size=None, rotation=None, half_width=1.0, bins=1,
        ).ledger.sum_in_frame  # fmt: skip
        assert found == pytest.approx([temperature, entropy], rel=4e-6)


def test_weights_outside_the_frame_are_never_looked_at():
    c = cells(5000)
    inside = kernels.cull_box(
        c["coordinates"], FRAME["center"], FRAME["half_width"],
        box_size=10.0, rotation=FRAME["rotation"],
    )  # fmt: skip
    assert 0 < len(inside) < 5000
    expected = by_segments(c, [0, 5000])
    for name in ("u", "xe", "rho", "m"):
        hidden = np.full_like(c[name], np.nan)
        hidden[inside] = c[name][inside]
        c[name] = hidden
    found = by_segments(c, [0, 5000])
    assert found.maps.tobytes() == expected.maps.tobytes()
    assert found.ledger == expected.ledger


def test_cells_without_electrons_have_no_entropy_and_are_counted():
    c = cells(300)
    c["coordinates"][:] = FRAME["center"]
    c["xe"][:7] = 0
    found = by_segments(c, [0, 300])
    assert found.ledger.n_bad_weight == (7, 0, 0, 7)
    assert np.isfinite(found.maps).all()


def test_segments_that_do_not_fit_are_errors():
    c = cells(10)

    def run(segments, columns=1):
        return kernels.project_segments(segments, columns=columns, bins=2, **FRAME)

    with pytest.raises(ShapeError, match="weights"):
        run([(c["coordinates"], [c["m"], c["m"]])])
    with pytest.raises(ShapeError, match=r"weights\[0\].internal_energy"):
        run([(c["coordinates"], [kernels.Thermal(c["u"][:9], c["xe"], FACTORS)])])
    with pytest.raises(DTypeError, match=r"weights\[0\].density"):
        run([(c["coordinates"], [kernels.Thermal(c["u"], c["xe"], FACTORS, "rho")])])
    with pytest.raises(ShapeError, match="factors"):
        run([(c["coordinates"], [kernels.Thermal(c["u"], c["xe"], FACTORS[:3])])])
    assert run([]).ledger.n_read == 0
    assert run(iter(()), columns=3).maps.shape == (3, 2, 2)


def test_an_error_of_the_source_comes_through():
    def broken():
        yield cells(10)["coordinates"], [np.ones(10)]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        kernels.project_segments(broken(), columns=1, bins=2, **FRAME)


@pytest.mark.parametrize("of_electrons", [True, False])
@pytest.mark.parametrize("field", ["u", "xe", "rho"])
def test_negative_fields_have_no_temperature_or_entropy(field, of_electrons):
    """The root of a squared density hid its sign: cells were summed with their absolute value."""
    n = 600
    c = cells(n, seed=4)
    c["coordinates"][:] = FRAME["center"]
    bad = np.arange(n) % 7 == 3
    c[field][bad] *= -1

    def ledger(c):
        made = [
            kernels.Thermal(c["u"], c["xe"], FACTORS, c["rho"], of_electrons=of_electrons),
            kernels.Thermal(c["u"], c["xe"], FACTORS),
        ]
        return kernels.project(c["coordinates"], made, bins=4, **FRAME).ledger

    good = ledger({name: values[~bad] for name, values in c.items()})
    found = ledger(c)
    is_in_t = field != "rho"
    assert found.n_bad_weight == (bad.sum(), bad.sum() if is_in_t else 0)
    np.testing.assert_allclose(found.sum_in_frame[0], good.sum_in_frame[0], rtol=1e-12)
    if is_in_t:
        np.testing.assert_allclose(found.sum_in_frame[1], good.sum_in_frame[1], rtol=1e-12)
