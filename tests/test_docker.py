"""The container's files, without an engine: hosted CI builds the image, hadolint reads the Dockerfile."""

import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import seg_mia
from seg_mia.audit.settings import read_settings
from tests.schemas import schema_errors

ROOT = Path(seg_mia.__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
HASHED = ("build.lock", "packages.lock", "torch.lock")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")

if not DOCKER.is_dir():
    pytest.skip("only a checkout has the container's files", allow_module_level=True)


JOINED = re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text())
STEPS = [(kind, value) for kind, value in re.findall(r"^([A-Z]+) (.+)$", JOINED, flags=re.MULTILINE)]
"""Instructions and what follows them; hadolint (`make check`) judges their syntax."""


def of(kind: str) -> list[str]:
    return [value for instruction, value in STEPS if instruction == kind]


def settings(kind: str) -> dict[str, str]:
    pairs = (word.partition("=") for value in of(kind) for word in shlex.split(value))
    return {name: value for name, _, value in pairs}


def locked(name: str) -> dict[str, tuple[Requirement, str]]:
    """Return a lock file's packages: what is asked for, and everything that follows, the hashes among it."""
    packages: dict[str, tuple[Requirement, str]] = {}
    for part in re.split(r"^(?=[a-z0-9])", (DOCKER / name).read_text(), flags=re.MULTILINE)[1:]:
        head, _, following = part.partition("\n")
        wanted = Requirement(head.removesuffix("\\").strip())
        packages[canonicalize_name(wanted.name)] = (wanted, following)
    return packages


def pinned(name: str) -> dict[str, Version]:
    """Return the versions of a lock file that hold on this machine."""
    versions = {}
    for package, (wanted, _) in locked(name).items():
        (pin,) = wanted.specifier
        assert pin.operator == "=="
        if wanted.marker is None or wanted.marker.evaluate():
            versions[str(package)] = Version(pin.version)
    return versions


def runtime() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"]]


def test_the_image_runs_the_tool_and_not_as_root() -> None:
    last = STEPS[max(at for at, (kind, _) in enumerate(STEPS) if kind == "FROM") :]
    (user,) = [value for kind, value in last if kind == "USER"]
    assert all(int(part) > 0 for part in user.split(":"))
    assert max(at for at, (kind, _) in enumerate(last) if kind == "RUN") < last.index(("USER", user))
    assert [json.loads(value) for kind, value in last if kind == "ENTRYPOINT"] == [
        ["python", "-m", "seg_mia"]
    ]


def test_the_image_says_what_it_is() -> None:
    labels = settings("LABEL")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    kind = "org.opencontainers.image"
    assert labels[f"{kind}.version"] == seg_mia.__version__
    assert labels[f"{kind}.description"] == project["description"]
    assert labels[f"{kind}.licenses"] == project["license"]
    assert {labels[f"{kind}.base.name"]} == {value.split()[0] for value in of("FROM")}


def test_nothing_is_fetched_by_address() -> None:
    assert not of("ADD")
    for file in (*DOCKER.iterdir(), ROOT / ".dockerignore"):
        if file.is_file():
            assert "://" not in file.read_text(), f"{file.name} names a host"


def test_every_package_that_is_installed_is_pinned() -> None:
    installs = [part for step in of("RUN") for part in re.findall(r"pip install [^;&]*", step)]
    assert len(installs) == 5
    for install in installs:
        words = shlex.split(install)
        sure = "--require-hashes" in words or "--no-deps" in words
        assert sure, f"{install} may bring what no lock file has"
        assert [word for word in words[2:] if not word.startswith(("-", "$", "/"))] in ([], ["build.lock"])
    (wheel,) = [step for step in of("RUN") if "pip wheel" in step]
    assert {"--no-deps", "--no-build-isolation"} <= set(shlex.split(wheel))


def test_nothing_reaches_the_builder_but_what_is_copied() -> None:
    """Runs, data, keys and checkpoints stay out: everything is refused first, and code alone is let in."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    admitted = [rule[1:] for rule in rules if rule[0] == "!"]
    sources = [
        re.sub(r"/[\w-]+\.lock$", "/*.lock", word)
        for value in of("COPY")
        if not value.startswith("--from=")
        for word in value.split()[:-1]
    ]
    assert set(admitted) == set(sources)
    assert all(list(ROOT.glob(source)) for source in sources)
    after = rules[rules.index(f"!{admitted[-1]}") + 1 :]
    assert set(after) == {"**/__pycache__", "**/*.pyc", "**/*.ckpt", "**/*.pth"}


def test_no_step_and_no_service_holds_a_secret() -> None:
    given = {name for kind in ("ARG", "ENV") for name in settings(kind)}
    given |= {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert not [name for name in given if re.search("TOKEN|KEY|SECRET|PASS|CREDENTIAL", name)]


@pytest.mark.parametrize("name", HASHED)
def test_lock_files_pin_every_file_by_hash(name: str) -> None:
    packages = locked(name)
    assert packages
    for package, (_, rest) in packages.items():
        hashes = re.findall(r"--hash=(\S+)", rest)
        assert hashes, f"{package} has no hash"
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)


def test_lock_files_hold_what_the_package_needs() -> None:
    versions = pinned("packages.lock") | pinned("torch.lock")
    for wanted in runtime():
        name = canonicalize_name(wanted.name)
        assert name in versions, f"{name} is in no lock file: make lock"
        assert wanted.specifier.contains(versions[name]), f"{name} {versions[name]} is not {wanted.specifier}"
    (backend,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    needed = Requirement(backend)
    assert needed.specifier.contains(pinned("build.lock")[needed.name])


def test_torch_stands_apart_and_is_the_same_in_both_builds() -> None:
    torch = pinned("torch.lock")
    cpu = pinned("torch-cpu.lock")
    assert set(cpu) == {"torch", "torchvision"}
    assert cpu == {name: torch[name] for name in cpu}
    assert not set(torch) & set(pinned("packages.lock"))


def test_make_lock_parts_the_packages_as_they_lie() -> None:
    spec = importlib.util.spec_from_file_location("lock", DOCKER / "lock.py")
    assert spec
    assert spec.loader
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    heads = {name: lock.ABOUT + note for name, note in lock.NOTES.items()}
    files = {name: (DOCKER / name).read_text() for name in heads}
    assert all(text.startswith(heads[name]) for name, text in files.items())
    bodies = {name: text.removeprefix(heads[name]) for name, text in files.items() if name != "build.lock"}
    assert lock.parted(bodies["torch.lock"] + bodies["packages.lock"]) == bodies


COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def mounts(service: dict[str, Any], **given: str) -> dict[str, tuple[str, str]]:
    """Return what lies at each place of a service, and whether it may be written."""
    found = {}
    for line in service["volumes"]:
        text = VARIABLE.sub(lambda match: given.get(match[1], match[2]), line)
        source, place, *mode = text.split(":")
        found[place] = (source, mode[0] if mode else "rw")
    return found


def test_compose_fits_its_schema(tmp_path: Path) -> None:
    assert schema_errors(DOCKER / "compose.yaml", "vendor.compose-spec") == ""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DOCKER / "compose.yaml").read_text().replace("cap_drop", "cap_drops"))
    assert "cap_drops" in schema_errors(wrong, "vendor.compose-spec")


def test_services_and_their_images() -> None:
    assert set(SERVICES) == {"audit", "audit-gpu", "tensorboard"}
    assert SERVICES["audit-gpu"]["profiles"] == ["gpu"]
    images = {name: service["image"] for name, service in SERVICES.items()}
    plain = f"seg_mia:{seg_mia.__version__}"
    assert images == {"audit": plain, "audit-gpu": f"{plain}-cuda", "tensorboard": plain}
    devices = {name: service["build"]["args"]["DEVICE"] for name, service in SERVICES.items()}
    assert devices == {"audit": "cpu", "audit-gpu": "cuda", "tensorboard": "cpu"}
    for service in SERVICES.values():
        build = service["build"]
        assert set(build["args"]) <= set(settings("ARG"))
        assert (DOCKER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
    (device,) = SERVICES["audit-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    default = VARIABLE.fullmatch(service["user"])
    assert default
    assert default.groups() == ("SEG_MIA_USER", of("USER")[0])
    assert "privileged" not in service


@pytest.mark.parametrize("name", ["audit", "audit-gpu"])
def test_an_audit_reads_the_data_and_cannot_change_or_send_it(name: str) -> None:
    service = SERVICES[name]
    at = mounts(service)
    assert at == {"/data": ("no_data", "ro"), "/runs": ("runs", "rw"), "/cache": ("cache", "rw")}
    assert {source for source, _ in at.values()} == set(COMPOSE["volumes"])
    own = mounts(service, SEG_MIA_DATA="/srv/ct", SEG_MIA_RUNS="/srv/runs")
    assert own["/data"] == ("/srv/ct", "ro")
    assert own["/runs"] == ("/srv/runs", "rw")
    assert service["network_mode"] == "none"
    assert "ports" not in service


@pytest.mark.parametrize("name", ["audit", "audit-gpu"])
def test_the_tool_understands_the_audits_command(name: str) -> None:
    service = SERVICES[name]
    word, *rest = service["command"]
    assert word == "audit"
    asked = read_settings(rest)
    assert asked.name == "phantom_audit"
    assert asked.attacks
    assert asked.runs == "/runs"
    assert service["environment"]["SEG_MIA_DATA"] == "/data"
    assert service["environment"]["SEG_MIA_CACHE"].startswith("/cache/")


def test_the_image_has_the_folders_that_services_mount() -> None:
    assert set(json.loads(of("VOLUME")[0])) == {"/runs", "/cache"}
    assert any("mkdir -m 1777 /runs /cache" in step for step in of("RUN"))
    inside = settings("ENV")
    assert inside["SEG_MIA_DATA"] == "/data"
    given = SERVICES["audit"]["environment"]
    assert given == {name: inside[name] for name in given}


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated")  # which TensorBoard ships
def test_tensorboard_shows_the_runs_to_this_machine_alone() -> None:
    from tensorboard import program
    from tensorboard.plugins.core import core_plugin

    service = SERVICES["tensorboard"]
    assert service["ports"] == ["127.0.0.1:6006:6006"]
    assert mounts(service) == {"/runs": ("runs", "ro")}
    assert mounts(service, SEG_MIA_RUNS="/srv/runs") == {"/runs": ("/srv/runs", "ro")}
    words = [*service["entrypoint"], *service["command"]]
    board = program.TensorBoard([core_plugin.CorePluginLoader()])
    board.configure(words)
    assert words[0] == "tensorboard"
    assert (board.flags.logdir, board.flags.host, board.flags.port) == ("/runs", "0.0.0.0", 6006)


@pytest.mark.parametrize(
    ("device", "index", "said"),
    [
        ("cpu", "", "-m pip install --no-deps --require-hashes --requirement /locks/torch.lock"),
        ("cuda", "", "-m pip install --no-deps --require-hashes --requirement /locks/torch.lock"),
        ("cpu", "any", "-m pip install --no-deps --index-url any --requirement /locks/torch-cpu.lock"),
        ("cuda", "any", None),
        ("tpu", "", None),
        ("", "", None),
    ],
)
def test_the_build_of_torch_follows_the_arguments(
    tmp_path: Path, device: str, index: str, said: str | None
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    (step,) = [value for value in of("RUN") if "TORCH_INDEX" in value]
    env = {"PATH": str(tmp_path), "DEVICE": device, "TORCH_INDEX": index}
    done = subprocess.run(["/bin/sh", "-c", step], env=env, capture_output=True, text=True, check=False)
    if said is None:
        assert done.returncode == 1
        assert f"got DEVICE={device} TORCH_INDEX={index}" in done.stderr
    else:
        assert done.stdout.strip() == said
