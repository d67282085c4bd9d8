"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples on every run: a failure is never a matter of luck, and no clock decides.
settings.register_profile(
    "meshwright",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("meshwright")
# Before a release: other examples every time, and many of them (--hypothesis-profile deep).
settings.register_profile(
    "deep",
    settings.get_profile("meshwright"),
    derandomize=False,
    max_examples=1000,
    database=None,
)
