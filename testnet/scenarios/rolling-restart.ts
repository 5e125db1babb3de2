/** Every node is stopped cleanly and started again, one after another, as for an update of the software. */
export const rollingRestart = `
name: rolling-restart
about: Each organization in turn is stopped cleanly and started again, as for a new version.
testnet: { rounds: 10, timings: { deadlineMs: 20000, parentTimeoutMs: 20000 } }
steps:
  - do: stop
    whom: { each: world }
    at: { federation: world, round: 2 }
    again: { afterSeconds: 1 }
    repeat: { everySeconds: 5 }
`
