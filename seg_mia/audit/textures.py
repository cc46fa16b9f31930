"""Auto-encoders for the texture attack of an audit: trained once, and taken again by later audits."""

import hashlib
import json
from pathlib import Path

from seg_mia import __version__
from seg_mia.audit.settings import Settings
from seg_mia.audit.stages import options
from seg_mia.callbacks.tables import write_json
from seg_mia.configs import composed, find_config, in_yaml, read_yaml
from seg_mia.errors import InputError
from seg_mia.experiment import run
from seg_mia.models.texture import EXPORT
from seg_mia.plan import plan
from seg_mia.runs import TEXTURES

SHARED = ("root", "cache", "size", "split_seed", "shadow_share")
"""Settings of the audit's data that also hold for the auto-encoders' training."""
KEY = "made_from.json"


def check(config: str) -> None:
    """Raise InputError for a config that there is not, or that trains something else."""
    _, files = composed(["--config", str(find_config(config))], [])
    model = in_yaml(files, "model")
    if not isinstance(model, dict) or model.get("class_path") != TEXTURES:
        raise InputError(
            f"weights names {config}, which trains no texture auto-encoders; texture_quick does, or give "
            "a folder"
        )


def trained(config: str, settings: Settings) -> Path | None:
    """Return the run of an earlier audit that trained just these auto-encoders, if there is one."""
    key = _key(config, settings)
    for file in sorted(_folder(config, settings).glob(f"*/{EXPORT}/{KEY}"), reverse=True):
        if json.loads(file.read_text()).get("key") == key:
            return file.parent.parent
    return None


def train(config: str, settings: Settings) -> Path:
    """Train auto-encoders, leave a note of what they were made from, and return the run's folder."""
    done = run(_words(config, settings))
    write_json(done.folder / EXPORT / KEY, {"key": _key(config, settings), "config": config})
    return done.folder


def _words(config: str, settings: Settings) -> list[str]:
    data = {name: value for name, value in settings.data.items() if name in SHARED}
    return ["fit", "--config", config, "--runs", settings.runs, *options("data.", data)]


def _folder(config: str, settings: Settings) -> Path:
    return plan(_words(config, settings)).folder


def _key(config: str, settings: Settings) -> str:
    _, files = composed(["--config", str(find_config(config))], [])
    said = [__version__, *_words(config, settings), *(read_yaml(file) for file in files)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
