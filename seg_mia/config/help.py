"""Selection of help pages: the command's options, and those of the classes on the command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from seg_mia.config.composition import stacked
from seg_mia.config.files import Config, is_inline, read_yaml
from seg_mia.config.options import options_in, taken

ADOPT = (
    "adopt takes the options of fit except --defence and --resume. It trains nothing: --model.weights FILE "
    "holds the weights of a network trained elsewhere.\n\n"
    "  --reference-predictions FOLDER  masks or probabilities of the deployed system, named by sample: the\n"
    "                                  network's masks must agree with them\n"
    "  --agreement 0.99                lowest accepted agreement, mean Dice\n\n"
    "A MONAI bundle is adopted from its folder, with a --config of data alone (fit trains its network):\n\n"
    "  --bundle FOLDER                 with configs/inference.json or .yaml and models/model.pt or .ts\n"
    "  --trust FOLDER                  the same folder: run the Python expressions in its config\n\n"
    "A training of nnU-Net v2 is adopted from its folder, without --config:\n\n"
    "  --nnunet FOLDER                 nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION\n"
    "  --folds 0                       folds whose networks are averaged: 0, or 0,1,2, or all (default)\n"
    "  --raw FOLDER                    nnUNet_raw/DATASET; found below $nnUNet_raw or beside nnUNet_results\n"
    "  --splits FILE                   splits_final.json; found likewise below nnUNet_preprocessed\n"
    "  --checkpoint FILE               name in each fold's folder (default checkpoint_final.pth)\n"
    "  --mirroring true                average over mirror images, as nnU-Net does\n"
    "  --step 0.5                      distance of patches as a fraction of their sides\n"
    "  --unseen both                   non-members: validation, imagesTs, or both; by default what exists\n"
    "  --data.patient '(.+)_[0-9]+'    patient in a case's name; each case is a patient if not given"
)
PARTS = ("model", "data", "attack", "release")


class Page(NamedTuple):
    """One page.

    Attributes:
        title: a line above it, empty for the command's own.
        args: arguments for LightningCLI, the command first; it prints the page and exits.
        path: option whose class it explains, empty for the command's own.
    """

    title: str
    args: tuple[str, ...]
    path: str = ""


_FOREIGN = re.compile(r",\s+known\s+subclasses:\s+torch\.[^)]*\)")
_PROGRAM = re.compile(r"^usage: (?!seg_mia)\S+", re.MULTILINE)


def asks(words: Sequence[str]) -> bool:
    """Return whether a command line requests help."""
    return bool({"-h", "--help"} & set(words)) or any(map(_of_part, words))


def pages(words: Sequence[str]) -> list[Page]:
    """Return the help pages of a command line.

    `--help` shows the command's options, those of every class in a config or an attack, and those
    common to all data sets. `--attack.scorer.help` shows one class alone.

    Raises:
        InputError: unknown names.
    """
    name, *options = words
    command = "fit" if name == "adopt" else name
    classes = dict(_classes([word for word in options if not asks([word])]))
    if parts := list(filter(_of_part, options)):
        paths = [(word, word.removeprefix("--").removesuffix(".help")) for word in parts]
        return [
            _page(command, path, classes) if path in classes else Page("", (command, word))
            for word, path in paths
        ]
    first = [Page(ADOPT if name == "adopt" else "", (command, "--help"))]
    if "data" not in classes:
        first.append(Page("options of every data set", (command, "--data.help")))
    return first + [_page(command, path, classes) for path in classes]


def tidy(text: str, path: str = "") -> str:
    """Return a page's text with unbroken options, and without the hundred module classes of torch."""
    if "." in path:
        text = text.replace(f"--{path.rpartition('.')[2]}.", f"--{path}.")
    return _PROGRAM.sub("usage: seg_mia", _FOREIGN.sub(")", text))


def _of_part(word: str) -> bool:
    return word.partition("=")[0].endswith(".help") and word.startswith("--")


def _page(command: str, path: str, classes: Mapping[str, str]) -> Page:
    chain = [f"--{outer}={kind}" for outer, kind in classes.items() if path.startswith(f"{outer}.")]
    return Page(f"options of --{path}", (command, *chain, f"--{path}.help={classes[path]}"), path)


def _classes(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the classes in configs, attack and release, with the option of each."""
    files, options = taken(options_in(words), "config")
    merged: Config = {}
    for layer in stacked(files):
        merged |= {part: spec for part, spec in layer.content.items() if part in PARTS}
    for part in ("attack", "release"):
        for name in taken(options, part, part)[0][-1:]:
            merged[part] = read_yaml(name) if name.endswith((".yaml", ".yml")) or is_inline(name) else name
    for part, spec in merged.items():
        yield from _nested(part, spec)


def _nested(path: str, spec: object) -> Iterator[tuple[str, str]]:
    if isinstance(spec, str):
        spec = {"class_path": spec}
    if not isinstance(spec, dict) or not isinstance(spec.get("class_path"), str):
        return
    yield path, spec["class_path"]
    arguments = spec.get("init_args")
    for name, inner in arguments.items() if isinstance(arguments, dict) else ():
        if isinstance(inner, dict):
            yield from _nested(f"{path}.{name}", inner)
