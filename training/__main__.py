"""The command line: parse the arguments, run the command, report errors in one line."""

import os
import signal
import sys
from typing import NoReturn

from training.cli.allocator import keep_freed_memory
from training.cli.threads import wait_passively

INTERRUPTED, PIPE_CLOSED = 130, 141  # exit statuses of a process that SIGINT or SIGPIPE ends


def _end_at_once(*_: object) -> NoReturn:
    os.write(2, b"\nstopped\n")
    os._exit(INTERRUPTED)


def main(argv: list[str]) -> None:
    """Run one command.

    Errors that the user can fix are one line on stderr, exit status 1; Ctrl-C is one line, status
    130; a closed pipe on stdout (``| head``) is silent, status 141.
    """
    # Imported here because torch takes seconds, and Ctrl-C during the import is one line too.
    try:
        import torch
        from safetensors import SafetensorError
    except ModuleNotFoundError as error:  # the service's wheel has this package, not what it needs
        raise SystemExit(
            f"error: {sys.executable} has no package '{error.name}'; in the project's folder, run "
            "`make dev`, or `pip install '.[train]'` and this again"
        ) from error

    from training.cli import commands
    from training.cli.arguments import parser_for
    from training.cli.importing import with_values_joined
    from training.cli.train import train
    from training.data.dataset import DataError
    from training.networks.files import CheckpointError
    from training.optim import distributed
    from training.optim.hardware import HardwareError
    from training.presets import PRESETS
    from training.runs.errors import TrainingError

    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        arguments = parser_for(argv).parse_args(with_values_joined(argv))
        torch.set_num_threads(getattr(arguments, "threads", 1))
        # Adam's moments of weights that no longer change decay to denormals, which are slow.
        torch.set_flush_denormal(True)
        if arguments.command in PRESETS:
            train(arguments, argv)
        else:
            commands.COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discard what is still buffered
        raise SystemExit(PIPE_CLOSED) from None
    except (
        *(DataError, TrainingError, HardwareError, CheckpointError, ValueError, OSError),
        SafetensorError,
    ) as error:
        raise SystemExit(f"error: {error}") from error
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if not isinstance(error, torch.OutOfMemoryError) and "CPUAllocator" not in said:
            raise
        ways = []
        if arguments.command in PRESETS:
            ways += ["a smaller --batch-size", "fewer --draws of a vae"]
        if isinstance(error, torch.OutOfMemoryError) and hasattr(arguments, "device"):
            ways += ["--device cpu"]
        advice = f" Take {' or '.join(ways)}" if ways else ""
        raise SystemExit(f"error: {said}{advice}") from error
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        distributed.leave()


if __name__ == "__main__":
    wait_passively()  # before main imports torch
    keep_freed_memory()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _end_at_once)
    main(sys.argv[1:])
