"""Fits of users' images: any size and brightness, a number only where it means something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sfr.errors import ConfigError
from sfr.progress import Progress, silent
from sfr.semantic.code import LARGEST_E
from sfr.semantic.files import UserImage
from sfr.semantic.fisher import UNIFORM_ANGLE_DEG
from sfr.semantic.profile import NAMES, PITCH, PIXELS, Frame, render
from sfr.semantic.refine import Residual, gauss_newton, residuals
from sfr.semantic.trained import Encoder

__all__ = ["FATAL_FLAGS", "FLAGS", "Fit", "FitOptions", "fit_image", "fit_images"]

Floats = NDArray[np.float64]

#: What each flag means; with one of the first kind there are no numbers.
FATAL_FLAGS: Final = {
    "unreadable": "the file cannot be read",
    "not_an_image": "not two axes of real numbers",
    "empty": "no pixels",
    "too_small": "fewer than 16 pixels a side",
    "too_large": "more than 4096 pixels a side",
    "psf_too_wide": "the PSF is wider than a quarter of the image",
    "nan_pixels": "a pixel is NaN or infinite",
    "all_zero": "every pixel is 0",
    "constant": "every pixel has the same value",
    "no_galaxy": "nothing stands out of the noise near the centre",
    "failed": "the fit ran away",
}
FLAGS: Final = {
    **FATAL_FLAGS,
    "cropped": "not square: the central square was taken",
    "resampled": "not 64 x 64: averaged or interpolated; the scale is carried through",
    "several_sources": "a second source stands out of the residual",
    "off_centre": "the galaxy lies more than 4 of 64 pixels from the centre",
    "poor_fit": "the residual is more than noise",
    "background": "a constant stands out of the residual: --subtract-background fits it, too (or "
    "the profile is another one)",
    "not_converged": "another step would move the fit by more than a tenth of its errors: give "
    "more --steps",
    "at_bound": "a parameter ended at the edge of what can be fitted",
    "round": "e is 0 within two of its errors, so the angle means little",
    "outside_training": "outside the ranges that the encoder was trained on",
}

_SMALLEST, _LARGEST = 16, 4096
#: Rescalings to the brightness of the training.
_RESCALINGS: Final = 3
_OFF_CENTRE: Final = 4
#: Smoothed peak over its noise that counts as a galaxy, and as a second source in a residual.
_GALAXY, _SOURCE = 8.0, 6.0
#: A second source holds at least this part of the peak of the galaxy, and lies so far away [px].
_SOURCE_PART, _SOURCE_DISTANCE = 0.1, 4.0
_SMOOTHING: Final = 1.5
#: Residual over noise above which the model is not the galaxy.
_POOR: Final = 1.15
#: Smallest scatter of a residual that counts, in parts of the amplitude.
_POOR_PART: Final = 1e-3
_UNCONVERGED: Final = 0.1
#: Constant over its error above which there is a background.
_BACKGROUND: Final = 4.0
#: Amplitudes that a network that knows only 1 takes for it.
_SAME_AMPLITUDE: Final = 0.05
#: Widths of PSFs that a network cannot tell apart [of 64 pixels].
_SAME_PSF: Final = 0.2
#: Brightest pixels of images that may be taken to have an amplitude of 1.
_LIKE_ONE: Final = (0.3, 3.0)
#: Least brightness of a centre that images are scaled by, in parts of the brightest pixel.
_FAINTEST: Final = 1e-3


@dataclass(frozen=True)
class FitOptions:
    """What is fitted to users' images.

    Attributes
    ----------
    steps : int
        Gauss-Newton steps; 0: the network alone.
    fixed_centre : bool
        The galaxy's centre is the middle of the image; else it is fitted.
    sersic : bool
        Fit n, too; else it is 1 (exponential), unless the encoder's problem has it free.
    psf_fwhm : float
        Gaussian point spread function [pixel of the image]; 0: none.
    subtract_background : bool
        Take the median of the outermost pixels off first; the steps then fit what is left of a
        constant, because that median holds light of the galaxy.
    """

    steps: int = 8
    fixed_centre: bool = False
    sersic: bool = False
    psf_fwhm: float = 0.0
    subtract_background: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 100:
            raise ConfigError(f"steps = {self.steps}; give 0 to 100")
        if not 0 <= self.psf_fwhm < np.inf:
            raise ConfigError(f"psf = {self.psf_fwhm} is no width in pixels")


@dataclass(frozen=True)
class Fit:
    """The fit of one image.

    Attributes
    ----------
    file, label : str
        As in `UserImage`.
    values, errors : dict of str to float
        ``A`` [pixel of the image], ``e``, ``theta`` [deg], ``x``, ``y`` [pixel of the image, 0 at
        the centre of the first one, y upwards], ``amplitude`` [unit of the image], ``n``; empty
        with a fatal flag. An error of 0: not fitted.
    noise : float
        Scatter of the residual, as noise of one pixel of the image [unit of the image].
    background : float
        The constant that was taken off [unit of the image]; 0: not asked for.
    flags : tuple of str
        Keys of `FLAGS`; ``outside_training`` and ``at_bound`` name parameters after a colon.
    reason : str
        Why a file could not be read.
    data, model : ndarray of float64, shape (64, 64), or None
        What was fitted [unit of the image].
    """

    file: str
    label: str
    values: dict[str, float]
    errors: dict[str, float]
    noise: float
    background: float
    flags: tuple[str, ...]
    reason: str = ""
    data: Floats | None = None
    model: Floats | None = None

    @property
    def has_numbers(self) -> bool:
        """Whether parameters were found."""
        return bool(self.values)

    def row(self) -> dict[str, Any]:
        """Return its row of the table; what there is none of is NaN."""
        row: dict[str, Any] = {"file": self.file, "image": self.label}
        for name in NAMES:
            row[_column(name)] = self.values.get(name, np.nan)
            row[f"{_column(name)}_error"] = self.errors.get(name, np.nan)
        rest = {"noise": self.noise, "background": self.background}
        return {**row, **rest, "flags": " ".join(self.flags), "reason": self.reason}


def _column(name: str) -> str:
    return {"A": "A_px", "theta": "theta_deg", "x": "x_px", "y": "y_px"}.get(name, name)


def fit_images(
    encoder: Encoder,
    images: Iterable[UserImage],
    options: FitOptions = FitOptions(),
    *,
    total: int = 0,
    on_progress: Progress = silent,
) -> list[Fit]:
    """Fit images one after the other; what is wrong with one does not stop the others."""
    fits = []
    for image in images:
        fits.append(fit_image(encoder, image, options))
        on_progress("fitting", len(fits), max(total, len(fits)))
    return fits


def fit_image(encoder: Encoder, image: UserImage, options: FitOptions) -> Fit:
    """Fit one image.

    The image becomes 64 x 64 (its noise is that of the averaged pixels), is scaled to the
    brightness of the training, and shifted by whole pixels to the centre for the network's
    estimate; Gauss-Newton steps then fit the profile, rendered on the pixels of the user's image
    and averaged like them, to the image where it is.

    Parameters
    ----------
    encoder : Encoder
        A trained encoder.
    image : UserImage
        The image.
    options : FitOptions
        What is fitted.

    Returns
    -------
    Fit
        Numbers, or flags that say why there are none.

    Raises
    ------
    ConfigError
        The options ask for what this encoder alone does not measure.
    """
    if options.sersic and options.steps == 0 and "n" not in encoder.training.problem.free:
        raise ConfigError(
            f"the Sersic index is not among what {encoder.training.name} measures alone; give "
            "steps, or an encoder of problem 'free'"
        )
    fatal = _fatal_flag(image, options)
    if fatal:
        return Fit(image.file, image.label, {}, {}, np.nan, np.nan, (fatal,), image.problem)
    return _OneFit(encoder, image, options).fit()


def _fatal_flag(image: UserImage, options: FitOptions) -> str:
    """Return why an image cannot be fitted at all; empty where it can."""
    array = image.array
    if array is None:
        return "unreadable"
    if array.size == 0:
        return "empty"
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        return "not_an_image"
    if min(array.shape) < _SMALLEST:
        return "too_small"
    if max(array.shape) > _LARGEST:
        return "too_large"
    if not np.isfinite(array).all():
        return "nan_pixels"
    if not array.any():
        return "all_zero"
    if (array == array.flat[0]).all():
        return "constant"
    return "psf_too_wide" if options.psf_fwhm > min(array.shape) / 4 else ""


class _OneFit:
    """The fit of one usable image, step by step."""

    def __init__(self, encoder: Encoder, image: UserImage, options: FitOptions) -> None:
        assert image.array is not None
        self.encoder, self.image, self.options = encoder, image, options
        self.flags: list[str] = []
        native = np.asarray(image.array, np.float64)
        self.corner = np.zeros(2)
        if native.shape[0] != native.shape[1]:
            native, self.corner = _central_square(native)
            self.flags.append("cropped")
        self.sky = _border_median(native) if options.subtract_background else 0.0
        native = native - self.sky
        self.size = len(native)
        #: Pixels of the image in one of 64.
        self.zoom = self.size / PIXELS
        self.frame = Frame(options.psf_fwhm, self.size)
        if self.size != PIXELS:
            self.flags.append("resampled")
        # images brighter than float32 can square must not overflow
        self.unit = float(np.abs(native).max()) or 1.0
        self.data = self.frame.averaged(native / self.unit)
        share = self.frame.noise_share
        self.scatter = _pixel_noise(native / self.unit) * share
        #: Neighbours that share pixels of the image share their noise, so that whatever is larger
        #: than a pixel is this much less certain than the scatter of pixels says.
        self.correlation = 1 / (self.zoom * share)
        problem = encoder.training.problem
        free = set(problem.free)
        if options.steps > 0:
            free |= {"amplitude", "x", "y"} | ({"n"} if options.sersic else set())
        if options.fixed_centre:
            free -= {"x", "y"}
        self.free = tuple(name for name in NAMES if name in free)
        self.level = options.subtract_background and options.steps > 0

    def fit(self) -> Fit:
        peak = self._peak()
        if peak is None:
            return self._without("no_galaxy")
        start, brightness = self._estimate(peak)
        data = (self.data / brightness).astype(np.float32)[np.newaxis]
        found = start[np.newaxis]
        if self.options.steps > 0:
            found = gauss_newton(
                data, found, self.frame, self.free, steps=self.options.steps, level=self.level
            )
        if not np.isfinite(found).all():
            return self._without("failed")
        left = residuals(data, found, self.frame, self.free, level=self.level)
        distance = float(np.hypot(*(found[0, 3:5] / PITCH)))
        if distance > PIXELS / 2 or not np.isfinite(left.error[0, [0, 1]]).all():
            return self._without("failed")
        model = np.asarray(render(found, self.frame, np.float64)[0])
        if self.level:
            model += left.level[0]
        self._look_at(found[0], left, data[0] - model, self.scatter / brightness)
        return self._in_units(found[0], left, model, brightness)

    def _without(self, flag: str) -> Fit:
        return Fit(
            self.image.file,
            self.image.label,
            {},
            {},
            np.nan,
            np.nan,
            (flag, *self.flags),
            data=self.data * self.unit,
        )

    def _peak(self) -> NDArray[np.int64] | None:
        """Find the brightest place (y, x) of the smoothed image; None where it is noise."""
        smooth = _smooth(self.data)
        if self.options.fixed_centre:
            middle = PIXELS // 2
            near = smooth[middle - 4 : middle + 4, middle - 4 : middle + 4]
            value, place = float(near.max()), np.array([middle, middle])
        else:
            place = np.array(np.unravel_index(int(smooth.argmax()), smooth.shape))
            value = float(smooth.max())
        noise = self._smoothed(self.scatter)
        above = value - float(np.median(smooth))
        return place if value > 0 and above > _GALAXY * noise else None

    def _estimate(self, peak: NDArray[np.int64]) -> tuple[Floats, float]:
        """Estimate by the network on the shifted, rescaled image; return it and the scale."""
        shift = np.zeros(2, np.int64) if self.options.fixed_centre else peak - PIXELS // 2
        # half a pixel is lost between the middle of the frame and a pixel
        shift = np.where(np.abs(shift) <= 1, 0, shift)
        if np.abs(shift).max() > _OFF_CENTRE:
            self.flags.append("off_centre")
        data = np.roll(self.data, tuple(-shift), axis=(0, 1))
        middle = PIXELS // 2
        network, problem = self.encoder, self.encoder.training.problem
        if "amplitude" in problem.free or not _LIKE_ONE[0] < self.unit < _LIKE_ONE[1]:
            core = data[middle - 2 : middle + 2, middle - 2 : middle + 2]
            brightness = 1.5 * max(float(core.max()), _FAINTEST)
        else:
            # the encoder knows amplitudes of 1 only, and the image may well have one
            brightness = 1 / self.unit
        found = network.estimate((data / brightness).astype(np.float32)[np.newaxis])[0]
        if "amplitude" in problem.free:
            low, high = problem.ranges["amplitude"]
            for _ in range(_RESCALINGS):
                if low <= found[5] <= high:
                    break
                brightness *= float(np.clip(found[5], 0.2, 5.0))
                scaled = (data / brightness).astype(np.float32)[np.newaxis]
                found = network.estimate(scaled)[0]
        if self.options.fixed_centre:
            found[3:5] = 0
        else:
            # 0 where the network does not know the centre
            found[3:5] += shift[::-1] * PITCH
        return found, brightness

    # -- what the fit is worth -----------------------------------------------------------------

    def _look_at(self, found: Floats, left: Residual, residual: Floats, scatter: float) -> None:
        """Add the flags of a finished fit."""
        error = dict(zip(self.free, left.error[0], strict=True))
        if self._has_second_source(found, residual, scatter):
            self.flags.append("several_sources")
        if self._is_poor(found, left, residual, scatter):
            self.flags.append("poor_fit")
        # without noise there is nothing to measure a step by but the rounding of float32
        noisy = left.rms[0] / max(left.rms[0], _POOR_PART * found[5])
        if self.options.steps > 0 and left.next_step[0] * noisy > _UNCONVERGED:
            self.flags.append("not_converged")
        certain = left.level_error[0] * self.correlation
        if not self.level and abs(left.level[0]) * noisy > _BACKGROUND * certain:
            self.flags.append("background")
        if found[1] >= LARGEST_E - 1e-3:
            self.flags.append("at_bound:e")
        if found[1] < 2 * error["e"]:
            self.flags.append("round")
        outside = self._outside(found, left, residual)
        self.flags += [f"outside_training:{name}" for name in outside]

    def _outside(self, found: Floats, left: Residual, residual: Floats) -> list[str]:
        ranges = dict(self.encoder.training.problem.ranges)
        outside = [
            name
            for name, (low, high) in ranges.items()
            if name not in ("theta", "x", "y", "amplitude")
            and not low <= found[NAMES.index(name)] <= high
        ]
        if left.rms[0] > 1.2 * self.encoder.training.problem.noise[1] * found[5]:
            outside.append("noise")
        # steps have the right PSF and fit the amplitude in any case
        if self.options.steps > 0:
            return outside
        wrong = self.frame.psf_fwhm / self.zoom - self.encoder.training.problem.frame.psf_fwhm
        if abs(wrong) > _SAME_PSF:
            outside.append("psf")
        model = render(found[np.newaxis], self.frame, np.float64)[0]
        if "amplitude" not in ranges and abs((residual * model).sum()) > _SAME_AMPLITUDE * (
            (model**2).sum()
        ):
            outside.append("amplitude")
        return outside

    def _smoothed(self, scatter: float) -> float:
        """Return the noise of a smoothed image."""
        return float(scatter * self.correlation / (2 * np.sqrt(np.pi) * _SMOOTHING))

    def _is_poor(self, found: Floats, left: Residual, residual: Floats, scatter: float) -> bool:
        """Whether the residual has more scatter than the noise, or a structure somewhere."""
        smallest = max(scatter, _POOR_PART * found[5])
        structure = np.abs(_smooth(residual)).max()
        return bool(
            left.rms[0] > _POOR * smallest or structure > _SOURCE * self._smoothed(smallest)
        )

    def _has_second_source(self, found: Floats, residual: Floats, scatter: float) -> bool:
        smooth = _smooth(residual)
        noise = self._smoothed(scatter)
        model_peak = float(_smooth(render(found[np.newaxis], self.frame, np.float64)[0]).max())
        axis = np.arange(PIXELS) - (PIXELS - 1) / 2
        x, y = axis[np.newaxis] - found[3] / PITCH, axis[:, np.newaxis] - found[4] / PITCH
        beyond = np.hypot(x, y) > _SOURCE_DISTANCE
        highest = float(smooth[beyond].max(initial=0.0))
        return bool(highest > max(_SOURCE * noise, _SOURCE_PART * model_peak))

    def _in_units(self, found: Floats, left: Residual, model: Floats, brightness: float) -> Fit:
        """Return the result in pixels and units of the user's image."""
        pixel, light = self.zoom / PITCH, brightness * self.unit
        centre = (self.size - 1) / 2
        factor = {"A": pixel, "x": pixel, "y": pixel, "amplitude": light}
        values = {
            name: float(value) * factor.get(name, 1.0)
            for name, value in zip(NAMES, found, strict=True)
        }
        values["x"] += centre + float(self.corner[1])
        values["y"] += centre + float(self.corner[0])
        error = dict(zip(self.free, (left.error[0] * self.correlation).tolist(), strict=True))
        known = self._calibration()
        errors = {
            name: error.get(name, 0.0) * known.get(name, 1.0) * factor.get(name, 1.0)
            for name in NAMES
        }
        errors["theta"] = float(np.fmin(errors["theta"], UNIFORM_ANGLE_DEG))
        return Fit(
            self.image.file,
            self.image.label,
            values,
            errors,
            float(left.rms[0]) * light / self.frame.noise_share,
            self.sky + float(left.level[0]) * light * self.level,
            tuple(self.flags),
            data=self.data * self.unit,
            model=model * light,
        )

    def _calibration(self) -> dict[str, float]:
        """Return what errors of the encoder's own free parameters are multiplied by.

        A fit that converged is that of least squares, whatever the network was it came from.
        """
        if self.options.steps > 0 and "not_converged" not in self.flags:
            return {}
        factors = self.encoder.calibration[min(self.options.steps, 2)]
        return dict(zip(self.encoder.training.problem.free, factors.tolist(), strict=True))


def _central_square(native: Floats) -> tuple[Floats, Floats]:
    side = min(native.shape)
    corner = [(length - side) // 2 for length in native.shape]
    square = native[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    return square, np.array(corner, np.float64)


def _border_median(native: Floats) -> float:
    width = max(1, len(native) // 16)
    inner = np.zeros(native.shape, bool)
    inner[width:-width, width:-width] = True
    return float(np.median(native[~inner]))


def _smooth(image: Floats) -> Floats:
    """Smooth; what is beyond the edges is 0, because mirrored noise would count twice."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(image, _SMOOTHING, mode="constant"))


def _pixel_noise(data: Floats) -> float:
    """Noise from second differences of pixels: what is smooth drops out.

    Counts are spread over their steps first: the median of a few values says little, and is 0 for
    most that are sparse. Noise below that of the rounding cannot be told.
    """
    step = float(np.diff(np.unique(data)).min(initial=1.0))
    data = data + np.random.default_rng(0).uniform(-step / 2, step / 2, data.shape)
    second = data[:-2, :-2] - 2 * data[1:-1, 1:-1] + data[2:, 2:]
    scatter = 1.4826 * np.median(np.abs(second - np.median(second))) / np.sqrt(6)
    rounding = step**2 / 12
    return float(np.sqrt(max(scatter**2 - rounding, rounding)))
