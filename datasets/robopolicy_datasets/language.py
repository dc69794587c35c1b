"""Sentences as vectors of a fixed size, without a language model: hashed words and pairs of neighbours.

Sentences that share words are near each other, others nearly orthogonal; that suits commands of a limited
vocabulary ("a little to the left"). Synonyms are strangers to it: where they matter, any encoder's vector of
unit length can take its place in the same feature.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.spec import Feature

SIZE = 64
"""Numbers in a sentence's vector, by default."""


def language_feature(key: str = "language", size: int = SIZE) -> Feature:
    """Returns the feature that holds a sentence's vector."""
    return Feature(key, (size,), kind="language")


def embed_sentence(sentence: str, size: int = SIZE) -> NDArray[np.float32]:
    """Returns a sentence as a vector ``[size]`` of unit length; of zeros where it has no word.

    The hashing trick (Weinberger et al. 2009): each word, and each pair of neighbours, adds 1 or -1 at a
    place that its CRC-32 chooses. Case and punctuation do not count.

    Args:
        sentence: in any language that writes words apart.
        size: numbers in the vector.

    Raises:
        ConfigError: the size is below 1.
    """
    if size < 1:
        raise ConfigError(f"The size of a sentence's vector is {size}; it must be at least 1.")
    words = re.findall(r"\w+", sentence.lower())
    vector = np.zeros(size, np.float32)
    for part in [*words, *(" ".join(pair) for pair in pairwise(words))]:
        code = zlib.crc32(part.encode())
        vector[(code >> 1) % size] += 1.0 if code & 1 else -1.0
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
