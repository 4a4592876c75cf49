"""The only place that touches a private name of Keras.

Each function says which private names it uses and the versions of Keras that
were tried; `tests/test_keras_private.py` says which of them broke.
"""

from keras.src import tree
from keras.src.backend.common.masking import get_keras_mask as get_keras_mask


def register_tree_node_class(cls):
    """Let `keras.tree` look into `cls`. `keras.src.tree`, 3.14 to 3.15."""
    tree.register_tree_node_class(cls)
