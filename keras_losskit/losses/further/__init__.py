"""Losses that Keras lacks."""

__all__ = [
    "classification",
    "gaussian",
    "knowledge_distillation",
    "lovasz",
    "overlap",
    "robust",
]
