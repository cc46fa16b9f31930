"""The container's files, without an engine: the Dockerfile's steps run in folders that stand for stages."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import seg_mia
from seg_mia.audit.settings import read_settings

ROOT = Path(seg_mia.__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
HASHED = ("build.lock", "packages.lock", "torch.lock")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
GIGABYTE = 1 << 30

if not DOCKER.is_dir():
    pytest.skip("only a checkout has the container's files", allow_module_level=True)


STEPS = [
    (step["instruction"], step["value"])
    for step in DockerfileParser(str(DOCKER / "Dockerfile")).structure
    if step["instruction"] != "COMMENT"
]


def of(kind: str) -> list[str]:
    return [value for instruction, value in STEPS if instruction == kind]


def copied(value: str) -> tuple[str | None, list[str], str]:
    """Return of a COPY the stage that it takes from, its sources and its target."""
    words = shlex.split(value)
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    assert not words[0].startswith("--"), f"the tests know no {words[0]}"
    return stage, words[:-1], words[-1]


def settings(kind: str) -> dict[str, str]:
    pairs = (word.partition("=") for value in of(kind) for word in shlex.split(value))
    return {name: value for name, _, value in pairs}


def ignored(path: str, rules: str) -> bool:
    """Tell whether a .dockerignore leaves a path out: the last rule that fits it, or a folder above it."""
    out = False
    for line in rules.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        rule = line.strip().removeprefix("!")
        pattern = re.escape(rule).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", path):
            out = not line.startswith("!")
    return out


def locked(name: str) -> dict[str, tuple[Requirement, str]]:
    """Return a lock file's packages: what is asked for, and everything that follows, the hashes among it."""
    found: dict[str, tuple[Requirement, str]] = {}
    for part in re.split(r"^(?=[a-z0-9])", (DOCKER / name).read_text(), flags=re.MULTILINE)[1:]:
        head, _, rest = part.partition("\n")
        wanted = Requirement(head.removesuffix("\\").strip())
        found[canonicalize_name(wanted.name)] = (wanted, rest)
    return found


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


def test_what_an_image_starts_from_is_named_by_version_and_fits_the_package() -> None:
    for value in of("FROM"):
        image, *_ = value.split()
        name, _, tag = image.partition(":")
        assert "/" not in name
        found = re.fullmatch(r"(3\.\d+)-slim-\w+", tag)
        assert found, f"{image} has no version"
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
        assert Requirement(f"python{wanted}").specifier.contains(found[1])


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


def test_every_source_is_there_and_reaches_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text()
    sources = [source for stage, found, _ in map(copied, of("COPY")) if stage is None for source in found]
    assert {"pyproject.toml", "seg_mia", "lightning_configs"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), f"no {source}"
        assert not ignored(source, rules), f".dockerignore leaves out {source}"
    modules = [file.relative_to(ROOT).as_posix() for file in (ROOT / "seg_mia").rglob("*.py")]
    assert not [module for module in modules if ignored(module, rules)]


def test_a_stage_is_copied_from_only_where_there_is_one() -> None:
    stages = {value.split()[-1] for value in of("FROM") if " AS " in value}
    assert {stage for stage, _, _ in map(copied, of("COPY")) if stage} == stages


@pytest.mark.parametrize(
    "path",
    [
        "runs/kvasir_victim/version_0/checkpoints/last.ckpt",
        "runs/kvasir_victim/version_0/salt",
        "data/patient.png",
        ".git/config",
        ".venv/bin/python",
        "docker/data/patient.png",
        "seg_mia/__pycache__/cli.cpython-312.pyc",
        "seg_mia/models/victim.ckpt",
        "victim.pth",
    ],
)
def test_nothing_private_reaches_the_builder(path: str) -> None:
    assert ignored(path, (ROOT / ".dockerignore").read_text())


def test_rules_of_dockerignore_are_read_as_docker_reads_them() -> None:
    rules = "# all\n*\n!a\n!b/*.lock\n**/c\n"
    kept = ["a", "a/x", "a/x/y", "b/q.lock"]
    left_out = ["b", "z", "b/q.txt", "b/d/q.lock", "a/c", "a/x/c", "a/x/c/y", "# all"]
    assert [path for path in kept + left_out if not ignored(path, rules)] == kept


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


def schema_errors(file: Path, schema: str) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


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


def test_tensorboard_shows_the_runs_to_this_machine_alone() -> None:
    service = SERVICES["tensorboard"]
    assert service["ports"] == ["127.0.0.1:6006:6006"]
    assert mounts(service) == {"/runs": ("runs", "ro")}
    assert mounts(service, SEG_MIA_RUNS="/srv/runs") == {"/runs": ("/srv/runs", "ro")}
    code = """if True:
        import sys
        from tensorboard import default, program
        board = program.TensorBoard(default.get_plugins())
        board.configure(sys.argv)
        print(board.flags.logdir, board.flags.host, board.flags.port)"""
    words = [*service["entrypoint"], *service["command"]]
    done = subprocess.run(
        [sys.executable, "-c", code, *words[1:]], capture_output=True, text=True, check=False
    )
    assert words[0] == "tensorboard"
    assert done.stdout.split() == ["/runs", "0.0.0.0", "6006"], done.stderr


@dataclass
class Stage:
    """A stage of the Dockerfile: a folder that stands for /, in it an environment for the image's Python."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def start(self) -> None:
        self.place("/tmp").mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", str(self.place("/usr"))], check=True)
        given = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        path = f"{self.place('/usr/bin')}:/usr/bin:/bin"
        self.env = given | {"PATH": path, "HOME": os.environ["HOME"], "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def place(self, path: str) -> Path:
        return self.root / os.path.normpath(f"/{self.folder}/{path}" if path[0] != "/" else path).lstrip("/")

    def here(self, text: str) -> str:
        """Put absolute paths under the folder."""
        return re.sub(r"(?:(?<=[\s=\"'])|^)/(?=\w)", f"{self.root}/", text)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.place("."), env=self.env, capture_output=True, text=True, check=False
        )

    def installed(self) -> dict[str, str]:
        listed = json.loads(self.run("python", "-m", "pip", "list", "--format", "json").stdout)
        return {canonicalize_name(each["name"]): each["version"] for each in listed}


class Build:
    """What the Dockerfile's steps leave behind, with folders for stages; pip keeps its cache."""

    def __init__(self, top: Path, **arguments: str) -> None:
        self.top = top
        self.arguments = arguments
        self.stages: dict[str, Stage] = {}

    def make(self, name: str, steps: list[tuple[str, str]]) -> subprocess.CompletedProcess[str]:
        """Run a stage's steps, up to the first that fails, and return how the last RUN ended."""
        stage = self.stages[name] = Stage(self.top / name)
        stage.start()
        done = subprocess.CompletedProcess("", 0, "", "")
        for kind, value in steps:
            match kind:
                case "RUN":
                    done = stage.run("sh", "-c", stage.here(value))
                    if done.returncode:
                        break
                case "COPY":
                    self.copy(stage, value)
                case "ARG":
                    argument, _, default = value.partition("=")
                    stage.env[argument] = self.arguments.get(argument, default)
                case "ENV":
                    pairs = [word.partition("=") for word in shlex.split(value)]
                    kept = {key: stage.here(text) for key, _, text in pairs if key != "PIP_NO_CACHE_DIR"}
                    stage.env.update(kept)
                case "WORKDIR":
                    stage.folder = value
                    stage.place(".").mkdir(parents=True, exist_ok=True)
                case _:
                    assert kind in {"LABEL", "VOLUME", "USER", "ENTRYPOINT", "CMD"}, (
                        f"the tests know no {kind}"
                    )
        return done

    def copy(self, stage: Stage, value: str) -> None:
        origin, sources, target = copied(value)
        place = stage.place(target)
        for source in sources:
            found = self.stages[origin].place(source) if origin else ROOT / source
            if found.is_dir():
                shutil.copytree(
                    found, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, place)


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return each stage's steps; the last, which has no name, is the image."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, value in STEPS:
        if kind == "FROM":
            name = value.split()[-1] if " AS " in value else "image"
            found[name] = []
        else:
            found[name].append((kind, value))
    return found


def torch_step() -> int:
    (at,) = [
        at for at, (kind, value) in enumerate(stages()["image"]) if kind == "RUN" and "TORCH_INDEX" in value
    ]
    return at


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
    _, step = stages()["image"][torch_step()]
    env = {"PATH": str(tmp_path), "DEVICE": device, "TORCH_INDEX": index}
    done = subprocess.run(["/bin/sh", "-c", step], env=env, capture_output=True, text=True, check=False)
    if said is None:
        assert done.returncode == 1
        assert f"got DEVICE={device} TORCH_INDEX={index}" in done.stderr
    else:
        assert done.stdout.strip() == said


def wheel_of(folder: Path, name: str, version: str) -> None:
    """Write a package without content, and the page that an index has for it."""
    page = folder / name
    page.mkdir(parents=True)
    file = f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(page / file, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (page / "index.html").write_text(f'<a href="{file.replace("+", "%2B")}">{file}</a>')


@pytest.mark.slow
def test_an_index_of_cpu_builds_gives_both_and_nothing_else_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    builds = {name: f"{version}+cpu" for name, version in pinned("torch-cpu.lock").items()}
    wheel_of(tmp_path / "simple", "torch", builds["torch"])
    build = Build(tmp_path / "build", DEVICE="cpu", TORCH_INDEX=(tmp_path / "simple").as_uri())
    steps = stages()["image"]
    lacking = build.make("image", steps[: torch_step() + 1])
    assert "No matching distribution found for torchvision" in lacking.stderr
    wheel_of(tmp_path / "simple", "torchvision", builds["torchvision"])
    image = build.stages["image"]
    done = image.run("sh", "-c", image.here(steps[torch_step()][1]))
    assert done.returncode == 0, done.stderr
    found = image.installed()
    assert {name: found.get(name) for name in builds} == builds


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder for gigabytes, emptied afterwards."""
    free = shutil.disk_usage(tmp_path).free
    if free < 12 * GIGABYTE:
        pytest.skip(
            f"an image takes 12 GB while it is built, {free / GIGABYTE:.1f} are free under {tmp_path}"
        )
    yield tmp_path / "build"
    shutil.rmtree(tmp_path / "build", ignore_errors=True)


@pytest.mark.slow
def test_the_steps_of_the_dockerfile_give_a_tool_that_runs(room: Path) -> None:
    build = Build(room)
    for name, steps in stages().items():
        done = build.make(name, steps)
        assert done.returncode == 0, f"{done.args}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    image = build.stages["image"]
    wanted = {
        name: str(version) for name, version in (pinned("packages.lock") | pinned("torch.lock")).items()
    }
    found = image.installed()
    assert found.pop("seg-mia") == seg_mia.__version__
    assert {name: version for name, version in found.items() if name != "pip"} == wanted
    entrypoint = json.loads(of("ENTRYPOINT")[0])
    assert image.run(*entrypoint, "--version").stdout.strip() == seg_mia.__version__
    helped = image.run(*entrypoint, *json.loads(of("CMD")[0]))
    assert helped.stderr == ""
    assert "phantom_audit" in helped.stdout
    assert image.run("tensorboard", "--version").stdout.split()[-1:] == [found["tensorboard"]]
    assert {oct(image.place(path).stat().st_mode & 0o7777) for path in ("/runs", "/cache")} == {"0o1777"}
