"""Array types that all packages share."""

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""uint8, shape (H, W, 3)."""

Mask = NDArray[np.bool_]
"""bool, shape (H, W)."""
Floats = NDArray[np.float32]
"""float32, any shape."""
