"""Physical constants and the conversions from TNG code units, each number once.

Code units of IllustrisTNG (Nelson et al. 2019, Comput. Astrophys. Cosmol. 6, 2): lengths in
comoving kpc/h [ckpc/h], masses in 1e10 Msun/h, particle velocities in km sqrt(a)/s, internal
energy per mass in (km/s)^2. No other module holds a conversion factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sfr.arrays import real

__all__ = [
    "ADIABATIC_INDEX",
    "BOLTZMANN_CGS",
    "DIMENSIONLESS",
    "FIELD_UNITS",
    "GYR_IN_S",
    "HYDROGEN_FRACTION",
    "KEV_IN_ERG",
    "MPC_IN_CM",
    "PROTON_MASS_G",
    "UNIT_ENERGY_PER_MASS_CGS",
    "UNIT_LENGTH_CM",
    "UNIT_MASS_G",
    "UNIT_MASS_MSUN",
    "UNIT_VELOCITY_CM_S",
    "FieldUnit",
    "density_cgs",
    "electron_density_cgs",
    "entropy_kev_cm2",
    "length_kpc",
    "magnetic_field_gauss",
    "mass_msun",
    "mean_molecular_weight",
    "scale_factor_age_gyr",
    "scale_factor_at_age",
    "temperature_k",
    "thermal_factors",
]

#: Boltzmann constant [erg/K] (SI 2019, exact).
BOLTZMANN_CGS: Final = 1.380649e-16
#: Proton mass [g] (CODATA 2018).
PROTON_MASS_G: Final = 1.67262192e-24
#: One keV [erg] (SI 2019, exact).
KEV_IN_ERG: Final = 1.602176634e-9
#: Code length, ckpc/h, at a = h = 1 [cm] (TNG header, UnitLength_in_cm).
UNIT_LENGTH_CM: Final = 3.085678e21
#: Code mass, 1e10 Msun/h, at h = 1 [g] (TNG header, UnitMass_in_g).
UNIT_MASS_G: Final = 1.989e43
#: Code mass at h = 1 [Msun].
UNIT_MASS_MSUN: Final = 1e10
#: Code velocity, km/s [cm/s] (TNG header, UnitVelocity_in_cm_per_s).
UNIT_VELOCITY_CM_S: Final = 1e5
#: Code energy per mass, (km/s)^2 [cm^2/s^2].
UNIT_ENERGY_PER_MASS_CGS: Final = 1e10
#: Primordial hydrogen mass fraction, the constant value that the TNG team uses.
HYDROGEN_FRACTION: Final = 0.76
#: Adiabatic index of a monatomic gas.
ADIABATIC_INDEX: Final = 5.0 / 3.0
#: One Gyr (Julian) [s].
GYR_IN_S: Final = 3.15576e16
#: One Mpc [cm].
MPC_IN_CM: Final = UNIT_LENGTH_CM * 1e3

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class FieldUnit:
    """Unit of a TNG field, as attributes of its dataset state it.

    Physical cgs value = value * to_cgs * a**a * h**h, with to_cgs made of the code units raised to
    ``exponents``; to_cgs = 0 stands for a field without a dimension.
    """

    text: str
    a: float
    h: float
    #: Powers of the code units of length, mass and velocity.
    exponents: tuple[float, float, float]
    to_cgs: float

    def attributes(self) -> dict[str, float]:
        """Give the attributes and their values, in the order of TNG's writer."""
        length, mass, velocity = self.exponents
        return {
            "a_scaling": self.a,
            "h_scaling": self.h,
            "length_scaling": length,
            "mass_scaling": mass,
            "velocity_scaling": velocity,
            "to_cgs": self.to_cgs,
        }


DIMENSIONLESS: Final = FieldUnit("no dimension", 0.0, 0.0, (0.0, 0.0, 0.0), 0.0)
_LENGTHS = FieldUnit("ckpc/h", 1.0, -1.0, (1.0, 0.0, 0.0), UNIT_LENGTH_CM)
_MASSES = FieldUnit("1e10 Msun/h", 0.0, -1.0, (0.0, 1.0, 0.0), UNIT_MASS_G)
_ENERGIES = FieldUnit("(km/s)^2", 0.0, 0.0, (0.0, 0.0, 2.0), UNIT_ENERGY_PER_MASS_CGS)
_RATES = FieldUnit("Msun/yr", 0.0, 0.0, (-1.0, 1.0, 1.0), 6.302760666210359e25)
#: Units of the fields that are read, and of some that stand beside them in every snapshot.
FIELD_UNITS: Final[dict[str, FieldUnit]] = {
    "Coordinates": _LENGTHS,
    "Velocities": FieldUnit("km sqrt(a)/s", 0.5, 0.0, (0.0, 0.0, 1.0), UNIT_VELOCITY_CM_S),
    "Masses": _MASSES,
    "GFM_InitialMass": _MASSES,
    "BH_Mass": _MASSES,
    "Density": FieldUnit(
        "(1e10 Msun/h)/(ckpc/h)^3", -3.0, 2.0, (-3.0, 1.0, 0.0), 6.769911178294544e-22
    ),
    "InternalEnergy": _ENERGIES,
    "InternalEnergyOld": _ENERGIES,
    "Potential": FieldUnit("(km/s)^2/a", -1.0, 0.0, (0.0, 0.0, 2.0), UNIT_ENERGY_PER_MASS_CGS),
    "StarFormationRate": _RATES,
    "MagneticField": FieldUnit(
        "(h/a^2) UnitPressure^(1/2)",
        -2.0,
        1.0,
        (-1.5, 0.5, 1.0),
        (UNIT_MASS_G / UNIT_LENGTH_CM**3 * UNIT_ENERGY_PER_MASS_CGS) ** 0.5,
    ),
    "ElectronAbundance": DIMENSIONLESS,
    "GFM_Metallicity": DIMENSIONLESS,
    "GFM_StellarFormationTime": DIMENSIONLESS,
    "SubhaloPos": _LENGTHS,
    "SubhaloHalfmassRadType": _LENGTHS,
    "SubhaloMass": _MASSES,
    "SubhaloMassType": _MASSES,
    "SubhaloSFR": _RATES,
    "SubhaloVel": FieldUnit("km/s", 0.0, 0.0, (0.0, 0.0, 1.0), UNIT_VELOCITY_CM_S),
    "GroupMass": _MASSES,
}


def mass_msun(mass_code: FloatArray | float, hubble_param: float) -> NDArray[np.float64]:
    """Convert masses from code units to solar masses.

    Parameters
    ----------
    mass_code : array_like of float
        Masses [1e10 Msun/h].
    hubble_param : float
        h of the simulation's header.

    Returns
    -------
    ndarray of float64
        Masses [Msun].
    """
    return real(mass_code, "mass_code") * (UNIT_MASS_MSUN / hubble_param)


def length_kpc(
    length_code: FloatArray | float, scale_factor: float, hubble_param: float
) -> NDArray[np.float64]:
    """Convert lengths from code units to physical kpc.

    Parameters
    ----------
    length_code : array_like of float
        Lengths [ckpc/h].
    scale_factor, hubble_param : float
        a and h of the snapshot's header.

    Returns
    -------
    ndarray of float64
        Lengths [kpc].
    """
    return real(length_code, "length_code") * (scale_factor / hubble_param)


def _not_negative(values: FloatArray | float, name: str) -> NDArray[np.float64]:
    """Give numbers that cannot be negative, NaN where they are: a damaged cell has no value."""
    found = real(values, name)
    return np.where(found >= 0, found, np.nan)


def mean_molecular_weight(electron_abundance: FloatArray | float) -> NDArray[np.float64]:
    """Mean mass per gas particle in units of the proton mass.

    mu = 4 / (1 + 3 X_H + 4 X_H x_e).

    Parameters
    ----------
    electron_abundance : array_like of float
        x_e = n_e / n_H [-].

    Returns
    -------
    ndarray of float64
        mu [-]; NaN where x_e is negative.
    """
    x_e = _not_negative(electron_abundance, "electron_abundance")
    return 4.0 / (1.0 + 3.0 * HYDROGEN_FRACTION + 4.0 * HYDROGEN_FRACTION * x_e)


def temperature_k(
    internal_energy: FloatArray | float, electron_abundance: FloatArray | float
) -> NDArray[np.float64]:
    """Gas temperature from internal energy and electron abundance.

    T = (gamma - 1) u (UE/UM) mu m_p / k_B.

    Parameters
    ----------
    internal_energy : array_like of float
        u [(km/s)^2].
    electron_abundance : array_like of float
        x_e = n_e / n_H [-].

    Returns
    -------
    ndarray of float64
        Temperature [K]; effective, not physical, for star-forming cells; NaN where u or x_e is
        negative.
    """
    factor = (ADIABATIC_INDEX - 1.0) * UNIT_ENERGY_PER_MASS_CGS * PROTON_MASS_G / BOLTZMANN_CGS
    u = _not_negative(internal_energy, "internal_energy")
    return factor * u * mean_molecular_weight(electron_abundance)


def density_cgs(
    density_code: FloatArray | float, scale_factor: float, hubble_param: float
) -> NDArray[np.float64]:
    """Convert densities from code units to physical g/cm^3.

    Parameters
    ----------
    density_code : array_like of float
        Densities [(1e10 Msun/h) / (ckpc/h)^3].
    scale_factor, hubble_param : float
        a and h of the snapshot's header.

    Returns
    -------
    ndarray of float64
        Densities [g/cm^3]; NaN where negative.
    """
    factor = hubble_param**2 / scale_factor**3 * (UNIT_MASS_G / UNIT_LENGTH_CM**3)
    return _not_negative(density_code, "density_code") * factor


def electron_density_cgs(
    density_code: FloatArray | float,
    electron_abundance: FloatArray | float,
    scale_factor: float,
    hubble_param: float,
) -> NDArray[np.float64]:
    """Physical electron number density, n_e = x_e X_H rho / m_p.

    Parameters
    ----------
    density_code : array_like of float
        Densities [(1e10 Msun/h) / (ckpc/h)^3].
    electron_abundance : array_like of float
        x_e = n_e / n_H [-].
    scale_factor, hubble_param : float
        a and h of the snapshot's header.

    Returns
    -------
    ndarray of float64
        n_e [cm^-3]; NaN where rho or x_e is negative.
    """
    n_h = density_cgs(density_code, scale_factor, hubble_param) * (
        HYDROGEN_FRACTION / PROTON_MASS_G
    )
    return _not_negative(electron_abundance, "electron_abundance") * n_h


def entropy_kev_cm2(
    temperature: FloatArray | float, electron_density: FloatArray | float
) -> NDArray[np.float64]:
    """Gas entropy K = k_B T / n_e^(2/3).

    Parameters
    ----------
    temperature : array_like of float
        T [K].
    electron_density : array_like of float
        n_e [cm^-3].

    Returns
    -------
    ndarray of float64
        K [keV cm^2]; infinite where n_e = 0, NaN where T or n_e is negative.
    """
    t = _not_negative(temperature, "temperature")
    n_e = _not_negative(electron_density, "electron_density")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((BOLTZMANN_CGS / KEV_IN_ERG) * t / np.cbrt(n_e) ** 2)


def thermal_factors(
    scale_factor: float, hubble_param: float
) -> tuple[float, float, float, float, float, float]:
    """Give the numbers of `temperature_k`, `electron_density_cgs` and `entropy_kev_cm2`.

    For code that computes ``T = heat u (top / (low + slope x_e))`` [K] and
    ``K = entropic T (dense rho x_e)^(-2/3)`` [keV cm^2] itself.

    Parameters
    ----------
    scale_factor, hubble_param : float
        a and h of the snapshot's header.

    Returns
    -------
    tuple of float
        heat [K / (km/s)^2], top, low, slope [-], dense [cm^-3 / code density],
        entropic [keV cm^2 / (K cm^2)].
    """
    return (
        (ADIABATIC_INDEX - 1.0) * UNIT_ENERGY_PER_MASS_CGS * PROTON_MASS_G / BOLTZMANN_CGS,
        4.0,
        1.0 + 3.0 * HYDROGEN_FRACTION,
        4.0 * HYDROGEN_FRACTION,
        float(electron_density_cgs(1.0, 1.0, scale_factor, hubble_param)),
        BOLTZMANN_CGS / KEV_IN_ERG,
    )


def magnetic_field_gauss(
    magnetic_field_code: FloatArray | float, scale_factor: float, hubble_param: float
) -> NDArray[np.float64]:
    """Convert magnetic field strengths from code units to physical Gauss.

    B = B_code h / a^2 sqrt(UnitPressure), UnitPressure = UnitMass / UnitLength^3 (km/s)^2.

    Parameters
    ----------
    magnetic_field_code : array_like of float
        Field strengths [(h/a^2) UnitPressure^(1/2)].
    scale_factor, hubble_param : float
        a and h of the snapshot's header.

    Returns
    -------
    ndarray of float64
        Field strengths [G].
    """
    unit_pressure = UNIT_MASS_G / UNIT_LENGTH_CM**3 * UNIT_ENERGY_PER_MASS_CGS
    factor = float(hubble_param / scale_factor**2 * np.sqrt(unit_pressure))
    return real(magnetic_field_code, "magnetic_field_code") * factor


def scale_factor_age_gyr(
    scale_factor: FloatArray | float, *, omega0: float, omega_lambda: float, hubble_param: float
) -> NDArray[np.float64]:
    """Age of a flat LCDM universe at a scale factor.

    t(a) = 2 / (3 H0 sqrt(Omega_L)) asinh(sqrt(Omega_L / Omega_m) a^(3/2)); radiation is left out,
    as in the simulation.

    Parameters
    ----------
    scale_factor : array_like of float
        a [-], 0 or more.
    omega0, omega_lambda, hubble_param : float
        Omega_m, Omega_Lambda and h of the simulation's header.

    Returns
    -------
    ndarray of float64
        Age [Gyr].
    """
    hubble_per_gyr = hubble_param * 100.0 * 1e5 / MPC_IN_CM * GYR_IN_S
    a = real(scale_factor, "scale_factor")
    argument = np.sqrt(omega_lambda / omega0) * a**1.5
    scale_gyr = 2.0 / (3.0 * hubble_per_gyr * np.sqrt(omega_lambda))
    return np.asarray(scale_gyr * np.arcsinh(argument))


def scale_factor_at_age(
    age_gyr: float, *, omega0: float, omega_lambda: float, hubble_param: float
) -> float:
    """Scale factor of a flat LCDM universe at an age, the inverse of `scale_factor_age_gyr`.

    Parameters
    ----------
    age_gyr : float
        Age [Gyr].
    omega0, omega_lambda, hubble_param : float
        Omega_m, Omega_Lambda and h of the simulation's header.

    Returns
    -------
    float
        a [-]; 0 for ages before the beginning.
    """
    hubble_per_gyr = hubble_param * 100.0 * 1e5 / MPC_IN_CM * GYR_IN_S
    argument = 1.5 * hubble_per_gyr * np.sqrt(omega_lambda) * max(age_gyr, 0.0)
    return float((np.sqrt(omega0 / omega_lambda) * np.sinh(argument)) ** (2.0 / 3.0))
