/** That votes are given: rounds go on without it, and no invariant needs it, until the first peer is lost. */
import assert from 'node:assert/strict'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { treeOf } from './runs.ts'

describe('a simulated tree in which nothing goes wrong', () => {
  for (const tree of ['tree:1', 'tree:2', 'tree:4', 'tree:7', 'tree:2x3', 'tree:3x2x2'])
    it(`${tree} ends with as many voters in each federation as its charter and its members allow, all of them enrolled`, async () => {
      const worlds: Simulation[] = []
      const sabotage = (world: Simulation) => worlds.push(world)
      const { complete } = await simulate({ topology: treeOf(tree, 1), rounds: 4, seed: 1, faults: 'none', sabotage })
      const [world] = worlds as [Simulation]
      assert.ok(complete)
      for (const topic of world.topics) {
        const { members, voters, enrolled } = world.invariants.roster(topic)
        const peers = [...members.values()].flatMap(member => member.peers)
        const most = Math.min(topic.charter.voters, peers.length)
        assert.equal(voters.length, most % 2 === 0 ? most - 1 : most, `${topic.charter.path}: ${voters}`)
        assert.ok(voters.every(peer => enrolled.has(peer) && peers.includes(peer)))
      }
    })
})
