"""Additional options of this tool, shown by `--help` and recorded in config.yaml; parsed first by `Plan`."""

from typing import Literal, Union, get_args

from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.config.files import known
from seg_mia.config.options import Layer
from seg_mia.defences.release import Release
from seg_mia.experiment.attack_classes import is_certification
from seg_mia.experiment.plan import Plan
from seg_mia.membership.base import Membership
from seg_mia.runs import SHADOW_SEED


def add_options(parser: ArgumentParser, plan: Plan) -> None:
    """Add the options of a plan's command besides model, data and trainer, with requested defaults."""
    take_whole_numbers(parser)
    request = plan.request
    parser.add_argument("--runs", type=str, default=request.runs, help="Folder of the runs.")
    if plan.command == "fit":
        parser.add_argument(
            "--resume", type=str | None, default=None, help="Folder of an interrupted run to resume."
        )
        parser.add_argument(
            "--role",
            type=Literal["shadow"] | None,
            default=None,
            help="shadow: train the attacker's shadow model, on the other half of the data, from the "
            f"config's seed + {SHADOW_SEED}.",
        )
        parser.add_argument(
            "--base",
            type=str | list[str] | None,
            default=None,
            help="In a config: one or several configs that it extends.",
        )
        parser.add_argument(
            "--defence",
            type=str | list[str] | None,
            default=None,
            help=f"Defence or poisoning of the victim: {', '.join(known('defence'))}; may be repeated. "
            "--model.defences.NAME sets an option of the last one.",
        )
        return
    parser.add_argument(
        "--victim",
        type=str | None,
        default=request.victim,
        help="Checkpoint or folder of a run; default: the newest victim under --runs.",
    )
    parser.add_argument(
        "--trust",
        type=list[str],
        default=list(request.trust),
        help="A class path outside seg_mia that a checkpoint may name; may be repeated.",
    )
    parser.add_subclass_arguments(
        Release,
        "release",
        required=False,
        help="What the victim releases instead of its probabilities: a name in lightning_configs/release, "
        f"{', '.join(known('release'))}, or a file.",
    )
    if plan.command == "test":
        _add_attack(parser, plan)


def take_whole_numbers(parser: ArgumentParser) -> None:
    """Let float-or-int arguments parse `1` as int: a limit of 1 is one batch, 1.0 all of them.

    Their type hints specify this, but `typing` caches one object for `Union[int, float]` and `Union[float,
    int]` inside an `Optional`, in the first order used: a library such as scikit-learn, imported before
    Lightning, reverses the two, and the parser tries them in that order.
    """
    for action in parser._actions:  # the parser has no other list of its arguments
        kinds = get_args(getattr(action, "_typehint", None))
        if {int, float} <= set(kinds) and kinds.index(float) < kinds.index(int):
            ordered = (int, *(kind for kind in kinds if kind is not int))
            action._typehint = Union[ordered]  # type: ignore[attr-defined]  # noqa: UP007 - made at run time


def _add_attack(parser: ArgumentParser, plan: Plan) -> None:
    shadows = list(plan.request.shadows)
    parser.add_argument(
        "--shadow",
        type=str | list[str] | None,
        default=shadows if len(shadows) > 1 else next(iter(shadows), None),
        help="Shadow model of a membership attack: a checkpoint, the folder of a run, or a folder of runs; "
        "may be repeated; default: the newest that matches the victim, and those beside it if the attack "
        "takes several.",
    )
    parser.add_argument(
        "--control",
        type=bool,
        default=bool(plan.request.control),
        help="Negative control: query the shadow instead of the victim on the victim's samples; the AUC "
        "must be 0.5.",
    )
    parser.add_subclass_arguments(
        _family(plan),
        "attack",
        required=False,
        help="The attack: a name in lightning_configs/attack, or a file.",
    )
    parser.add_argument(
        "--save_images",
        type=bool,
        default=False,
        help="Write every adversarial image as .npy and .png.",
    )


def _family(plan: Plan) -> type | tuple[type, ...]:
    """Return the required base class of the attack; with several, errors would name the wrong one."""
    if plan.checkpoint is None:
        return (Perturbation, Membership, Certification)
    given = [
        setting.content.get("attack") if isinstance(setting, Layer) else setting.value
        for setting in plan.settings
        if isinstance(setting, Layer) or setting.flag == "--attack"
    ]
    if any(map(is_certification, given)):
        return Certification
    return Membership if plan.infers else Perturbation
