"""Command line: dispatch of commands and final messages; heavy imports only on demand."""

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from seg_mia import __version__
from seg_mia.config.help import asks
from seg_mia.errors import InputError
from seg_mia.experiment.failures import DEBUG, in_one_line
from seg_mia.heap import keep_freed_memory

if TYPE_CHECKING:
    from seg_mia.experiment.lightning_cli import Experiment

HELP = """\
usage: python -m seg_mia COMMAND [options]

Does a segmentation model leak its training patients, and can it be fooled?

commands
  audit     --config phantom_audit.yaml      train a victim and a shadow, attack, write a report
  audit     --predictions release.csv --classes 2    audit released predictions, without the network
  report    runs/phantom_audit               rewrite an audit's report (--fail-on 'mia.auc>0.6', --annex dpo)
  fit       --config kvasir_victim.yaml      train a network (--resume RUN: an interrupted one)
  fit       --config ... --defence crop      train a defended or poisoned network
  fit       --config ... --role shadow       train the attacker's shadow model on the other half
  adopt     --config ... --model.weights F   import a network trained elsewhere, unchanged
  adopt     --nnunet FOLDER --folds 0        import a training of nnU-Net v2 as it lies on disk
  adopt     --bundle FOLDER --config ...     import a MONAI bundle (fit: train its network on your data)
  test      --attack asma                    perturb images for the newest victim (or --victim PATH)
  test      --attack mia-type2               infer its members, with the newest shadow (or --shadow PATH)
  test      --attack ... --release argmax    attack a victim that releases only labels
  validate                                   Dice and IoU of each image (--victim PATH)
  predict                                    predicted masks as PNG (--victim PATH)
  fleet     --config phantom_victim.yaml     train 16 networks on random halves, audit the recipe (--count)
  compare   FOLDER FOLDER                    difference in leakage between two victims, or between two reports
  verify    runs/phantom_audit               compare a report's digests with its files
  prepare   --config kvasir_victim.yaml      decode the data once, report contents, duplicates, errors
  texture   --image F --label F --weights D  re-texture one image, as the published script does
  export    CHECKPOINT FILE                  a file to share: weights without split, paths and settings

COMMAND --debug prints the traceback of an error, not only its last line.
COMMAND --help lists all options, for YAML or the command line, which takes precedence:
  python -m seg_mia fit --config kvasir_victim.yaml --data.root FOLDER --trainer.max_epochs 20
  python -m seg_mia test --attack asma --attack.steps 500 --data.limit 16

trainings {training}
defended  {defended}
audits    {audit}
textures  {texture}
attacks   {attack}
defences  {defence}
releases  {release}
pictures  tensorboard --logdir runs
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a failed gate, 2 after an error line, or 130."""
    is_process = words is None  # the command line, whose process ends with it; a notebook goes on
    if is_process:
        keep_freed_memory()
    words = list(sys.argv[1:] if words is None else words)
    debug, words = DEBUG in words, [word for word in words if word != DEBUG]
    try:
        code = _dispatch(words, is_process=is_process)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning has caught
            return _interrupted()
        _foot(words)
        raise
    except Exception as error:  # noqa: BLE001  # whatever comes is told in one line
        return _failed(error, debug=debug)
    _foot(words)
    return code


def _failed(error: Exception, *, debug: bool) -> int:
    """Print an error in one line, preceded by its traceback if requested."""
    if debug:
        traceback.print_exception(error)
    print(f"seg_mia: error: {in_one_line(error)}", file=sys.stderr)
    return 2


def _foot(words: Sequence[str]) -> None:
    """Append the options of all commands to a page of help."""
    if words[1:] and asks(words[1:]):
        print(f"\nevery command  {DEBUG}  prints the traceback of an error before its one-line message")


def _interrupted() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
    print(
        "\nseg_mia: interrupted; resume a training with `fit --resume RUN`, an audit with the same command",
        file=sys.stderr,
    )
    return 130


def _dispatch(words: list[str], *, is_process: bool) -> int:
    if is_process and words[:1] and words[0] in {*PLAIN, *EXPERIMENTS}:
        from seg_mia.config.on_demand import defer

        defer()
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            _help()
        case ["--version"]:
            print(__version__)
        case [word, *rest] if word in PLAIN:
            return PLAIN[word](rest) or 0
        case [word, *rest] if word in EXPERIMENTS and asks(rest):
            _explain(words, is_process=is_process)
        case [word, *_] if word in EXPERIMENTS:
            _experiment(words)
        case _:
            raise InputError(
                f"unknown command {words[0]!r}; commands are audit, fleet, report, fit, adopt, test, "
                "validate, predict, compare, verify, prepare, texture and export (--help describes them)"
            )
    return 0


def _help() -> None:
    from seg_mia.config.files import TRAININGS, known

    kinds = ("defended", "audit", "texture", "attack", "defence", "release")
    names = {kind: " ".join(known(kind)) for kind in kinds}
    print(HELP.format(training=" ".join(known(TRAININGS)), **names), end="")


def _explain(words: list[str], *, is_process: bool) -> None:
    """Print every requested page of help; each ends as if it were the last.

    Args:
        words: the command line.
        is_process: whether this process does nothing else, so that Lightning may lack the compiler.
    """
    import io
    from contextlib import nullcontext, redirect_stdout, suppress
    from pathlib import Path
    from typing import cast

    from seg_mia.config.help import pages, tidy
    from seg_mia.config.on_demand import without_compiler
    from seg_mia.config.options import options_in

    with without_compiler() if is_process else nullcontext():
        import lightning.pytorch.cli
        import lightning.pytorch.loggers  # noqa: F401

    from seg_mia.experiment.lightning_cli import Experiment
    from seg_mia.experiment.plan import Command, Plan
    from seg_mia.experiment.request import RunRequest

    for page in pages(words):
        if page.title:
            print(f"\n{page.title}\n")
        text = io.StringIO()
        with suppress(SystemExit), redirect_stdout(text):
            command = cast(Command, page.args[0])
            request = RunRequest(command, runs="runs")
            Experiment(Plan(request, command, tuple(options_in(page.args[1:])), Path("runs")))
        print(tidy(text.getvalue(), page.path))


def _experiment(words: list[str]) -> None:
    from seg_mia.experiment.plan import plan
    from seg_mia.experiment.request import requested

    _show_log()
    planned = plan(requested(words))
    if planned.card is not None:
        print(f"victim: {planned.checkpoint}")
    for shadow in planned.shadows:
        print(f"shadow: {shadow.file}")
    from seg_mia.experiment.lightning_cli import Experiment
    from seg_mia.runs import CHECKPOINTS, LAST

    _quiet()
    done = Experiment(planned)
    if not done.trainer.is_global_zero:
        return
    print("\ntrial run: no files were written" if done.tried else f"\nwritten to {done.folder}")
    for line in done.headline():
        print(line)
    if planned.command == "fit" and (done.folder / CHECKPOINTS / LAST).is_file():
        print(f"next: python -m seg_mia test --attack {_use(done)} {done.folder}{_trust(done)}")
    print(f"curves and images: tensorboard --logdir {planned.request.runs}")


def _use(done: "Experiment") -> str:
    """Return the attack that uses a training, and in which role."""
    from seg_mia.tasks.style_autoencoder import TextureTraining

    if isinstance(done.model, TextureTraining):
        return "adain --attack.weights"
    if done.datamodule.shadow is not None:
        return "mia-calibrated --shadow"
    return "mia-type2 --shadow" if done.datamodule.role == "shadow" else "asma --victim"


def _trust(done: "Experiment") -> str:
    """Return the options that let a later command read this training's checkpoint."""
    from seg_mia.callbacks.card import third_party

    return "".join(f" --trust {path}" for path in third_party(done.model, done.datamodule))


def _audit(words: list[str]) -> int:
    from seg_mia.audit.reading import is_of_predictions
    from seg_mia.audit.run import audit
    from seg_mia.audit.settings import read_settings

    _quiet()
    if is_of_predictions(words):
        from seg_mia.audit.predictions.run import audit_predictions
        from seg_mia.audit.predictions.settings import read_prediction_settings

        result = audit_predictions(read_prediction_settings(words), words, say=print)
    else:
        result = audit(read_settings(words), say=print)
    print(f"\naudit in {result.folder}")
    for line in result.headline():
        print(line)
    print(f"report: {result.folder / 'report.html'}; curves and images: tensorboard --logdir {result.runs}")
    return 1 if result.failed else 0


def _fleet(words: list[str]) -> None:
    from seg_mia.audit.fleet import ATTACKS
    from seg_mia.commands.fleet import HELP, fleet

    if asks(words):
        print(HELP.format(attacks=", ".join(ATTACKS)), end="")
        return
    _quiet()
    for line in fleet(words, say=print):
        print(line)


def _report(words: list[str]) -> int:
    from seg_mia.report.command import report

    outcome = report(words)
    for line in outcome.lines():
        print(line)
    return 1 if outcome.failed else 0


def _prepare(words: list[str]) -> None:
    from seg_mia.commands.prepare import prepare

    _quiet()
    for line in prepare(words):
        print(line)


def _texture(words: list[str]) -> None:
    from seg_mia.commands.texture import texture

    for line in texture(words):
        print(line)


def _export(words: list[str]) -> None:
    if len(words) != 2 or words[0].startswith("-"):
        if {"-h", "--help"} & set(words):
            print(
                "usage: python -m seg_mia export CHECKPOINT FILE\n\nWrite the weights and the network's "
                "description"
            )
            print("without split, data settings and paths to a new file that can be shared.")
            return
        raise InputError(f"export takes CHECKPOINT and FILE, got {len(words)} arguments")
    from seg_mia.checkpoint import export
    from seg_mia.runs import checkpoint_file

    print(f"written: {export(checkpoint_file(words[0]), words[1])}")


def _verify(words: list[str]) -> int:
    from seg_mia.report.verify import USAGE, verify

    if {"-h", "--help"} & set(words):
        print(USAGE, end="")
        return 0
    result = verify(words)
    for line in result.lines():
        print(line)
    return 1 if result.failed else 0


def _compare(words: list[str]) -> None:
    from seg_mia.report.compare import USAGE, are_reports, compare_reports

    if {"-h", "--help"} & set(words):
        print(USAGE, end="")
        return
    if len(words) != 2 or any(word.startswith("-") for word in words):
        raise InputError(
            f"compare takes two folders of membership results, or two reports, got {len(words)} arguments"
        )
    if are_reports(words):
        for line in compare_reports(*words).lines():
            print(line)
        return
    from seg_mia.membership.compare import compare

    difference = compare(*words)
    sure = (
        "the interval excludes 0" if difference.low > 0 or difference.high < 0 else "the interval includes 0"
    )
    print(
        f"difference of AUC {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]: {sure}"
    )


def _show_log() -> None:
    """Print this package's log on standard error."""
    import logging

    logger = logging.getLogger("seg_mia")
    logger.setLevel(logging.INFO)
    for handler in [handler for handler in logger.handlers if handler.name == "seg_mia"]:
        logger.removeHandler(handler)  # it writes to the standard error of an earlier call
    stream = logging.StreamHandler()
    stream.name = "seg_mia"
    logger.addHandler(stream)


def _quiet() -> None:
    """Print the log, but not Lightning's advertisements; its warnings about this run are kept."""
    import logging
    import warnings

    _show_log()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    _tell_of_ended_ranks()
    # Lightning's own code asks torch in a way that torch has replaced.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
    # Cached images are read faster by the main process than by workers.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Layers that stay fixed are in evaluation mode for good; where that would hide something it is refused.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # A resumed run writes where it wrote before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")
    # The dashboard shows every epoch; a batch-wise log of fewer batches than its interval is no mistake.
    warnings.filterwarnings(
        "ignore", message=".*number of training batches.*smaller than the logging interval.*"
    )


def _tell_of_ended_ranks() -> None:
    """Show why a run of several ranks ends: Lightning kills all of them when one has ended."""
    import logging

    logger = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    stream = logging.StreamHandler()
    stream.setFormatter(
        logging.Formatter("\nseg_mia: error: a rank has failed, so the run ends: %(message)s")
    )
    logger.handlers, logger.propagate = [stream], False
    logger.setLevel(logging.INFO)


EXPERIMENTS = ("fit", "adopt", "validate", "test", "predict")
"""Commands that Lightning's command line runs."""
PLAIN: dict[str, Callable[[list[str]], int | None]] = {
    "audit": _audit,
    "fleet": _fleet,
    "report": _report,
    "prepare": _prepare,
    "texture": _texture,
    "export": _export,
    "compare": _compare,
    "verify": _verify,
}
"""Commands other than methods of Lightning's trainer; each may return an exit code."""
