"""Errors a user can act on, and the exit code of each.

Every error says what is wrong, where (key, file or host) and what to do. The table is
printed by `python -m core --help` and kept in step with docs/troubleshooting.md by a test.
"""


class CoreError(Exception):
    """Base of every expected failure; `exit_code` is what the command line returns."""

    exit_code = 1
    meaning = "unexpected failure: a defect, please report it with its traceback"


class ConfigError(CoreError):
    exit_code = 2
    meaning = "bad configuration, run spec or command line"


class DataError(CoreError):
    exit_code = 3
    meaning = "data set or weights missing, unreachable or damaged"


class StorageError(CoreError):
    exit_code = 4
    meaning = "a file could not be written"


class DeviceError(CoreError):
    exit_code = 5
    meaning = "the device cannot be used, or is too busy to be measured"


class BudgetError(CoreError):
    exit_code = 6
    meaning = "the time budget is too small for any tensor"


class TrainingError(CoreError):
    exit_code = 7
    meaning = "training or profiling cannot go on"


class MissingPackageError(CoreError):
    exit_code = 8
    meaning = "a package or interpreter is missing"


class PeerError(CoreError):
    exit_code = 9
    meaning = "the other side of a connection cannot be reached, or is refused"


class UnreachableError(CoreError):
    exit_code = 10
    meaning = "a board cannot be reached, or stays silent; what runs there goes on"


class LoginError(CoreError):
    exit_code = 11
    meaning = "a board's host key is unknown or changed, or it refuses the login"


class BoardError(CoreError):
    exit_code = 12
    meaning = (
        "a board lacks something: room, a folder, a program, the right time; or a transfer broke"
    )


class BusyError(CoreError):
    exit_code = 13
    meaning = "a board is taken by another run"


# Exit codes of errors that come again when the same is started again.
INCURABLE = (2, 3, 4, 7, 8)


def given_up(reason: str, exit_code: int) -> PeerError:
    """Of a side of a run that will not come back. exit_code: the one that it ended with, which is
    the run's where the same would come again."""
    error = PeerError(reason)
    if exit_code in INCURABLE:
        error.exit_code = exit_code
    return error


INTERRUPTED = {
    129: "stopped: the terminal was closed (SIGHUP)",
    130: "stopped by Ctrl-C (SIGINT)",
    143: "stopped by SIGTERM",
}


def exit_codes() -> dict[int, str]:
    """Every exit code with its meaning, in order."""
    errors: list[type[CoreError]] = [CoreError, *CoreError.__subclasses__()]
    return {0: "success", **{e.exit_code: e.meaning for e in errors}, **INTERRUPTED}
