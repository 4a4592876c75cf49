"""What a model logs: Keras' metrics, and that of the terms among them."""

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._support.output_structure import in_order_of
from keras_losskit._support.output_structure import like_outputs
from keras_losskit._support.output_structure import names_of_outputs
from keras_losskit._types import MixesIntoModel
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit.container._laying import lay_losses
from keras_losskit.container._tracker import TermTracker
from keras_losskit.models._build_losses import check_names_of_metrics
from keras_losskit.models._token_metrics import update_metrics_without_logits


class LogsTerms(MixesIntoModel):
    """Mixin for a Keras model: the terms are logged, and in no list."""

    def compute_metrics(
        self,
        x: Structure | None,
        y: Structure | None,
        y_pred: Structure,
        sample_weight: Structure | None = None,
    ) -> dict[str, Tensor]:
        """As Keras; sample weights may be given by name, or in part.

        Args:
            x: Inputs of the batch.
            y: Labels.
            y_pred: Predictions.
            sample_weight: Sample weights.

        Returns:
            `{name: result}` of all metrics.
        """
        if isinstance(sample_weight, dict):
            names = names_of_outputs(self)
            sample_weight = like_outputs(sample_weight, y_pred, names)
        if _keras.compiled_metrics(self) is not None:
            y = labels_of_metrics(self, y, y_pred)
        if update_metrics_without_logits(self, y, y_pred, sample_weight):
            results = self.get_metrics_result()
        else:
            results = super().compute_metrics(x, y, y_pred, sample_weight)
        losses = self.compiled_loss and self.compiled_loss.built_losses
        if losses and not losses.names_are_checked:
            check_names_of_metrics(self)
        return results

    def get_metrics_result(self) -> dict[str, Tensor]:
        """As Keras; with the terms and `loss`, whoever leaves them out.

        Returns:
            `{name: result}` of all metrics.
        """
        results = super().get_metrics_result()
        container = self.compiled_loss
        if container is None or container.tracker is None:
            return results
        tracker = container.tracker
        if not self._losskit_has_steps_of_its_own():
            # Those that a `metrics` of the user's leaves out.
            keys = ["loss", *tracker.result_keys()]
            left_out = [key for key in keys if key not in results]
            means = tracker.means() if left_out else {}
            return results | {key: means[key] for key in left_out}
        mean = container.loss_tracker
        if any(metric is mean for metric in self.metrics):
            total = tracker.means()["loss"]
            results["loss"] = ops.where(mean.count > 0, mean.result(), total)
        return results

    def reset_metrics(self) -> None:
        """As Keras, with the terms."""
        super().reset_metrics()
        container = self.compiled_loss
        if container is not None and container.tracker is not None:
            container.tracker.reset_state()

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        """As Keras, with those of the terms, if only Keras' steps use them."""
        variables = super().metrics_variables
        container = self.compiled_loss
        if (
            container is None
            or container.tracker is None
            or self._losskit_has_steps_of_its_own()
        ):
            return variables
        known = {id(variable) for variable in variables}
        of_terms = container.tracker.variables
        return variables + [v for v in of_terms if id(v) not in known]

    def _losskit_has_steps_of_its_own(self):
        """Whether a custom step may say what is logged."""
        return _origin.overrides(self, "train_step") or _origin.overrides(
            self, "test_step"
        )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """As Keras, and the metric of all terms, second.

        Not last: a `train_step` in the style of Keras' guides returns what the
        last one has to say.
        """
        metrics = super().metrics
        # A model that a user's property leaves out is logged as it says.
        terms = [m for m in metrics if isinstance(m, TermTracker)]
        rest = [m for m in metrics if not isinstance(m, TermTracker)]
        return rest[:1] + terms + rest[1:]

    @property
    def metrics_names(self) -> list[str]:
        """As Keras: the names of its metrics, which are not the terms."""
        return [name for names in self._losskit_names() for name in names[:1]]

    def _losskit_names_in_list(self) -> list[str]:
        """The names of Keras' list of results, in its order.

        The terms are not there: `loss, mae = model.evaluate(x, y)` goes on
        working.
        """
        return [name for names in self._losskit_names() for name in names[1:]]

    def _losskit_names(self):
        """Of each metric that Keras has its name, then those of its results."""
        names, of_outputs, place = [], [], 1
        for metric in self.metrics:
            if isinstance(metric, TermTracker):
                plain = {e.key for e in metric.entries if e.plain}
                keys = [key for key in metric.result_keys() if key in plain]
                of_outputs = [(k, k) for k in self._losskit_as_in_list(keys)]
            elif isinstance(metric, _keras.CompileMetrics):
                results = [part.name for part in metric.metrics]
                names.append((metric.name, *results))
                place = len(names)
            else:
                names.append((metric.name, metric.name))
        # The losses of several outputs come after the compiled metrics.
        return names[:place] + of_outputs + names[place:]

    def _losskit_as_in_list(self, keys):
        """The keys of the losses of outputs in the order of Keras' list."""
        if not keys:
            return []
        container = self.compiled_loss
        outputs = container.built_losses.output_losses.outputs
        order = in_order_of(container.losses, outputs.skeleton)
        known = [f"{outputs.names[index]}_loss" for index in order]
        places = {key: place for place, key in enumerate(known)}
        return sorted(keys, key=lambda key: places.get(key, len(known)))

    def _losskit_term_names(self) -> set[str]:
        """The names of all that is logged of the terms."""
        container = self.compiled_loss
        if container is None or container.tracker is None:
            return set()
        keys = set(container.tracker.result_keys())
        own_steps = self._losskit_has_steps_of_its_own()
        return keys if own_steps else keys | {"loss"}


def labels_of_metrics(model, y, y_pred):
    """Labels as Keras' metrics take them: None where a dict has no key.

    Args:
        model: The model.
        y: Labels.
        y_pred: Predictions.

    Raises:
        ValueError: for labels that are missing or fit no output, before a
            metric fails on them.
    """
    if y is None and model.compiled_loss is not None:
        lay_losses(model.compiled_loss, y, y_pred, "/")
    both = isinstance(y, dict) and isinstance(y_pred, dict)
    if not both or y_pred.keys() <= y.keys():
        return y
    names = names_of_outputs(model)
    return like_outputs(y, y_pred, names, argument="y_true")
