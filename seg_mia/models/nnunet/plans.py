"""Content of the JSON files of nnU-Net v2, as far as networks and data depend on it.

Files may lack any entry, or hold values of other types: readers turn the resulting errors into InputErrors.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from seg_mia.models.nnunet.preprocessing import Scheme

Stages = int | Sequence[int | Sequence[int]]
"""One number for all stages, or for each a number or one for each axis."""
Numbers = Mapping[str, float | bool]
"""Numbers by name."""


class Labels(TypedDict):
    """dataset.json: labels are numbers, lists of one number, or regions of several."""

    channel_names: Mapping[str, str]
    labels: Mapping[str, int | list[int]]
    file_ending: str


class ArchitectureArguments(TypedDict, total=False):
    """Constructor arguments of a network; layers by their import paths."""

    features_per_stage: list[int]
    conv_op: str
    kernel_sizes: Stages
    strides: Stages
    n_conv_per_stage: Stages
    n_blocks_per_stage: Stages
    n_conv_per_stage_decoder: Stages
    conv_bias: bool
    norm_op: str | None
    norm_op_kwargs: Numbers | None
    nonlin: str | None
    nonlin_kwargs: Numbers | None


class ArchitectureEntry(TypedDict):
    """A network's class and arguments."""

    network_class_name: str
    arch_kwargs: ArchitectureArguments


class Resampling(TypedDict, total=False):
    """Arguments of a resampling; degrees of splines, and whether slices are resampled alone."""

    order: int
    order_z: int
    force_separate_z: bool | None
    separate_z_anisotropy_threshold: float


class Configuration(TypedDict, total=False):
    """A configuration in plans.json; the entries from UNet_class_name on are those of the first releases."""

    inherits_from: str
    previous_stage: str | None
    preprocessor_name: str
    patch_size: list[int]
    spacing: list[float]
    normalization_schemes: list[Scheme]
    use_mask_for_norm: list[bool]
    resampling_fn_data: str
    resampling_fn_data_kwargs: Resampling
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: Resampling
    architecture: ArchitectureEntry
    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    conv_kernel_sizes: list[list[int]]
    pool_op_kernel_sizes: list[list[int]]
    n_conv_per_stage_encoder: list[int]
    n_conv_per_stage_decoder: list[int]


class Plans(TypedDict):
    """plans.json; foreground statistics by channel, under the name of the release."""

    dataset_name: NotRequired[str]
    image_reader_writer: NotRequired[str]
    transpose_forward: NotRequired[list[int]]
    configurations: Mapping[str, Configuration]
    foreground_intensity_properties_per_channel: NotRequired[Mapping[str, Mapping[str, float]]]
    foreground_intensity_properties_by_modality: NotRequired[Mapping[str, Mapping[str, float]]]


class UNetPlan(TypedDict):
    """Arguments of `seg_mia.models.nnunet.unet.Architecture`, as plain values."""

    kind: str
    dimensions: NotRequired[int]
    features: list[int]
    kernels: Stages
    strides: Stages
    blocks: Stages
    decoder: Stages
    bias: bool
    norm: str
    norm_settings: Numbers
    activation: str
    activation_settings: Numbers


class ChannelNormalisation(TypedDict, total=False):
    """Arguments of `seg_mia.models.nnunet.preprocessing.Normalisation`, as plain values."""

    scheme: Scheme
    masked: Literal[True]
    mean: float
    std: float
    low: float
    high: float


def label_number(label: int | list[int]) -> int:
    """Return the number of a label; raises ValueError for a region of several."""
    (number,) = label if isinstance(label, list) else [label]
    return int(number)
