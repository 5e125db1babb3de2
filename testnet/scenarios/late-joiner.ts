/** An organization that nobody waited for comes in the middle of a run: it takes the newest certified model and is counted. */
export const lateJoiner = `
name: late-joiner
about: An organization of world/prose is started when the others have made three rounds, and joins them.
testnet: { rounds: 8, timings: { deadlineMs: 30000, parentTimeoutMs: 30000 } }
late: [{ member: world/prose }]
steps:
  - do: start
    whom: { random: 1 }
    at: { federation: world/prose, round: 4 }
`
