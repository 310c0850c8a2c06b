"""npy files that NumPy reads."""

from io import BytesIO

import numpy as np

from app.formats.npy import to_npy


def test_npy_is_read_by_numpy() -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8))
    array = np.load(BytesIO(to_npy(images)), allow_pickle=False)
    np.testing.assert_array_equal(array, images)
    assert array.dtype == np.uint8
