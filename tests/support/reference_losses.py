"""Losses by their definitions, in NumPy: one value per sample."""

import numpy as np


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def class_sums(labels, p):
    y = np.eye(p.shape[-1])[labels]
    places = tuple(range(1, p.ndim - 1))
    return (y * p).sum(places), y.sum(places), p.sum(places)


def generalized_dice(labels, logits):
    hit, y, p = class_sums(labels, softmax(logits))
    values = []
    for i in range(len(hit)):
        present = y[i] > 0
        w = np.zeros(len(y[i]))
        w[present] = 1 / y[i][present] ** 2
        w[~present] = w.max()
        values.append(1 - 2 * (w * hit[i]).sum() / (w * (y[i] + p[i])).sum())
    return np.array(values)


def focal_tversky(labels, logits, alpha=0.7, beta=0.3, gamma=4 / 3):
    hit, y, p = class_sums(labels, softmax(logits))
    index = hit / (hit + alpha * (y - hit) + beta * (p - hit))
    return ((1 - index) ** (1 / gamma)).mean(-1)


def jaccard_loss(missed, truth):
    """1 - |A and B| / |A or B| when the places `missed` are wrong."""
    wrong = missed & truth, missed & ~truth
    return 1 - (truth.sum() - wrong[0].sum()) / (truth.sum() + wrong[1].sum())


def lovasz(labels, logits):
    """The Lovasz extension by its definition, one error after the other."""
    p = softmax(logits)
    values = []
    for image, probabilities in zip(labels, p, strict=True):
        image = image.reshape(-1)
        probabilities = probabilities.reshape(-1, p.shape[-1])
        per_class = []
        for c in np.unique(image):
            truth = image == c
            errors = np.abs(truth - probabilities[:, c])
            total, before = 0.0, 0.0
            missed = np.zeros(len(image), "bool")
            for place in np.argsort(-errors):
                missed[place] = True
                after = jaccard_loss(missed, truth)
                total += errors[place] * (after - before)
                before = after
            per_class.append(total)
        values.append(np.mean(per_class))
    return np.array(values)


def poly1(labels, logits, epsilon=1.0):
    p = softmax(logits)[np.arange(len(labels)), labels]
    return -np.log(p) + epsilon * (1 - p)


def asymmetric(y, logits, positive=1.0, negative=4.0, margin=0.05):
    p = sigmoid(logits)
    shifted = np.maximum(p - margin, 0)
    holds = y * (1 - p) ** positive * np.log(p)
    does_not = (1 - y) * shifted**negative * np.log(1 - shifted)
    return -(holds + does_not).mean(-1)


def pinball(y, prediction, q=0.9):
    error = y - prediction
    return np.where(error > 0, q * error, (q - 1) * error).mean(-1)


def gaussian_nll(y, prediction, full=False):
    m, s = np.split(prediction, 2, -1)
    density = -0.5 * (np.log(2 * np.pi) * full + s + (y - m) ** 2 / np.exp(s))
    return -density.mean(-1)


def kl(y, prediction):
    m, s = np.split(prediction, 2, -1)
    return 0.5 * (np.exp(s) + m**2 - 1 - s).sum(-1)


def distillation(teacher, student, temperature=3.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)
