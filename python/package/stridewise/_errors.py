"""What the package raises. Each message names the file, tensor, node or argument, what was expected and what was found."""


class Error(Exception):
    """Anything that this package raises."""


class FileError(Error, OSError):
    """A file can't be opened, read, mapped or written."""


class FormatError(Error, ValueError):
    """A file is not what its format demands."""


class WeightsError(Error, ValueError):
    """Weights that an architecture needs are missing, unexpected, of another shape, or not finite."""


class ShapeError(Error, ValueError):
    """An array has another shape than the one that is needed."""


class DTypeError(Error, TypeError):
    """An array or a tensor of a file has another element type than the one that is needed."""


class ArgumentError(Error, ValueError):
    """An argument means nothing."""


class Cancelled(Error):
    """The run was cancelled."""


class TimedOut(Error, TimeoutError):
    """The run took longer than its limit."""
