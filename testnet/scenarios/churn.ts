/** Someone dies every few seconds and is started again: no invariant broken, no accepted update lost, no orphan process. */
export const churn = `
name: churn
about: Every few seconds somebody, drawn by the seed, is killed, and started again with its disk.
testnet: { rounds: 12, timings: { deadlineMs: 15000, parentTimeoutMs: 10000 } }
steps:
  - do: kill
    whom: { random: 1 }
    at: { seconds: [3, 5] }
    again: { afterSeconds: [1, 3] }
    repeat: { everySeconds: [5, 8], untilRound: 10 }
`
