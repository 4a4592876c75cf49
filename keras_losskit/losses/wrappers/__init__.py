"""Losses around losses: masks, deep supervision, values by name."""

__all__ = [
    "components",
    "deep_supervision",
    "masked",
]
