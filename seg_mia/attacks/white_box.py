"""What attacks that follow gradients share: whose gradients, and what is done about layers without any."""

from typing import Any

from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.config.spec import resolve
from seg_mia.errors import InputError
from seg_mia.models.replacement import StandIn, replace_layers


class WhiteBox(Perturbation):
    """A perturbation that follows gradients.

    Args:
        surrogate: checkpoint or run's folder of a network of the attacker's, such as the shadow. Each image
            is attacked a second time on it, and what that does to the victim is reported beside the attack
            on the victim itself.
        replace: layers by class path, and the stand-in whose gradient each gets:
            `{my_package.Jpeg: {class_path: seg_mia.models.replacement.Identity}}`.
        knobs: of the function.
    """

    def __init__(
        self, *, surrogate: str | None = None, replace: dict[str, StandIn] | None = None, **knobs: Any
    ) -> None:
        self._follow(surrogate, replace)
        self.knobs = knobs
        self.check_knobs()

    def _follow(self, surrogate: str | None, replace: dict[str, StandIn] | None) -> None:
        """Set whose gradients are followed; raise InputError for what is no layer."""
        self.surrogate, self.replace = surrogate, dict(replace or {})
        for path in self.replace:
            kind = resolve(path)
            if not issubclass(kind, nn.Module):
                raise InputError(f"replace names {path!r}, which is no layer; name an nn.Module's class")

    def check(self, model: nn.Module | None = None) -> None:
        """Raise InputError where the victim has no layer of a kind that is to be replaced."""
        if model is not None:
            replace_layers(model, self._kinds())

    def differentiable(self, model: nn.Module) -> nn.Module:
        """Return `model`, or a copy with those of its layers replaced that the settings name."""
        present = {
            kind: stand_in
            for kind, stand_in in self._kinds().items()
            if any(isinstance(layer, kind) for layer in model.modules())
        }
        return replace_layers(model, present) if present else model

    def _kinds(self) -> dict[type[nn.Module], StandIn]:
        return {resolve(path): stand_in for path, stand_in in self.replace.items()}
