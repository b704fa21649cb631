"""Times of the TNG snapshots, and the cosmology of TNG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr import units
from sfr.errors import RangeError

__all__ = ["HUBBLE_PARAM", "OMEGA0", "OMEGA_BARYON", "OMEGA_LAMBDA", "Epoch", "epoch", "formation"]

OMEGA0: Final = 0.3089
OMEGA_LAMBDA: Final = 0.6911
OMEGA_BARYON: Final = 0.0486
HUBBLE_PARAM: Final = 0.6774

#: Redshifts of TNG snapshots; those between follow by interpolation in ln(1 + z).
_REDSHIFTS: Final = {
    0: 20.046490988807516,
    1: 14.989173240042412,
    2: 11.980213315300293,
    4: 9.996590466186332,
    8: 8.012172948865935,
    13: 6.010757059018128,
    17: 4.995933468164624,
    21: 4.007945111465268,
    25: 3.008131071630377,
    33: 2.002028143036321,
    40: 1.495512166936573,
    50: 0.997294225782297,
    59: 0.700106353718523,
    67: 0.503047523244883,
    72: 0.401785148227062,
    78: 0.297717684517447,
    84: 0.197284182375765,
    89: 0.125759332411,
    90: 0.109869940459,
    91: 0.099401802630,
    92: 0.083884430797,
    93: 0.073661384656,
    94: 0.058507322795,
    95: 0.048523629982,
    96: 0.033724371874,
    97: 0.023974428383,
    98: 0.009521666968,
    99: 2.220446049250313e-16,
}


@dataclass(frozen=True)
class Epoch:
    """Time of one snapshot."""

    snap: int
    redshift: float
    scale_factor: float
    age_gyr: float


def epoch(snap: int) -> Epoch:
    """Time of a TNG snapshot.

    Raises
    ------
    RangeError
        The number is not one of 0 to 99.
    """
    if not 0 <= snap <= 99:
        raise RangeError(f"snap is {snap}; IllustrisTNG has snapshots 0 to 99")
    if snap in _REDSHIFTS:
        redshift = _REDSHIFTS[snap]
    else:
        known = np.log1p(np.array(list(_REDSHIFTS.values())))
        redshift = float(np.expm1(np.interp(snap, np.array(list(_REDSHIFTS)), known)))
    scale_factor = 1.0 / (1.0 + redshift)
    return Epoch(snap, redshift, scale_factor, float(_age_gyr(scale_factor)))


def formation(age_gyr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale factor at which the universe had an age [Gyr]."""
    root = np.sqrt(OMEGA_LAMBDA / OMEGA0)
    time = _age_gyr(1.0) / np.arcsinh(root)
    return np.asarray((np.sinh(age_gyr / time) / root) ** (2.0 / 3.0))


def _age_gyr(scale_factor: float) -> NDArray[np.float64]:
    return units.scale_factor_age_gyr(
        scale_factor, omega0=OMEGA0, omega_lambda=OMEGA_LAMBDA, hubble_param=HUBBLE_PARAM
    )
