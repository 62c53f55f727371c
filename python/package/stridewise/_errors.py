"""What the package raises. Each message names the file, tensor, node or argument, what was expected and what was found."""


class Error(Exception):
    """Anything that this package raises."""


class FileError(Error, OSError):
    """A file can't be opened, read, mapped or written."""


class FormatError(Error, ValueError):
    """A file is not what its format demands."""


class WeightsError(Error, ValueError):
    """Weights that an architecture needs are missing, unexpected, of another shape, or not finite."""


class UnsupportedError(Error, NotImplementedError):
    """A network has ops that this package does not run; the message lists all of them."""


class GraphError(Error, ValueError):
    """A network is malformed, or does not fit the shapes that it is read for."""


class ShapeError(Error, ValueError):
    """An array has another shape than the one that is needed."""


class DTypeError(Error, TypeError):
    """An array or a tensor of a file has another element type than the one that is needed."""


class TooLargeError(Error, ValueError):
    """A size is over a limit, such as `max_memory`; nothing was allocated."""


class KernelError(Error, RuntimeError):
    """The processor has no such instruction set, or a kernel refused."""


class ForkedError(Error, RuntimeError):
    """A thread pool, or a session on it, was used behind a fork: its threads are in the process before."""


class ArgumentError(Error, ValueError):
    """An argument means nothing, or not what a file says."""


class Cancelled(Error):
    """The run was cancelled."""


class TimedOut(Error, TimeoutError):
    """The run took longer than its limit."""
