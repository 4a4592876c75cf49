"""On PyTorch: the same direction as TorchJD, on random Jacobians."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_losskit import weighting

if keras.config.backend() != "torch":
    pytest.skip("TorchJD is PyTorch's", allow_module_level=True)
torch = pytest.importorskip("torch")
aggregation = pytest.importorskip("torchjd.aggregation")


def upgrad():
    pytest.importorskip("quadprog")
    pytest.importorskip("qpsolvers")
    return aggregation.UPGrad()


def cagrad(c):
    pytest.importorskip("cvxpy")
    return aggregation.CAGrad(c=c)


@pytest.mark.parametrize(
    "make, theirs, sizes",
    [
        (
            weighting.MGDA,
            # Frank-Wolfe: at 2000 steps still 0.2 % too long.
            lambda: aggregation.MGDA(epsilon=1e-12, max_iters=20_000),
            (2, 3, 5),
        ),
        # More than two terms: the order is drawn.
        (weighting.PCGrad, lambda: aggregation.PCGrad(), (2,)),
        (weighting.AlignedMTL, lambda: aggregation.AlignedMTL(), (2, 3, 5, 8)),
        (weighting.IMTLGradient, lambda: aggregation.IMTLG(), (2, 3, 5, 8)),
        (weighting.UPGrad, upgrad, (2, 3, 5, 8)),
        (lambda: weighting.CAGrad(c=0.5), lambda: cagrad(0.5), (2, 3, 5, 8)),
    ],
    ids=["MGDA", "PCGrad", "AlignedMTL", "IMTLGradient", "UPGrad", "CAGrad"],
)
def test_same_direction(make, theirs, sizes):
    theirs = theirs()
    random = np.random.default_rng(11)
    for terms in sizes:
        for _ in range(3):
            jacobian = random.normal(size=(terms, 20))
            expected = theirs(torch.tensor(jacobian)).numpy()
            gramian = ops.array(jacobian @ jacobian.T, "float32")
            weights = ops.convert_to_numpy(make()(gramian, training=True))
            update = weights @ jacobian
            cosine = update @ expected
            cosine /= np.linalg.norm(update) * np.linalg.norm(expected)
            assert cosine > 0.9999
