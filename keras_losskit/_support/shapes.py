"""Shapes of which parts may be unknown."""


def may_be_equal(first, second):
    """Whether two shapes are equal, as far as they are known."""
    return len(first) == len(second) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(first, second, strict=True)
    )


def may_broadcast(shape, target):
    """Whether a shape of the same rank becomes `target`, as far as known."""
    return len(shape) == len(target) and all(
        have == 1 or None in (have, want) or have == want
        for have, want in zip(shape, target, strict=True)
    )
