/** When a fault counts as recovered from, and when its node is back. */
import assert from 'node:assert/strict'
import type { RoundSummary } from '../../src/node/status.ts'
import { FaultLog } from '../../testnet/faults.ts'

const round = (federation: string, ...members: string[]): RoundSummary =>
  ({
    federation,
    included: members.map(member => ({ member, name: member, weight: 1, attention: {} }))
  }) as unknown as RoundSummary

describe('the faults of a testnet', () => {
  const kill = {
    kind: 'kill-aggregator',
    nodes: [{ path: 'code/a', peer: 'A' }],
    federations: ['world/code', 'world'],
    atSeconds: 10,
    planned: true
  } as const

  it('are recovered from when every federation that was touched has certified a round', () => {
    const log = new FaultLog()
    const fault = log.begin({ ...kill, federations: [...kill.federations], nodes: [...kill.nodes] })
    log.onRound(round('world/prose', 'D'), 11)
    log.onRound(round('world/code', 'B'), 12)
    assert.equal(fault.recoveredAfterMs, null)
    assert.deepEqual(
      log.unrecovered().map(({ federations }) => federations),
      [['world']]
    )
    log.onRound(round('world', 'code'), 13.5)
    log.onRound(round('world', 'code'), 19)
    assert.equal(fault.recoveredAfterMs, 3500)
    assert.deepEqual(log.unrecovered(), [])
  })

  it('are over for their node when it is counted again after the mending, not before', () => {
    const log = new FaultLog()
    const fault = log.begin({ ...kill, federations: [...kill.federations], nodes: [...kill.nodes] })
    log.onRound(round('world/code', 'A', 'B'), 12)
    assert.equal(fault.backAfterMs, null, 'its update was in before it died')
    log.mend(fault, 15)
    log.onRound(round('world/code', 'B'), 16)
    assert.equal(fault.backAfterMs, null)
    log.onRound(round('world/code', 'A', 'B'), 17)
    log.mend(fault, 20)
    assert.deepEqual([fault.mendedAtSeconds, fault.backAfterMs], [15, 2000])
  })

  it('that met several are over when the last of them is back; one that has finished is', () => {
    const log = new FaultLog()
    const nodes = [
      { path: 'code/a', peer: 'A' },
      { path: 'prose/d', peer: 'D' }
    ]
    const fault = log.begin({ kind: 'partition', nodes, federations: ['world'], atSeconds: 1, planned: true })
    log.mend(fault, 2)
    log.onRound(round('world/code', 'A'), 3)
    assert.deepEqual([fault.target, fault.backAfterMs], ['', null])
    log.onFinished('prose/d', 5)
    assert.equal(fault.backAfterMs, 3000)
  })
})
