"""The exceptions that pygpt raises for input it cannot use.

Bad arguments raise the built-in ``ValueError`` or ``TypeError``; everything else derives from `PygptError`.
"""


def check_type(argument: str, value: object, *kinds: type) -> None:
    """TypeError, which names the argument, unless the value is of one of these kinds."""
    if not isinstance(value, kinds):
        allowed = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise TypeError(f"{argument} must be of type {allowed}, not {type(value).__name__}")


class PygptError(Exception):
    """The root of pygpt's own exceptions."""


class CheckpointError(PygptError):
    """A checkpoint is missing, damaged, or disagrees with its configuration.

    The message names the file and, where one is involved, the tensor, what was expected and what was found.
    """


class ConfigError(PygptError):
    """A model configuration lacks a key or holds a value that pygpt cannot run."""


class TokenizerError(PygptError):
    """A tokenizer is missing, damaged, or asked for something outside its vocabulary."""


class ContextOverflowError(PygptError):
    """More tokens than the model's context can hold."""


class Cancelled(PygptError):  # noqa: N818 - the word users know from asyncio and concurrent.futures
    """The computation was cancelled before it finished; the session is as it was before the call."""


class Overloaded(PygptError):  # noqa: N818 - what HTTP calls it, too
    """A scheduler takes nothing now: its queue is full, or it is closed."""


class TrainingError(PygptError):
    """Training cannot start or go on: text, settings or a run folder that do not fit, or a loss that is not finite."""
