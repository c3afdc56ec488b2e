"""Values in the order of a file."""

import numpy as np
import pytest

from roberta.common.formats.file_order import contiguous
from roberta.common.formats.safetensors_file import numpy_dtype


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "bool"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (33, 65), (16, 128)])
def test_a_transposed_matrix_becomes_the_bytes_that_numpy_makes(dtype, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(numpy_dtype(dtype))
    result = contiguous(values.T)
    assert result.flags.c_contiguous
    assert result.tobytes() == values.T.tobytes()


def test_what_lies_in_order_is_not_copied():
    values = np.ones((3, 4), np.float32)
    assert contiguous(values) is values


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (), (2, 3, 4)])
def test_other_shapes_keep_their_values(shape):
    values = np.random.default_rng(0).normal(size=shape)
    assert contiguous(values.T).tobytes() == values.T.tobytes()


def test_a_part_of_a_matrix_keeps_its_values():
    values = np.arange(200.0).reshape(10, 20)[2:9:2, 3:17]
    assert contiguous(values.T).tobytes() == values.T.tobytes()
