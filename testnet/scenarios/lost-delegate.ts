/** A delegate that is no aggregator dies: the other delegates hand in the child's contribution, and vote above. */
export const lostDelegate = `
name: lost-delegate
about: A delegate of world/code, which votes in world for it, is killed twice; the second time it loses its disk.
testnet: { rounds: 7, timings: { deadlineMs: 30000, parentTimeoutMs: 30000 } }
steps:
  - do: kill
    as: the delegate
    whom: { delegate: world/code }
    at: { federation: world/code, round: 2, laterBySeconds: [0.2, 1] }
    again: { afterSeconds: 4 }
  - do: kill
    whom: { same: the delegate }
    at: { federation: world/code, round: 5, laterBySeconds: [0.2, 1] }
    again: { afterSeconds: 2, disk: empty }
`
