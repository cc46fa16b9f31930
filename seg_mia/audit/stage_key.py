"""Cache key of a stage: a digest of all inputs of its result."""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path

import yaml
from torch import nn

import seg_mia
from seg_mia.atomic import written_whole
from seg_mia.audit.outside import foreign, outside
from seg_mia.checkpoint import load_victim, network_spec, read_card
from seg_mia.config.files import is_inline, read_yaml
from seg_mia.config.options import Layer, Option, Setting
from seg_mia.config.spec import class_paths
from seg_mia.data.cache import default_folder
from seg_mia.data.digests import content_digest
from seg_mia.experiment.modules import DataModules, model_argument
from seg_mia.experiment.plan import Plan
from seg_mia.models.nnunet.folder import PLANS, nnunet_files
from seg_mia.models.style_autoencoder import EXPORT
from seg_mia.runs import CHECKPOINTS, LAST, surrogate_files

IMMATERIAL = {"root", "cache", "runs", "workers", "enable_progress_bar"}
"""Settings of locations and reading speed; the content at those locations is included by other means."""
FOLDERS = {"target_folder", "weights"}
"""Settings that may contain a folder whose files are included."""
NETWORKS = {"surrogate", "others"}
"""Settings that name checkpoints, runs or folders of runs."""
FOREIGN_CLASS = re.compile(r"--(model|data|attack|.*\.network|.*\.class_path)")
"""Options whose value may be a class path."""


def key_of(plan: Plan, modules: DataModules, device: str = "cpu") -> str:
    """Return one digest of all inputs of a plan's result.

    It covers this package's source and the versions of its dependencies, the plan's settings, the content of
    every referenced file, the checkpoints, the data's fingerprint, the source of third-party classes, and
    files read and outputs given by networks of such classes.

    Args:
        plan: the run.
        modules: data modules of this process, to which the plan's is added.
        device: name of the accelerator that the plan runs on.
    """
    data = modules.of_plan(plan)
    if data is not None:
        data.prepare_data()
    trusted = sorted({*_foreign_classes(plan), *plan.request.trust})
    checkpoints = [plan.checkpoint, *(shadow.file for shadow in plan.shadows)]
    parts = [
        _tool(),
        device,
        plan.command,
        plan.adopts,
        plan.request.control,
        [_reference(plan), plan.request.agreement],
        [_digested(setting) for setting in plan.settings if not _is_immaterial(setting)],
        [content_digest(file).hex() for file in checkpoints if file],
        "" if data is None else data.fingerprint,
        [_source(path) for path in trusted],
        [outside(paths, build, data) for paths, build in _networks(plan)],
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _reference(plan: Plan) -> object:
    """Return the digest of the predictions that an adopted network is compared with."""
    folder = plan.request.reference
    return None if folder is None else _on_disk(Path(folder), folders=True)


@cache
def _tool() -> list[object]:
    """Return the digest of this package's code and the versions of its dependencies."""
    needs = [need for need in requires("seg_mia") or [] if "extra" not in need]
    names = sorted({re.split(r"[^\w.-]", need)[0] for need in needs})
    digest = remembered_digest(Path(seg_mia.__file__).parent, default_folder() / "code")
    return [digest, [(name, version(name)) for name in names]]


def remembered_digest(root: Path, cache: Path) -> str:
    """Return the digest of all Python code below a folder, parsed once for the same bytes and interpreter.

    Args:
        root: folder of the code.
        cache: folder of digests, in files named by the bytes they are of.
    """
    content = _bytes_digest(root)
    remembered = cache / content
    with suppress(OSError, ValueError):
        known, check = remembered.read_text(encoding="ascii").split()
        if check == _check(content, known):
            return known
    digest = code_digest(root)
    if _bytes_digest(root) == content:  # no file was changed while it was read
        with suppress(OSError), written_whole(remembered) as written:
            written.write(f"{digest} {_check(content, digest)}".encode())
    return digest


def _bytes_digest(root: Path) -> str:
    content = hashlib.sha256(sys.version.encode())
    for file in sorted(root.rglob("*.py")):
        content.update(f"\n{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return content.hexdigest()


def _check(content: str, digest: str) -> str:
    return hashlib.sha256(f"{content} {digest}".encode()).hexdigest()


def code_digest(root: Path) -> str:
    """Return the digest of all Python code below a folder, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # texts that stand for themselves are docstrings, of attributes, too
                body[:] = [line for line in body if not _is_text(line)]
        digest.update(f"{file.relative_to(root)}\n{ast.dump(tree)}".encode())
    return digest.hexdigest()


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_immaterial(setting: Setting) -> bool:
    return isinstance(setting, Option) and setting.name.rpartition(".")[2] in IMMATERIAL


def _digested(setting: Setting) -> object:
    """Return a setting with the content of referenced files; those in untrusted settings are not opened."""
    if isinstance(setting, Layer):
        return _with_files(setting.content, trusted=setting.trusted)
    return [setting.flag, _with_files(_value(setting), trusted=True, name=setting.name.rpartition(".")[2])]


def _value(option: Option) -> object:
    """Return an option's value: for a config file its content, for YAML its parsed value."""
    text = option.value or ""
    if text.endswith((".yaml", ".yml")) and Path(text).is_file():
        return read_yaml(text)
    return _plain(text) if text.lstrip().startswith(("{", "[")) else option.value


def _plain(text: str) -> object:
    """Return the YAML value of a text, or the text itself if it is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _with_files(value: object, *, trusted: bool, name: str = "") -> object:
    """Return plain values, with file names replaced by digests."""
    if isinstance(value, dict):
        material = {key: item for key, item in value.items() if key not in IMMATERIAL}
        return {key: _with_files(item, trusted=trusted, name=str(key)) for key, item in material.items()}
    if isinstance(value, list):
        return [_with_files(item, trusted=trusted, name=name) for item in value]
    if name in NETWORKS and trusted and isinstance(value, str) and Path(value).is_dir():
        return [content_digest(file).hex() for file in surrogate_files(value)]
    if isinstance(value, str) and trusted and 0 < len(value) < 4096:
        return _on_disk(Path(value), folders=name in FOLDERS)
    return value


def _on_disk(path: Path, *, folders: bool) -> object:
    """Return the digest of a file or a folder; of a run, that of its weights."""
    try:
        if path.is_file():
            return content_digest(path).hex()
        if folders and path.is_dir():
            last = path / CHECKPOINTS / LAST
            folder = path / EXPORT if (path / EXPORT).is_dir() else path
            if (path / PLANS).is_file():
                files = nnunet_files(path)
            else:
                files = [last] if last.is_file() and folder == path else sorted(folder.rglob("*"))
            return [[file.name, content_digest(file).hex()] for file in files if file.is_file()]
    except (OSError, ValueError):
        pass
    return str(path)


def _foreign_classes(plan: Plan) -> list[str]:
    """Return third-party class paths in the options, the configs or the victim's metadata."""
    specs = list[object]()
    for setting in plan.settings:
        if isinstance(setting, Layer):
            specs.append(setting.content)
        elif setting.value and is_inline(setting.value):
            specs.append(read_yaml(setting.value))
        elif isinstance(value := _value(setting), dict):
            specs.append(value)
        elif FOREIGN_CLASS.fullmatch(setting.flag):
            specs.append({"class_path": setting.value})
    return foreign(specs)


def _source(path: str) -> object:
    """Return digests of all Python files that may define a class: its package's, or its folder's."""
    module = path.rpartition(".")[0]
    try:
        spec = find_spec(module.partition(".")[0]) if module else None
    except (ImportError, ValueError):
        return path
    if spec is None or spec.origin is None:
        return path
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py") if spec.submodule_search_locations else folder.glob("*.py"))
    return [path, [[str(file.relative_to(folder)), content_digest(file).hex()] for file in files]]


def _networks(plan: Plan) -> Iterator[tuple[list[str], Callable[[], nn.Module]]]:
    """Yield the third-party classes of each network that a plan trains or queries, and its builder.

    A victim, a shadow, a surrogate in the options, or a network to be trained or adopted.
    """
    trust = plan.request.trust
    files = [plan.checkpoint if plan.card else None, *(shadow.file for shadow in plan.shadows)]
    for option in plan.options:
        if option.name.rpartition(".")[2] in NETWORKS and (named := _value(option)):
            files += surrogate_files(named if isinstance(named, list) else str(named))
    for file in filter(None, files):
        paths = foreign(network_spec(read_card(file, trust=trust)))
        if paths:
            yield paths, partial(load_victim, file, trust=trust)
    if plan.card is None and (paths := _foreign_classes(plan)):
        yield paths, partial(_untrained, plan)


def _untrained(plan: Plan) -> nn.Module:
    """Return the network that a plan trains or adopts, without weights and defences."""
    network: nn.Module = model_argument(plan, "network", nn.Module)
    return network


def may_train_with(plan: Plan, defence: str) -> bool:
    """Return whether a training's settings contain a defence, or a third-party class that may be one."""
    listed = list[object]()
    for setting in plan.settings:
        if isinstance(setting, Layer):
            listed += _under_defences(setting.content)
        elif setting.name.endswith(".defences"):
            listed.append(_plain(setting.value or ""))
        elif setting.name == "model":
            listed += _under_defences(_value(setting))
    items = [item for entry in listed for item in (entry if isinstance(entry, list) else [entry])]
    paths = [*class_paths(items), *(item for item in items if isinstance(item, str))]
    return any(path.rpartition(".")[2] == defence or not path.startswith("seg_mia.") for path in paths)


def _under_defences(value: object) -> list[object]:
    """Return all values under `defences`, at any depth."""
    if isinstance(value, list):
        return [entry for item in value for entry in _under_defences(item)]
    if not isinstance(value, dict):
        return []
    entries = [value["defences"]] if "defences" in value else []
    return entries + [entry for item in value.values() for entry in _under_defences(item)]
