"""Scaling of a loss, so that gradients in float16 neither vanish nor overflow; powers of two, which change no digit."""

from __future__ import annotations

import math

_FIRST, _GROWS_AFTER = 2.0**16, 2000  # as torch.amp.GradScaler has them


class LossScale:
    """What the loss is multiplied by before its gradients, which are divided by it afterwards.

    It is halved where gradients overflow, and the update is then made again, so no batch is lost; after 2000 updates
    without an overflow it is doubled.

    Args:
        is_scaled: False for 1, at all times.
        saved: value, and updates since it changed, when a training stopped.
    """

    def __init__(self, is_scaled: bool, saved: tuple[float, int] | None = None) -> None:
        self.is_scaled = is_scaled
        self.value, self._since = (saved or (_FIRST, 0)) if is_scaled else (1.0, 0)

    def overflows(self, loss: float, size: float) -> bool:
        """Whether an update is to be made again, with half the scale: the loss is finite, and the gradients are not."""
        if not self.is_scaled or math.isfinite(size) or not math.isfinite(loss) or self.value <= 1:
            return False
        self.value, self._since = self.value / 2, 0
        return True

    def made(self) -> None:
        """Note an update whose gradients were finite."""
        self._since += 1
        if self.is_scaled and self._since == _GROWS_AFTER:
            self.value, self._since = self.value * 2, 0

    def state(self) -> tuple[float, int] | None:
        """What a resumed training needs to know; None without scaling."""
        return (self.value, self._since) if self.is_scaled else None
