/**
 * What no invariant needs and no leaf waits for, so that a run is complete without it: that votes are given (rounds go on with the founder's
 * alone until it is lost), and that federations above others have their rounds (those below go on alone).
 */
import assert from 'node:assert/strict'
import { simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { treeOf } from './runs.ts'

describe('a simulated tree in which nothing goes wrong', () => {
  for (const tree of ['tree:1', 'tree:2', 'tree:4', 'tree:7', 'tree:2x3', 'tree:3x2x2'])
    it(`${tree} has all rounds of all federations, and ends with as many voters as charters and members allow, all of them enrolled`, async () => {
      const worlds: Simulation[] = []
      const sabotage = (world: Simulation) => worlds.push(world)
      const { complete } = await simulate({ topology: treeOf(tree, 1), rounds: 4, seed: 1, faults: 'none', sabotage })
      const [world] = worlds as [Simulation]
      assert.ok(complete)
      for (const topic of world.topics) {
        const rounds = world.invariants.rounds(topic)
        assert.deepEqual(
          rounds.map(({ round, alone }) => [round, alone]),
          [1, 2, 3, 4].map(round => [round, null]),
          topic.charter.path
        )
        const { members, voters, enrolled } = world.invariants.roster(topic)
        const peers = [...members.values()].flatMap(member => member.peers)
        const most = Math.min(topic.charter.voters, peers.length)
        assert.equal(voters.length, most % 2 === 0 ? most - 1 : most, `${topic.charter.path}: ${voters}`)
        assert.ok(voters.every(peer => enrolled.has(peer) && peers.includes(peer)))
      }
    })
})
