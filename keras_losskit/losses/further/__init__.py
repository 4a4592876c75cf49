"""Losses that Keras lacks."""

__all__ = [
    "classification",
    "gaussian",
    "knowledge_distillation",
    "linear_cross_entropy",
    "lovasz",
    "overlap",
    "robust",
]
