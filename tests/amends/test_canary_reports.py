from amends.canary_reports import CanaryReports
from amends.store_client import StoreClient


def test_a_report_of_an_earlier_program_is_none(redis: StoreClient) -> None:
    redis.set("amends:canary:report", '{"schema_version": 1, "at": 0.0, "version": 7}')
    assert CanaryReports(redis).last() is None
