"""What attacks that follow gradients share: whose gradients, and what is done about layers without any."""

from dataclasses import dataclass, field

from torch import nn

from seg_mia.attacks.base import Perturbation
from seg_mia.config.spec import resolve
from seg_mia.errors import InputError
from seg_mia.models.replacement import StandIn, replace_layers


@dataclass(frozen=True, kw_only=True)
class WhiteBox(Perturbation):
    """A perturbation that follows gradients.

    Attributes:
        surrogate: checkpoint or run's folder of a network of the attacker's, such as the shadow. Each image
            is attacked a second time on it, and what that does to the victim is reported beside the attack
            on the victim itself.
        replace: layers by class path, and the stand-in whose gradient each gets:
            `{my_package.Jpeg: {class_path: seg_mia.models.replacement.Identity}}`.
    """

    surrogate: str | None = None
    replace: dict[str, StandIn] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.replace:
            kind = resolve(path)
            if not issubclass(kind, nn.Module):
                raise InputError(f"replace names {path!r}, which is no layer; name an nn.Module's class")

    def check(self, model: nn.Module) -> None:
        """Raise InputError where the victim has no layer of a kind that is to be replaced."""
        replace_layers(model, self._kinds())

    def differentiable(self, model: nn.Module) -> nn.Module:
        """Return `model`, or a copy with those of its layers replaced that the settings name."""
        here = {
            kind: stand_in
            for kind, stand_in in self._kinds().items()
            if any(isinstance(layer, kind) for layer in model.modules())
        }
        return replace_layers(model, here) if here else model

    def _kinds(self) -> dict[type[nn.Module], StandIn]:
        return {resolve(path): stand_in for path, stand_in in self.replace.items()}
