/** The two federations lose sight of each other: each goes on below, one or none above; healed, they train together again. */
export const splitAndHeal = `
name: split-and-heal
about: world/code and world/prose cannot reach each other for 15 seconds; both go on alone, and meet again.
testnet: { rounds: 12, timings: { deadlineMs: 10000, parentTimeoutMs: 4000 } }
steps:
  - do: partition
    groups: [{ all: world/code }, { all: world/prose }]
    at: { federation: world, round: 3, laterBySeconds: [0, 1] }
    forSeconds: 15
`
