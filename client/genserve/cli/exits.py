"""How a command ends: exit statuses, and the error that ends it early."""

DONE = 0
DIFFERENT = 1  # verify: a picture does not match its recipe
FAILED = 2  # one line on standard error says why
INTERRUPTED = 130  # as shells report SIGINT


class UsageError(Exception):
    """The command cannot be carried out. The message is one line for standard error."""
