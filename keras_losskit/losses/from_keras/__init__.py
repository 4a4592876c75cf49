"""Every loss of `keras.losses`, with operators and a full config."""

__all__ = [
    "categorical",
    "margin",
    "probabilistic",
    "regression",
    "segmentation",
    "sequence",
    "similarity",
    "sparse",
]
