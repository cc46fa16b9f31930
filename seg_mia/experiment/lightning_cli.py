"""One run of one config through LightningCLI: fit, validate, test or predict."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never, cast

from jsonargparse import set_parsing_settings
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from seg_mia import attacks, data, defences, membership, tasks
from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.callbacks.card import check_data
from seg_mia.callbacks.config_file import ConfigFile, write_config
from seg_mia.callbacks.folder import OneFolder, run_folder
from seg_mia.callbacks.masks import MaskWriter
from seg_mia.callbacks.membership_results import write_membership
from seg_mia.callbacks.panels import Panels
from seg_mia.callbacks.scores import Scores
from seg_mia.callbacks.standard import fit_callbacks
from seg_mia.checkpoint import load_weights, read
from seg_mia.config.composition import defence_count
from seg_mia.config.messages import one_line
from seg_mia.config.parsing import import_all, parsed_once, plain_settings
from seg_mia.config.spec import check_classes, class_paths
from seg_mia.data.base import SegmentationData
from seg_mia.data.trained_model import TrainedModel
from seg_mia.defences.base import Defence, wrapped
from seg_mia.defences.release import Release
from seg_mia.errors import InputError
from seg_mia.experiment.arguments import add_options
from seg_mia.experiment.attack_callbacks import image_results, image_task, membership_callbacks
from seg_mia.experiment.membership import check_victim, infer, membership_summary
from seg_mia.experiment.modules import DataModules
from seg_mia.experiment.plan import Plan, plan, teacher_plan
from seg_mia.experiment.recipe import finish_network, in_fleet
from seg_mia.experiment.recorded_settings import RecordedSettings
from seg_mia.experiment.request import requested
from seg_mia.experiment.trained_networks import behind_release, load_shadows, load_teacher, unseen_of
from seg_mia.experiment.trainer_checks import (
    Bars,
    await_ranks,
    check_kept,
    check_resumed,
    check_training,
    folders,
    for_classifier,
    note_precision,
    refusals,
)
from seg_mia.membership.base import Membership
from seg_mia.models.user_errors import input_errors
from seg_mia.results.certificate import CertificateSummary
from seg_mia.results.membership import MembershipSummary
from seg_mia.results.perturbation import PerturbationSummary
from seg_mia.results.text import attack_headline, utility_headline
from seg_mia.runs import CHECKPOINTS, LAST, make, read_run, remove, unbegun
from seg_mia.tasks.adopted import adopt
from seg_mia.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)


def run(words: Sequence[str]) -> "Experiment":
    """Run a command line, as `seg_mia WORDS` would, and return it with its results.

    Raises InputError with a one-line message for errors in the words, the config, the checkpoint or the data.
    """
    return Experiment(plan(requested(words)))


class Experiment(RecordedSettings):
    """LightningCLI with config names, the victim's metadata as first config, and user options last.

    Attributes:
        plan: the plan of the run.
        folder: the run's own folder.
        summary: summary numbers as plain values, after the run.
        result: result of an attack, after it.
    """

    def __init__(self, plan: Plan, modules: DataModules | None = None) -> None:
        """Run a plan, on data modules that may be shared with other runs of this process."""
        self.plan, self.modules = plan, modules or DataModules()
        import_all(data, attacks, defences, membership, tasks)
        # A string in a card must not become a class: values without a declared type are never built.
        set_parsing_settings(instantiate_subclass_spec_in_any=False, validate_subclass_spec_in_any=False)
        self.summary: dict[str, Any] = {}
        self.result: MembershipSummary | PerturbationSummary | CertificateSummary | None = None
        self._known, self._made = set[str](), False
        try:
            self._build_and_run()
            await_ranks(self.trainer)
            self._clear(done=True)
        except Exception:
            self._clear(done=False)
            raise

    def _build_and_run(self) -> None:
        super().__init__(
            LightningModule,
            SegmentationData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=ConfigFile,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"deterministic": "warn", "use_distributed_sampler": False},
            parser_kwargs={
                name: {"exit_on_error": False, "allow_abbrev": False} for name in self.subcommands()
            }
            | {"exit_on_error": False, "allow_abbrev": False, "prog": "seg_mia"},
        )

    def _clear(self, *, done: bool) -> None:
        """Remove the folder of a trial run, or of a run refused before any computation."""
        if self._made and (self.tried if done else unbegun(self.folder)):
            remove(self.folder)

    @property
    def tried(self) -> bool:
        """Whether this was Lightning's `fast_dev_run`, which saves nothing."""
        return bool(self._get(self.config_init, "trainer")["fast_dev_run"])

    @property
    def folder(self) -> Path:
        """Output folder of this run."""
        return run_folder(self.trainer)

    def headline(self) -> list[str]:
        """Return the summary numbers of the run, one per line."""
        if self.plan.command == "predict":
            return [f"masks in {self.folder / 'masks'}"]
        if self.plan.command != "test":
            return utility_headline(self.summary)
        # On other ranks than the first there is no result.
        return attack_headline(self.plan.folder.name, self.result) if self.result else []

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning calls it on the instance
        """Build the parser of the plan's command alone, a quarter of them.

        Lightning's checkpoint options are hidden: in its merge a file overrides the command line.
        """
        command = self.plan.command
        return {command: LightningCLI.subcommands()[command] | {"ckpt_path", "weights_only", "verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add this tool's options, already parsed by `Plan`, for documentation and records."""
        add_options(parser, self.plan)
        self._known |= set(map(str, parser.get_defaults().keys()))

    def parse_arguments(self, parser: LightningArgumentParser, args: object) -> None:  # noqa: ARG002
        """Parse the plan's arguments, with one-line errors."""
        with input_errors(
            "a class in the settings has unreadable arguments", "name a class that declares plain arguments"
        ):
            try:
                self.config = parsed_once(parser, self._parser(self.plan.command), self.plan.args)
            except argparse.ArgumentError as error:
                defences = defence_count(self.plan.settings)
                raise InputError(one_line(str(error), self._known, defences=defences)) from None
        if self.plan.command == "fit":  # they are in the settings now, and must not be added to them again
            self.config["fit.base"] = self.config["fit.defence"] = self.config["fit.role"] = None

    def before_instantiate_classes(self) -> None:
        """Use a data module opened by another run, if available, instead of Lightning's."""
        self.parser.add_instantiator(self._shared_data, SegmentationData, subclasses=True)

    def _shared_data(
        self, kind: type[SegmentationData], *_: object, applied_instantiation_links: object, **settings: Any
    ) -> SegmentationData:
        del applied_instantiation_links
        return self.modules.module(kind, settings, self.noted("data"))

    def instantiate_classes(self) -> None:
        """Build model, data and trainer, with one-line errors."""
        check_classes(self._get(self.config, "model").as_dict())
        with input_errors("{} cannot be built", "change its arguments, or the class"), refusals():
            super().instantiate_classes()

    def after_instantiate_classes(self) -> None:
        """Check that the folder is writable at the start rather than after the last epoch."""
        if self.trainer.is_global_zero:
            self._made = make(self.folder)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the logger and callbacks of the command."""
        given = self._get(self.config_init, "trainer")
        if self.plan.command == "fit" and not self.plan.adopts:
            check_training(given)
        kwargs = folders(self.plan, given) | kwargs
        configured = given["callbacks"] or []
        callbacks = [
            OneFolder(),
            *(configured if isinstance(configured, list) else [configured]),
            *self._callbacks(),
        ]
        if isinstance(self.attack, Membership):
            kwargs |= for_classifier(self.attack.scorer, self.plan.options)
        if given["enable_progress_bar"] is not False:
            # An attack's own bar stands below this one; Rich's would overwrite it.
            callbacks.append(Bars())
        with refusals(building=True):
            trainer = super().instantiate_trainer(**kwargs, callbacks=callbacks)
        note_precision(trainer.precision, trainer.strategy.root_device)
        return trainer

    def _callbacks(self) -> list[Callback]:
        match self.plan.command:
            case "fit":
                parts = {part: plain_settings(self._get(self.config, part)) for part in ("model", "data")}
                seed = int(self._get(self.config, "seed_everything"))
                return fit_callbacks(seed, parts, segments=isinstance(self.model, Segmentation))
            case "validate":
                return [Scores(), Panels()]
            case "test":
                return self._attack_callbacks()
            case "predict":
                return [MaskWriter()]
            case _:
                assert_never(self.plan.command)

    @property
    def attack(self) -> Perturbation | Membership | Certification | None:
        """The requested attack."""
        if self.plan.command != "test":
            return None
        return cast("Perturbation | Membership | Certification | None", self._get(self.config_init, "attack"))

    @property
    def release(self) -> Release | None:
        """Output perturbation of the victim, if any."""
        return cast("Release | None", self._get(self.config_init, "release"))

    def _attack_callbacks(self) -> list[Callback]:
        attack = self.attack
        if isinstance(attack, Membership):
            return membership_callbacks(attack.scorer)
        self.results = image_results(
            attack,
            self.release,
            settings=plain_settings(self._get(self.config, "attack")) or {},
            victim=str(self.plan.checkpoint),
            save_images=self._get(self.config, "save_images"),
        )
        return [self.results]

    def fit(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Train, from the start or from a checkpoint of the run."""
        if self.plan.adopts:
            request, file = self.plan.request, self.folder / CHECKPOINTS / LAST
            adopt(self.trainer, model, datamodule, file, reference=request.reference, least=request.agreement)
            write_config(self.trainer, self.model, "fit")
            self._sum_up(None)
            return
        datamodule.setup("fit")
        resume = self.plan.checkpoint
        if resume is not None and isinstance(datamodule, SegmentationData):
            content, card = read_run(resume, tuple(class_paths(self.config.as_dict())))
            check_resumed(resume, content, self.trainer.max_epochs)
            check_data(datamodule, fingerprint=card.fingerprint, split=card.split)
            if isinstance(model, Segmentation):
                model.resume_output(card.model["init_args"])
        model.resumed = resume is not None  # type: ignore[assignment]  # the tasks look at it in `setup`
        if isinstance(model, Segmentation) and isinstance(datamodule, SegmentationData):
            model.check(datamodule)
            self._learn(model.defences, datamodule)
        with refusals():
            self.trainer.fit(
                model, datamodule=datamodule, ckpt_path=resume, weights_only=True if resume else None
            )
        self._sum_up(model.dp_guarantee if isinstance(model, Segmentation) else None)
        file = self.folder / CHECKPOINTS / LAST
        if file.is_file() and self.trainer.is_global_zero and in_fleet(datamodule):
            completed = self.trainer.current_epoch == self.trainer.max_epochs
            trust = class_paths(self.config.as_dict())
            finish_network(file, model, datamodule, completed=completed, trust=trust)

    def _learn(self, defended: Sequence[Defence], datamodule: SegmentationData) -> None:
        """Train the networks required by defences first, each in its own folder.

        Once the main training has begun, they remain unchanged.
        """
        for defence in defended:
            if defence.teacher is not None:
                check_kept(self._get(self.config, "trainer"), self.trainer.world_size, defence.teacher)
                file = self.folder / defence.teacher / CHECKPOINTS / LAST
                if self.plan.checkpoint is None or not file.is_file():
                    self._train_first(defence.teacher, file)
                trust, device = class_paths(self.config.as_dict()), self.trainer.strategy.root_device
                defence.learn(load_teacher(file, datamodule, trust=trust, device=device), datamodule)

    def _train_first(self, name: str, last: Path) -> None:
        """Train an undefended network with this run's settings and another seed, to checkpoint `last`."""
        write_config(self.trainer, self.model, "fit")  # an interrupted run is resumed by it
        seed = int(self._get(self.config, "seed_everything"))
        log.info("training the %s first", name)
        Experiment(teacher_plan(self.plan, self.folder, name, seed, last), self.modules)
        seed_everything(seed, verbose=False)

    def validate(self, model: LightningModule, datamodule: SegmentationData, verbose: bool = False) -> None:
        """Evaluate the victim on the chosen subset."""
        self._load(model, datamodule)
        self.trainer.validate(model, datamodule=datamodule, verbose=verbose)
        self._sum_up(self.plan.card.privacy if self.plan.card else None)

    def _sum_up(self, privacy: Mapping[str, object] | None) -> None:
        self.summary = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
        self.summary |= {"privacy": privacy} if privacy else {}

    def predict(
        self, model: LightningModule, datamodule: SegmentationData, return_predictions: bool | None = None
    ) -> None:
        """Write the victim's masks of the chosen subset."""
        self._load(model, datamodule)
        self.trainer.predict(model, datamodule=datamodule, return_predictions=return_predictions or False)

    def test(self, model: LightningModule, datamodule: SegmentationData, verbose: bool = False) -> None:
        """Attack the victim on the chosen subset."""
        victim = self._load(model, datamodule)
        attack = self.attack
        if attack is None:
            raise InputError("test needs --attack NAME")
        if isinstance(attack, Membership):
            self._infer(attack, victim.network, datamodule)
        else:
            task = image_task(victim.network, attack, trust=self.plan.request.trust)
            if getattr(task, "transfers_only", False) and not getattr(attack, "on_surrogate", False):
                self.results.attacker_knowledge = "a surrogate, no answer of the victim"
            self.trainer.test(task, datamodule=datamodule, verbose=verbose)
            self.result = self.results.summary
        self.summary = self.result.plain() if self.result else {}
        if not self.split_checked and self.trainer.is_global_zero:
            log.warning("the victim's file does not state its split: the data may include training samples")

    def _infer(self, attack: Membership, network: nn.Module, data: SegmentationData) -> None:
        """Fit to the shadows, classify the victim's samples, write the results."""
        card, file = self.plan.card, self.plan.checkpoint
        assert card is not None
        assert file is not None
        check_victim(self.plan, data, split_known=self.split_checked)
        released = plain_settings(self._get(self.config, "release"))
        shadows = load_shadows(self.plan, data, self.modules)
        if self.release is not None:
            shadows = [behind_release(shadow, self.release, released) for shadow in shadows]
        built = [plain_settings(self._get(self.config, part)) for part in ("model", "release")]
        victim = TrainedModel(lambda: network, data, file, built, unseen_of(card, data))
        seed = int(self._get(self.config, "seed_everything"))
        control = bool(self.plan.request.control)
        findings = infer(
            attack, victim, shadows, trainer=self._trainer_of, seed=seed, control=control, plan=self.plan
        )
        if not self.trainer.is_global_zero:
            return
        self.result = membership_summary(
            self.plan,
            attack,
            self.release,
            victim=victim,
            findings=findings,
            settings={"attack": plain_settings(self._get(self.config, "attack")), "release": released},
        )
        write_membership(self.trainer, self.plan.folder.name, findings, self.result)
        write_config(self.trainer, self.model, "test")  # where no classifier was trained

    def _trainer_of(self, number: int) -> Trainer:
        """Return a trainer for the classifier of a seed: this run's own, then new ones below its folder."""
        if number == 0:
            return self.trainer
        logger = TensorBoardLogger(self.folder, "", f"seed_{number}", default_hp_metric=False)
        return self.instantiate_trainer(logger=logger if self.trainer.loggers else False)

    def _load(self, model: LightningModule, datamodule: SegmentationData) -> Segmentation:
        """Load the victim's weights, after checking that the data is the victim's."""
        assert self.plan.card is not None
        assert self.plan.checkpoint is not None
        if not isinstance(model, Segmentation):
            raise InputError(
                f"{self.plan.checkpoint} holds a {type(model).__name__}, not a segmentation network; name a "
                "victim"
            )
        datamodule.setup()
        card = self.plan.card
        self.split_checked = check_data(datamodule, fingerprint=card.fingerprint, split=card.split)
        load_weights(model.network, read(self.plan.checkpoint), self.plan.checkpoint)
        if self.release is not None:
            model.network = wrapped(model.network, [self.release])
        return model
