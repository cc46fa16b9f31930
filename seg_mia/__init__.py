"""seg_mia: membership inference and adversarial attacks on segmentation networks."""

__version__ = "0.1.0"
