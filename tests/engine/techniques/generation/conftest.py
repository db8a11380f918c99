"""One thread: models are tiny, and two would wait for each other."""

from tests.engine.one_thread import one_thread as one_thread
