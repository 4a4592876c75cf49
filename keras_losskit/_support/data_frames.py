"""pandas, where it is installed."""

from types import ModuleType


def pandas_for(method: str, instead: str = "") -> ModuleType:
    """The module `pandas`.

    Args:
        method: What needs it, for the error.
        instead: What gives the numbers without it, if there is something.

    Raises:
        ImportError: without pandas.
    """
    try:
        import pandas
    except ImportError as error:
        remedy = f", or take `{instead}`." if instead else "."
        raise ImportError(
            f"Expected pandas to be installed for `{method}`. Received: no "
            f"module of this name. Run `pip install pandas`{remedy}"
        ) from error
    return pandas
