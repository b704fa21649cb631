"""The experiment as data: frozen dataclasses, read from TOML, checked once.

A recipe file may say ``extends = "thesis"`` (a built-in name or another file) and list only what
differs. Every field is a switch of the method; there are no other hidden settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sfr.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "Case",
    "CasesRecipe",
    "Channel",
    "ImageRecipe",
    "MapsRecipe",
    "NormalisationRecipe",
    "OrientationRecipe",
    "Recipe",
    "SampleRecipe",
    "SplitRecipe",
    "TrainRecipe",
    "load_recipe",
    "parse_case",
    "published_cases",
]

#: Names of the recipes that come with the package.
BUILT_IN = ("thesis", "corrected", "demo")

_COMPOSITE = "composite"
_SCALED = re.compile(r"(gauss|structure)(\d+(?:\.\d+)?)", re.ASCII)
_SCALES = ("gauss3", "gauss5", "gauss10", "structure3", "structure5", "structure10")


@dataclass(frozen=True)
class Case:
    """What the name of a version of the images means."""

    family: Literal["composite", "channel", "gauss", "structure"]
    #: Place of the one channel that is kept, among those of the recipe; None: all.
    channel: int | None = None
    #: Standard deviation of the blur [px]; None: no blur.
    radius_px: float | None = None


def parse_case(name: str, channels: Sequence[str]) -> Case:
    """Read the name of a version of the images.

    Parameters
    ----------
    name : str
        ``composite``, one of the channels, or ``gauss<px>`` or ``structure<px>`` with a number of
        pixels.
    channels : sequence of str
        Names of the recipe's channels, in their order.

    Returns
    -------
    Case
        Its meaning.

    Raises
    ------
    ConfigError
        The name is none of these.

    Examples
    --------
    >>> parse_case("mass", ["entropy", "mass", "metals"]).channel
    1
    """
    if name == _COMPOSITE:
        return Case("composite")
    if name in channels:
        return Case("channel", channel=list(channels).index(name))
    match = _SCALED.fullmatch(name)
    if match is None or not 0 < float(match[2]) <= 1000:
        raise ConfigError(
            f"unknown case {name!r}; known: {', '.join([_COMPOSITE, *channels])} (the channels of "
            "the recipe by name), and gauss<px> or structure<px> with 0 < px <= 1000, for example "
            "gauss3"
        )
    family: Any = match[1]
    return Case(family, radius_px=float(match[2]))


def published_cases(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the ten published cases in their order, with these channels as single ones."""
    return tuple(dict.fromkeys((_COMPOSITE, *channels, *_SCALES)))


def _require(condition: bool, name: str, found: object, allowed: str) -> None:  # noqa: FBT001
    if not condition:
        raise ConfigError(f"recipe: {name} = {found!r} is not possible; allowed: {allowed}")


@dataclass(frozen=True)
class SampleRecipe:
    """Which subhaloes are taken, and their label (METHOD 2.1)."""

    #: Snapshots of a whole run.
    snapshots: tuple[int, ...]
    #: Unit of the four cuts: ``code`` is 1e10 Msun/h, ``msun`` is 1e10 Msun.
    mass_unit: Literal["code", "msun"]
    #: Stellar mass, exclusive lower and upper limit [1e10 mass_unit].
    stellar_mass_min: float
    stellar_mass_max: float
    #: Total mass of the subhalo, exclusive upper limit [1e10 mass_unit].
    total_mass_max: float
    #: Mass of the FoF group, exclusive upper limit [1e10 mass_unit].
    group_mass_max: float
    #: Denominator of the sSFR: ``total_code`` SubhaloMass * 1e10, ``stellar_msun`` M_star [Msun].
    ssfr_mass: Literal["total_code", "stellar_msun"]

    def __post_init__(self) -> None:
        _require(len(self.snapshots) > 0, "sample.snapshots", self.snapshots, "at least one")
        bad = [s for s in self.snapshots if not 0 <= s <= 999]
        _require(not bad, "sample.snapshots", bad, "numbers from 0 to 999")
        for name in ("stellar_mass_max", "total_mass_max", "group_mass_max"):
            value = getattr(self, name)
            _require(value > 0, f"sample.{name}", value, "more than 0")
        _require(
            0 <= self.stellar_mass_min < self.stellar_mass_max,
            "sample.stellar_mass_min",
            self.stellar_mass_min,
            "0 or more, below stellar_mass_max",
        )


@dataclass(frozen=True)
class OrientationRecipe:
    """How the rotation axis of a galaxy is found (DESIGN 6)."""

    #: ``age_ladder`` tries stars younger than each limit; ``youngest_fraction`` takes one share.
    rule: Literal["age_ladder", "youngest_fraction"]
    #: Largest ages of the young stars, tried in this order [Gyr].
    age_limits_gyr: tuple[float, ...]
    #: Share of the stellar mass, youngest first, that ``youngest_fraction`` uses.
    youngest_fraction: float
    #: Radius of the particles used, in stellar half-mass radii.
    radius_half_mass: float
    #: Fewest particles on a rung of the ladder.
    minimum_particles: int
    #: Whether particles count by mass in the angular momentum.
    mass_weighted: bool

    def __post_init__(self) -> None:
        ages = self.age_limits_gyr
        _require(
            len(ages) > 0 and all(a > 0 for a in ages) and list(ages) == sorted(ages),
            "orientation.age_limits_gyr",
            ages,
            "ages above 0 in increasing order",
        )
        fraction = self.youngest_fraction
        _require(0 < fraction <= 1, "orientation.youngest_fraction", fraction, "in (0, 1]")
        radius = self.radius_half_mass
        _require(radius > 0, "orientation.radius_half_mass", radius, "more than 0")
        count = self.minimum_particles
        _require(count >= 1, "orientation.minimum_particles", count, "1 or more")


@dataclass(frozen=True)
class Channel:
    """One map: what is summed over the cells of a pixel, and what is made of the sum.

    ``field`` is a quantity of the registry in ``sfr.render.gas``; ``log10_`` before its name takes
    the logarithm of each cell's value. ``weight`` multiplies it cell by cell. ``transform`` acts
    on the finished map.
    """

    name: str
    field: str
    weight: Literal["none", "mass", "volume"] = "none"
    statistic: Literal["sum", "mean"] = "sum"
    transform: Literal["none", "log10"] = "none"

    def __post_init__(self) -> None:
        _require(
            self.name.isidentifier(), "channel.name", self.name, "letters, digits and underscores"
        )


@dataclass(frozen=True)
class MapsRecipe:
    """The maps of a galaxy's gas (METHOD 2.3)."""

    #: Pixels on a side.
    pixels: int
    #: Width of the frame [ckpc/h].
    width_ckpc_h: float
    #: Depth of the frame along the line of sight [ckpc/h]; left out: no cut.
    depth_ckpc_h: float | None
    #: Factor on the pixel index: 0.99 in the published listing, 1 for all pixels.
    bin_scale: float
    #: ``in``: all cells; ``out``: cells with SFR > 0 are left out of all channels but mass.
    star_forming_gas: Literal["in", "out"]
    #: Red, green and blue of the images.
    channels: tuple[Channel, ...]
    #: Further readings of the channels whose extremes are kept (METHOD 2.4).
    candidates: tuple[Channel, ...] = ()

    def __post_init__(self) -> None:
        _require(32 <= self.pixels <= 4096, "maps.pixels", self.pixels, "32 to 4096")
        _require(self.width_ckpc_h > 0, "maps.width_ckpc_h", self.width_ckpc_h, "more than 0")
        depth = self.depth_ckpc_h
        _require(depth is None or depth > 0, "maps.depth_ckpc_h", depth, "more than 0, or left out")
        _require(0 < self.bin_scale <= 1, "maps.bin_scale", self.bin_scale, "in (0, 1]")
        names = [c.name for c in self.channels]
        _require(
            0 < len(names) == len(set(names)), "maps.channels", names, "one or more, unique names"
        )
        candidates = [c.name for c in self.candidates]
        _require(
            len(set(candidates)) == len(candidates), "maps.candidates", candidates, "unique names"
        )


@dataclass(frozen=True)
class NormalisationRecipe:
    """What each channel is divided by (METHOD 2.4)."""

    #: ``maximum``: the largest pixel; ``percentile``: two percentiles become 0 and 1.
    statistic: Literal["maximum", "percentile"]
    #: Lower and upper percentile of ``percentile`` [%].
    percentiles: tuple[float, float]
    #: Galaxies that set it: all of one snapshot, or the training subset of the split.
    reference: Literal["snapshot", "training"]
    #: The snapshot of ``reference = "snapshot"``.
    reference_snapshot: int

    def __post_init__(self) -> None:
        low, high = self.percentiles
        _require(
            0 <= low < high <= 100,
            "normalisation.percentiles",
            self.percentiles,
            "0 <= low < high <= 100",
        )


@dataclass(frozen=True)
class ImageRecipe:
    """From normalised maps to 8-bit RGB (METHOD 2.5)."""

    #: Softening of the asinh stretch.
    beta: float
    #: Where the intensity is negative: divide by it as the listing does, or by its absolute value.
    negative: Literal["listing", "absolute"]
    #: Channels above 1: ``clip``, or ``scale`` all three to keep the colour (Lupton et al. 2004).
    above_one: Literal["clip", "scale"]
    #: From 0..1 to 0..255: ``floor`` or ``round``.
    quantise: Literal["floor", "round"]

    def __post_init__(self) -> None:
        _require(self.beta > 0, "image.beta", self.beta, "more than 0")


@dataclass(frozen=True)
class CasesRecipe:
    """The versions of an image that are compared (METHOD 2.7)."""

    #: Cases of ``--all-cases``: ``composite``, names of channels, ``gauss<px>`` and
    #: ``structure<px>`` with any number of pixels. Left out: the ten published ones, with a case
    #: for each channel of the recipe.
    names: tuple[str, ...]
    #: What blur and single channels act on: the 8-bit ``composite`` or the float ``maps``.
    act_on: Literal["composite", "maps"]
    #: Differences of ``structure``: ``wrap`` modulo 256, or ``centred`` on mid-grey.
    structure: Literal["wrap", "centred"]

    def __post_init__(self) -> None:
        _require(
            0 < len(self.names) == len(set(self.names)), "cases.names", self.names, "unique names"
        )


@dataclass(frozen=True)
class SplitRecipe:
    """Training, validation and test subsets (METHOD 2.6)."""

    #: The unit that is never divided: an ``image``, or a ``galaxy`` with all its snapshots.
    by: Literal["image", "galaxy"]
    #: Share of the units in the test subset.
    test_fraction: float
    #: Share of the rest that goes to the validation subset; 0: none.
    validation_fraction: float
    #: Whether the subsets are drawn from bins of equal sSFR.
    stratified: bool
    #: Folds of a cross-validation; 1: a single split.
    folds: int
    #: Seed of the draw.
    seed: int

    def __post_init__(self) -> None:
        for name in ("test_fraction", "validation_fraction"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"split.{name}", value, "0 to below 1")
        _require(self.folds >= 1, "split.folds", self.folds, "1 or more")


@dataclass(frozen=True)
class TrainRecipe:
    """The network and its training (METHOD 3)."""

    #: Frozen backbone, a name of ``keras.applications``.
    backbone: str
    #: Weights of the backbone: ``imagenet``, ``random``, or the path of a weights file.
    weights: str
    #: ``raw``: 0..255 as it is; ``backbone``: the backbone's own preprocessing.
    input_scaling: Literal["raw", "backbone"]
    #: Activation of the 1 x 1 convolution: ``relu`` as published, or ``linear``, which cannot die.
    filter: Literal["relu", "linear"]
    #: Units of the dense layers.
    dense_units: tuple[int, ...]
    #: Dropout rate before the output.
    dropout: float
    #: Activation of the output: ``relu`` as published, or ``linear``.
    output: Literal["relu", "linear"]
    #: Bias of the output at the start: ``zero``, or the ``mean_label`` of the training subset.
    output_bias: Literal["zero", "mean_label"]
    #: Name of a Keras optimizer.
    optimizer: Literal["adadelta", "adam", "adamw", "sgd", "rmsprop"]
    learning_rate: float
    #: ``constant``, or ``cosine``: half a cosine from the learning rate to 0 at the last epoch.
    schedule: Literal["constant", "cosine"]
    #: Epochs in which the learning rate rises linearly to its value; 0: none.
    warmup_epochs: int
    #: Images a step.
    batch_size: int
    epochs: int
    #: Which epoch predicts.
    predict_from: Literal["last", "best_training", "best_validation"]
    #: Epochs after which predictions are kept as well, besides those of the end.
    evaluate_at: tuple[int, ...]
    #: Rows with SFR = 0, whose label is -inf: only ``drop`` is available.
    zero_sfr: Literal["drop"]
    #: Seeds 0..seeds-1, each a head of its own.
    seeds: int
    #: Arithmetic of the backbone; ``auto`` is what this machine does faster.
    precision: Literal["auto", "float32", "bfloat16"]
    #: Type of the cached features.
    feature_type: Literal["float16", "float32"]

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "seeds"):
            value = getattr(self, name)
            _require(value >= 1, f"train.{name}", value, "1 or more")
        _require(self.learning_rate > 0, "train.learning_rate", self.learning_rate, "more than 0")
        _require(0 <= self.dropout < 1, "train.dropout", self.dropout, "0 to below 1")
        _require(self.warmup_epochs >= 0, "train.warmup_epochs", self.warmup_epochs, "0 or more")
        marks = self.evaluate_at
        _require(all(e >= 1 for e in marks), "train.evaluate_at", marks, "epochs from 1")
        _require(self.backbone.isidentifier(), "train.backbone", self.backbone, "a name")
        units = self.dense_units
        _require(all(u >= 1 for u in units), "train.dense_units", units, "1 or more each")
        _require(self.weights != "", "train.weights", self.weights, "imagenet, random or a file")


@dataclass(frozen=True)
class Recipe:
    """A whole experiment, one section a step."""

    #: Name that outputs print.
    name: str
    #: One sentence on what the recipe is for.
    description: str
    sample: SampleRecipe
    orientation: OrientationRecipe
    maps: MapsRecipe
    normalisation: NormalisationRecipe
    image: ImageRecipe
    cases: CasesRecipe
    split: SplitRecipe
    train: TrainRecipe
    #: Default path of the simulation; ``--sim`` and ``SFR_SIM`` come first.
    simulation: str | None = None

    def __post_init__(self) -> None:
        names = self.channels
        _require(
            len(names) == 3,
            "maps.channels",
            names,
            "three, which are red, green and blue of the images (sfr map draws any number)",
        )
        _require(
            len({name.casefold() for name in names}) == len(names),
            "maps.channels",
            names,
            "names that differ by more than capitals, because each is the folder of a case",
        )
        taken = [n for n in names if n.casefold() == _COMPOSITE or _SCALED.fullmatch(n.casefold())]
        _require(
            not taken,
            "maps.channels",
            taken,
            "names other than composite, gauss<px> and structure<px>, which are cases of all "
            "channels",
        )
        try:
            meanings = [parse_case(name, names) for name in self.cases.names]
        except ConfigError as error:
            raise ConfigError(
                f"recipe: cases.names: {error}. Without cases.names a recipe has the ten published "
                "cases, with one for each of its channels"
            ) from None
        twice = [
            n for n, m in zip(self.cases.names, meanings, strict=True) if meanings.count(m) > 1
        ]
        _require(not twice, "cases.names", twice, "each scale once")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: red, green and blue."""
        return tuple(channel.name for channel in self.maps.channels)

    def with_fields(self, section: str, **changes: object) -> Recipe:
        """Return a recipe in which fields of one section have other values.

        Parameters
        ----------
        section : str
            Name of the section, for example ``train``.
        **changes
            New values by field name; None leaves a field as it is.

        Returns
        -------
        Recipe
            The new recipe; this one stays as it is.

        Raises
        ------
        ConfigError
            Unknown section or field, or a value that is not allowed.
        """
        wanted = {key: value for key, value in changes.items() if value is not None}
        merged = _inherit(self.to_dict(), {section: wanted})
        result: Recipe = _build(Recipe, _with_cases(merged), "")
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain nested dictionaries, without what is None."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return]

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as a plain dictionary, for fingerprints and headers."""
        return self.to_dict()[name]  # type: ignore[no-any-return]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a built-in recipe by name, or a recipe file.

    Parameters
    ----------
    name_or_path : str or Path
        One of `BUILT_IN`, or the path of a TOML file.

    Returns
    -------
    Recipe
        The checked recipe.

    Raises
    ------
    ConfigError
        Unknown name, unreadable file, unknown field or value that is not allowed.
    """
    data = _resolve(str(name_or_path), base=Path.cwd(), seen=())
    result: Recipe = _build(Recipe, _with_cases(data), "")
    return result


def _resolve(name: str, *, base: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    if name in seen:
        raise ConfigError(f"recipe: extends runs in a circle: {' -> '.join((*seen, name))}")
    data, folder = _read_toml(name, base)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise ConfigError(f"recipe {name}: extends = {parent!r} is not the name of a recipe")
    return _inherit(_resolve(parent, base=folder, seen=(*seen, name)), data)


def _read_toml(name: str, base: Path) -> tuple[dict[str, Any], Path]:
    if name in BUILT_IN:
        text = resources.files("sfr.recipes").joinpath(f"{name}.toml").read_text("utf-8")
        return tomllib.loads(text), base
    path = base / Path(name).expanduser()
    if not path.is_file():
        hint = difflib.get_close_matches(name, BUILT_IN, 1)
        raise ConfigError(
            f"recipe {name!r} is neither built in ({', '.join(BUILT_IN)}) nor a file"
            + (f"; did you mean {hint[0]!r}?" if hint else "")
        )
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe file {path}: {error}") from error
    data.setdefault("name", path.stem)
    if isinstance(data.get("simulation"), str):
        # relative to the file that says so, wherever it is used from
        data["simulation"] = str((path.parent / Path(data["simulation"]).expanduser()).absolute())
    return data, path.parent


def _inherit(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge recipes; cases that are the published ten of the old channels are left to the new."""
    merged = _merge(old, new)
    channels, cases = _channel_names(old), old.get("cases")
    if (
        channels is not None
        and isinstance(cases, Mapping)
        and _listed(cases.get("names")) == list(published_cases(channels))
        and not (isinstance(new.get("cases"), Mapping) and "names" in new["cases"])
        and isinstance(merged["cases"], Mapping)
    ):
        merged["cases"] = {k: v for k, v in merged["cases"].items() if k != "names"}
    return merged


def _with_cases(data: dict[str, Any]) -> dict[str, Any]:
    """Fill in the published cases where a recipe names none."""
    channels, cases = _channel_names(data), data.get("cases")
    if channels is None or not isinstance(cases, Mapping) or "names" in cases:
        return data
    return {**data, "cases": {"names": list(published_cases(channels)), **cases}}


def _channel_names(data: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the channels of a recipe that is not checked yet; None: cannot tell."""
    maps = data.get("maps")
    channels = _listed(maps.get("channels")) if isinstance(maps, Mapping) else None
    if channels is None:
        return None
    names = [c.get("name") if isinstance(c, Mapping) else None for c in channels]
    known = [name for name in names if isinstance(name, str)]
    return known if len(known) == len(names) else None


def _listed(value: object) -> list[Any] | None:
    return list(value) if isinstance(value, (list, tuple)) else None


def _merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), dict):
            merged[key] = _merge(old[key], value)
        else:
            merged[key] = value
    return merged


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _build(cls: Any, data: object, where: str) -> Any:  # noqa: ANN401
    """Make a dataclass from plain data, checking names and types on the way."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"recipe: {where or 'the file'} = {data!r} is not a table")
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, 1)
            raise ConfigError(
                f"recipe: {where}{key} is not a field"
                + (f"; did you mean {where}{close[0]}?" if close else "")
                + f" Fields here: {', '.join(hints)}"
            )
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            values[field.name] = _value(hints[field.name], data[field.name], where + field.name)
        elif type(None) in typing.get_args(hints[field.name]):
            values[field.name] = None
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"recipe: {where}{field.name} is missing")
    return cls(**values)


def _value(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where + ".")
    if origin in (types.UnionType, typing.Union):
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else _value(inner, value, where)
    if origin is Literal:
        _require(value in arguments, where, value, ", ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"recipe: {where} = {value!r} is not a list")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"recipe: {where} = {value!r} needs {len(arguments)} entries")
        return tuple(_value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"recipe: {where} = {value!r} is not of type {hint.__name__}")
    if hint is float and value != value:
        raise ConfigError(f"recipe: {where} is not a number")
    return value
