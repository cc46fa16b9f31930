"""Conditions under which a training may keep the features of its images."""

from collections.abc import Sequence

from torch import nn

from seg_mia.data.base import SegmentationData
from seg_mia.defences.base import Defence
from seg_mia.errors import InputError
from seg_mia.models.feature_cache import OFF, FeatureCache
from seg_mia.models.wrapper import bare


def feature_cache(
    network: nn.Module, defences: Sequence[Defence], data: SegmentationData | None
) -> FeatureCache:
    """Return the cache of the network's encoder for a training on this data.

    Raises:
        InputError: images that change between epochs, a network without encoder, one that is trained, or
            features that change.
    """
    if data is None:
        raise InputError(f"features can be cached of a data module's images, got none; give one, {OFF}")
    if (data.augment != "none" or data.patch is not None) and not (data.batches and data.batches.repeats):
        raise InputError(
            f"features can be cached if images do not change, got --data.augment {data.augment} and "
            f"--data.patch {data.patch}; leave them out, {OFF}"
        )
    for defence in defences:
        if type(defence).sample is not Defence.sample or type(defence).batch is not Defence.batch:
            raise InputError(
                f"features can be cached if images do not change, got defence {type(defence).__name__}, "
                f"which changes them; leave it out, {OFF}"
            )
    if getattr(bare(network), "adapters", None) is not None:
        raise InputError(
            "features can be cached of an encoder that stays as it is, got one with trained adapters; "
            f"leave them out, {OFF}"
        )
    encoder = getattr(bare(network), "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(
            f"features can be cached of a network with an `encoder`, got {type(bare(network)).__name__}; "
            f"take another network, {OFF}"
        )
    replaced = set(data.training_set().images)
    if not replaced.isdisjoint(data.evaluated().tolist()):
        raise InputError(
            f"features can be cached if an image is the same in training and validation, got {len(replaced)} "
            f"reference images with a canary in their place; set --data.subset nonmembers, {OFF}"
        )
    cache = FeatureCache(encoder)
    cache.read = getattr(bare(network), "read_levels", None)
    return cache
