"""`shoal completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from shoal.cli.options import shoal_command
from shoal.cli.output import emit, say

SHELLS = {
    "bash": ("~/.bashrc", 'eval "$(shoal completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(shoal completion zsh)"'),
    "fish": ("~/.config/fish/completions/shoal.fish", "shoal completion fish | source"),
}
"""Where the line goes, and the line."""


@shoal_command(
    "completion",
    ("shoal completion bash", 'in ~/.bashrc: eval "$(shoal completion bash)"'),
    ("shoal completion zsh", 'in ~/.zshrc, after compinit: eval "$(shoal completion zsh)"'),
    ("shoal completion fish", "into ~/.config/fish/completions/shoal.fish"),
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
def command(shell: str, as_json: bool) -> None:
    """Print the script that completes commands, options and the names of services in SHELL."""
    from shoal.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None
    completion = made(cli, {}, "shoal", "_SHOAL_COMPLETE")
    # Not `source()`, which for bash starts one to ask for its version.
    script = completion.source_template % completion.source_vars()
    if as_json:
        emit({"shell": shell, "file": SHELLS[shell][0], "line": SHELLS[shell][1], "script": script})
    else:
        say(script.rstrip("\n"))
