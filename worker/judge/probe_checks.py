"""The gate's checks of probes: each kind for itself, and all kinds together.

Pure; knows no probe and no answer, only which of them changed. Invariant: what was not asked
answers None.
"""

import math

from worker.judge.measurements import Measurements, ProbeKind, named
from worker.judge.thresholds import GateThresholds
from worker.reward.intervals import lead_by_chance

_HARDLY = 5.0  # times as often as the surprise that refuses

Outcome = tuple[bool, str] | None  # passed, and the values in words; None: not measured


def probes_of_a_kind(kind: ProbeKind, m: Measurements, t: GateThresholds) -> Outcome:
    """Probe by probe against the champion: each is as hard for both, and only changes count.

    Equal policies too change on some probes, as often one way as the other. Of thirty-odd probes a
    plain limit of 5 % would refuse on two such changes; the exact sign test on all of them
    (McNemar's) says how far chance alone goes. Against the base model the same, lest every round
    takes what it may: a little beyond that a candidate may hardly be worse than its champion, and
    further beyond not at all.
    """
    probed = None if m.probes is None else m.probes.get(kind)
    if probed is None:
        return None
    failed, passed = len(probed.newly_failed), len(probed.newly_passed)
    forgiven = math.floor(t.max_probe_rise * probed.candidate.items)
    most = max(forgiven, lead_by_chance(failed + passed, t.change_chance))
    lost, won = probed.failed_over_base, probed.passed_over_base
    drift = math.floor(t.max_rises_over_base * t.max_probe_rise * probed.candidate.items)
    most_over_base = max(drift, lead_by_chance(lost + won, t.change_chance))
    over = lost - won - most_over_base
    if over > 0:  # the further, the less
        hardly = lead_by_chance(failed + passed, min(0.5, _HARDLY * t.change_chance))
        most = max(0, hardly) if over <= most else 0
    text = (
        f"fails {probed.candidate}, the champion {probed.champion}: {failed} newly failed"
        f"{named(probed.newly_failed)} and {passed} newly passed, at most {most} more failed; "
        f"{lost} failed and {won} passed unlike the base model, at most {most_over_base} more"
    )
    return failed - passed <= most, text


def probes_of_all_kinds(m: Measurements, t: GateThresholds) -> Outcome:
    """What each kind forgives as chance is none where it happens in all of them: the same sign test
    on all probes, and nothing forgiven beyond it."""
    if not m.probes:
        return None
    failed = sum(len(probed.newly_failed) for probed in m.probes.values())
    passed = sum(len(probed.newly_passed) for probed in m.probes.values())
    most = lead_by_chance(failed + passed, t.change_chance)
    text = f"{failed} newly failed and {passed} newly passed, at most {most} more failed"
    return failed - passed <= most, text
