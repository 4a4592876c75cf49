"""What this package adds to classes of Keras: someone who watches the calls.

A `Watcher` that runs a function is told of the layers that this thread calls in
it. Where nobody watches, and in every other thread, Keras' methods do what they
do without the hooks. These are put in place once, on the classes, when the
first model or layer of this package is made, and nothing is put on a layer.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import keras

from keras_losskit._scoped import Scoped
from keras_losskit._types import Structure
from keras_losskit._types import Tensor

_watching = Scoped("keras_losskit.watching")
_lock = threading.Lock()
_installed = False
_originals: dict[tuple[type, str], Any] = {}
#: Run on a model of Keras' before its loss is computed.
checks: list[Callable[[Any], None]] = []


class Watcher:
    """Is told of the layers that a function calls; does nothing by itself."""

    def run(self, function, /, *args, **kwargs):
        """`function(*args, **kwargs)`, watched."""
        return _watching.run(self, function, *args, **kwargs)

    def given(self, layer, args, kwargs):
        """The `__call__` of `layer` begins."""

    def instead_of(self, layer, args, kwargs):
        """What `layer` returns, its `call` left out; None where it is run."""
        del layer, args, kwargs

    def leaves_regularizer_to_keras(self, layer):
        """Whether Keras is to find, and to apply, the activity regularizer.

        If not, `called` has to see to it.
        """
        del layer
        return True

    def computed(self, layer):
        """The `call` of `layer` is over, and not yet its `__call__`."""

    def called(self, layer, outputs):
        """The `__call__` of `layer` is over."""

    def add_loss(self, layer, loss):
        """In place of `layer.add_loss` of Keras."""
        add_loss(layer, loss)

    def in_loop(self, layer, loop):
        """Run `loop`, out of which the RNN `layer` brings no loss."""
        del layer
        return loop()


class HasTerms:
    """Mixin for models whose loss is made of terms.

    They stand in for Keras' trainer, and for nothing in front of it: a custom
    method is run whether its class comes before the mixin or after, and reaches
    Keras' in the end.
    """

    def _losskit_compute_terms(
        self,
        x: Structure | None,
        y: Structure | None,
        y_pred: Structure | None,
        sample_weight: Structure | None,
        training: bool,
    ) -> Tensor:
        """In place of `Trainer.compute_loss`."""
        raise NotImplementedError

    def _losskit_penalty_terms(self) -> list[Any]:
        """The terms beyond the compiled ones after a forward pass."""
        raise NotImplementedError

    def _losskit_kept_outputs(self, layer: Any) -> list[Structure]:
        """The outputs of `layer` in the last pass, one per call."""
        raise NotImplementedError

    def _losskit_container_for(self, loss: Any, loss_weights: Any) -> Any:
        """The loss that `Trainer.compile` is to install, by its arguments."""
        raise NotImplementedError

    def _losskit_install_container(self, container: Any) -> None:
        """Install it; `Trainer.compile` is over."""
        raise NotImplementedError


def watcher():
    """The `Watcher` of this thread, or None."""
    return _watching.get()


def install():
    """Put the hooks in place, unless they are."""
    global _installed
    if _installed:
        return
    with _lock:
        # One by one: what an interrupt leaves undone is done the next time.
        for cls, name, hook in HOOKS:
            found = vars(cls).get(name)
            if found is _originals.setdefault((cls, name), found):
                setattr(cls, name, hook(found))
        _installed = True


def add_loss(layer, loss):
    """Keras' own `add_loss`."""
    _originals[keras.layers.Layer, "add_loss"](layer, loss)


def watched_call(original):
    """`Layer.__call__`, of which the watcher hears before and afterwards."""

    @functools.wraps(original)
    def __call__(self, *args, **kwargs):
        watching = _watching.get()
        if watching is None:
            return original(self, *args, **kwargs)
        watching.given(self, args, kwargs)
        outputs = original(self, *args, **kwargs)
        watching.called(self, outputs)
        return outputs

    return __call__


def watched_operation(original):
    """`Operation.__call__`, which runs `call` inside `Layer.__call__`."""

    @functools.wraps(original)
    def __call__(self, *args, **kwargs):
        watching = _watching.get()
        if watching is None:
            return original(self, *args, **kwargs)
        watching.given(self, args, kwargs)
        instead = watching.instead_of(self, args, kwargs)
        if instead is not None:
            return instead
        outputs = original(self, *args, **kwargs)
        watching.computed(self)
        return outputs

    return __call__


def watched_add_loss(original):
    """`Layer.add_loss`, for which the watcher stands in."""

    @functools.wraps(original)
    def add_loss(self, loss):
        watching = _watching.get()
        if watching is None:
            return original(self, loss)
        return watching.add_loss(self, loss)

    return add_loss


def watched_loop(original):
    """`RNN.inner_loop`, around which the watcher stands."""

    @functools.wraps(original)
    def inner_loop(self, *args, **kwargs):
        watching = _watching.get()
        loop = functools.partial(original, self, *args, **kwargs)
        if watching is None or self.unroll:
            return loop()
        return watching.in_loop(self, loop)

    return inner_loop


def compiled_of_terms(original):
    """`Trainer.compile`, which hands the loss to a model that has terms."""

    @functools.wraps(original)
    def compile(
        self, optimizer="rmsprop", loss=None, loss_weights=None, *args, **kwargs
    ):
        if not isinstance(self, HasTerms):
            return original(
                self, optimizer, loss, loss_weights, *args, **kwargs
            )
        container = self._losskit_container_for(loss, loss_weights)
        original(self, optimizer, None, None, *args, **kwargs)
        return self._losskit_install_container(container)

    return compile


def computed_of_terms(original):
    """`Trainer.compute_loss`, for which a model that has terms stands in."""

    @functools.wraps(original)
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if isinstance(self, HasTerms):
            return self._losskit_compute_terms(
                x, y, y_pred, sample_weight, training
            )
        for check in checks:
            check(self)
        return original(self, x, y, y_pred, sample_weight, training)

    return compute_loss


class WatchedRegularizer:
    """`activity_regularizer`, which the watcher may keep from Keras.

    The value stays where Keras has it, in the instance's dictionary.
    """

    def __init__(self, original=None):
        del original  # Keras has the attribute on instances only

    def __get__(self, layer, cls=None):
        try:
            value = vars(layer)["activity_regularizer"]
        except (KeyError, TypeError):
            raise AttributeError(
                f"{cls.__name__!r} object has no attribute "
                "'activity_regularizer'"
            ) from None
        if value is not None:
            watching = _watching.get()
            if watching is not None and not (
                watching.leaves_regularizer_to_keras(layer)
            ):
                return None
        return value

    def __set__(self, layer, value):
        vars(layer)["activity_regularizer"] = value

    def __delete__(self, layer):
        try:
            del vars(layer)["activity_regularizer"]
        except KeyError:
            raise AttributeError("activity_regularizer") from None


def regularizer_of(layer):
    """The activity regularizer of a layer, whoever watches it."""
    return vars(layer).get("activity_regularizer")


#: Keras' trainer; that of a backend builds on it.
Trainer = next(c for c in keras.Model.__mro__ if "compute_loss" in vars(c))

#: Where a hook stands: the class, the name, and what makes it of the original.
HOOKS = (
    (keras.layers.Layer, "__call__", watched_call),
    (keras.Operation, "__call__", watched_operation),
    (keras.layers.Layer, "add_loss", watched_add_loss),
    (keras.layers.RNN, "inner_loop", watched_loop),
    (keras.layers.Layer, "activity_regularizer", WatchedRegularizer),
    (Trainer, "compile", compiled_of_terms),
    (Trainer, "compute_loss", computed_of_terms),
)
