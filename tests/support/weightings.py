"""Names of the public weightings of terms; those of samples are apart."""

from keras_losskit import weighting

OF_TERMS = sorted(
    name
    for name in weighting.__all__
    if issubclass(getattr(weighting, name), weighting.Weighting)
)
