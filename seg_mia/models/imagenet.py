"""Mean and standard deviation of ImageNet's RGB images in [0, 1], which most pre-trained networks expect."""

from typing import Final

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
