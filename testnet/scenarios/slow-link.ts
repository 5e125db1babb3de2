/** One organization sits behind a bad line: its rounds are late at most, and nobody else is held up for ever. */
export const slowLink = `
name: slow-link
about: One member of world/code gets 80 ms each way, 500 kB/s and 1 % loss to everybody, for 20 seconds.
testnet: { rounds: 8, timings: { deadlineMs: 20000, parentTimeoutMs: 20000 } }
steps:
  - do: slow
    whom: { member: world/code }
    at: { federation: world/code, round: 2 }
    latencyMs: 80
    bytesPerSecond: 500000
    loss: 0.01
    forSeconds: 20
`
