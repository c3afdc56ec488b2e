"""Fixtures for features that only one framework has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """The programs compiled so far; none are left from earlier tests."""
    jax = pytest.importorskip("jax")
    found: list[str] = []
    is_on = [True]

    def listen(name: str, seconds: float, **details: Any) -> None:
        if is_on and name.endswith("backend_compile_duration"):
            found.append(name)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    is_on.clear()
