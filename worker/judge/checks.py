"""The gate's checks: each holds some measurements against its threshold and says both in words.

Pure; knows nothing of the other checks and of what follows. Invariants: a check whose measurement
is missing answers None; what is not a number never passes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import get_args

from worker.judge.behaviour import Behaviour
from worker.judge.measurements import Kept, Measurements, ProbeKind
from worker.judge.probe_checks import Outcome, probes_of_a_kind, probes_of_all_kinds
from worker.judge.thresholds import GateThresholds
from worker.judge.win_rate import WinRate
from worker.reward.intervals import Share, count_by_chance, lead_by_chance

_LUCK = 0.025  # of a lead; the win rate's interval leaves as much below it


def _trusted_items(m: Measurements, t: GateThresholds) -> Outcome:
    return _at_least(m.trusted_items, t.min_trusted_items, "judgements by experts")


def _visitor_share(m: Measurements, t: GateThresholds) -> Outcome:
    return _at_most(m.largest_visitor_share, t.max_visitor_share, "of the weight by one visitor")


def _quarantine(m: Measurements, t: GateThresholds) -> Outcome:
    return _at_most(m.quarantined_used, 0, "quarantined judgements used")


def _reward_model(m: Measurements, t: GateThresholds) -> Outcome:
    least = t.reward_accuracy_above + t.reward_accuracy_margin
    return _low_above(m.reward_accuracy, least, "hold-out accuracy")


def _judge(m: Measurements, t: GateThresholds) -> Outcome:
    """Fitted on the hold-out, it is tried on what experts said on the train side."""
    least = t.reward_accuracy_above + t.reward_accuracy_margin
    return _low_above(m.judge_accuracy, least, "accuracy on the train side")


def _previous_reward_model(m: Measurements, t: GateThresholds) -> Outcome:
    if m.reward_accuracy_beside is None or m.previous_reward_accuracy is None:
        return None
    pairs, changed = m.reward_accuracy_beside.items, m.reward_pairs_changed
    if pairs < t.min_previous_pairs or changed is None:
        return None
    lost, won = changed
    forgiven = math.floor(t.max_reward_accuracy_drop * pairs + 1e-9)
    most = max(forgiven, lead_by_chance(lost + won, t.change_chance))
    text = (
        f"{m.reward_accuracy_beside.value:.4g} of {pairs} pairs new to both, the previous one "
        f"{m.previous_reward_accuracy.value:.4g}: {lost} lost and {won} won, at most {most} more "
        "lost"
    )
    return lost - won <= most, text


def _calibration(m: Measurements, t: GateThresholds) -> Outcome:
    limit = max(t.max_calibration_error, m.calibration_by_chance or 0.0)
    return _at_most(m.calibration_error, limit, "calibration error")


def _ensemble(m: Measurements, t: GateThresholds) -> Outcome:
    """Members are centred on answers of the parent: the more alike these are, the less they differ
    there. So what they differ by on the candidate's is held against what they see gained, too. How
    far the candidate has gone is not seen here: heads are linear, and gain and doubt grow alike."""
    if m.candidate_variance is None or m.champion_variance is None or m.reward_gain is None:
        return None
    ratio = m.candidate_variance / max(m.champion_variance, 1e-9)
    doubt = m.candidate_variance**0.5
    most = t.max_doubt_share * m.reward_gain.mean
    text = (
        f"{ratio:.4g} times the members' variance on the champion, at most "
        f"{t.max_variance_ratio:.4g}, or {doubt:.4g} between members, at most {most:.4g} at a gain "
        f"of {m.reward_gain.mean:.4g}"
    )
    return ratio <= t.max_variance_ratio or doubt <= most, text


def _finite(m: Measurements, t: GateThresholds) -> Outcome:
    if m.finite_weights is None:
        return None
    return m.finite_weights, "every weight is finite" if m.finite_weights else "not all are finite"


def _kl(m: Measurements, t: GateThresholds) -> Outcome:
    return _at_most(m.kl, t.max_kl, "nats per response to its parent")


def _drift(m: Measurements, t: GateThresholds) -> Outcome:
    return _at_most(m.kl_to_base, t.max_kl_to_base, "nats per response to the base model")


def _ended(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(m, t, lambda b: 1 - b.ended, t.max_ended_drop, "of answers do not end")


def _empty(m: Measurements, t: GateThresholds) -> Outcome:
    if m.candidate is None:
        return None
    most = max(t.max_empty, 1 / max(m.candidate.answers, 1))
    return _at_most(m.candidate.empty, most, "of answers empty")


def _length(m: Measurements, t: GateThresholds) -> Outcome:
    if m.candidate is None or m.champion is None:
        return None
    ratio = m.candidate.mean_tokens / max(m.champion.mean_tokens, 1.0)
    return _at_most(ratio, t.max_length_ratio, "times the champion's length")


def _repetition(m: Measurements, t: GateThresholds) -> Outcome:
    what = "of word triples repeated"
    return _not_up(m, t, lambda b: b.repetition, t.max_repetition_rise, what, forgiven=0)


def _deflection(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(m, t, lambda b: b.deflects, t.max_behaviour_rise, "of answers deflect")


def _handing_off(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(m, t, lambda b: b.hands_off, t.max_behaviour_rise, "of answers hand off")


def _asking_back(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(m, t, lambda b: b.asks_back, t.max_behaviour_rise, "of answers ask back")


def _invention(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(
        m, t, lambda b: b.invents_numbers, t.max_behaviour_rise, "of answers invent numbers"
    )


def _promises(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(
        m, t, lambda b: b.promises, t.max_promise_rise, "of answers promise what no passage does"
    )


def _contacts(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(
        m,
        t,
        lambda b: b.invents_contacts,
        t.max_promise_rise,
        "of answers name contacts of no passage",
    )


def _flattery(m: Measurements, t: GateThresholds) -> Outcome:
    return _not_up(m, t, lambda b: b.flatters, t.max_behaviour_rise, "of answers flatter")


def _champion(m: Measurements, t: GateThresholds) -> Outcome:
    return _wins(m.wins_over_champion, t)


def _base(m: Measurements, t: GateThresholds) -> Outcome:
    return _wins(m.wins_over_base, t)


def _wins(rate: WinRate | None, t: GateThresholds) -> Outcome:
    """Ties narrow the interval, and four wins beside 68 ties are as lucky as four wins of four: who
    has to win must also lead by more than chance among what was decided."""
    found = _low_above(rate, t.win_rate_low, "win rate")
    if rate is None or found is None:
        return None
    if rate.items < t.min_holdout_questions:
        return False, f"{found[1]}; questions, at least {t.min_holdout_questions}"
    if t.win_rate_low < 0.5:  # not to be worse is enough
        return found
    lead = lead_by_chance(rate.won + rate.lost, _LUCK)
    text = f"{found[1]}; {rate.won} won and {rate.lost} lost, by luck {lead} more won at most"
    return found[0] and rate.won - rate.lost > lead, text


def _must_pass(m: Measurements, t: GateThresholds) -> Outcome:
    """Nothing is lost where nothing was asked, so that refuses a shop that names some."""
    if m.must_pass is None or m.must_pass_asked is None:
        return None
    asked, of_the_shop = m.must_pass_asked
    text = f"{m.must_pass} that the champion answers, none allowed"
    if asked < of_the_shop:
        text += f"; {of_the_shop - asked} of {of_the_shop} could not be asked"
    return not m.must_pass.lost and (asked > 0 or not of_the_shop), text


def _corrected(m: Measurements, t: GateThresholds) -> Outcome:
    return _few_lost(m.corrected, t.max_corrected_loss, t, "that the champion answers well")


def _recalled(m: Measurements, t: GateThresholds) -> Outcome:
    what = "where the champion says what the expert said"
    return _few_lost(m.recalled, t.max_recall_loss, t, what)


def _reworded(m: Measurements, t: GateThresholds) -> Outcome:
    what = "in other words that the champion answers well"
    return _few_lost(m.reworded, t.max_reworded_loss, t, what)


def _few_lost(kept: Kept | None, share: float, t: GateThresholds, what: str) -> Outcome:
    """No more than `share`, as far as so few questions can tell: a candidate that loses just that
    share loses more of them by chance, and of sixteen questions one is 6 %."""
    if kept is None:
        return None
    most = count_by_chance(kept.held, share, t.memory_chance)
    return len(kept.lost) <= most, f"{kept} {what}, at most {most}"


CHECKS: dict[str, Callable[[Measurements, GateThresholds], Outcome]] = {
    "trusted items": _trusted_items,
    "visitor share": _visitor_share,
    "quarantine": _quarantine,
    "reward model": _reward_model,
    "judge": _judge,
    "previous reward model": _previous_reward_model,
    "calibration": _calibration,
    "ensemble agreement": _ensemble,
    "finite weights": _finite,
    "KL": _kl,
    "drift from the base model": _drift,
    "ends its answers": _ended,
    "empty answers": _empty,
    "length": _length,
    "repetition": _repetition,
    "deflection": _deflection,
    "handing off": _handing_off,
    "asking back": _asking_back,
    "invented numbers": _invention,
    "promises": _promises,
    "contacts": _contacts,
    "flattery": _flattery,
    "win rate over champion": _champion,
    "win rate over base model": _base,
    "must-pass questions": _must_pass,
    "corrected questions": _corrected,
    "experts' answers": _recalled,
    "other wordings": _reworded,
    **{f"{kind} probes": partial(probes_of_a_kind, kind) for kind in get_args(ProbeKind)},
    "all probes": probes_of_all_kinds,
}


def _at_most(value: float | None, most: float, what: str) -> Outcome:
    """NaN is above every limit."""
    return None if value is None else (value <= most, f"{value:.4g} {what}, at most {most:.4g}")


def _at_least(value: float | None, least: float, what: str) -> Outcome:
    return None if value is None else (value >= least, f"{value:.4g} {what}, at least {least:.4g}")


def _low_above(share: Share | None, least: float, what: str) -> Outcome:
    if share is None:
        return None
    return share.low > least, f"{what} {share}, lower bound above {least:.4g}"


def _not_up(
    m: Measurements,
    t: GateThresholds,
    measure: Callable[[Behaviour], float],
    rise: float,
    what: str,
    forgiven: int = 1,
) -> Outcome:
    """The candidate's measure against the champion's plus `rise`, or plus the answers `forgiven`
    where these are so few that one is more (rounding forgiven); and against the base model's plus
    a few such rises, lest every round takes one. Beyond that nothing may rise."""
    if m.candidate is None or m.champion is None or m.base is None:
        return None
    rise = max(rise, forgiven / max(m.candidate.answers, 1))
    before = measure(m.champion)
    most = min(before + rise, max(before, measure(m.base) + t.max_rises_over_base * rise))
    ours = measure(m.candidate)
    return ours <= most + 1e-9, f"{ours:.4g} {what}, at most {most:.4g}"
