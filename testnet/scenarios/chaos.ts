/**
 * Everything at once, as months bring it: no invariant broken, nothing accepted lost, whatever falls together. One organization alone loses
 * disks: a federation of three whose majority has lost its memory stands still for good (docs/operating.md, "Lost disks").
 */
export const chaos = `
name: chaos
about: Kills, lost disks, halts, cuts, slow lines and full disks, drawn by the seed, one into the other.
testnet: { rounds: 12, timings: { deadlineMs: 15000, parentTimeoutMs: 10000 } }
steps:
  - do: kill
    whom: { random: 1 }
    at: { seconds: [2, 6] }
    again: { afterSeconds: [0, 6] }
    repeat: { everySeconds: [7, 14], untilRound: 9 }
  - do: kill
    whom: { aggregator: world/code }
    at: { seconds: [5, 12] }
    again: { afterSeconds: [1, 4] }
    repeat: { everySeconds: [12, 22], untilRound: 9 }
  - do: kill
    whom: { member: world/prose }
    as: loser
    at: { federation: world/prose, round: 3, laterBySeconds: [0, 5] }
    again: { afterSeconds: [0, 4], disk: empty }
  - do: kill
    whom: { same: loser }
    afterSeconds: [15, 30]
    again: { afterSeconds: [0, 4], disk: empty }
    repeat: { everySeconds: [20, 35], untilRound: 9 }
  - do: stop
    whom: { random: 1 }
    at: { seconds: [4, 14] }
    again: { afterSeconds: [0, 5] }
    repeat: { everySeconds: [15, 30], untilRound: 9 }
  - do: pause
    whom: { random: 1 }
    at: { seconds: [3, 10] }
    forSeconds: [0.5, 6]
    repeat: { everySeconds: [9, 18], untilRound: 9 }
  - do: partition
    groups: [[{ random: 2 }]]
    at: { seconds: [6, 15] }
    forSeconds: [1, 8]
    repeat: { everySeconds: [15, 30], untilRound: 9 }
  - do: slow
    whom: { random: 1 }
    latencyMs: 120
    bytesPerSecond: 500000
    loss: 0.02
    at: { seconds: [3, 10] }
    forSeconds: [3, 10]
    repeat: { everySeconds: [10, 20], untilRound: 9 }
  - do: fill-disk
    whom: { random: 1 }
    at: { seconds: [10, 25] }
    again: { afterSeconds: [1, 4] }
    repeat: { everySeconds: [20, 35], untilRound: 9 }
`
