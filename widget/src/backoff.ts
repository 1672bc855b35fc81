// How long to wait before the next try: doubling from half a second to fifteen, half of it at random,
// so that a restarted server is not met by all its visitors in the same instant. Pure.

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/** Milliseconds before try number `attempt` (0 is the first repeat); `random` is in [0, 1). */
export function delayMs(attempt: number, random: number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return ceiling / 2 + (ceiling / 2) * random;
}
