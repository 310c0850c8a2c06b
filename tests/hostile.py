"""What a stranger or a broken client sends, and what it has to be answered: a table that drives
tests/app/test_hostile.py, in process and over sockets. The model is a VAE of 3 latents; the limits
are the defaults but for 2 MiB a body and a million pixels. Long, since it is one table; pictures
that are made of chunks and segments are in ``tests.hostile_pictures``.
"""

import base64
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from app.formats.png import png_chunk, to_png
from tests.hostile_pictures import PICTURES

MAX_BODY_BYTES = 2 * 2**20
MAX_PIXELS = 1_000_000


class Case(NamedTuple):
    """A request, and its answer."""

    name: str
    target: str  # as it stands in the request line
    status: int
    slug: str = ""  # of the problem; "" = the answer is no problem
    says: str = ""  # in the problem's detail
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


INVALID, MALFORMED, UNREADABLE = "invalid-parameter", "malformed-body", "unreadable-image"
TYPE, LARGE, UNKNOWN = "unsupported-media-type", "body-too-large", "unknown-model"

# (query of /generate, says)
_REFUSED_QUERIES = [
    ("label=10", "0 to 9"),
    ("label=-1", "0 to 9"),
    ("label=7.0", "0 to 9"),
    ("label=07", "0 to 9"),
    ("label=%207", "0 to 9"),
    ("label=%2B7", "0 to 9"),
    ("label=7%0A", "0 to 9"),
    ("label=", "0 to 9"),
    ("label=%EF%BC%97", "0 to 9"),
    ("label=%D9%A7", "0 to 9"),
    ("label=%00", "0 to 9"),
    ("label=" + "9" * 5000, "at most 64"),
    ("lable=7", "did you mean label?"),
    ("LABEL=7", "did you mean label?"),
    ("label[]=7", "unknown parameter"),
    ("label=1&label=2", "2 times"),
    ("n=0", "greater than or equal to 1"),
    ("n=-1", "greater than or equal to 1"),
    ("n=65", "less than or equal to 64; /dataset generates any number"),
    ("n=1000000000", "less than or equal to 64"),
    ("n=1e3", "plain digits"),
    ("n=" + "9" * 5000, "plain digits"),
    ("n=NaN", "plain digits"),
    ("n=", "plain digits"),
    ("seed=-1", "greater than or equal to 0"),
    ("seed=9007199254740992", "9007199254740991"),
    ("seed=18446744073709551616", "less than or equal to 9007199254740991"),
    ("seed=-0", "plain digits"),
    ("seed=--1", "plain digits"),
    ("seed=9007199254740991&n=2", "2 images"),
    ("format=tiff", "'png', 'webp', 'json', 'npy' or 'zip'"),
    ("metadata=all", "'full', 'mark' or 'none'"),
    ("layout=row", "'grid', 'strip' or 'animation'"),
    ("truncation=1.01", "0 to 1"),
    ("truncation=0.005", "two decimals"),
    ("truncation=-0.5", "0 to 1"),
    ("truncation=nan", "0 to 1"),
    ("truncation=1e-1", "two decimals"),
    ("truncation=", "such as 0.7"),
    ("seeds=", "such as 0-3,17"),
    ("seeds=3-1", "upwards"),
    ("seeds=0-64", "64 seeds at most"),
    ("seeds=0-9007199254740991", "64 seeds at most"),
    ("seeds=9007199254740992", "9007199254740991"),
    ("seeds=" + "1," * 5000, "at most 1152"),
    ("seeds=1&seed=1", "seeds is given with seed;"),
    ("seeds=1&n=1&seed=2", "seeds is given with seed and n;"),
    ("n=64&seed=1&layout=strip&scale=16&format=webp", "28672 pixels"),
    ("scale=0", "greater than or equal to 1"),
    ("scale=17", "less than or equal to 16"),
    # Two that would be one image with two addresses, and what no number is.
    ("label=-0", "0 to 9"),
    ("label=7%00", "0 to 9"),
    ("label=7%0D%0AX-Evil:%201", "0 to 9"),
    ("label=" + "7" * 60_000, "at most 64"),
    ("seed=" + "%EF%BC%97", "plain digits"),
    ("truncation=inf", "0 to 1"),
    ("truncation=1e400", "0 to 1"),
    ("label=7&label=7", "2 times"),
    ("seed=1&seed=1&seed=2", "3 times"),
    ("%00=1", "unknown parameter"),
    ("a" * 50_000 + "=1", "unknown parameter"),
    ("&".join(f"y{i}=1" for i in range(90)), "unknown parameter"),
    ("&".join(f"x{i}=1" for i in range(5000)), "5000 parameters; at most 100"),
    ("&" * 60_000, "60001 parameters"),
]
_UNKNOWN_MODELS = [
    ("model=tiny-cgan-v1@000000000000", "served is tiny-cgan-v1@"),
    ("model=tiny-cgan-v1@", "12 to 64 digits"),
    ("model=cgan-9", "tiny-cgan-v1"),
    ("model=../tiny-cgan-v1", "available"),
    ("model=con", "available"),
    ("model=TINY-CGAN-V1", "available"),
    ("model=tiny-cgan-v1%00", "available"),
    ("model=tiny-cgan-v%EF%BC%91", "available"),
    ("model=tiny-cgan-v1.safetensors", "available"),
]
_NO_PATHS = [
    "/generate/",
    "//generate",
    "/generate%2F",
    "/generate/7%2F..",
    "/%2e%2e/generate",
    "/static/../app/main.py",
    "/static/%2e%2e/main.py",
    "/static/..%2fmain.py",
    "/static/%252e%252e/main.py",
    "/static//etc/passwd",
    "/models/..%2f..%2fetc%2fpasswd",
    "/models/tiny-cgan-v1/",
    "/models/%00",
    "/models/" + "a" * 60_000,
    "/problems/%3Cscript%3E",
    "/Generate",
]


def queries() -> Iterator[Case]:
    """Parameters."""
    for query, says in _REFUSED_QUERIES:
        for method in ("POST", "GET"):
            name = f"{method} {query[:30]}"
            yield Case(name, f"/generate?{query}", 422, INVALID, says, method)
    for query, says in _UNKNOWN_MODELS:
        yield Case(query, f"/generate?{query}", 404, UNKNOWN, says)
    yield Case("long name", "/generate?model=" + "a" * 130, 422, INVALID, "at most 129")
    yield Case(
        "label of a model without",
        "/generate?model=tiny-gan-v1&label=7",
        422,
        "wrong-model",
        "takes no label",
    )
    for path in _NO_PATHS:
        slug = UNKNOWN if path.startswith("/models/") and "%2f" not in path else "not-found"
        if path.endswith("v1/"):
            slug = "not-found"
        yield Case(f"path {path[:30]}", path, 404, slug, method="GET")
    for header in ("0", "-1", "1.5", "1e3", "NaN", "+5", "9" * 5000):
        headers = (("X-Timeout-Ms", header),)
        yield Case(
            f"timeout {header[:9]}", "/generate", 422, INVALID, "X-Timeout-Ms", headers=headers
        )
    twice = (("X-Timeout-Ms", "5000"), ("X-Timeout-Ms", "6000"))
    yield Case("timeout twice", "/generate", 422, INVALID, "2 times", headers=twice)
    body = (("Content-Type", "application/json"),)
    yield Case("body", "/generate", 422, INVALID, "?label=7", headers=body, body=b'{"label": 7}')
    yield Case("body and query", "/generate?label=3", 422, INVALID, "?label=7", "POST", body, b"{}")
    for target, content in (
        ("/interpolate?seeds=3,17", b'{"ends": [{"seed": 3}, {"seed": 17}]}'),
        ("/traverse?seed=3", b'{"seed": 3}'),
    ):
        where = f"two sources {target}"
        yield Case(where, target, 422, INVALID, "give either", "POST", body, content)
        path = target.partition("?")[0]  # a body of GET has no meaning (RFC 9110, section 9.3.1)
        yield Case(f"GET's body {path}", path, 422, INVALID, "a POST", "GET", body, content)
    accept = (("Accept", "image/tiff"),)
    yield Case("type", "/generate", 406, "not-acceptable", "image/png", headers=accept)
    for accept_value in ("*/*;q=0", "image/png;q=nan", "text/html," * 2000):
        headers = (("Accept", accept_value),)
        yield Case(
            f"accept {accept_value[:12]}", "/generate", 406, "not-acceptable", "", "GET", headers
        )
    override = (("X-HTTP-Method-Override", "DELETE"), ("X-Original-URL", "/metrics"))
    yield Case("method override", "/generate?seed=1", 200, headers=override)
    forwarded = (("X-Forwarded-Host", "evil.example.com"), ("X-Forwarded-Prefix", "/evil"))
    yield Case("forwarded", "/generate?seed=1", 200, headers=forwarded)


def picture(value: int = 200) -> bytes:
    """A PNG of the model's size."""
    return to_png(np.full((28, 28), value, dtype=np.uint8))


def png(*chunks: tuple[bytes, bytes], width: int = 28, height: int = 28, kind: int = 0) -> bytes:
    """A PNG by hand: of grey 8-bit pixels unless a chunk says otherwise."""
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def file_of(image: PillowImage.Image, kind: str, **options: Any) -> bytes:
    """The picture in one of Pillow's formats."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain_file(kind: str, **options: Any) -> bytes:
    """A valid file of some format."""
    return file_of(PillowImage.new("RGB", (28, 28)), kind, **options)


def endless_jpeg(side: int = 4000, scans: int = 8000) -> bytes:
    """A progressive JPEG whose last scan comes so often: 300 KB that take minutes to decode."""
    data = file_of(PillowImage.new("RGB", (side, side), (90, 20, 200)), "JPEG", progressive=True)
    begin, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:begin] + data[begin:end] * scans + data[end:]


def animation(frames: int, kind: str) -> bytes:
    """So many frames of 2 x 2 pixels, each another."""
    shades = [PillowImage.new("RGB", (2, 2), (37 * index % 256, 0, 0)) for index in range(frames)]
    options: dict[str, Any] = {"save_all": True, "append_images": shades[1:], "duration": 50}
    return file_of(shades[0], kind, **options)


def oriented_by(exif: bytes) -> bytes:
    """A JPEG whose EXIF is these bytes."""
    return file_of(PillowImage.new("L", (28, 28)), "JPEG", exif=b"Exif\0\0" + exif)


def npy(array: Any) -> bytes:
    """An array as a file."""
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def npy_header(text: bytes) -> bytes:
    """An npy file of version 1 that has only a header."""
    text += b" " * (-len(text) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    """A multipart body with the boundary x; each part is its disposition's end, and its content."""
    body = b""
    for disposition, content in parts:
        body += f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        body += content + b"\r\n"
    return body + end


JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
JPEG, WEBP = "image/jpeg", "image/webp"
FORM = "multipart/form-data; boundary=x"
_WHOLE = picture()
_ROWS = zlib.compress(bytes(29 * 28))
_BOMB = zlib.compress(bytes(10**8), 9)
_SMALL_BOMB = zlib.compress(bytes(10**6), 9)
_FILE = ('name="file"; filename="a.png"', _WHOLE)

# (name, Content-Type, operation, body, status, slug)
_BODIES: list[tuple[str, str, str, bytes, int, str]] = [
    ("text", "text/plain", "encode", b"hello", 415, TYPE),
    ("json as text", "text/plain", "decode", b'{"z": [[0, 0, 0]]}', 415, TYPE),
    ("urlencoded", "application/x-www-form-urlencoded", "encode", b"hello", 415, TYPE),
    ("no type", "", "encode", _WHOLE, 415, TYPE),
    ("no type, json", "", "decode", b'{"z": [[0, 0, 0]]}', 415, TYPE),
    ("svg", "image/svg+xml", "encode", b"<svg/>", 415, TYPE),
    ("tiff", "image/tiff", "encode", plain_file("TIFF"), 415, TYPE),
    ("pdf", "application/pdf", "encode", b"%PDF-1.4", 415, TYPE),
    ("png, charset", "image/png; charset=utf-8", "encode", _WHOLE, 200, ""),
    ("IMAGE/PNG", "IMAGE/PNG", "encode", _WHOLE, 200, ""),
    # Not pictures, or not these.
    ("text as png", PNG, "encode", b"hello", 422, UNREADABLE),
    ("empty", PNG, "encode", b"", 422, UNREADABLE),
    ("html as png", PNG, "encode", b"\x89PNG\r\n\x1a\n<html>", 422, UNREADABLE),
    ("cut", PNG, "reconstruct", _WHOLE[:40], 422, UNREADABLE),
    ("cut in its pixels", PNG, "encode", _WHOLE[:100], 422, UNREADABLE),
    ("wrong checksum", PNG, "encode", _WHOLE[:60] + b"\1" + _WHOLE[61:], 422, UNREADABLE),
    ("no pixels", PNG, "encode", png(), 422, UNREADABLE),
    ("zero width", PNG, "encode", png((b"IDAT", _ROWS), width=0), 422, UNREADABLE),
    ("eps as png", PNG, "encode", plain_file("EPS"), 422, UNREADABLE),
    ("tiff as png", PNG, "encode", plain_file("TIFF"), 422, UNREADABLE),
    ("bmp as png", PNG, "encode", plain_file("BMP"), 422, UNREADABLE),
    ("gif as png", PNG, "encode", plain_file("GIF"), 422, UNREADABLE),
    ("svg as png", PNG, "encode", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, UNREADABLE),
    ("jpeg as png", PNG, "encode", plain_file("JPEG"), 200, ""),
    ("claims 30000 x 30000", PNG, "encode", png(width=30_000, height=30_000), 413, LARGE),
    ("claims 2^31", PNG, "encode", png(width=2**31 - 1, height=2**31 - 1), 413, LARGE),
    (
        *("81 megapixels", PNG, "encode"),
        *(file_of(PillowImage.new("1", (9000, 9000)), "PNG"), 413, LARGE),
    ),
    (
        *("text bomb", PNG, "encode"),
        png((b"zTXt", b"k\0\0" + _BOMB), (b"IDAT", _ROWS)),
        *(422, UNREADABLE),
    ),
    (
        *("profile bomb", PNG, "encode"),
        png((b"iCCP", b"k\0\0" + _BOMB), (b"IDAT", _ROWS)),
        *(422, UNREADABLE),
    ),
    (
        *("pixel bomb", PNG, "encode"),
        png((b"IDAT", _BOMB)),
        *(200, ""),  # what is over is not inflated
    ),
    # Work that is out of proportion to the bytes sent.
    ("8,000 scans", JPEG, "encode", endless_jpeg(900), 413, LARGE),
    ("12 scans", JPEG, "encode", endless_jpeg(28, 3), 200, ""),
    ("16,000,000 x 1", PNG, "encode", png(width=16_000_000, height=1), 413, LARGE),
    ("30,000 x 1", PNG, "encode", png(width=30_000, height=1), 413, LARGE),
    (
        *("16 megapixels in 700 bytes", WEBP, "encode"),
        *(file_of(PillowImage.new("RGB", (4000, 4000)), "WEBP", lossless=True), 413, LARGE),
    ),
    ("101 frames, png", PNG, "encode", animation(101, "PNG"), 413, LARGE),
    ("101 frames, webp", WEBP, "encode", animation(101, "WEBP"), 413, LARGE),
    ("2 frames, png", PNG, "encode", animation(2, "PNG"), 200, ""),
    ("2 frames, webp", WEBP, "encode", animation(2, "WEBP"), 200, ""),
    (
        *("10,000 chunks", PNG, "encode"),
        *(png(*[(b"tEXt", b"a\0b")] * 10_000, (b"IDAT", _ROWS)), 422, UNREADABLE),
    ),
    (
        *("10,000 pieces of pixels", PNG, "encode"),
        *(png(*[(b"IDAT", b"")] * 10_000, (b"IDAT", _ROWS)), 422, UNREADABLE),
    ),
    (
        *("international text bomb", PNG, "encode"),
        png(
            (b"iTXt", b"k\0\1\0\0\0" + _BOMB),
            (b"IDAT", _ROWS),
        ),
        *(422, UNREADABLE),
    ),
    (
        *("bombs that are small alone", PNG, "encode"),
        png(*[(b"zTXt", b"k\0\0" + _SMALL_BOMB)] * 9, (b"IDAT", _ROWS)),
        *(422, UNREADABLE),
    ),
    ("text in peace", PNG, "encode", png((b"tEXt", b"a\0b"), (b"IDAT", _ROWS)), 200, ""),
    ("exif of zeros", JPEG, "encode", oriented_by(bytes(60_000)), 200, ""),
    # Cut anywhere, above all where every pixel is there already.
    *(
        (f"png without its last {cut}", PNG, "encode", _WHOLE[:-cut], 422, UNREADABLE)
        for cut in (1, 4, 8, 12, 13, 20)
    ),
    *(
        (f"jpeg without its last {cut}", JPEG, "encode", plain_file("JPEG")[:-cut], 422, UNREADABLE)
        for cut in (1, 2, 3, 20)
    ),
    *(
        (f"webp without its last {cut}", WEBP, "encode", plain_file("WEBP")[:-cut], 422, UNREADABLE)
        for cut in (1, 2, 12, 20)
    ),
    ("more behind the end", JPEG, "encode", plain_file("JPEG") + bytes(9000), 200, ""),
    *(
        (f"{w}x{h}", PNG, "reconstruct", file_of(PillowImage.new("L", (w, h)), "PNG"), 200, "")
        for w, h in ((1, 1), (1, 4096), (4096, 1), (2, 2))
    ),
    # Forms.
    ("no boundary", "multipart/form-data", "encode", b"x", 400, MALFORMED),
    ("no form", FORM, "encode", b"--x\r\nrubbish", 400, MALFORMED),
    ("empty form", FORM, "encode", b"--x--\r\n", 400, MALFORMED),
    ("unfinished form", FORM, "encode", form(_FILE, end=b""), 400, MALFORMED),
    ("wrong field", FORM, "encode", form(('name="image"; filename="a"', _WHOLE)), 422, INVALID),
    ("two files", FORM, "encode", form(_FILE, _FILE), 422, INVALID),
    (
        "1,000 parts",
        FORM,
        "encode",
        form(*[('name="file"; filename="a"', b"")] * 1000),
        400,
        MALFORMED,
    ),
    ("1,000 fields", FORM, "encode", form(*[('name="a"', b"")] * 1000), 400, MALFORMED),
    ("file as a field", FORM, "encode", form(('name="file"', b"text")), 422, INVALID),
    ("no name", FORM, "encode", form(('filename="a.png"', _WHOLE)), 400, MALFORMED),
    ("long boundary", f"multipart/form-data; boundary={'x' * 9999}", "encode", b"", 400, MALFORMED),
    *(
        (
            *(f"file name of {length}", FORM, "encode"),
            form((f'name="file"; filename="../../etc/passwd{"x" * length}"', _WHOLE)),
            *(status, slug),
        )
        for length, status, slug in ((3000, 200, ""), (10_000, 400, MALFORMED))
    ),
    (
        "line in a file name",
        FORM,
        "encode",
        form(('name="file"; filename="a\\r\\nb"', _WHOLE)),
        200,
        "",
    ),
    # JSON.
    ("unfinished", JSON, "encode", b"{", 400, MALFORMED),
    ("no json", JSON, "encode", b"", 400, MALFORMED),
    ("no utf-8", JSON, "encode", b"\xff", 400, MALFORMED),
    ("utf-16", JSON, "decode", '{"z": [[0, 0, 0]]}'.encode("utf-16"), 400, MALFORMED),
    ("comma", JSON, "decode", b'{"z": [[0, 0, 0],]}', 400, MALFORMED),
    ("200,000 lists", JSON, "encode", b"[" * 200_000, 400, MALFORMED),
    ("nested objects", JSON, "encode", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, MALFORMED),
    ("null", JSON, "encode", b"null", 422, INVALID),
    ("list", JSON, "decode", b"[]", 422, INVALID),
    ("number", JSON, "decode", b"7", 422, INVALID),
    ("no picture", JSON, "encode", b'{"images": []}', 422, INVALID),
    ("65 pictures", JSON, "encode", b'{"images": [' + b'"",' * 64 + b'""]}', 422, INVALID),
    ("no base64", JSON, "encode", b'{"images": ["%%%"]}', 422, INVALID),
    ("address", JSON, "encode", b'{"images": ["http://127.0.0.1:8000/"]}', 422, INVALID),
    ("picture a number", JSON, "encode", b'{"images": [7]}', 422, INVALID),
    ("picture of text", JSON, "encode", b'{"images": ["aGVsbG8="]}', 422, UNREADABLE),
    ("100,000 lists", JSON, "encode", b'{"images":[' + b"[]," * 100_000 + b"[]]}", 422, INVALID),
    # Latents.
    ("NaN", JSON, "decode", b'{"z": [[NaN, 0, 0]]}', 400, MALFORMED),
    ("Infinity", JSON, "decode", b'{"z": [[-Infinity, 0, 0]]}', 400, MALFORMED),
    ("z twice", JSON, "decode", b'{"z": [], "z": [[0, 0, 0]]}', 400, MALFORMED),
    ("5,000 digits", JSON, "decode", b'{"z": [[' + b"9" * 5000 + b", 0, 0]]}", 422, INVALID),
    ("900 digits", JSON, "decode", b'{"z": [[' + b"9" * 900 + b", 0, 0]]}", 422, INVALID),
    ("1e999", JSON, "decode", b'{"z": [[1e999, 0, 0]]}', 422, INVALID),
    ("1e38", JSON, "decode", b'{"z": [[1e38, 0, 0]]}', 422, INVALID),
    ("1001", JSON, "decode", b'{"z": [[0, 0, -1001]]}', 422, INVALID),
    ("1000", JSON, "decode", b'{"z": [[1000, -1000, 0]]}', 200, ""),
    ("denormal", JSON, "decode", b'{"z": [[1e-310, 5e-324, 1e-45]]}', 200, ""),
    ("zeros", JSON, "decode", b'{"z": [[0, -0.0, 0]]}', 200, ""),
    ("string", JSON, "decode", b'{"z": [["1", 0, 0]]}', 422, INVALID),
    ("true", JSON, "decode", b'{"z": [[true, 0, 0]]}', 422, INVALID),
    ("2 of 3", JSON, "decode", b'{"z": [[0, 0]]}', 422, INVALID),
    ("4 of 3", JSON, "decode", b'{"z": [[0, 0, 0, 0]]}', 422, INVALID),
    ("nested", JSON, "decode", b'{"z": [[[0], 0, 0]]}', 422, INVALID),
    ("flat", JSON, "decode", b'{"z": [0, 0, 0]}', 422, INVALID),
    ("none", JSON, "decode", b'{"z": []}', 422, INVALID),
    ("another name", JSON, "decode", b'{"z": [[0, 0, 0]], "y": 1}', 422, INVALID),
    ("a million", JSON, "decode", b'{"z":[[' + b"0," * 999_999 + b"0]]}", 413, LARGE),
    ("text as npy", NPY, "decode", b"hello", 400, MALFORMED),
    ("npy, no header", NPY, "decode", npy_header(b"{"), 400, MALFORMED),
    ("npy, parentheses", NPY, "decode", npy_header(b"(" * 900), 400, MALFORMED),
    (
        *("npy, no type", NPY, "decode"),
        npy_header(b"{'descr': (), 'fortran_order': False, 'shape': (1, 3)}"),
        *(400, MALFORMED),
    ),
    (
        *("npy, a side is true", NPY, "decode"),
        npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}") + bytes(12),
        *(400, MALFORMED),
    ),
    (
        *("npy of 2^62 rows", NPY, "decode"),
        npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 3)}" % 2**62),
        *(422, INVALID),
    ),
    ("npy, cut", NPY, "decode", npy(np.zeros((1, 3), np.float32))[:-1], 400, MALFORMED),
    ("npy, float64", NPY, "decode", npy(np.zeros((1, 3))), 422, INVALID),
    ("npy, 4 of 3", NPY, "decode", npy(np.zeros((1, 4), np.float32)), 422, INVALID),
    ("npy, flat", NPY, "decode", npy(np.zeros(3, np.float32)), 422, INVALID),
    ("npy, none", NPY, "decode", npy(np.zeros((0, 3), np.float32)), 422, INVALID),
    ("npy, 65", NPY, "decode", npy(np.zeros((65, 3), np.float32)), 422, INVALID),
    ("npy, inf", NPY, "decode", npy(np.full((1, 3), np.inf, "<f4")), 422, INVALID),
    ("npy, objects", NPY, "decode", npy(np.array([[{}]], object)), 422, INVALID),
    # What a header of numpy could be made to evaluate.
    *(
        (
            *(f"npy of {name}", NPY, "decode"),
            npy_header(b"{'descr': %b, 'fortran_order': False, 'shape': %b}" % (dtype, shape)),
            *(status, slug),
        )
        for name, dtype, shape, status, slug in (
            ("a call", b"__import__('os').system('true')", b"(1, 3)", 400, MALFORMED),
            ("a large power", b"9**9**9", b"(1, 3)", 400, MALFORMED),
            ("a large text", b"'a'*10**9", b"(1, 3)", 400, MALFORMED),
            ("a large side", b"'<f4'", b"(9**9**9, 3)", 400, MALFORMED),
            ("a negative side", b"'<f4'", b"(-1, 3)", 400, MALFORMED),
            ("lists", b"[" * 200 + b"]" * 200, b"(1, 3)", 400, MALFORMED),
            ("large records", b"[('a', '<f4', (10000, 10000))]", b"(1, 3)", 422, INVALID),
            ("large items", b"'|V2147483647'", b"(1, 3)", 422, INVALID),
            ("references", b"'|O'", b"(1, 3)", 422, INVALID),
        )
    ),
    ("npy of version 3", NPY, "decode", b"\x93NUMPY\3\0\2\0\0\0{}", 400, MALFORMED),
    ("npy, header of 2 GB", NPY, "decode", b"\x93NUMPY\2\0\xff\xff\xff\x7f{}", 400, MALFORMED),
    ("npz", "application/x-npz", "decode", b"PK\3\4", 415, TYPE),
    # JSON that takes long to parse, or more memory than it has bytes.
    ("500,000 lists", JSON, "encode", b'{"images":[' + b"[]," * 500_000 + b"[]]}", 413, LARGE),
    ("500,000 objects", JSON, "encode", b'{"images":[' + b"{}," * 500_000 + b"{}]}", 413, LARGE),
    (
        *("one name 60,000 times", JSON, "encode"),
        *(b"{" + b'"a":1,' * 60_000 + b'"a":2}', 400, MALFORMED),
    ),
    (
        *("60,000 names", JSON, "encode"),
        *(b"{" + b",".join(b'"%d":1' % i for i in range(60_000)) + b"}", 422, INVALID),
    ),
    (
        *("integers of 4,300 digits", JSON, "encode"),
        *(b'{"images":[' + b",".join([b"9" * 4300] * 300) + b"]}", 422, INVALID),
    ),
    (
        "exponent of 60,000 digits",
        JSON,
        "encode",
        b'{"images":[1e' + b"9" * 60_000 + b"]}",
        422,
        INVALID,
    ),
    (
        *("many deep lists", JSON, "encode"),
        *(b'{"images":[' + b",".join([b"[" * 90 + b"]" * 90] * 9000) + b"]}", 413, LARGE),
    ),
    (
        "65 lists around 1",
        JSON,
        "decode",
        b'{"z":' + b"[" * 65 + b"1" + b"]" * 65 + b"}",
        400,
        MALFORMED,
    ),
    (
        *("490 lists around a", JSON, "encode"),
        *(b'{"images":' + b"[" * 490 + b'"a"' + b"]" * 490 + b"}" + b" " * 70_000, 400, MALFORMED),
    ),
    ("900 lists in lists", JSON, "encode", b"[" * 900 + b"]" * 900, 400, MALFORMED),
    ("a text of 1 MB", JSON, "encode", b'{"images":["' + b"%" * 10**6 + b'"]}', 422, INVALID),
    ("a lone surrogate", JSON, "encode", b'{"images":["\\ud800"]}', 422, INVALID),
    ("NUL", JSON, "encode", b'{"images":["\\u0000"]}', 422, INVALID),
    ("__proto__", JSON, "encode", b'{"__proto__":1,"images":[]}', 422, INVALID),
    ("-2^63", JSON, "decode", b'{"z":[[-9223372036854775808,0,0]]}', 422, INVALID),
    ("z of z", JSON, "interpolate", b'{"ends":[{"z":[[0,0,0]]},{"seed":1}]}', 422, INVALID),
    ("seed 1.0", JSON, "traverse", b'{"seed":1.0}', 422, INVALID),
    # Forms whose parts are searched for long.
    ("a form of CR", FORM, "encode", form((_FILE[0], b"\r" * 10**6)), 422, UNREADABLE),
    ("near boundaries", FORM, "encode", form((_FILE[0], b"\r\n--y" * 10**5)), 422, UNREADABLE),
    ("a form in a form", FORM, "encode", form((_FILE[0], form(_FILE))), 422, INVALID),
    (
        *("a folded line", FORM, "encode"),
        *(form(('name="file";\r\n filename="a.png"', _WHOLE)), 200, ""),
    ),
    ("text before the form", FORM, "encode", b"Hello.\r\n" + form(_FILE), 200, ""),
    (
        *("1,000 lines before the file", FORM, "encode"),
        *(b"--x\r\n" + b"A: b\r\n" * 1000 + form(_FILE)[5:], 200, ""),
    ),
    ("a type of quotes", FORM + "; " + '";' * 30_000, "encode", form(_FILE), 400, MALFORMED),
    # What is no picture of ours.
    ("verify text", PNG, "verify", b"hello", 422, UNREADABLE),
    ("verify nothing", PNG, "verify", b"", 422, UNREADABLE),
    ("verify another", PNG, "verify", _WHOLE, 422, "no-recipe"),
    ("verify json", JSON, "verify", b"{}", 415, TYPE),
]


def bodies() -> Iterator[Case]:
    """Uploads, latents, forms."""
    pictures = [
        (name, kind, "encode", data, status, slug) for name, kind, data, status, slug in PICTURES
    ]
    for name, kind, operation, body, status, slug in [*_BODIES, *pictures]:
        headers: tuple[tuple[str, str], ...] = (("Content-Type", kind),) if kind else ()
        yield Case(name, f"/{operation}", status, slug, headers=headers, body=body)
    for coding in ("gzip", "br", "deflate", "gzip, identity", "x" * 5000):
        headers = (("Content-Type", PNG), ("Content-Encoding", coding))
        yield Case(
            f"coding {coding[:14]}", "/encode", 415, TYPE, "unencoded", headers=headers, body=_WHOLE
        )
    large = (("Content-Type", PNG),)
    yield Case(
        "2 MiB", "/encode", 413, LARGE, "bytes", headers=large, body=bytes(MAX_BODY_BYTES + 1)
    )
    several = base64.b64encode(file_of(PillowImage.new("L", (800, 800)), "PNG"))
    body = b'{"images": ["' + several + b'", "' + several + b'"]}'
    yield Case(
        *(
            "two pictures of 640,000 pixels",
            "/encode",
            413,
            LARGE,
            "1.28 megapixels together; at most 1 ",
        ),
        headers=(("Content-Type", JSON),),
        body=body,
    )
    yield Case(
        *("a GAN cannot", "/encode?model=tiny-gan-v1", 422, "wrong-model", "tiny-vae-v1"),
        headers=(("Content-Type", PNG),),
        body=_WHOLE,
    )


CASES = [*queries(), *bodies()]
assert len({case.name for case in CASES}) == len(CASES)
