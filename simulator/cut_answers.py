"""Which answers were ended by the server's clock instead of by the policy.

Knows visits, no install. The server ends an answer after a minute (responder.py), so a machine that
does too much else sends half sentences, and they say nothing of the policy.
"""

from collections.abc import Sequence

from simulator.customers import Visit

CUT_S = 60.0  # from the question on


def cut_answers(visits: Sequence[Visit]) -> int:
    """How many of the visits' answers took so long that the server ended them."""
    return sum(turn.answer.seconds >= CUT_S for visit in visits for turn in visit.turns)
