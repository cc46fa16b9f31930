"""Settings of data without effect in metadata and configs of earlier runs, which were not refused then."""

from pathlib import Path
from typing import Any, cast

from seg_mia.config.files import inline, read_yaml
from seg_mia.config.options import Layer
from seg_mia.config.spec import ClassSpec

_NEUTRAL: dict[str, dict[str, Any]] = {
    "patch": {"patch_foreground": 0.33},
    "manifest": {"image_column": "image", "mask_column": "mask"},
}
"""Values without effect of settings that need another one, by this one's name."""


def read_resumed(config: Path) -> Layer:
    """Return the config of a run to resume, whose settings without effect are taken back."""
    content = read_yaml(str(config))
    data = content.get("data")
    if not isinstance(data, dict) or (now := without_idle(cast("ClassSpec", data))) == data:
        return Layer(str(config), content)
    content = content | {"data": now}
    return Layer(inline(content), content)


def without_idle(data: ClassSpec) -> ClassSpec:
    """Return a data module's specification with settings that have no effect at the values that say so.

    A setting that another one leaves without effect is refused where a user gives it. A run can no longer
    take it back, so its network would be lost.

    Args:
        data: class_path and init_args; a class outside seg_mia is left as it is.
    """
    given = data.get("init_args")
    if not isinstance(given, dict) or not str(data.get("class_path")).startswith("seg_mia."):
        return data
    neutral = dict[str, Any]()
    for name, values in _NEUTRAL.items():
        if name in given and given[name] is None:
            neutral |= {idle: value for idle, value in values.items() if idle in given}
    if any(given.get(name) for name in ("windows", "percentiles")):
        neutral |= {idle: None for idle in ("level", "width") if idle in given}
    return {**data, "init_args": given | neutral}
