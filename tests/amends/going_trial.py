"""A report on a trial that goes on, with as little as matters to who shows it."""

from amends.canary import CanaryReport


def going_trial(version: int, began: int, at: float) -> CanaryReport:
    """`began`: the audit row that made the version the candidate; `at`: when a worker looked."""
    return CanaryReport(
        at=at,
        version=version,
        champion=0,
        began=began,
        since=0.0,
        every_s=60.0,
        candidate_conversations=31,
        champion_conversations=290,
        elsewhere=0,
        champion_elsewhere=0,
        figures=(),
        decision="going_on",
        reason="not worse so far",
    )
