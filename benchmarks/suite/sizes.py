"""Sizes of the measurements."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Amount of work of the pairs.

    Attributes:
        side: of an image, in pixels.
        images: images of an attack.
        steps: iterations of ASMA and PGD; the cost of one is the same in all.
        encoder: of the attacked network, and of the trained one.
        training_steps: of the attacked network.
        classifier: architecture of the membership classifiers.
        samples: training samples of a membership classifier, and as many evaluated ones.
        classifier_epochs: epochs of a membership classifier.
        slices: slices of the cached set of volumes.
        depth: slices of a volume.
        files: pairs of PNG files.
        fit_samples: training samples of `fit`, and as many of validation.
        fit_epochs: epochs of `fit`.
        fit_first: epochs of the shorter run of `fit`, whose time is taken off.
        networks: networks of a fleet.
        network_members: training samples of each.
        network_side: of their images, in pixels.
        device: of the group `device`.
        device_images: images of an attack there.
        device_side: of an image there, in pixels.
    """

    side: int = 128
    images: int = 4
    steps: int = 8
    encoder: str = "resnet18"
    training_steps: int = 60
    classifier: str = "resnet18"
    samples: int = 24
    classifier_epochs: int = 4
    slices: int = 5000
    depth: int = 100
    files: int = 600
    fit_samples: int = 64
    fit_epochs: int = 5
    fit_first: int = 2
    networks: int = 4
    network_members: int = 128
    network_side: int = 64
    device: str = "cuda"
    device_images: int = 16
    device_side: int = 256


QUICK = Sizes(
    side=32,
    images=2,
    steps=2,
    encoder="tu-test_resnet",
    training_steps=2,
    classifier="test_resnet",
    samples=6,
    classifier_epochs=1,
    slices=20,
    depth=5,
    files=12,
    fit_samples=4,
    fit_epochs=2,
    fit_first=1,
    networks=2,
    network_members=4,
    network_side=32,
    device_images=2,
    device_side=32,
)
"""Sizes that show in seconds that every pair runs and agrees; their ratios say nothing."""
