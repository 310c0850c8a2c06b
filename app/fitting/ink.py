"""Finds the ink of a digit on paper, a board or a screen, whatever the light.

Ink is what stands out from the ground around it, is large, and hangs together. No threshold is one
of brightness: contrast is relative to the ground beside it, dark or light.

The numbers below were chosen with test digits 0 to 4,999 on the sheets of ``bench/sheets.py``;
``python -m bench pictures`` measures others.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFilter, ImageOps

from app.fitting.lines import without_lines
from app.fitting.mending import filled, joined, unveiled
from app.fitting.morphology import Mask, grown, opened
from app.fitting.pieces import Pieces, pieces_of

Levels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MAX_SIDE = 512  # pixels in which ink is looked for; a digit a tenth as large still has 50
_BLURRED_SIDE = 200  # from here on a blur of 3 pixels removes noise and dither, and no stroke
# Below, a stroke of a pixel is as thin as a line, and its soft edge is as much as a pattern, or
# as bright as a reflection.
_RULED_SIDE = 100
# Shares of the longer side.
# Pixels whose mean tells ink from ground, and the skew from which that is sure; 2 to 8 is usual.
_AROUND = ((0.08, 0.15), (0.2, 0.5))
_GROUND = 0.25  # what is wider is ground, not a stroke
_LEAST_SIZE = 0.025  # of a digit
_BORDER = 0.06  # of the side across it: the widest border, dark or light, that a scanner leaves
_TIGHT = 0.06  # of the side: the most paper around a digit that a picture was cut to
_CHAIN = 4  # rounds in which pieces near a digit's become its own
# Of contrast, 0 to 1.
_LEAST_CONTRAST = 0.06
# Levels that count as full contrast at least, of light ink and of dark: on a light ground, and in
# deep shadow, a level is noise.
_LEAST_SCALE = (96, 16)
_EVEN = 48  # levels within which a frame is one colour
_TIGHT_INK = (0.1, 0.65)  # of the picture, where it was cut to its digit: a sheet on black has more
_STRONG = 0.5  # of the strongest contrast: what has as much is ink, whatever else is darker still
_MOST_INK = 0.15  # of the picture: a digit that is not cropped tightly has less
_LATTICE = 0.75  # of both sides: with more, and other pieces beside, it is rather the ground's
_PATTERN = 0.6  # of the ink's contrast; a pattern under it has less
_NOISE = 5  # contrast of ink, in differences between the 20th percentile and the 5th


class Ink(NamedTuple):
    """A digit's strokes, cut out of a picture."""

    levels: Floats  # (H, W), 0 = ground, 1 = full ink; strokes reach all four sides
    dark: bool  # darker than its ground
    ruled: bool  # whether lines were removed
    cleared: bool  # whether a reflection was taken off
    joined: bool  # whether dots were joined
    filled: bool  # whether the inside of an outline was filled
    dropped: bool  # whether other pieces were left out
    plausible: float  # 0 to 1, to choose a polarity


def find_ink(picture: PillowImage.Image, dark: bool | None = None) -> Ink | None:
    """The ink of a picture; None = there is none.

    Args:
        picture: Grey or RGB.
        dark: Whether the ink is darker than its ground; None = find out.
    """
    if (shrink := -(-max(picture.size) // MAX_SIDE)) > 1:
        picture = picture.reduce(shrink)
    if min(picture.size) < 3:
        return None
    picture = _without_border(_with_margin(picture))
    if max(picture.size) >= _BLURRED_SIDE:
        picture = picture.filter(ImageFilter.BoxBlur(1))
    candidates = (dark,) if dark is not None else _polarities(picture.convert("L"))
    found = [_cut_out(*_contrast(picture, polarity), polarity) for polarity in candidates]
    return max(filter(None, found), key=lambda ink: ink.plausible, default=None)


def _without_border(picture: PillowImage.Image) -> PillowImage.Image:
    """Without the even strips that a scanner or a screenshot leaves at some sides: they are darker
    or lighter than the sheet, and neither its ground nor ink."""
    levels = np.asarray(picture.convert("L"), np.float32)
    rows, columns = (_border(lines) for lines in (levels, levels.T))
    return picture.crop((columns[0], rows[0], columns[1], rows[1]))


def _border(lines: Floats) -> tuple[int, int]:
    """Of lines across, the first one and the one after the last that are no border's."""
    widest = round(len(lines) * _BORDER)
    usual = np.median(lines, axis=1)
    even = (np.abs(lines - usual[:, None]) < 16).mean(axis=1) > 0.8
    ends = []
    for order in (np.arange(len(lines)), np.arange(len(lines))[::-1]):
        outer, inner = order[:widest], order[widest]
        border = even[outer] & (np.abs(usual[outer] - usual[inner]) > 80)
        # One more line, which may hold some of both.
        run = widest if border.all() else int(border.argmin())
        ends.append(run + 1 if run else 0)
    return ends[0], len(lines) - ends[1]


def _with_margin(picture: PillowImage.Image) -> PillowImage.Image:
    """With paper all around, if it was cut to its digit: strokes would be as wide as ground, and
    what they leave free as narrow as strokes."""
    levels = np.asarray(picture.convert("L"))
    edge = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    paper = int(np.median(edge))
    least, most = max(paper - _EVEN, 0), min(paper + _EVEN, 255)
    if edge.min() < least or edge.max() > most:
        return picture
    other = (levels < least) | (levels > most)
    if not _TIGHT_INK[0] < other.mean() < _TIGHT_INK[1]:
        return picture
    for axis in (1, 0):
        lines = np.asarray(other.any(axis=axis))
        if max(lines.argmax(), lines[::-1].argmax()) > _TIGHT * len(lines):
            return picture
    colour = np.asarray(picture)[0].reshape(levels.shape[1], -1)
    fill = tuple(int(level) for level in np.median(colour, axis=0))
    wide = ImageOps.expand(picture, max(picture.size), fill if len(fill) > 1 else fill[0])
    return wide.reduce(3) if max(picture.size) >= _BLURRED_SIDE else wide


def _polarities(grey: PillowImage.Image) -> tuple[bool, ...]:
    """Whether ink is darker than its ground; where that is not sure, both.

    Strokes are few, so they stand out more than gaps: the third moment of the differences from the
    mean around each pixel has their sign. The edges of shadows and sheets have as much on either
    side, and hide it where they are all that is seen.
    """
    levels = np.asarray(grey, np.float32)
    for share, sure in _AROUND:
        around = grey.filter(ImageFilter.BoxBlur(max(1, round(max(grey.size) * share))))
        difference = levels - np.asarray(around, np.float32)
        squared = difference * difference
        skew = float((squared * difference).mean()) / max(float(squared.mean()), 1e-6) ** 1.5
        if abs(skew) > sure:
            return (skew < 0,)
    return (True, False)


def _contrast(picture: PillowImage.Image, dark: bool) -> tuple[Floats, Levels]:
    """How far each pixel stands out from its ground, 0 to 1, in the ink's own colour (H, W); and
    that ground's light, of the last band.

    Dark ink takes a share of the light that its paper reflects, so a shadow does not matter.
    """
    size = max(3, round(max(picture.size) * _GROUND))
    planes: list[Floats] = []
    for band in picture.split():
        light = 255 - np.asarray(band) if dark else np.asarray(band)  # the ink is light
        ground = opened(light, size)
        scale = np.maximum(255 - ground.astype(np.float32), np.float32(_LEAST_SCALE[dark]))
        planes.append(np.asarray((light - ground) / scale, np.float32))
    paper = 255 - ground if dark else ground
    if len(planes) == 1:
        return planes[0], paper
    most = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    strong = most >= float(most.max()) / 2
    if strong.mean() > _MOST_INK:  # coloured cloth, perhaps, and ink is what stands out in all
        fewest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
        if 0 < np.count_nonzero(fewest >= float(most.max()) / 2) < np.count_nonzero(strong) / 2:
            return fewest, paper
    weights = [float(plane[strong].mean()) for plane in planes]
    total = max(sum(weights), 1e-6)
    result = sum(plane * np.float32(w / total) for plane, w in zip(planes, weights, strict=True))
    return np.asarray(result, np.float32), paper


def _cut_out(contrast: Floats, paper: Levels, dark: bool) -> Ink | None:
    low, high = np.percentile(contrast, (5, 20))
    least = max(_LEAST_CONTRAST, float(high + _NOISE * (high - low)))
    standing = contrast[contrast > least]
    if len(standing) < 4:
        return None
    enough = max(_STRONG * float(np.percentile(standing, 99)), 2 * least)
    threshold = max(least, min(_otsu(standing), enough))
    large, clear = max(contrast.shape) >= _RULED_SIDE, None
    if large:
        threshold = _above_patterns(contrast, threshold)
    whole, ruled = contrast > threshold, False
    if large and dark and (clear := unveiled(contrast, whole, paper)) is not None:
        contrast = clear
        whole = contrast > threshold
    chosen = None
    if large:
        mask, ruled = without_lines(whole)
        strokes = _mended(mask, contrast)
        chosen = _digit(strokes)
    if chosen is None:  # or what looked like a line is all there is
        strokes, ruled = _mended(whole, contrast), False
        if (chosen := _digit(strokes)) is None:
            return None
    pieces, contrast = strokes.pieces, strokes.contrast
    kept = np.append(False, chosen)[pieces.labels]
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    place = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    # The soft edges of strokes are below the threshold; other pieces may be as near.
    ground, full = 0.4 * threshold, float(np.percentile(contrast[kept], 60))
    ink = ((contrast - ground) / max(full - ground, 1e-3)).clip(0, 1) * grown(kept, 2)
    # A digit is thin, and all or most of the ink; gaps between other things are rarely either, but
    # those between the squares of cloth may be a lattice or a chain.
    fill = np.count_nonzero(kept) / ink[place].size
    plausible = float(contrast[kept].sum() / strokes.ink.sum()) * (1 - fill)
    shares = np.divide(ink[place].shape, contrast.shape)
    if strokes.joined or (shares.min() > _LATTICE and not chosen.all()):
        plausible /= 2
    return Ink(
        ink[place],
        dark,
        ruled,
        clear is not None,
        strokes.joined,
        strokes.filled,
        not chosen.all(),
        plausible,
    )


def _above_patterns(contrast: Floats, threshold: float) -> float:
    """A threshold above the stripes and squares of cloth, too: where more stands out than a digit
    has, and the lesser part of it far more than the rest, that part is the ink."""
    for _ in range(2):
        standing = contrast[contrast > threshold]
        if len(standing) <= _MOST_INK * contrast.size:
            break
        higher = _otsu(standing)
        above = standing > higher
        most, rest = standing[above], standing[~above]
        if len(most) > len(rest) or rest.mean() > _PATTERN * most.mean():
            break
        threshold = higher
    return threshold


def _otsu(values: Floats) -> float:
    """The level that splits values of 0 to 1 in two with least variance within each.

    Source: Otsu 1979, IEEE Trans. Systems, Man, and Cybernetics 9(1).
    """
    counts, edges = np.histogram(values, 128, (0, 1))
    weight = counts.cumsum()
    middle = (edges[:-1] + edges[1:]) / 2
    total = (counts * middle).cumsum()
    below, above = weight[:-1], weight[-1] - weight[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(edges[1 + int(np.nan_to_num(between).argmax())])


class _Strokes(NamedTuple):
    """The pieces of a mask, N of them."""

    pieces: Pieces
    contrast: Floats  # (H, W)
    ink: NDArray[np.float64]  # (N,) sum of contrast
    score: NDArray[np.float64]  # (N,) how likely it is the digit's main piece
    joined: bool = False
    filled: bool = False


def _mended(mask: Mask, contrast: Floats) -> _Strokes:
    """The pieces of a mask, after what stands for strokes became ink: see ``mending``."""
    strokes = _scored(pieces_of(mask), contrast)
    if not len(strokes.ink):
        return strokes
    outlined = None
    if (more := joined(strokes.pieces)) is None:
        outlined = filled(strokes.pieces, int(strokes.score.argmax()))
        if outlined is None:
            return strokes
        more, outer = outlined
        contrast, mask = np.where(outer, 0, contrast), mask & ~outer
    contrast = np.where(more, np.maximum(contrast, np.percentile(contrast[mask], 75)), contrast)
    mended = _scored(pieces_of(mask | more), contrast)
    return mended._replace(joined=outlined is None, filled=outlined is not None)


def _scored(pieces: Pieces, contrast: Floats) -> _Strokes:
    """One at the frame is rather a table, a finger or a shadow, a disc a hole, and
    a full box a label."""
    count = len(pieces.area) + 1
    ink = np.bincount(pieces.labels.ravel(), contrast.ravel(), count)[1:].astype(np.float64)
    full = pieces.area / (pieces.high * pieces.wide)
    long = pieces.size / np.minimum(pieces.high, pieces.wide)
    solid = ((full > 0.7) & (long < 1.6)) | ((full > 0.9) & (long < 4))
    score = ink * np.where(pieces.at_frame, 0.05, 1) * np.where(solid, 0.2, 1)
    return _Strokes(pieces, contrast, ink, score)


def _digit(strokes: _Strokes) -> Mask | None:
    """Which pieces are the digit, (N,); None = none.

    The main one has most ink, but a box around another is a form's. With it go others that are
    near and about as dark.
    """
    pieces, ink = strokes.pieces, strokes.ink
    if not (count := len(pieces.area)):
        return None
    size = pieces.size
    main = int(strokes.score.argmax())
    inside = pieces.inside(pieces.box(main)) & (size > 0.35 * size[main])
    if inside.any():
        main = int(np.where(inside, strokes.score, -1).argmax())
    if size[main] < max(3, _LEAST_SIZE * max(strokes.contrast.shape)):
        return None
    chosen = np.arange(count) == main
    alike = (pieces.area >= 0.04 * pieces.area[main]) & ~pieces.at_frame
    alike &= ink / pieces.area > 0.5 * ink[main] / pieces.area[main]
    for _ in range(_CHAIN):  # a broken stroke has pieces beside pieces
        box = pieces.box(chosen)
        side = max(box.bottom - box.top, box.right - box.left) + 1
        more = alike & (pieces.distance(box) <= 0.25 * side) & (size <= 1.2 * side)
        if not (more & ~chosen).any():
            break
        chosen |= more & ~pieces.around(box)
    return np.asarray(chosen, np.bool_)
