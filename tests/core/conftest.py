"""Property tests take the same examples every time, however slow the machine is."""

from hypothesis import settings

settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")
