"""The toolkit's one exception for everything that a user can put right."""


class UnikernelError(Exception):
    """Bad input or a bad environment. The message is one clear statement: what is wrong, where, and what to do about it."""
