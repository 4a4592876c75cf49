"""Arguments that were renamed: the old name works, and says the new one."""

import json
import warnings

import pytest

from keras_losskit import callbacks
from keras_losskit import weighting

OLD = [
    (weighting.PCGrad, "update_every", "every", 2),
    (weighting.MGDA, "update_every", "every", 2),
    (weighting.GradNorm, "update_every", "every", 2),
    (callbacks.GradientReport, "unit", "by", "step"),
    (callbacks.TermTensorBoard, "update_freq", "every", 3),
]


def made(cls, **arguments):
    try:
        return cls(**arguments)
    except ImportError:
        pytest.skip("needs a package that is optional")


@pytest.mark.parametrize(("cls", "old", "new", "value"), OLD)
def test_old_name_works_with_a_warning_that_names_the_new(cls, old, new, value):
    with pytest.warns(DeprecationWarning, match=f"`{old}`.*`{new}`") as caught:
        instance = made(cls, **{old: value})
    assert getattr(instance, new) == value
    # So that it is shown to who wrote the call.
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match=f"Expected `{new}`.*Received.*`{old}`"):
        cls(**{old: value, new: value})


@pytest.mark.parametrize(("cls", "old", "new", "value"), OLD)
def test_new_name_warns_of_nothing(cls, old, new, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        assert getattr(made(cls, **{new: value}), new) == value


def test_old_configs_load_without_a_warning():
    config = weighting.PCGrad(every=2).get_config()
    config["update_every"] = config.pop("every")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        again = weighting.PCGrad.from_config(json.loads(json.dumps(config)))
    assert again.every == 2


def test_old_word_of_a_method_works_with_a_warning():
    history = callbacks.TermHistory()
    with pytest.warns(DeprecationWarning, match=r"`per` of TermHistory.rows"):
        assert history.rows(per="batch") == history.rows(by="batch") == []
