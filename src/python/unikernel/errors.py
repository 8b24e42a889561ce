"""The toolkit's one exception for everything that a user can put right."""


class UnikernelError(Exception):
    """Bad input or a bad environment. The message is one clear statement: what is wrong, where, and what to do about it."""


def describe_os_error(error: OSError) -> str:
    """Return one line with the path that the operating system rejected, if it is known, and the reason."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}." if error.filename is not None else f"{reason}."
