/** Whom a round waits for: who is there and sends nothing again and again does not cost the others every deadline. */
import assert from 'node:assert/strict'
import { simulate } from '../../src/sim/simulate.ts'
import { topologyOfFile } from '../../src/sim/topology.ts'
import { testCharter } from './charters.ts'
import { FederationBench } from './federation-bench.ts'

/** `a` leads; `c` is there. */
const three = () => new FederationBench({ charter: testCharter({ voters: 1 }) }).start().admit('a', 'b', 'c')

/** A round of `a` and `b`. @returns whether it waited for its deadline */
function makeRound(bench: FederationBench): boolean {
  const { round } = bench.state.head
  bench.announce('a').announce('b')
  if (bench.state.head.round > round) return false
  bench.on({ type: 'timer', name: 'deadline' })
  assert.equal(bench.state.head.round, round + 1)
  return true
}

describe('a member that is there and sends nothing', () => {
  it('is waited for as long as a late update would count, then ever more rarely, and named late each time', () => {
    const bench = three()
    const waited = Array.from({ length: 70 }, (_, nth) => (makeRound(bench) ? [nth] : [])).flat()
    assert.deepEqual(waited, [0, 1, 2, 3, 4, 8, 16, 32, 64])
    for (const { excluded } of bench.rounds) assert.deepEqual(excluded, [{ member: 'c', reason: 'late' }])
  })

  it('counts when it sends something, and is waited for as before from then on', () => {
    const bench = three()
    for (let round = 1; round <= 7; round++) makeRound(bench)
    bench.announce('c').announce('a').announce('b')
    assert.deepEqual(
      bench.rounds[7]!.inputs.map(({ member }) => member),
      ['a', 'b', 'c']
    )
    assert.deepEqual([makeRound(bench), makeRound(bench)], [true, true])
  })

  it('is as late for a node that comes back as it was before', () => {
    const bench = three()
    for (let round = 0; round < 5; round++) makeRound(bench)
    const { term, votedFor, accepted } = bench.find('persist').at(-1)!
    const { charter } = bench.state
    const again = new FederationBench({ charter, entries: bench.log, persisted: { term, votedFor, accepted } })
    assert.deepEqual([...again.state.late], [['c', 5]])
    assert.deepEqual(again.state.late, bench.state.late)
  })

  it('leaves the others their pace: simulated, one of six trains ten thousand times as long', async () => {
    const deadlineMs = 20_000
    const document = { federations: { world: { organizations: 6 } }, charter: { timings: { deadlineMs } }, trainMs: 2_000 }
    const slow = { kind: 'slow', atMs: 0, forMs: 1e9, who: { peer: 5 }, factor: 10_000 } as const
    const faults = { name: 'one that sends nothing', clockDrift: 0, faults: [slow] }
    const report = await simulate({ topology: topologyOfFile('six', document, 1), rounds: 40, seed: 1, faults })
    assert.deepEqual([report.invariants.violations, report.complete], [[], true])
    const deadlines = (report.virtualSeconds * 1000) / deadlineMs
    assert.ok(deadlines > 4 && deadlines < 16, `${deadlines} deadlines`)
  })
})
