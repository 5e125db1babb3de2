/** The aggregator of a federation dies in each step of a round; another takes over, and no accepted update is lost (I4, I8). */
export const lostAggregator = `
name: lost-aggregator
about: The aggregator of world/code is killed four times, in four steps of its round, and started again with its disk.
testnet: { rounds: 16, timings: { deadlineMs: 30000, parentTimeoutMs: 30000 } }
steps:
  - do: kill
    whom: { aggregator: world/code }
    at: { federation: world/code, round: 2, phase: collecting }
    whenSpare: world/code
    again: { afterSeconds: 2 }
  - do: kill
    whom: { aggregator: world/code }
    at: { federation: world/code, round: 3, phase: aggregating }
    whenSpare: world/code
    again: { afterSeconds: 2 }
  - do: kill
    whom: { aggregator: world/code }
    at: { federation: world/code, round: 5, phase: waiting-for-parent }
    whenSpare: world/code
    again: { afterSeconds: 2 }
  - do: kill
    whom: { aggregator: world/code }
    at: { federation: world/code, round: 6, phase: proposing }
    whenSpare: world/code
    again: { afterSeconds: 2 }
`
