/** A member dies while it trains and never comes back: its federation certifies rounds without it, for the reason "absent". */
export const lostMember = `
name: lost-member
about: A member of world/code is killed while it trains, and never comes back.
testnet: { rounds: 6, timings: { deadlineMs: 30000, parentTimeoutMs: 30000 } }
steps:
  - do: kill
    whom: { member: world/code }
    at: { federation: world/code, round: 2, laterBySeconds: [0.2, 1] }
`
