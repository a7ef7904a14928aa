"""What can go wrong while an image is built.

ImageError
"""

from __future__ import annotations


class ImageError(Exception):
    """The image cannot be built; the message names the part and the reason."""
