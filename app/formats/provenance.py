"""What a picture's file says of itself: that a model generated it, and the recipe of its pixels.

The mark is the IPTC's digital source type in an XMP packet: an iTXt chunk of a PNG (PNG
specification, third edition, section 11.3.3.4), an XMP chunk of a WebP. The recipe is one line of
JSON in the only form that ``RECIPE`` matches: the iTXt chunk ``genserve`` of a PNG, a property of
the XMP packet of a WebP. Nothing else is read back: no other JSON, no XML, nothing compressed.
"""

import re
import struct
import zlib
from functools import lru_cache
from typing import Literal, NamedTuple

from app.errors import NoRecipeError, UnreadableImageError
from app.formats.png import png_chunk
from app.formats.reading.chunks import PNG_SIGNATURE, png_chunks, webp_chunks
from app.formats.sheets import Layout
from app.seeds import LIST_PATTERN

MetadataLevel = Literal["full", "mark", "none"]  # mark and recipe, the mark alone, nothing

RECIPE_VERSION = 1  # it changes when the same recipe would give other pixels or PNG bytes
# https://cv.iptc.org/newscodes/digitalsourcetype
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = _SOURCES + "trainedAlgorithmicMedia"
FROM_UPLOAD = _SOURCES + "compositeWithTrainedAlgorithmicMedia"

_XMP_KEYWORD, _KEYWORD = b"XML:com.adobe.xmp", b"genserve"
_PLAIN_TEXT = bytes(5)  # end of the keyword, not compressed (2 bytes), no language, no translation
_OPEN, _CLOSE = b"<genserve:recipe>", b"</genserve:recipe>"
MAX_RECIPE = 65536  # bytes; the longest address, which held the longest list of seeds, has fewer
_MAX_CHUNKS = 8192  # of a file; ours have 6, and optimisers add few
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # of a PNG

RECIPE = re.compile(
    rf'\{{"genserve":{RECIPE_VERSION},"model":"(?P<model>[a-z0-9._-]{{1,64}})",'
    r'"digest":"(?P<digest>[0-9a-f]{64})","label":(?P<label>null|0|[1-9][0-9]{0,5}),'
    r'"truncation":(?P<truncation>0|1|0\.[0-9]?[1-9]),"layout":"(?P<layout>grid|strip)",'
    rf'"scale":(?P<scale>[1-9][0-9]?),"seeds":"(?P<seeds>{LIST_PATTERN})"\}}'
)
_ANY_VERSION = re.compile(r'\{"genserve":([0-9]{1,9}),')


@lru_cache(4096)
def recipe_start(
    model: str, digest: str, label: int | None, truncation: float, layout: Layout, scale: int
) -> str:
    """A recipe up to its seeds.

    Args:
        model: Its name, for people; the digest decides.
        digest: SHA-256 of the checkpoint, hex.
        label: Class index; None = no label, or one drawn from each seed.
        truncation, layout, scale: As at /generate; the default where it has no effect.
    """
    label_json = "null" if label is None else label
    return (
        f'{{"genserve":{RECIPE_VERSION},"model":"{model}","digest":"{digest}","label":{label_json},'
        f'"truncation":{truncation:g},"layout":"{layout}","scale":{scale},"seeds":"'
    )


def _xmp(source: str, recipe: str) -> bytes:
    """An XMP packet (ISO 16684-1) without the wrapper, which embedded packets may leave out."""
    recipe_part = ""
    if recipe:  # its grammar has nothing that XML would have to escape
        recipe_part = (
            f'<rdf:Description rdf:about="" xmlns:genserve="urn:x-genserve:{RECIPE_VERSION}:">'
        )
        recipe_part += f"{_OPEN.decode()}{recipe}{_CLOSE.decode()}</rdf:Description>"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>"
        f"</rdf:Description>{recipe_part}</rdf:RDF></x:xmpmeta>"
    ).encode()


@lru_cache(4096)
def _png_start(source: str, start: str) -> tuple[bytes, bytes, int]:
    """The mark's chunk; the recipe's chunk up to the seeds, without its length; the CRC-32 of
    that."""
    mark = png_chunk(b"iTXt", _XMP_KEYWORD + _PLAIN_TEXT + _xmp(source, ""))
    begun = b"iTXt" + _KEYWORD + _PLAIN_TEXT + start.encode()
    return mark, begun, zlib.crc32(begun)


class PictureMetadata(NamedTuple):
    """What the file of one picture says of itself."""

    source: str = ""  # GENERATED or FROM_UPLOAD; empty = no metadata at all
    start: str = ""  # as ``recipe_start`` returns it; empty = no recipe
    seeds: str = ""  # the canonical list

    def png(self) -> bytes:
        """The PNG chunks, which go before the pixels.

        Every image passes through this, so all up to the seeds is cached.
        """
        if not self.source:
            return b""
        mark, begun, checksum = _png_start(self.source, self.start)
        if not self.start:
            return mark
        rest = self.seeds.encode() + b'"}'
        length = struct.pack(">I", len(begun) - 4 + len(rest))
        return b"".join((mark, length, begun, rest, struct.pack(">I", zlib.crc32(rest, checksum))))

    def xmp(self) -> bytes:
        """The XMP packet; empty = none."""
        recipe = f'{self.start}{self.seeds}"}}' if self.start else ""
        return _xmp(self.source, recipe) if self.source else b""


class RecipeFile(NamedTuple):
    """A PNG or WebP of this service, taken apart."""

    recipe: re.Match[str]  # of RECIPE
    file: bytes  # what a decoder needs: of a PNG, the chunks that hold its pixels
    animated: bool  # it has several frames, which no picture with a recipe has


def read_recipe(data: bytes) -> RecipeFile:
    """Find the recipe in a PNG or WebP.

    Takes time in proportion to the file; nothing is decompressed.

    Raises:
        UnreadableImageError: it is neither, or damaged.
        NoRecipeError: it has no recipe, several, or one not in the form of ``RECIPE``.
    """
    texts: list[bytes] = []
    animated = False
    if data.startswith(PNG_SIGNATURE):
        kept = [data[:8]]
        for kind, content, whole in png_chunks(data, _MAX_CHUNKS):
            if kind in _PIXEL_CHUNKS:
                kept.append(whole)
            elif kind == b"iTXt" and content.startswith(_KEYWORD + b"\0"):
                plain = content.startswith(_KEYWORD + _PLAIN_TEXT)
                texts.append(content[len(_KEYWORD + _PLAIN_TEXT) :] if plain else b"compressed")
            animated |= kind == b"acTL"
        data = b"".join(kept)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        for kind, content in webp_chunks(data, _MAX_CHUNKS):
            animated |= kind in (b"ANIM", b"ANMF")
            if kind == b"XMP ":
                texts += [part.split(_CLOSE)[0] for part in content.split(_OPEN)[1:]]
    else:
        raise UnreadableImageError(f"the {len(data)} bytes are neither a PNG nor a WebP picture")
    return RecipeFile(_match(texts), data, animated)


def _match(texts: list[bytes]) -> re.Match[str]:
    """The one recipe among a file's texts.

    Raises:
        NoRecipeError
    """
    if len(texts) != 1:
        fault = f"has {len(texts)} recipes" if texts else "has no recipe of this service"
        raise NoRecipeError(
            f"the picture {fault}; those of /generate have one, and of /dataset with "
            "metadata=full, but no animations"
        )
    if len(texts[0]) > MAX_RECIPE:
        raise NoRecipeError(f"the recipe has {len(texts[0])} bytes; at most {MAX_RECIPE} are read")
    text = texts[0].decode("latin-1")
    recipe = RECIPE.fullmatch(text)
    if recipe is None:
        version = _ANY_VERSION.match(text)
        if version and int(version[1]) != RECIPE_VERSION:
            raise NoRecipeError(f"the recipe is of version {version[1]}; read is {RECIPE_VERSION}")
        raise NoRecipeError("the picture's recipe is not of the form that this service writes")
    return recipe
