"""Completion of commands and options, as a script for a shell."""

import argparse
import re
from collections.abc import Mapping

SHELLS = ("bash", "zsh")

_SCRIPT = """\
_genserve() {{
  local words="{commands}" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in
{cases}
    esac
  done
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _genserve genserve
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def completion_script(
    parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser], shell: str
) -> str:
    """A script to be evaluated by ``bash`` or ``zsh``.

    Args:
        parser: Of the whole command line.
        commands: The parser of each command.
        shell: One of ``SHELLS``.
    """
    cases = "\n".join(
        f'      {name}) words="{" ".join(_options(command))}" ;;'
        for name, command in commands.items()
    )
    words = " ".join([*commands, *_options(parser)])
    return (_ZSH if shell == "zsh" else "") + _SCRIPT.format(commands=words, cases=cases)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """The long options, as --help lists them."""
    return sorted(set(re.findall(r"--[a-z][a-z-]*", parser.format_usage())))
