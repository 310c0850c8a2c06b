"""Makes strokes of what stands for them: dots in a chain, the inside of a contour, and faint ink
under a lamp's reflection."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from app.fitting.centring import stroke_width
from app.fitting.morphology import Mask, grown
from app.fitting.pieces import Pieces, pieces_of

Floats = NDArray[np.float32]
Levels = NDArray[np.uint8]

# Dots and dashes: so many alike, in a chain. Shares are of their number, or of all ink.
_FEWEST, _MOST = 4, 100
_ALIKE = 0.25  # of the largest one's area
_CHAINED, _OF_INK = 0.55, 0.6
_REACH = 2.1  # of the usual distance to the nearest: neighbours in a chain are no farther
_UNEVEN = 0.36  # the distances to the nearest: standard deviation by mean; of random dots .5
_FARTHEST = 5  # of the line's width; the usual distance
# Outlines. Of 110 written 0, 6, 8 and 9 with any pen, 5 % have holes of 6.4 and more.
_ELONGATED = 6.2  # area of a hole by its width squared: a disc has 3.1, a long stroke its length
_THIN = 0.08  # of the size: what a contour's line is thinner than
_NARROW = 0.2  # of the size: what a stroke is thinner than; a box around a digit leaves more
_BESIDE = 0.45  # of a hole's border: what is at the outer contour
_CONTOUR = 0.9  # of the ink: what has the inside of strokes beside it
# Reflections. Brightness is a share of what the usual paper lacks to white.
_VEIL = 0.25  # of the contrast: what the brightest one leaves
_BRIGHT, _BRIGHTEST = 0.3, 0.7
_LEVELS = 6  # less is noise
_LARGEST = 0.12  # of the picture: what is larger is the light side of a shadow or a crease
_ONE_SPOT = 0.8  # of what is bright: creases are several
_ASIDE = 1.0  # of a stroke: the gap that ink leaves in bright paper is at most twice as wide
_HIDDEN = 3  # of the ink that stands out: one hides no more


def unveiled(contrast: Floats, ink: Mask, paper: Levels) -> Floats | None:
    """Contrast (H, W), full where a lamp's reflection hides ink; None = there is none.

    Paper is lighter there than elsewhere, and the faint ink in it goes on from what stands out.

    Args:
        contrast: Of dark ink, 0 to 1.
        ink: What stands out.
        paper: The light of the ground.
    """
    usual = float(np.median(paper[::4, ::4]))
    least = usual + max(_BRIGHT * (255 - usual), _LEVELS)
    if not 0 < np.count_nonzero(paper > least) <= _LARGEST * paper.size:
        return None
    # Strokes have bright paper on both sides; the dark side of a crease has it on one.
    by = round(_ASIDE * stroke_width(ink)) + 1
    lit = paper * (1 - contrast) > least
    lit = grown(~grown(~grown(lit, by), by), by // 2)
    spots = pieces_of(lit).area
    if spots.max(initial=0) < _ONE_SPOT * spots.sum():
        return None
    bright = ((grown(paper, by // 2) - usual) / (_BRIGHTEST * (255 - usual))).clip(0, 1)
    faint = lit & ~ink & (contrast > float(contrast[ink].min()) * (1 - (1 - _VEIL) * bright))
    pieces = pieces_of(ink | faint)
    goes_on = np.bincount(pieces.labels[ink], minlength=len(pieces.area) + 1) > 0
    hidden = faint & goes_on[pieces.labels]
    if not 0 < np.count_nonzero(hidden) <= _HIDDEN * np.count_nonzero(ink):
        return None
    return np.where(hidden, np.float32(np.percentile(contrast[ink], 75)), contrast)


def joined(pieces: Pieces) -> Mask | None:
    """Lines from dot to dot, or dash to dash, of a digit of those, (H, W); None = it is none.

    In a chain the nearest are about equally far, and all hang together; dots thrown at random are
    neither. Two ends are neighbours if no other is closer to both than they are to each other.

    Source: Toussaint 1980, "The relative neighbourhood graph of a finite planar set", Pattern
    Recognition 12(4).
    """
    if len(pieces.area) < _FEWEST:
        return None
    alike = np.flatnonzero(pieces.area >= _ALIKE * pieces.area.max())
    if not _FEWEST <= len(alike) <= _MOST:
        return None
    if pieces.area[alike].sum() < _OF_INK * pieces.area.sum():
        return None
    ends, width = _ends(pieces, alike)
    far = np.abs(ends[:, None] - ends)
    own = np.arange(len(ends)) % len(alike)
    same = own == own[:, None]
    apart = np.where(same, np.inf, far)
    nearest = apart.reshape(2, len(alike), -1).min(axis=(0, 2))
    if nearest.std() > _UNEVEN * nearest.mean():
        return None
    usual = float(np.median(nearest))
    if usual > _FARTHEST * width:
        return None
    one, other = np.nonzero(apart <= _REACH * usual)
    closer = np.maximum(far[one], far[other]).min(axis=1, initial=np.inf)
    beside = np.zeros(far.shape, np.bool_)
    beside[one, other] = far[one, other] <= closer + 1e-6
    if _largest_group(beside | same) < _CHAINED * len(ends):
        return None
    lines = PillowImage.new("1", pieces.labels.shape[::-1])
    pen = ImageDraw.Draw(lines)
    for pair in np.argwhere(np.triu(beside)).tolist():
        line = [(ends[end].real, ends[end].imag) for end in pair]
        pen.line(line, 1, round(width))
    return np.asarray(lines)


def _ends(pieces: Pieces, chosen: NDArray[np.int64]) -> tuple[NDArray[np.complex128], float]:
    """Both ends x + iy of pieces' middle lines, (2 N,), all first ones before all second ones, and
    the lines' usual width. Those of a dot are its middle."""
    number = np.zeros(len(pieces.area) + 1, np.int64)
    number[chosen + 1] = np.arange(1, len(chosen) + 1)
    labels = number[pieces.labels]
    y, x = np.nonzero(labels)
    index = labels[y, x] - 1
    count = np.bincount(index)
    middle = (np.bincount(index, x) + 1j * np.bincount(index, y)) / count
    away = x + 1j * y - middle[index]
    squares = away**2  # twice the angle of the longer axis
    turn = np.bincount(index, squares.real) + 1j * np.bincount(index, squares.imag)
    axis = np.exp(0.5j * np.angle(turn))
    along = np.abs((away * axis[index].conj()).real)
    half = np.zeros(len(chosen))
    np.maximum.at(half, index, along + 0.5)
    width = count / (2 * half)
    reach = axis * np.maximum(half - width / 2, 0)
    return np.concatenate([middle - reach, middle + reach]), float(np.median(width))


def _largest_group(beside: Mask) -> int:
    """Of nodes (N, N) that are neighbours or not, how many the largest group has."""
    reached = (beside | np.eye(len(beside), dtype=np.bool_)).astype(np.float32)
    for _ in range(len(beside).bit_length()):
        reached = np.minimum(reached @ reached, 1)
    return int(reached.sum(axis=0).max())


def filled(pieces: Pieces, main: int) -> tuple[Mask, Mask] | None:
    """The strokes of an outlined digit, and its contour's outer half, which would close its gaps:
    both (H, W); None = it is none.

    Its contour's line is thin, everywhere beside the inside of a stroke, and that is long and
    narrow. The holes of a written 0, 6, 8 or 9 are rounder, and its ends have none beside them.
    """
    box = pieces.box(main)
    place = (slice(box.top, box.bottom + 1), slice(box.left, box.right + 1))
    labels = pieces.labels[place]
    contour = labels == main + 1
    size = max(labels.shape)
    if (line := stroke_width(contour)) > _THIN * size:
        return None
    close = max(1, round(size / 100))  # half the gap that a line drawn by hand may have
    margin = close + 1
    ink, contour = np.pad(labels > 0, margin), np.pad(contour, margin)
    holes = pieces_of(~grown(ink, close))
    outside = int(holes.labels[0, 0]) - 1
    reach = round(line) + 2 * close + 1
    # The holes of an outlined 0 or 8 lie within a second contour, and stay.
    border = np.where(grown(ink, margin), holes.labels, 0)
    near = np.where(grown(holes.labels == outside + 1, reach), border, 0)
    around, beside = (
        np.bincount(labels.ravel(), minlength=len(holes.area) + 1)[1:] for labels in (border, near)
    )
    inner = (beside >= _BESIDE * around) & (around > 0)
    inner[outside] = False
    if not inner.any():
        return None
    longest = int(np.where(inner, holes.area, 0).argmax())
    area = int(holes.area[longest])
    width = stroke_width(holes.labels == longest + 1)
    if area < _ELONGATED * width**2 or width > _NARROW * size:
        return None
    inside = np.append(False, inner)[holes.labels]
    if (grown(inside, reach) & contour).sum() < _CONTOUR * contour.sum():
        return None
    strokes, outer = np.zeros((2, *pieces.labels.shape), np.bool_)
    cut = (slice(margin, -margin),) * 2
    strokes[place] = grown(inside, close + round(line / 2))[cut]
    outer[place] = grown(inside, reach + margin)[cut]
    return strokes, outer & ~strokes
