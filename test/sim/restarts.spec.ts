/** What is accepted outlives the processes that accepted it: a federation whose voters all die at a chosen moment. */
import assert from 'node:assert/strict'
import type { FaultPlan } from '../../src/sim/faults.ts'
import type { Message } from '../../src/sim/core.ts'
import type { Peer } from '../../src/sim/peer.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { short, story } from './runs.ts'

const roundOf = (envelope: unknown): number => {
  const message = envelope as Message
  const isRound = message.kind === 'consensus' && message.message.type === 'propose' && message.message.entry.kind === 'round'
  return isRound ? (message.message as { entry: { round: number } }).entry.round : 0
}

describe('a round that one voter alone has accepted', () => {
  it('is certified by those that come back, though two whose updates it counts never do, 10 seeds', async () => {
    for (let seed = 1; seed <= 10; seed++) {
      let deaths = 0
      const sabotage = ({ network, clock, peers }: Simulation) => {
        const { send } = network
        let both: [Peer, Peer] | null = null
        network.cut((from, to) => both !== null && (from === both[0] || to === both[0]) && !both.includes(to as Peer))
        network.send = (from, to, message, bytes, level) => {
          if (both === null && roundOf(message) === 2) {
            const [aggregator, voter] = (both = [from as Peer, to as Peer])
            const other = peers.find(peer => !both?.includes(peer))
            clock.call(1_500, () => {
              for (const peer of peers) peer.crash()
              both = [aggregator, aggregator]
              deaths = peers.filter(({ up }) => !up).length
              for (const peer of peers) if (peer !== aggregator && peer !== other) clock.call(1_000, () => peer.start())
            })
            assert.ok(voter.up)
          }
          send.call(network, from, to, message, bytes, level)
        }
      }
      const faults: FaultPlan = {
        name: 'all die',
        clockDrift: 0,
        faults: [{ kind: 'silent', atMs: 1e9, forMs: 1, who: { peer: 0 } }]
      }
      const report = await short({ seed, tree: 'tree:5', rounds: 4, faults, sabotage })
      assert.equal(deaths, 5)
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'all die'))
    }
  })
})
