"""Files, commands, options, names and examples of the documentation exist and work."""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from jsonargparse import ArgumentParser

from seg_mia.attacks.base import Perturbation
from seg_mia.attacks.certify import Certification
from seg_mia.attacks.feature_statistics import Texture
from seg_mia.audit.predictions.settings import FIELDS
from seg_mia.audit.settings import Settings, VictimRow
from seg_mia.cli import PLAIN
from seg_mia.config.files import find_config, known, read_yaml
from seg_mia.config.spec import resolve as class_at
from seg_mia.experiment.nnunet import NnUNetTraining
from seg_mia.report.rules.statement_rules import RULES
from tests.documents import NOTEBOOK, ROOT, cells, text_of

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [file.relative_to(ROOT).as_posix() for file in DOCUMENTS]
LARGEST = 300_000
COMMANDS = (*PLAIN, "fit", "adopt", "validate", "test", "predict")
EXAMPLE = "sparse"
"""The attack that CONTRIBUTING.md walks through."""


@cache
def code_blocks(file: Path) -> tuple[str, ...]:
    """Fenced blocks of any kind, and indented ones."""
    text = text_of(file)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}\S.*\n?)+", prose(file), flags=re.MULTILINE)
    return (*fenced, *indented)


@cache
def prose(file: Path) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```\n?", "", text_of(file), flags=re.MULTILINE | re.DOTALL)


def anchors(file: Path) -> set[str]:
    """What GitHub names a document's headings."""
    found = set[str]()
    for heading in re.findall(r"^#{1,6} +(.+)$", prose(file), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        again = [other for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other)]
        found.add(f"{name}-{len(again)}" if again else name)
    return found


def links(file: Path) -> list[tuple[str, str, str]]:
    """Whether it is an image ("!" or ""), text and target of every link."""
    plain = re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), prose(file))
    return re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", plain)


@pytest.mark.parametrize("file", DOCUMENTS, ids=IDS)
def test_links_lead_to_files_and_headings(file: Path) -> None:
    for _, text, target in links(file):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), f"[{text}]({target}) leads nowhere"
        assert there.is_relative_to(ROOT), f"[{text}]({target}) leaves the repository"
        if anchor:
            assert anchor in anchors(there), f"[{text}]({target}): headings are {sorted(anchors(there))}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=IDS)
def test_pictures_are_small_and_described(file: Path) -> None:
    for mark, text, target in links(file):
        if mark and not target.startswith("http"):
            assert len(text.split()) >= 3, f"{target} needs a description for those who cannot see it"
            assert (file.parent / target).stat().st_size < LARGEST, f"{target} is too large for a page"


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        (file.parent / target).resolve() for file in DOCUMENTS for mark, _, target in links(file) if mark
    }
    assert set((ROOT / "docs" / "images").iterdir()) <= shown


@pytest.mark.parametrize("file", DOCUMENTS, ids=IDS)
def test_no_document_names_a_folder_of_the_machine_it_was_written_on(file: Path) -> None:
    found = re.findall(r"(?<![\w.\-])/(?:work|tmp|root|home)/[\w.\-/]*", text_of(file))
    assert not found


@pytest.mark.parametrize("kind", ["attack", "defence", "release"])
def test_every_attack_defence_and_release_is_described(kind: str) -> None:
    place = {"attack": ("attacks.md", "membership.md")}.get(kind, ("defences.md",))
    text = "".join(text_of(ROOT / "docs" / name) for name in place)
    for name in known(kind):
        assert re.search(rf"`(?:--{kind} )?{re.escape(name)}`", text), f"{kind} {name} is in none of {place}"
        assert name in text_of(ROOT / "README.md"), f"{kind} {name} is not in the README"


def described(name: str, file: str, *, beside: str = "") -> bool:
    """Whether an option stands as code in a document, with or without what leads to it."""
    pattern = rf"`[^`]*(?<![\w]){re.escape(beside)}{re.escape(name)}(?!\w)[^`]*`"
    return re.search(pattern, text_of(ROOT / "docs" / file)) is not None


@pytest.mark.parametrize(("kind", "file"), [("attack", "attacks.md"), ("defence", "defences.md")])
def test_every_option_of_an_attack_or_defence_is_described(kind: str, file: str) -> None:
    for name in known(kind):
        path = str(read_yaml(str(find_config(name, kind)))["class_path"])
        if path.startswith("seg_mia.membership"):
            continue
        for option in arguments(path):
            assert described(option, file), f"{file} does not tell of {name}'s {option}"


@pytest.mark.parametrize("part", ["signal", "scorer"])
def test_every_option_of_a_membership_attack_is_described(part: str) -> None:
    for name in known("attack"):
        content = read_yaml(str(find_config(name, "attack"))).get("init_args", {})
        if part in content:
            for option in arguments(content[part]["class_path"]):
                assert described(option, "membership.md"), f"membership.md does not tell of {name}'s {option}"


def notebook_commands() -> Iterator[list[str]]:
    """The words of every list in the notebook that begins with a command."""
    for node in ast.walk(ast.parse("\n".join(cells("code")))):
        if isinstance(node, ast.List):
            words = [each.value for each in node.elts if isinstance(each, ast.Constant)]
            if words and words[0] in COMMANDS:
                yield [str(word) for word in words]


def commands(file: Path) -> Iterator[list[str]]:
    """The words of every command in blocks of code (behind `python -m seg_mia`) and in text (`fit --...`)."""
    if file == NOTEBOOK:
        yield from notebook_commands()
        return
    for block in code_blocks(file):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            found = re.match(r"\s*(?:\S*python|docker .*? audit)(?: -m seg_mia)? (.*)", line)
            if found and "-m seg_mia" in line and EXAMPLE not in line:
                yield words_of(found[1])
    for line in re.findall(rf"`((?:{'|'.join(COMMANDS)}) [^`\n]*--[^`\n]*)`", prose(file)):
        yield words_of(line)


def words_of(line: str) -> list[str]:
    """A command's words; quotes stay together, a comment is left out."""
    return re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\s#])+", re.sub(r"\s#.*", "", line))


NAMED = {"--config": "", "--attack": "attack", "--defence": "defence", "--release": "release"}
OWN = {
    "--victim", "--shadow", "--runs", "--trust", "--resume", "--role", "--control", "--save_images", "--help",
    "-c", "--seed_everything", "--reference-predictions", "--agreement", "--bundle",
    *(f"--{name}" for name in NnUNetTraining.__dataclass_fields__),
}  # fmt: skip
PLACEHOLDER = re.compile(r"[A-Z_]+(?:\.yaml)?|\.\.\.")


@pytest.mark.parametrize("file", [*DOCUMENTS, NOTEBOOK], ids=[*IDS, NOTEBOOK.name])
def test_commands_name_what_there_is(file: Path) -> None:
    for words in commands(file):
        command, rest = words[0], words[1:]
        assert command in {*COMMANDS, "--help", "..."}, words
        for word, value in zip(rest, [*rest, ""][1:], strict=True):
            flag, _, inline = word.partition("=")
            named = (inline or value).strip("'\"")
            if flag in NAMED and named and not PLACEHOLDER.fullmatch(named) and not own_file(named):
                find_config(named, NAMED[flag])


def own_file(name: str) -> bool:
    """Whether a document means a file of the reader's."""
    return "/" in name or name.startswith(("my_", "mine", "own"))


@pytest.mark.parametrize("file", [*DOCUMENTS, NOTEBOOK], ids=[*IDS, NOTEBOOK.name])
def test_options_in_commands_exist(file: Path) -> None:
    for words in commands(file):
        for word in words[1:]:
            option = word.partition("=")[0]
            if option.startswith("--") and "NAME" not in option:
                assert exists(option, words), f"{' '.join(words)}: no {option}"


def exists(option: str, words: list[str]) -> bool:
    """Whether a command has an option: of the tool, of a class that it names, of any class there is."""
    first, _, rest = option.removeprefix("--").partition(".")
    return rest.rpartition(".")[2] in below(first, words) if rest else option in of_command(words[0])


def of_command(command: str) -> set[str]:
    """Options of a command itself."""
    if command not in PLAIN:
        return {*OWN, *NAMED}
    fields = list[str]()
    if command == "audit":
        fields = [*Settings.__dataclass_fields__, *FIELDS, "predictions", "seed", "fail-on"]
    if command == "texture":
        fields = list(Texture.__dataclass_fields__)
    return {*source_options(command), *(f"--{name}" for name in fields)}


def below(first: str, words: list[str]) -> set[str] | frozenset[str]:
    """Options that may stand behind `--trainer.`, `--attack.` and so on."""
    match first:
        case "trainer":
            return arguments_of_trainer()
        case "attack" | "release":
            return options_of(first, named_in(words, f"--{first}"))
        case "model" | "data" | "scorer":
            return every_option()
        case _:
            return set()


def named_in(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1] if flag in words else ""


def options_of(kind: str, name: str) -> set[str]:
    """Options of one attack or release and of what it is made of; of all of them where none is named."""
    names = [name] if name in known(kind) else known(kind)
    paths = {path for each in names for path in class_paths(read_yaml(str(find_config(each, kind))))}
    return {option for path in paths for option in arguments(path)}


def class_paths(content: Any) -> Iterator[str]:
    """Every class that a config names."""
    for value in content.values() if isinstance(content, dict) else ():
        yield from class_paths(value)
    if isinstance(content, dict) and "class_path" in content:
        yield content["class_path"]


def arguments(path: str) -> set[str]:
    """What a class may be given; by its source where importing it would bring Lightning or timm."""
    module, _, name = path.rpartition(".")
    if path.startswith(("seg_mia.defences", "seg_mia.membership.scorers")):
        return arguments_in(ROOT / (module.replace(".", "/") + ".py"), name)
    kind = class_at(path)
    if issubclass(kind, Perturbation | Certification):
        return set(ArgumentParser().add_class_arguments(kind))  # those of its function too
    return set(inspect.signature(kind).parameters)


def arguments_in(file: Path, name: str) -> set[str]:
    """The arguments of a class's constructor, or its fields where it has none of its own."""
    body = next(
        node.body
        for node in ast.parse(text_of(file)).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    makers = [node.args for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if makers:
        return {each.arg for each in (*makers[0].args[1:], *makers[0].kwonlyargs)}
    return {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
    }


@cache
def arguments_of_trainer() -> frozenset[str]:
    spec = importlib.util.find_spec("lightning")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    return frozenset(arguments_in(file, "Trainer"))


@cache
def every_option() -> frozenset[str]:
    """Arguments and fields of everything in the package, by its source."""
    found = set[str]()
    for file in (ROOT / "seg_mia").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(file))):
            if isinstance(node, ast.arguments):
                found |= {argument.arg for argument in (*node.args, *node.kwonlyargs)}
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return frozenset(found)


@cache
def source_options(command: str) -> frozenset[str]:
    """Options of a command that reads its own words: those written in its module, and the fields it fills."""
    place = {"report": "report/command.py", "export": "cli.py", "compare": "cli.py", "audit": "cli.py"}
    place |= {"verify": "report/verify.py"}
    text = text_of(ROOT / "seg_mia" / place.get(command, f"commands/{command}.py"))
    fields = re.findall(r"^ {4}(\w+): ", text, flags=re.MULTILINE)
    return frozenset({*re.findall(r'"(--?[\w-]+)"', text), *(f"--{name}" for name in fields), "--config"})


def test_the_reference_lists_every_command_and_every_key_of_an_audit() -> None:
    for command in COMMANDS:
        assert f"\n| `{command}` |" in text_of(ROOT / "docs" / "options.md"), f"options.md has no {command}"
    keys = re.findall(r"^\| (`[^|]*) \|", text_of(ROOT / "docs" / "configs.md"), flags=re.MULTILINE)
    listed = {name for key in keys for name in re.findall(r"`(\w+)`", key)}
    assert set(Settings.__dataclass_fields__) <= listed


def test_the_rules_of_statements_are_those_of_the_code() -> None:
    text = text_of(ROOT / "docs" / "evidence.md")
    listed = re.findall(r"^\| ([A-Z]\d) \| (.*) \|$", text, flags=re.MULTILINE)
    assert dict(listed) == RULES


def test_the_reference_lists_every_option_of_a_fleet() -> None:
    text = text_of(ROOT / "docs" / "options.md")
    source = text_of(ROOT / "seg_mia" / "commands" / "fleet.py")
    for option in re.findall(r'add_argument\("(--\w+)"', source):
        assert f"`{option}" in text, f"options.md has no {option}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=IDS)
def test_yaml_that_is_shown_can_be_read(file: Path) -> None:
    rows = set(VictimRow.__dataclass_fields__)
    for block in re.findall(r"^```yaml\n(.*?)^```", text_of(file), flags=re.MULTILINE | re.DOTALL):
        content = yaml.safe_load(block)
        assert isinstance(content, dict)
        for row in content.get("defences", []):
            assert isinstance(row, str) or set(row) <= rows, row


@pytest.mark.parametrize("file", DOCUMENTS, ids=IDS)
def test_python_that_is_shown_imports_what_there_is(file: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", text_of(file), flags=re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("seg_mia"):
                if str(node.module).endswith(f".{EXAMPLE}"):
                    continue
                spec = importlib.util.find_spec(str(node.module))
                assert spec is not None
                assert spec.origin is not None
                source = text_of(Path(spec.origin))
                for name in node.names:
                    assert re.search(rf"\b{name.name}\b", source), f"{node.module} has no {name.name}"


def test_every_page_is_in_the_navigation() -> None:
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    listed = re.findall(r"^ +- .*?: (\w+\.md)$", text_of(ROOT / "mkdocs.yml"), flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == pages | {"tutorial.md", "contributing.md", "changelog.md"}


def test_the_readme_and_contributing_are_short() -> None:
    for name, most in (("README.md", 1299), ("CONTRIBUTING.md", 899)):
        words = len(text_of(ROOT / name).split())
        assert words <= most, f"{name} has {words} words, at most {most}: shorten it, or move text to docs/"
