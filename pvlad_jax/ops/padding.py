"""Zeros around clips, as frameworks count them."""

from collections.abc import Sequence

Triple = tuple[int, int, int]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair, Pair]  # (before, after) in T, H, W


def centred_padding(kernel: Sequence[int]) -> Padding:
    """(k - 1) / 2 zeros on both sides: PyTorch's usual padding of odd kernels. Output size is ceil(size / stride)."""
    return tuple((k // 2, k // 2) for k in kernel)


def same_padding(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> Padding:
    """TensorFlow's 'SAME' padding of a clip of size (T, H, W); output size is ceil(size / stride).

    'SAME' puts a different number of zeros *before* the clip for odd and even sizes, so its outputs would depend on
    the amount of padding frames. In time, the front always gets what a multiple of the stride gets (the published
    case: 64 frames) and the end whatever is missing.
    """
    pairs = []
    for axis, (n, k, s) in enumerate(zip(size, kernel, strides)):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        front = max(k - s, 0) // 2 if axis == 0 else total // 2
        pairs.append((front, max((-(-n // s) - 1) * s + k - n - front, 0)))
    return tuple(pairs)
