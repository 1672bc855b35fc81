"""May this candidate replace the champion? Measurements in, a verdict with a reason per check out.

Knows no model, no store, no way of measuring, and no single check. Invariants: one failed check
refuses; a check whose measurement is missing fails with "not measured", or passes saying so where
`GateThresholds.optional` names it; a check that `GateThresholds.advisory` names warns instead of
refusing; every check gives a reason, passed or failed.
"""

from dataclasses import dataclass

from amends.errors import SettingsError
from worker.judge.checks import CHECKS
from worker.judge.measurements import Measurements
from worker.judge.thresholds import GateThresholds


@dataclass(frozen=True)
class Check:
    """One question of the gate and its answer."""

    name: str
    passed: bool
    reason: str  # "name: measured value, threshold" in words
    advisory: bool = False  # it warns, and refuses nobody


@dataclass(frozen=True)
class GateVerdict:
    """All checks, in the order of CHECKS."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that refuse the candidate."""
        return tuple(c.name for c in self.checks if not c.passed and not c.advisory)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every check in words, what failed first."""
        ordered = sorted(self.checks, key=lambda check: check.passed)
        return tuple(f"{_outcome(check)}: {check.reason}" for check in ordered)


def check_names(thresholds: GateThresholds) -> None:
    """Raises SettingsError where a setting names a check that does not exist: before training."""
    for field in ("optional", "advisory"):
        unknown = getattr(thresholds, field) - CHECKS.keys()
        if unknown:
            raise SettingsError(
                f"AMENDS_GATE_{field.upper()} names no check: {sorted(unknown)}; checks are "
                f"{', '.join(CHECKS)}"
            )


def judge_candidate(
    measurements: Measurements, thresholds: GateThresholds | None = None
) -> GateVerdict:
    """The verdict on one candidate."""
    thresholds = thresholds or GateThresholds()
    check_names(thresholds)
    checks = []
    for name, ask in CHECKS.items():
        outcome = ask(measurements, thresholds)
        if outcome is None:
            optional = name in thresholds.optional
            outcome = (optional, "not measured (optional)" if optional else "not measured")
        advisory = name in thresholds.advisory
        checks.append(Check(name, outcome[0], f"{name}: {outcome[1]}", advisory))
    return GateVerdict(tuple(checks))


def _outcome(check: Check) -> str:
    if check.passed:
        return "passed"
    return "warned" if check.advisory else "failed"
