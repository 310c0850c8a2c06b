"""The command line: parse, run the command, end with one line where it fails."""

import sys

import torch

from training import commands, distributed
from training.arguments import parser_for
from training.data import DataError
from training.hardware import HardwareError
from training.networks.header import CheckpointError
from training.run import TrainingError


def main(argv: list[str]) -> None:
    """Run one command.

    Errors that a person can mend are one line on stderr and exit status 1. Ctrl-C is one line too,
    and exit status 130.
    """
    arguments = parser_for(argv).parse_args(argv)
    torch.set_num_threads(getattr(arguments, "threads", 1))
    # Adam's moments of weights that stopped moving decay into denormals, which are slow.
    torch.set_flush_denormal(True)
    try:
        if arguments.command == "publish":
            commands.release(arguments)
        elif arguments.command == "evaluate":
            commands.measure(arguments)
        elif arguments.command == "export":
            commands.export(arguments)
        elif arguments.command == "judge":
            commands.judge(arguments)
        else:
            commands.train(arguments, argv)
    except (
        *(DataError, TrainingError, HardwareError, CheckpointError, ValueError, OSError),
    ) as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        distributed.leave()


if __name__ == "__main__":
    main(sys.argv[1:])
