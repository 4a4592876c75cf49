"""The page of `report`: where the loss goes, in a browser.

One file that needs no network and asks for nothing. Contributions are stacked,
values, weights and shares are lines, and beside each picture is a table of its
numbers. Terms can be switched off, axes made logarithmic and lines smooth.
"""

from keras_losskit.web.page import Report
from keras_losskit.web.page import report

__all__ = ["Report", "report"]
