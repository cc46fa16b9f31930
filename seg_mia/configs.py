"""Names to files: the configs that ship with the package, found from any working directory."""

from pathlib import Path

from seg_mia.errors import InputError


def config_folder() -> Path:
    """Return the folder of shipped configs: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "lightning_configs"
    return installed if installed.is_dir() else package.parent / "lightning_configs"


def find_config(name: str, kind: str = "") -> Path:
    """Return the file that `name` means: a path, or a bare name in the sub-folder `kind` of the shipped configs.

    Raises InputError with the known names when there is no such file.
    """
    folder = config_folder() / kind
    for candidate in (Path(name), folder / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    what = f"{kind} config" if kind else "config"
    raise InputError(f"no {what} {name!r}: not a file, and the known names are {', '.join(known(kind)) or 'none'}")


def known(kind: str = "") -> list[str]:
    """Return the bare names of the shipped configs of a kind."""
    return sorted(path.stem for path in (config_folder() / kind).glob("*.yaml"))
