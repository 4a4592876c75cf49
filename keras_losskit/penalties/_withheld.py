"""What stands for logits that a pass does without.

It goes through layers, lists and dicts to an output of the model. Whoever reads
it on the way is refused, since there is nothing to read.
"""

from typing import NoReturn

import keras


class WithheldLogitsError(ValueError, AttributeError):
    """Logits were read that are not there; `hasattr` may ask for them."""


class WithheldLogits:
    """In place of the logits of a layer.

    Args:
        features: What the layer was given.
        output_layer: The `OutputLayer` of the layer.

    Raises:
        WithheldLogitsError: Where it is read.
    """

    def __init__(self, features, output_layer):
        self.path = output_layer.layer.path or output_layer.layer.name
        self.features = features
        self.output_layer = output_layer

    def refuse(self, reader="a computation") -> NoReturn:
        """Say who reads the logits."""
        raise WithheldLogitsError(
            f"Expected the logits of layer '{self.path}', which LinearCross"
            "Entropy does without, to be an output of the model and read by "
            f"nothing else. Received: {reader}, which reads them. Take "
            "SparseCategoricalCrossentropy(from_logits=True) as the loss."
        )

    def __getattr__(self, name):
        # What copies and pickles ask an object for before it has any.
        if "path" not in self.__dict__:
            raise AttributeError(name)
        self.refuse(f"`.{name}`")

    def __repr__(self):
        return f"<the logits of '{self.path}', withheld>"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        del types
        withheld_in((args, kwargs))[0].refuse(f"`{function.__name__}`")


def _refusing(name):
    def method(self, *args, **kwargs):
        del args, kwargs
        self.refuse()

    method.__name__ = name
    return method


for _name in (
    *("__array__", "__jax_array__", "__tf_tensor__", "__bool__", "__float__"),
    *("__len__", "__iter__", "__getitem__", "__neg__", "__abs__"),
    *("__lt__", "__le__", "__gt__", "__ge__"),
    *(
        f"__{side}{operator}__"
        for side in ("", "r")
        for operator in ("add", "sub", "mul", "truediv", "pow", "matmul")
    ),
):
    setattr(WithheldLogits, _name, _refusing(_name))


def with_features(outputs):
    """`(outputs, {position: WithheldLogits})`, the features in their place."""
    flat, found = keras.tree.flatten(outputs), {}
    for position, output in enumerate(flat):
        if isinstance(output, WithheldLogits):
            found[position], flat[position] = output, output.features
    return keras.tree.pack_sequence_as(outputs, flat), found


def withheld_in(structure):
    """All `WithheldLogits` of a structure, a list."""
    leaves = keras.tree.flatten(structure)
    return [leaf for leaf in leaves if isinstance(leaf, WithheldLogits)]
