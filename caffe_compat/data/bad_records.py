"""How many unreadable records a run may pass over."""

import logging

from caffe_compat.errors import DataError

log = logging.getLogger(__name__)


class BadRecords:
    """Counts and logs the records passed over; raises once there are more than allowed."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.count = 0

    def pass_over(self, place: str, error: DataError) -> None:
        """Note that the record at ``place`` is left out; DataError when that is not allowed any more."""
        problem = DataError(f"{place}: {error}")
        if self.count >= self.allowed:
            raise problem from None
        self.count += 1
        log.warning("%s (skipped: %d of at most %d)", problem, self.count, self.allowed)
