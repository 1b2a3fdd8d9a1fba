"""For all tests: what hypothesis finds is judged, not how long a busy machine took to find it."""

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
