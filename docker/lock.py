"""Pin what docker/Dockerfile installs: `make lock` brings uv and writes docker/*.lock from pyproject.toml."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
OLDEST = "3.11"
BUILDS = re.compile(
    r"(torch|torchvision|triton|(cuda|nvidia)-[a-z0-9-]+)=="
)  # what differs between CPU and CUDA
VERSIONS = re.compile(r"(?:torch|torchvision)==\S+")

ABOUT = (
    "# Written by `make lock`: the newest versions that pyproject.toml admits, for Python 3.11 or newer.\n"
)
NOTES = {
    "build.lock": "# What builds the wheel.\n",
    "packages.lock": "# Everything but PyTorch.\n",
    "torch.lock": "# PyTorch as PyPI has it: CUDA builds, which run on a CPU, too.\n",
    "torch-cpu.lock": "# PyTorch from an index of CPU builds, whose files are others: versions alone.\n",
}


def compiled(requirements: str) -> str:
    """Return every package that the requirements lead to, with its version and the hashes of its files."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--universal"]
    command += ["--fork-strategy", "fewest", "--python-version", OLDEST, "--generate-hashes", "-"]
    return subprocess.run(command, input=requirements, text=True, stdout=subprocess.PIPE, check=True).stdout


def entries(text: str) -> list[str]:
    """Return a lock file's packages, each with the lines of its hashes."""
    return [part for part in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE) if not part.startswith("#")]


def parted(text: str) -> dict[str, str]:
    """Return the lock files of an image, by name, from the text of all that it needs."""
    every = entries(text)
    torch = [entry for entry in every if BUILDS.match(entry)]
    plain = [found[0] + "\n" for entry in torch if (found := VERSIONS.match(entry))]
    return {
        "packages.lock": "".join(entry for entry in every if entry not in torch),
        "torch.lock": "".join(torch),
        "torch-cpu.lock": "".join(plain),
    }


def write(folder: Path, locks: Iterable[tuple[str, str]]) -> None:
    """Write lock files with a line on what they are."""
    for name, text in locks:
        (folder / name).write_text(ABOUT + NOTES[name] + text)


if __name__ == "__main__":
    project = tomllib.loads(PROJECT.read_text())
    image = parted(compiled("\n".join(project["project"]["dependencies"])))
    builder = {"build.lock": compiled("\n".join(project["build-system"]["requires"]))}
    write(HERE, (image | builder).items())
