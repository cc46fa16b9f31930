"""Gradient-based attacks: source of the gradients, and layers without gradients."""

from typing import Any

from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.config.spec import resolve
from seg_mia.errors import InputError
from seg_mia.models.replacement import StandIn, replace_layers


class WhiteBox(Perturbation):
    """A gradient-based perturbation.

    Args:
        surrogate: checkpoint or run folder of the attacker's surrogate network, such as the shadow model.
            Each image is attacked a second time on it, and the transfer to the victim is reported next to the
            attack on the victim itself.
        replace: layers by class path, with the stand-in that provides the gradient of each:
            `{my_package.Jpeg: {class_path: seg_mia.models.replacement.Identity}}`.
        sanity_images: on how many of the first images to check that the victim's gradients can be
            followed (`seg_mia.attacks.sanity.sanity_check`); 0: none.
        knobs: options of the function.
    """

    def __init__(
        self,
        *,
        surrogate: str | None = None,
        replace: dict[str, StandIn] | None = None,
        sanity_images: int = 0,
        **knobs: Any,
    ) -> None:
        self._follow(surrogate, replace, sanity_images)
        self.knobs = knobs
        self.check_knobs()

    def _follow(self, surrogate: str | None, replace: dict[str, StandIn] | None, sanity_images: int) -> None:
        """Set the source of the gradients and its check; raise InputError for anything but a layer."""
        if sanity_images < 0:
            raise InputError(f"sanity_images must be at least 0, got {sanity_images}; 4 are enough")
        self.surrogate, self.replace, self.sanity_images = surrogate, dict(replace or {}), sanity_images
        for path in self.replace:
            kind = resolve(path)
            if not issubclass(kind, nn.Module):
                raise InputError(
                    f"replace must name a class of nn.Module, got {path!r}; name a layer's class"
                )

    def check(self, model: nn.Module | None = None) -> None:
        """Raise InputError if the victim has no layer of a kind to be replaced."""
        if model is not None:
            replace_layers(model, self._kinds())

    def differentiable(self, model: nn.Module) -> nn.Module:
        """Return `model`, or a copy with the layers replaced as configured."""
        present = {
            kind: stand_in
            for kind, stand_in in self._kinds().items()
            if any(isinstance(layer, kind) for layer in model.modules())
        }
        return replace_layers(model, present) if present else model

    def _kinds(self) -> dict[type[nn.Module], StandIn]:
        return {resolve(path): stand_in for path, stand_in in self.replace.items()}
