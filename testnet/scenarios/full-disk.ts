/** A disk fills up: the node stops rather than forget; with room again it goes on where it was. */
export const fullDisk = `
name: full-disk
about: The disk of world/code's aggregator fills up in the middle of a round; 6 seconds later there is room, and it goes on.
testnet: { rounds: 7, timings: { deadlineMs: 20000, parentTimeoutMs: 20000 } }
steps:
  - do: fill-disk
    whom: { aggregator: world/code }
    at: { federation: world/code, round: 3, laterBySeconds: [0.2, 1] }
    again: { afterSeconds: 6 }
`
