"""`shoal schema`."""

from __future__ import annotations

from shoal.cli.options import shoal_command
from shoal.cli.output import emit


@shoal_command(
    "schema",
    ("shoal schema > shoal.schema.json", "write it where an editor finds it"),
)
def command(as_json: bool) -> None:
    """Print the JSON Schema of the app file, for editors and other tools.

    An editor with a YAML language server (VS Code, Neovim, Helix, Zed and others) completes and checks shoal.yaml when
    its first line is `# yaml-language-server: $schema=shoal.schema.json`. JetBrains' editors ask for the file under
    "JSON Schema Mappings".
    """
    from shoal.spec.schema import json_schema

    emit(json_schema())
