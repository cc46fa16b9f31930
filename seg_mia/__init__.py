"""seg_mia: does a segmentation model leak its training patients, and can it be fooled?"""

__version__ = "0.1.0"
