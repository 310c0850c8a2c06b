"""The command line: ``genserve generate --label 7 --n 16 --seed 42 -o sevens.png``.

Exit status: 0 done; 1 a verified picture does not match its recipe; 2 it failed, and one line on
standard error says why (if a picture's model is not served, the line of its verdict does);
130 interrupted. Of ``serve`` and ``import`` it is that of what they run.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from genserve.cli.exits import FAILED, INTERRUPTED, UsageError, report
from genserve.cli.parser import build_parser
from genserve.cli.serve import import_generator, serve
from genserve.client import Client
from genserve.errors import GenserveError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Of the command line; None = those of this process.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:  # its options are the service's, unknown to the parser
        return serve(given[1:])
    if given[:1] == ["import"]:  # those of training
        return import_generator(given[1:])
    options = build_parser().parse_args(given)
    try:
        with Client(options.url, options.key) as client:
            status = options.run(client, options)
            if sys.stdout is not None:
                sys.stdout.flush()
            return int(status)
    except KeyboardInterrupt:
        part = Path(f"{options.output}.part")
        kept = f"; {part} is kept, the same command resumes it" if part.exists() else ""
        report(f"interrupted{kept}")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        report(f"{where}{error.strerror or error}")
    except (GenserveError, UsageError, ValueError) as error:
        report(str(error))
    return FAILED


if __name__ == "__main__":
    raise SystemExit(main())
