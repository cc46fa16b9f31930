"""Files of tools, held against the schemas that check-jsonschema ships."""

from pathlib import Path

from check_jsonschema import main
from click.testing import CliRunner


def schema_errors(file: Path, schema: str) -> str:
    """Return what is wrong with a file by a schema's name, empty for nothing."""
    result = CliRunner().invoke(main, ["--builtin-schema", schema, str(file)])
    return "" if result.exit_code == 0 else result.output
