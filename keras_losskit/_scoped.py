"""Values that hold while a function runs, for the thread that runs it."""

import contextvars
import threading
from typing import Any


class Scoped:
    """A value that holds while a function runs, and in no other thread.

    The function runs in a context of its own, which the interpreter leaves as
    it returns or raises. No line of Python undoes anything, so that no
    exception can come in between, be it Ctrl-C.

    Args:
        name: What the value is.

    Example:
        >>> language = Scoped("language")
        >>> language.run("en", language.get), language.get()
        ('en', None)
    """

    def __init__(self, name: str):
        self._variable: contextvars.ContextVar[tuple[int, Any] | None] = (
            contextvars.ContextVar(name, default=None)
        )

    def get(self) -> Any:
        """The value in this thread, or None."""
        held = self._variable.get()
        # A thread may be started with the context of another.
        if held is None or held[0] != threading.get_ident():
            return None
        return held[1]

    def run(self, value, function, /, *args, **kwargs):
        """`function(*args, **kwargs)`, with this value inside."""
        context = contextvars.copy_context()
        context.run(self._variable.set, (threading.get_ident(), value))
        return context.run(function, *args, **kwargs)
