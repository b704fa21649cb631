"""The fields of a recipe: what each means, its unit, what is allowed.

Errors, ``sfr recipe show --explain`` and ``docs/recipes.md`` all read what is written here.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

from sfr.errors import ConfigError
from sfr.paths import plain

__all__ = [
    "NO_BRIGHTNESS",
    "SCALED_FAMILIES",
    "ActOn",
    "Case",
    "CasesRecipe",
    "Channel",
    "FieldRow",
    "ImageRecipe",
    "MapsRecipe",
    "NormalisationRecipe",
    "OrientationRecipe",
    "Recipe",
    "SampleRecipe",
    "SplitRecipe",
    "TargetRecipe",
    "TrainRecipe",
    "check_value",
    "fields",
    "maps_settings",
    "parse_case",
    "published_cases",
]

_COMPOSITE: Final = "composite"
#: In ``image.brightness``: no channel.
NO_BRIGHTNESS: Final = "none"
#: What is made of an image or of one of its channels at a scale, and how many scales it takes.
SCALED_FAMILIES: Final = {"gauss": 1, "structure": 1, "band": 2}
_PX: Final = r"([0-9]+(?:\.[0-9]+)?)"
_SCALED: Final = re.compile(
    rf"(?:(?P<channel>[^.]+)\.)?(?P<family>{'|'.join(SCALED_FAMILIES)}){_PX}(?:-{_PX})?"
)
_LARGEST_PX: Final = 1000
_SCALES: Final = ("gauss3", "gauss5", "gauss10", "structure3", "structure5", "structure10")
#: What cases are made of: the 8-bit RGB composite, or the float maps.
ActOn = Literal["composite", "maps"]


@dataclass(frozen=True)
class Case:
    """What the name of a version of the images means."""

    family: Literal["composite", "channel", "gauss", "structure", "band"]
    #: Place of the one channel that is kept, among those of the recipe; None: all.
    channel: int | None = None
    #: Standard deviations of its blurs, the narrower one first [px]; empty: no blur.
    scales_px: tuple[float, ...] = ()

    @property
    def radius_px(self) -> float | None:
        """Standard deviation of the widest blur [px]; None: no blur."""
        return self.scales_px[-1] if self.scales_px else None


def parse_case(name: str, channels: Sequence[str], act_on: ActOn) -> Case:
    """Read the name of a version of the images.

    Parameters
    ----------
    name : str
        ``composite``, one of the channels, or ``gauss<px>`` or ``structure<px>`` with a number of
        pixels. On float maps also ``band<a>-<b>``, what lies between two blurs (a = 0: no blur, so
        the structure of b), and each of the three of one channel: ``<channel>.gauss<px>``.
    channels : sequence of str
        Names of the recipe's channels, in their order.
    act_on : {"composite", "maps"}
        What the cases are made of (``cases.act_on``).

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
    >>> parse_case("mass", ["entropy", "mass", "metals"], "composite").channel
    1
    """
    if name == _COMPOSITE:
        return Case(_COMPOSITE)
    if name in channels:
        return Case("channel", channel=list(channels).index(name))
    match = _SCALED.fullmatch(name)
    if match is None:
        raise _unknown_case(name, channels, act_on)
    family: Any = match["family"]
    scales = tuple(float(text) for text in match.groups()[2:] if text is not None)
    if len(scales) != SCALED_FAMILIES[family] or not 0 < scales[-1] <= _LARGEST_PX:
        raise _unknown_case(name, channels, act_on)
    if match["channel"] is not None and match["channel"] not in channels:
        raise _unknown_case(name, channels, act_on)
    if act_on == "composite" and (family == "band" or match["channel"] is not None):
        raise ConfigError(
            f'case {name!r} is made of float maps: it needs cases.act_on = "maps"; on the 8-bit '
            f"composite there are {_known_cases(channels, act_on)}"
        )
    channel = None if match["channel"] is None else list(channels).index(match["channel"])
    if list(scales) != sorted(set(scales)):
        raise ConfigError(f"case {name!r}: a band is named by its narrower blur first: band3-10")
    if scales[0] == 0:
        return Case("structure", channel, scales[1:])
    return Case(family, channel, scales)


def _unknown_case(name: str, channels: Sequence[str], act_on: ActOn) -> ConfigError:
    return ConfigError(f"unknown case {name!r}; known: {_known_cases(channels, act_on)}")


def _known_cases(channels: Sequence[str], act_on: ActOn) -> str:
    names = f"{', '.join([_COMPOSITE, *channels])} (the channels of the recipe by name)"
    scaled = f"0 < px <= {_LARGEST_PX}, for example gauss3"
    if act_on == "composite":
        return f"{names}, and gauss<px> or structure<px> with {scaled}"
    return (
        f"{names}, and gauss<px>, structure<px> or band<px>-<px> of all channels or, as in "
        f"{channels[0]}.gauss3, of one, with {scaled}"
    )


def published_cases(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the ten published cases in their order, with these channels as single ones."""
    return (_COMPOSITE, *channels, *_SCALES)


# -- what a field is -----------------------------------------------------------------------------

#: Most bytes of the name of a case: file systems take 255, and files of a case add words to it.
_LONGEST_NAME: Final = 100
#: Numbers beyond this are slips of the keyboard.
_LARGEST = 10**9


def _on_disk(name: str) -> str:
    """Return what disks that make no difference of capitals or composed accents take a name for."""
    return unicodedata.normalize("NFC", name.casefold())


def _says(text: str, unit: str = "") -> Meta:
    return Meta(description=text, extra={"unit": unit})


def _limit(text: str, unit: str) -> Meta:
    """Describe an upper limit; ``inf`` is none."""
    return Meta(gt=0, description=text, extra={"unit": unit, "may_be_infinite": True})


Fraction = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0, le=_LARGEST)]
#: Finite, and so is the difference of two.
Bounded = Annotated[float, Meta(ge=-1e99, le=1e99)]
Count = Annotated[int, Meta(ge=1, le=_LARGEST)]
CountOrNone = Annotated[int, Meta(ge=0, le=_LARGEST)]
Snapshot = Annotated[int, Meta(ge=0, le=999)]
#: What keras.applications holds; here, so that a slip is found without Keras.
Backbone = Literal[
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
]


def _require(condition: bool, name: str, found: object, allowed: str) -> None:  # noqa: FBT001
    if not condition:
        raise ConfigError(f"recipe: {name} = {found!r} is not possible; allowed: {allowed}")


@dataclass(frozen=True)
class _Section:
    def changed(self, **fields: object) -> Self:
        """Return a copy with other values, checked as those of a file are; None leaves one out."""
        name = type(self).__name__.removesuffix("Recipe").lower()
        data = _plain({**dataclasses.asdict(self), **fields})
        result: Self = check_value(type(self), data, name)
        return result


@dataclass(frozen=True)
class SampleRecipe(_Section):
    """Which subhaloes are taken, and their sSFR (METHOD 2.1)."""

    snapshots: Annotated[tuple[Snapshot, ...], Meta(min_length=1), _says("Snapshots of sfr run.")]
    mass_unit: Annotated[
        Literal["code", "msun"],
        _says("Unit of the four cuts: code is 1e10 Msun/h, msun 1e10 Msun."),
    ]
    stellar_mass_min: Annotated[
        float, Meta(ge=0), _says("Stellar mass, exclusive lower limit.", "1e10 mass_unit")
    ]
    stellar_mass_max: Annotated[
        float, _limit("Stellar mass, exclusive upper limit.", "1e10 mass_unit")
    ]
    total_mass_max: Annotated[
        float, _limit("Total mass of the subhalo, exclusive upper limit.", "1e10 mass_unit")
    ]
    group_mass_max: Annotated[
        float, _limit("Mass of the FoF group, exclusive upper limit.", "1e10 mass_unit")
    ]
    ssfr_mass: Annotated[
        Literal["total_code", "stellar_msun"],
        _says(
            "Denominator of ssfr_per_yr: total_code SubhaloMass * 1e10 [Msun/h], stellar_msun the "
            "stellar mass [Msun]."
        ),
    ]

    def __post_init__(self) -> None:
        _require(
            self.stellar_mass_min < self.stellar_mass_max,
            "sample.stellar_mass_min",
            self.stellar_mass_min,
            "0 or more, below stellar_mass_max",
        )


@dataclass(frozen=True)
class TargetRecipe(_Section):
    """What is predicted (METHOD 3)."""

    column: Annotated[
        str,
        Meta(min_length=1),
        _says(
            "Column of sample.csv, one of your own included, or a quantity that sfr makes of "
            "columns, such as gas_fraction."
        ),
    ] = "ssfr_per_yr"
    transform: Annotated[
        Literal["log10", "none"],
        _says(
            "log10: the network predicts log10(scale * value); values of 0, which have none, are "
            "left out and counted. none: it predicts the value."
        ),
    ] = "log10"
    scale: Annotated[
        float, Meta(gt=0, le=1e24), _says("Factor on the value before log10.", "1 / unit")
    ] = 1e15
    name: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        _says("What texts call a column of your own; left out: the column's name."),
    ] = None
    unit: Annotated[str | None, _says("Unit of a column of your own.")] = None


@dataclass(frozen=True)
class OrientationRecipe(_Section):
    """How the rotation axis of a galaxy is found (DESIGN 6)."""

    rule: Annotated[
        Literal["age_ladder", "youngest_fraction"],
        _says(
            "age_ladder tries stars younger than each limit; youngest_fraction takes one share of "
            "them."
        ),
    ]
    age_limits_gyr: Annotated[
        tuple[Positive, ...],
        Meta(min_length=1),
        _says("Largest ages of the young stars, tried in this order.", "Gyr"),
    ]
    youngest_fraction: Annotated[
        float,
        Meta(gt=0, le=1),
        _says("Share of the stellar mass, youngest first, that youngest_fraction uses."),
    ]
    radius_half_mass: Annotated[
        Positive, _says("Radius of the particles used.", "stellar half-mass radii")
    ]
    minimum_particles: Annotated[Count, _says("Fewest particles on a rung of the ladder.")]
    mass_weighted: Annotated[
        bool, _says("Whether particles count by mass in the angular momentum.")
    ]

    def __post_init__(self) -> None:
        ages = self.age_limits_gyr
        _require(
            list(ages) == sorted(ages),
            "orientation.age_limits_gyr",
            ages,
            "ages above 0 in increasing order",
        )


@dataclass(frozen=True)
class Channel:
    """One map: what is summed over the cells of a pixel, and what is made of the sum."""

    name: Annotated[str, _says("Name of the channel and of its case.")]
    field: Annotated[
        str,
        _says(
            "Quantity of the gas; log10_ before its name takes the logarithm of each cell's value. "
            "An unknown name lists the known ones."
        ),
    ]
    weight: Annotated[
        Literal["none", "mass", "volume"],
        _says("Weight of a cell: factor in a sum, weight of a mean."),
    ] = "none"
    statistic: Annotated[Literal["sum", "mean"], _says("What is made of the cells of a pixel.")] = (
        "sum"
    )
    transform: Annotated[Literal["none", "log10"], _says("What acts on the finished map.")] = "none"
    range: Annotated[
        tuple[Bounded, Bounded] | None,
        _says(
            "Values of the finished map that become 0 and 1, with normalisation.by = range; what "
            "lies outside is clipped and counted.",
            "that of the map",
        ),
    ] = None

    def __post_init__(self) -> None:
        _require(
            self.range is None or self.range[0] < self.range[1],
            f"range of channel {self.name}",
            self.range,
            "[low, high] with low < high",
        )

    @property
    def may_be_empty(self) -> bool:
        """Whether its map has no value where no gas is; a sum is 0 there."""
        return self.statistic == "mean" or self.transform == "log10"
        _require(
            self.name.isidentifier(), "channel.name", self.name, "letters, digits and underscores"
        )


@dataclass(frozen=True)
class MapsRecipe(_Section):
    """The maps of a galaxy's gas (METHOD 2.3)."""

    pixels: Annotated[int, Meta(ge=32, le=4096), _says("Pixels on a side.")]
    width_ckpc_h: Annotated[Positive, _says("Width of the frame, centred on the galaxy.", "ckpc/h")]
    depth_ckpc_h: Annotated[
        Positive | None,
        _says("Depth of the frame along the line of sight; left out: no cut.", "ckpc/h"),
    ]
    bin_scale: Annotated[
        float,
        Meta(gt=0, le=1),
        _says("Factor on the pixel index: 0.99 in the published listing, 1 for all pixels."),
    ]
    deposit: Annotated[
        Literal["histogram", "smoothed"],
        _says("histogram: a cell is a point; smoothed: a cubic spline as wide as the cell."),
    ]
    star_forming_gas: Annotated[
        Literal["in", "out"],
        _says("in: all cells; out: cells with SFR > 0 are left out of all channels but mass."),
    ]
    channels: Annotated[
        tuple[Channel, ...], Meta(min_length=1), _says("Red, green and blue of the images.")
    ]
    candidates: Annotated[
        tuple[Channel, ...],
        _says("Further readings of the channels whose extremes are kept (METHOD 2.4)."),
    ] = ()

    @property
    def pixel_ckpc_h(self) -> float:
        """Side of a pixel [ckpc/h]; for ``bin_scale`` < 1 the last ones lie beyond the frame."""
        return self.width_ckpc_h / (self.pixels * self.bin_scale)

    def __post_init__(self) -> None:
        for field in ("channels", "candidates"):
            names = [channel.name for channel in getattr(self, field)]
            _require(len(names) == len(set(names)), f"maps.{field}", names, "unique names")


@dataclass(frozen=True)
class NormalisationRecipe(_Section):
    """Which values of a channel's map become 0 and 1 (METHOD 2.4)."""

    by: Annotated[
        Literal["maximum", "range"],
        _says(
            "maximum: 0 and the largest pixel of the reference snapshot; range: those that each "
            "channel states (maps.channels.range)."
        ),
    ] = "maximum"
    reference_snapshot: Annotated[
        Snapshot, _says("The snapshot whose largest pixel sets maximum.")
    ] = 99
    reference_share: Annotated[
        float,
        Meta(ge=0, le=1),
        _says(
            "Least share of the reference snapshot's galaxies that may set maximum, of those that "
            "have a map once every file can be read."
        ),
    ] = 0.9


@dataclass(frozen=True)
class ImageRecipe(_Section):
    """From normalised maps to 8-bit RGB (METHOD 2.5)."""

    beta: Annotated[Positive, _says("Softening of the asinh stretch.")]
    negative: Annotated[
        Literal["listing", "absolute"],
        _says(
            "Where the intensity is negative: divide by it as the listing does, or by its absolute "
            "value."
        ),
    ]
    above_one: Annotated[
        Literal["clip", "scale"],
        _says(
            "Channels above 1: clip, or scale all three to keep the colour (Lupton et al. 2004)."
        ),
    ]
    quantise: Annotated[Literal["floor", "round"], _says("From 0..1 to 0..255.")]
    stretch: Annotated[
        Literal["lupton", "none"],
        _says(
            "lupton: asinh of the mean of the channels; none: each channel as it is, for maps that "
            "are logarithmic already. beta, negative and above_one are of lupton."
        ),
    ] = "lupton"
    brightness: Annotated[
        str,
        _says(
            "Channel whose map sets how bright a pixel is, while the ratios of the three give its "
            "colour; none: each channel by itself. For stretch = none."
        ),
    ] = NO_BRIGHTNESS

    def __post_init__(self) -> None:
        _require(
            self.stretch == "none" or self.brightness == NO_BRIGHTNESS,
            "image.brightness",
            self.brightness,
            "'none' with image.stretch = 'lupton', whose brightness is the mean of the channels",
        )


@dataclass(frozen=True)
class CasesRecipe(_Section):
    """The versions of an image that are compared (METHOD 2.7)."""

    names: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        _says(
            "Cases of --all-cases: composite, names of channels, gauss<px> and structure<px> with "
            "any number of pixels; on float maps also band<a>-<b>, and each of the three of one "
            "channel, as in mass.gauss3. Left out: the ten published ones, with a case for each "
            "channel of the recipe."
        ),
    ]
    act_on: Annotated[
        ActOn,
        _says(
            "What cases are made of, and the network reads: the 8-bit composite, or the float maps "
            "in 0..1, unrounded."
        ),
    ]
    structure: Annotated[
        Literal["wrap", "centred"],
        _says(
            "Differences of structure: wrap modulo 256, or centred on 0.5 (mid-grey), times gain "
            "and clipped to 0..1. Float maps take centred."
        ),
    ]
    gain: Annotated[
        Positive | None, _says("Factor on differences that are centred; centred needs it.")
    ] = None
    edge: Annotated[
        Literal["reflect", "mirror", "nearest", "wrap", "constant"] | None,
        _says(
            "What the blur of float maps finds beyond their edge, a mode of scipy.ndimage "
            "(constant: 0, the lower end of the range); float maps need it."
        ),
    ] = None

    def __post_init__(self) -> None:
        _require(
            self.act_on == "composite" or self.structure == "centred",
            "cases.structure",
            self.structure,
            "'centred' where cases.act_on = 'maps', because floats do not wrap",
        )
        _require(
            self.structure == "wrap" or self.gain is not None,
            "cases.gain",
            self.gain,
            "a number above 0 where cases.structure = 'centred'",
        )
        _require(
            self.act_on == "composite" or self.edge is not None,
            "cases.edge",
            self.edge,
            "one of reflect, mirror, nearest, wrap, constant where cases.act_on = 'maps'",
        )
        names = self.names or ()
        _require(len(names) == len(set(names)), "cases.names", names, "unique names")


@dataclass(frozen=True)
class SplitRecipe(_Section):
    """Training, validation and test subsets (METHOD 2.6)."""

    by: Annotated[
        Literal["image", "galaxy", "component"],
        _says(
            "What is never divided: an image, a galaxy with all its snapshots, or a component: all "
            "galaxies that FoF groups link."
        ),
    ]
    test_fraction: Annotated[
        Fraction,
        _says(
            "Share of the units in the test subset; int((1 - it) N) of N units are left. Of "
            "components it is the share of the images."
        ),
    ]
    validation_fraction: Annotated[
        Fraction,
        _says("Share of the rest that goes to the validation subset, counted alike; 0: none."),
    ]
    stratified: Annotated[
        bool,
        _says(
            "Whether the subsets are drawn from bins of equal label; of folds and components, "
            "of equal stellar mass, too."
        ),
    ]
    folds: Annotated[
        Count,
        _says(
            "Folds of a cross-validation, each of which tests 1 / folds of the images: every image "
            "is tested once, and test_fraction does not count; 1: a single split."
        ),
    ]
    seed: Annotated[CountOrNone, _says("Seed of the draw.")]


@dataclass(frozen=True)
class TrainRecipe(_Section):
    """The network and its training (METHOD 3)."""

    backbone: Annotated[Backbone, _says("Frozen backbone, a name of keras.applications.")]
    weights: Annotated[
        str,
        Meta(min_length=1),
        _says(
            "Weights of the backbone: imagenet, random, or a file, whose path counts from the "
            "recipe's file."
        ),
    ]
    input_scaling: Annotated[
        Literal["raw", "backbone"],
        _says("raw: 0..255 as it is; backbone: the backbone's own preprocessing."),
    ]
    filter: Annotated[
        Literal["relu", "linear"],
        _says(
            "Activation of the 1 x 1 convolution: relu as published, or linear, which cannot die."
        ),
    ]
    dense_units: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65536)], ...], _says("Units of the dense layers.")
    ]
    dropout: Annotated[Fraction, _says("Dropout rate before the output.")]
    output: Annotated[
        Literal["relu", "linear"], _says("Activation of the output: relu as published, or linear.")
    ]
    output_bias: Annotated[
        Literal["zero", "mean_label"],
        _says("Bias of the output at the start: zero, or the mean_label of the training subset."),
    ]
    optimizer: Annotated[
        Literal["adadelta", "adam", "adamw", "sgd", "rmsprop"], _says("Name of a Keras optimizer.")
    ]
    learning_rate: Annotated[Positive, _says("Learning rate, where the schedule begins.")]
    schedule: Annotated[
        Literal["constant", "cosine"],
        _says("constant, or cosine: half a cosine from the learning rate to 0 at the last epoch."),
    ]
    warmup_epochs: Annotated[
        CountOrNone,
        _says("Epochs in which the learning rate rises linearly to its value; 0: none."),
    ]
    batch_size: Annotated[Count, _says("Images a step.")]
    epochs: Annotated[Count, _says("Epochs of training.")]
    predict_from: Annotated[
        Literal["last", "best_training", "best_validation"], _says("Which epoch predicts.")
    ]
    evaluate_at: Annotated[
        tuple[Count, ...],
        _says("Epochs after which predictions are kept as well, besides those of the end."),
    ]
    seeds: Annotated[int, Meta(ge=1, le=10000), _says("Seeds 0..seeds-1, each a head of its own.")]
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        _says("Arithmetic of the backbone; auto is what this machine does faster."),
    ]
    feature_type: Annotated[Literal["float16", "float32"], _says("Type of the cached features.")]
    batch_order: Annotated[
        Literal["own", "shared"],
        _says(
            "own: every seed has its own order of images in each epoch; shared: all have that of "
            "seed 0, which takes less time and leaves part of chance out of the spread of seeds."
        ),
    ] = "own"
    probe: Annotated[
        Literal["head", "ridge"],
        _says(
            "What is fitted on the backbone: a head, as published, or ridge on mean and spread of "
            "the outputs of its blocks, which has no seeds and needs none of the fields above but "
            "backbone, weights, input_scaling and precision."
        ),
    ] = "head"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole experiment, one section a step."""

    name: Annotated[str, _says("Name that outputs print.")]
    description: Annotated[str, _says("One sentence on what the recipe is for.")]
    sample: SampleRecipe
    target: TargetRecipe = TargetRecipe()
    orientation: OrientationRecipe
    maps: MapsRecipe
    normalisation: NormalisationRecipe
    image: ImageRecipe
    cases: CasesRecipe
    split: SplitRecipe
    train: TrainRecipe
    simulation: Annotated[
        str | None,
        _says(
            "Default path of the simulation, which counts from the recipe's file; --sim and "
            "SFR_SIM come first."
        ),
    ] = None

    def __post_init__(self) -> None:
        names = self.channels
        _require(
            len(names) == 3,
            "maps.channels",
            names,
            "three, which are red, green and blue of the images (sfr map draws any number)",
        )
        _require(
            len({_on_disk(name) for name in names}) == len(names),
            "maps.channels",
            names,
            "names that differ by more than capitals, because each is the folder of a case",
        )
        with_range = [c.name for c in self.maps.channels if c.range is not None]
        with_range += [c.name for c in self.maps.candidates if c.range is not None]
        wanted = list(names) if self.normalisation.by == "range" else []
        _require(
            with_range == wanted,
            "maps.channels",
            f"range of {', '.join(with_range) or 'none'}",
            "with normalisation.by = 'range' one of each channel (sfr recipe ranges proposes "
            "them), with 'maximum' none",
        )
        _require(
            self.cases.act_on == "composite" or self.normalisation.by == "range",
            "cases.act_on",
            self.cases.act_on,
            "'composite' with normalisation.by = 'maximum': float maps are cut to their ranges",
        )
        _require(
            self.image.brightness in (NO_BRIGHTNESS, *names),
            "image.brightness",
            self.image.brightness,
            f"none, or a channel: {', '.join(names)}",
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
            meanings = [self.case(name) for name in self.case_names]
        except ConfigError as error:
            raise ConfigError(
                f"recipe: cases.names: {error}. Without cases.names a recipe has the ten published "
                "cases, with one for each of its channels"
            ) from None
        twice = [n for n, m in zip(self.case_names, meanings, strict=True) if meanings.count(m) > 1]
        _require(not twice, "cases.names", twice, "each scale once")
        long = [name for name in self.case_names if len(name.encode()) > _LONGEST_NAME]
        _require(
            not long,
            "maps.channels or cases.names",
            long,
            f"names of at most {_LONGEST_NAME} bytes, because each is the folder of a case",
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: red, green and blue."""
        return tuple(channel.name for channel in self.maps.channels)

    def case(self, name: str) -> Case:
        """Return what the name of a case means here; see `parse_case` for errors."""
        return parse_case(name, self.channels, self.cases.act_on)

    @property
    def case_names(self) -> tuple[str, ...]:
        """The cases of ``--all-cases``."""
        return self.cases.names or published_cases(self.channels)

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
        data = self.to_dict()
        wanted = {key: value for key, value in changes.items() if value is not None}
        data[section] = data.get(section, {}) | wanted
        result: Recipe = check_value(Recipe, data, "")
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain nested dictionaries, without what is None."""
        return _plain(dataclasses.asdict(self))  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        """Return the same with infinity, which JSON has not, as the word ``inf``."""
        return _finite(self.to_dict())  # type: ignore[no-any-return]

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain data that JSON can hold, for fingerprints and headers.

        The ranges of channels change no map: they stand in ``normalisation``, not in ``maps``.
        """
        section: dict[str, Any] = self.to_json()[name]
        if name == "maps":
            for channel in section["channels"]:
                channel.pop("range", None)
        if name == "normalisation" and self.normalisation.by == "range":
            section["ranges"] = {c.name: list(c.range or ()) for c in self.maps.channels}
        return section


def maps_settings(maps: MapsRecipe, orientation: OrientationRecipe | None) -> dict[str, Any]:
    """Return what the pixels of maps depend on, to compare maps made by different runs.

    Parameters
    ----------
    maps : MapsRecipe
        Frame and channels; candidates and ranges, which change no pixel, are left out.
    orientation : OrientationRecipe or None
        How galaxies were turned; None where a person chose it.

    Returns
    -------
    dict
        Plain data by the recipe's names of fields, such as ``maps.pixels``.
    """
    channels = tuple(dataclasses.replace(channel, range=None) for channel in maps.channels)
    sections = {"maps": dataclasses.replace(maps, channels=channels), "orientation": orientation}
    return {
        f"{section}.{name}": _plain(value)
        for section, recipe in sections.items()
        if recipe is not None
        for name, value in dataclasses.asdict(recipe).items()
        if name != "candidates"
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return "inf" if isinstance(value, float) and math.isinf(value) else value


# -- checks --------------------------------------------------------------------------------------


def check_value(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401
    """Make what a field's type asks for of plain data.

    Parameters
    ----------
    hint : type
        A section of the recipe, or the annotation of a field.
    value : object
        Plain data, as TOML gives it.
    where : str
        Name of the field, for messages.

    Returns
    -------
    object
        The section, or the value.

    Raises
    ------
    ConfigError
        A name that is no field, a field that is missing, or a value that is not allowed.
    """
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    parts = typing.get_args(_bare(hint))
    if parts and dataclasses.is_dataclass(parts[0]):
        rows = value if isinstance(value, (list, tuple)) else None
        if rows is None or (not rows and _constraint(hint, "min_length")):
            raise _refused(hint, value, where)
        return tuple(check_value(parts[0], row, f"{where}[{i}]") for i, row in enumerate(rows))
    for part in _each(value):
        _require_text(part, where)
    try:
        result = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise _refused(hint, value, where) from error
    if not _is_unlimited(hint) and not all(map(_is_finite, _each(result))):
        raise _refused(hint, value, where)
    return result


def _require_text(value: object, where: str) -> None:
    if isinstance(value, str) and plain(value) != value:
        raise ConfigError(
            f"recipe: {where} = {plain(value)!r} holds bytes that are not UTF-8, which a recipe "
            "cannot keep; rename the file or folder, or give a link to it"
        )


def _build(cls: Any, data: object, where: str) -> Any:  # noqa: ANN401
    import difflib

    if not isinstance(data, Mapping):
        raise ConfigError(f"recipe: {where or 'the file'} = {data!r} is not a table")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in data:
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, 1)
            raise ConfigError(
                f"recipe: {prefix}{key} is not a field"
                + (f"; did you mean {prefix}{close[0]}?" if close else ".")
                + f" Fields here: {', '.join(hints)}"
            )
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            values[field.name] = check_value(
                hints[field.name], data[field.name], prefix + field.name
            )
        elif _is_optional(hints[field.name]):
            values[field.name] = None
        elif field.default is dataclasses.MISSING:
            raise ConfigError(f"recipe: {prefix}{field.name} is missing")
    return cls(**values)


def _refused(hint: Any, value: object, where: str) -> ConfigError:  # noqa: ANN401
    return ConfigError(f"recipe: {where} = {value!r} is not possible; allowed: {_allowed(hint)}")


def _each(value: object) -> Iterator[object]:
    yield from value if isinstance(value, (list, tuple)) else (value,)


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


# -- what an annotation says -----------------------------------------------------------------------


def _metas(hint: Any) -> list[Meta]:  # noqa: ANN401
    return [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)]


def _bare(hint: Any) -> Any:  # noqa: ANN401
    """Take the annotations of a type off."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _constraint(hint: Any, name: str) -> Any:  # noqa: ANN401
    found = (getattr(meta, name) for meta in _metas(hint))
    return next((value for value in found if value is not None), None)


def _is_optional(hint: Any) -> bool:  # noqa: ANN401
    return type(None) in typing.get_args(_bare(hint))


def _allowed(hint: Any) -> str:  # noqa: ANN401
    """Say in words what a field may be."""
    bare = _bare(hint)
    origin, parts = typing.get_origin(bare), typing.get_args(bare)
    if origin is Literal:
        return ", ".join(map(repr, parts))
    if origin in (types.UnionType, typing.Union):
        return f"{_allowed(next(p for p in parts if p is not type(None)))}, or left out"
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"a list of {len(parts)} entries, each {_allowed(parts[0])}"
    if origin is tuple:
        some = "one or more" if _constraint(hint, "min_length") else "a list of"
        if dataclasses.is_dataclass(parts[0]):
            return f"{some} tables, see the fields below"
        return f"{some} entries, each {_allowed(parts[0])}"
    noun = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[bare]
    if _is_unlimited(hint):
        return f"{noun} above 0, or inf for no limit"
    return ", ".join([noun, *_range(hint)])


def _is_unlimited(hint: Any) -> bool:  # noqa: ANN401
    return any((meta.extra or {}).get("may_be_infinite") for meta in _metas(hint))


def _range(hint: Any) -> list[str]:  # noqa: ANN401
    ge, gt, le, lt = (_constraint(hint, name) for name in ("ge", "gt", "le", "lt"))
    if ge is not None and le is not None:
        return [f"{ge} to {_number(le)}"]
    low = f"{ge} or more" if ge is not None else f"above {gt}" if gt is not None else ""
    high = f"at most {_number(le)}" if le is not None else f"below {lt}" if lt is not None else ""
    return [words for words in (low, high) if words]


def _number(value: float) -> str:
    return "1e9" if value == _LARGEST else f"{value}"


#: What a change in a section makes anew.
_REDONE = {
    "sample": "the sample and every step after it",
    "target": "a stratified split.csv, heads",
    "orientation": "maps, images, heads",
    "maps": "maps, images, heads",
    "normalisation": "images, heads",
    "image": "images, heads",
    "cases": "heads of the cases that change",
    "split": "split.csv, heads",
    "train": "heads",
}
#: Fields of ``train`` that change what the backbone puts out.
_FEATURES = {"backbone", "weights", "input_scaling", "precision", "feature_type"}


@dataclass(frozen=True)
class FieldRow:
    """One field of a recipe, in words."""

    #: Section and field, for example ``maps.pixels``.
    field: str
    meaning: str
    unit: str
    allowed: str
    #: What is made anew when it changes.
    redone: str


def fields() -> list[FieldRow]:
    """Describe every field of a recipe, in order."""
    return list(_explain(Recipe, ""))


def _explain(cls: Any, prefix: str) -> Iterator[FieldRow]:  # noqa: ANN401
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from _explain(hint, f"{name}.")
            continue
        metas = _metas(hint)
        unit = next((m.extra["unit"] for m in metas if m.extra), "")
        meaning = next(m.description for m in metas if m.description)
        redone = _REDONE.get(prefix.partition(".")[0], "nothing")
        if prefix == "train." and name in _FEATURES:
            redone = f"features, {redone}"
        yield FieldRow(prefix + name, meaning, unit, _allowed(hint), redone)
        parts = typing.get_args(_bare(hint))
        if name == "channels":
            yield from _explain(parts[0], f"{prefix}{name}.")
