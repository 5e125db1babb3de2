/** Peers that only follow a federation: what they know, whatever they missed, and how they come to take part (src/sim/follower.ts). */
import assert from 'node:assert/strict'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { Follower } from '../../src/sim/follower.ts'
import { Replica } from '../../src/sim/replica.ts'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { treeOf } from './runs.ts'

async function worldAfter(tree: string, options: { faults?: string; loss?: number; seed?: number }): Promise<Simulation> {
  const { faults = 'none', loss, seed = 1 } = options
  const topology = treeOf(tree, seed)
  if (loss !== undefined) for (const figures of Object.values(topology.links)) figures.loss = loss
  let world: Simulation | null = null
  const sabotage = (made: Simulation) => {
    world = made
  }
  const report = await simulate({ topology, rounds: 4, seed, faults, sabotage })
  assert.deepEqual(report.invariants.violations, [])
  assert.equal(report.complete, true)
  return world!
}

const followersIn = ({ topics }: Simulation) =>
  topics.flatMap(({ observers }) => observers).filter(one => one instanceof Follower)

describe('peers that only follow a federation', () => {
  it('know what its log says, and share what they know', async () => {
    const world = await worldAfter('tree:2x3x5', {})
    const ofRoot = followersIn(world).filter(({ topic }) => topic.level === 0)
    assert.ok(ofRoot.length > 15, `${ofRoot.length} of ${world.peers.length}`)
    const [states, lengths] = [ofRoot.map(({ state }) => state), ofRoot.map(({ log }) => log.length)]
    assert.equal(new Set(states).size, new Set(lengths).size)
    for (const { state, log, topic } of followersIn(world)) {
      const persisted = { term: 0, votedFor: null, accepted: null }
      const { id, charter } = topic
      const want = initialFederation({ id, charter, self: '', entries: log, persisted, rank: 0, nonce: 0 })
      const { commitIndex, head, voters } = want.consensus
      for (const key of ['roster', 'head', 'bases', 'counted'] as const) assert.deepEqual(state[key], want[key])
      assert.deepEqual([commitIndex, head, voters], [state.consensus.commitIndex, state.consensus.head, state.consensus.voters])
      assert.equal(state.consensus.term, log.at(-1)!.certificate.term)
    }
  })

  for (const [name, options] of [
    ['where a third of what is said gets lost', { loss: 0.33 }],
    ['through crashes', { faults: 'crashes', seed: 3 }],
    ['through partitions', { faults: 'partitions', seed: 5 }]
  ] as const)
    it(`have every entry in the end, ${name}`, async () => {
      const world = await worldAfter('tree:2x2x4', options)
      const followers = followersIn(world)
      assert.ok(followers.length > 0)
      assert.equal(world.faults.active, 0, 'who is cut off to the end is behind')
      // Each looks again within a presence's time, and a run goes on for longer after its last round.
      const behind = followers.filter(({ state, topic }) => state.consensus.commitIndex < topic.newestIndex - 1)
      assert.deepEqual(
        behind.map(({ peer, topic }) => `${peer.name} in ${topic.charter.path}`),
        []
      )
    })

  it('take part as soon as they stand for their federation', async () => {
    const world = await worldAfter('tree:2x2x4', {})
    for (const topic of world.topics.filter(({ charter }) => charter.parent !== null)) {
      const above = world.topics.find(({ id }) => id === topic.charter.parent)!
      const { delegates } = world.invariants.roster(topic)
      assert.ok(delegates.length > 0)
      for (const name of delegates) assert.ok(world.services.peers.get(name)!.replicas.get(above.id) instanceof Replica)
      assert.deepEqual(world.invariants.roster(above).members.get(topic.id)?.peers, delegates)
    }
  })
})
