"""Which pictures train and which test, where the files name no split."""

from __future__ import annotations


def hold_out(count: int, every: int) -> dict[str, list[int]]:
    """Of ``count`` pictures in file-name order, numbers 0, every, 2 every, ... test and the others train (LLFF's rule).

    ``every`` 0, or a single picture, holds out none.
    """
    test = list(range(0, count, every)) if every > 1 and count > 1 else []
    held = set(test)
    return {"train": [i for i in range(count) if i not in held], "val": [], "test": test}
