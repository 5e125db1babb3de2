/**
 * What was said on gossip is said again until it is settled: gossip loses messages, and who leads may be new. Is: how long to wait. Is
 * not: the decision that it is settled.
 */

/** Said again so late, … */
export const repeatMs = 2_000
/**
 * … and at last so late. A round may take its trainers minutes, and each message is checked, kept and passed on by all: what is said every
 * two seconds by a hundred who wait is most of what they compute meanwhile.
 */
const repeatMsMax = 8_000

export const longer = (ms: number): number => Math.min(2 * ms, repeatMsMax)
