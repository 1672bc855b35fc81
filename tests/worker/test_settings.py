import pytest
from pydantic import ValidationError

from worker.settings import WorkerSettings


def test_a_lease_that_one_blip_would_lose_is_refused() -> None:
    with pytest.raises(ValidationError, match="three times"):
        WorkerSettings(lease_s=20, renew_every_s=10)
