"""Which images of a set without a test set are held out for one."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.data.dataset import DataError

HELD_OUT = 0.1  # fraction for the test


def held_out(keys: Sequence[bytes], labels: Sequence[int]) -> list[bool]:
    """For each image whether it belongs to the test set: a tenth of each class, at least one.

    Those with the lowest keys. Keys are digests of the images, so the choice does not depend on
    names or order, and equal images of a class stay on one side.
    """
    by_label: dict[int, list[bytes]] = {}
    for key, label in sorted(zip(keys, labels, strict=True)):
        by_label.setdefault(label, []).append(key)
    last = {k: own[max(1, round(HELD_OUT * len(own))) - 1] for k, own in by_label.items()}
    return [key <= last[label] for key, label in zip(keys, labels, strict=True)]


def held_out_groups(groups: Sequence[str]) -> list[bool]:
    """For each image whether it belongs to the test set: whole groups, a tenth of all images or
    slightly more.

    Groups come in the order of the SHA-256 of their names, so the choice does not depend on what is
    in them. At least one group stays on each side.

    Raises:
        DataError: there is one group only.
    """
    counts = Counter(groups)
    order = sorted(counts, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(order) < 2:
        raise DataError(
            f"--holdout-groups finds one group, {order[0]!r}, and needs at least two: one to train "
            "on and one to hold out"
        )
    test: set[str] = set()
    wanted = HELD_OUT * len(groups)
    for group in order[:-1]:
        if sum(counts[other] for other in test) >= wanted:
            break
        test.add(group)
    return [group in test for group in groups]


def groups_of(paths: Sequence[Path], pattern: str) -> list[str]:
    """The group of each picture: what a pattern matches of its path below its class folder.

    Args:
        paths: Below the folder of all classes; of a flat folder, names of files.
        pattern: A regular expression; its first parenthesis counts, if it has one.

    Raises:
        DataError: it matches nothing in a path.
    """
    groups, others = [], []
    for path in paths:
        inner = "/".join(path.parts[1:] or path.parts)
        match = re.search(pattern, inner)
        if match and (group := match[min(1, match.re.groups)]):
            groups.append(group)
        else:
            others.append(inner)
    if others:
        raise DataError(
            f"--holdout-groups {pattern!r} finds no group in {len(others)} paths, such as "
            f"{others[0]!r}. It is searched for in a picture's path below its class folder"
        )
    return groups
