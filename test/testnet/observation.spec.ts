/** What is seen of a testnet from its nodes' events and statuses: who leads, what was certified, what a fault touched, and whom a federation can spare. */
import assert from 'node:assert/strict'
import type { NodeEvent, NodeStatus, RoundSummary } from '../../src/node/status.ts'
import { Observation } from '../../testnet/observation.ts'
import type { TestnetNode } from '../../testnet/spawn.ts'

const path = 'world/x'
const nodeOf = (name: string): TestnetNode =>
  ({ plan: { path: `x/${name}`, federation: path }, peer: name, ended: null, paused: false }) as unknown as TestnetNode

/** Three nodes of one federation that should make five rounds. */
function seen() {
  const observation = new Observation(5)
  const nodes = ['a', 'b', 'c'].map(nodeOf) as [TestnetNode, TestnetNode, TestnetNode]
  for (const node of nodes) observation.addNode(node)
  let seq = 0
  const take = (node: TestnetNode, event: NodeEvent) => observation.take(node, { ...event, seq: ++seq, at: '' })
  const certify = (node: TestnetNode, round: number, commit = 0) => {
    const included = nodes.map(({ peer }) => ({ member: peer, name: peer, weight: 1, attention: {} }))
    const seconds = { train: 1, transfer: 0, aggregate: 0, commit }
    const facts = {
      federation: path,
      federationId: 'bafyX',
      round,
      term: 3,
      aggregator: 'a',
      included,
      excluded: [],
      alone: null,
      seconds
    }
    return take(node, { type: 'round', round: facts as unknown as RoundSummary })
  }
  const status = (name: string, voters: string[], role = 'organization') =>
    observation.takeStatus(`x/${name}`, {
      bytes: { in: 1, out: 2 },
      federations: [{ path, role, voters, delegates: [`delegate of ${name}`] }]
    } as unknown as NodeStatus)
  return { observation, nodes, take, certify, status }
}

describe('what is seen of a testnet', () => {
  it('a federation has a voter to spare if all that are up, and take part, see a majority without any one of those up', () => {
    const { observation, nodes, status } = seen()
    assert.equal(observation.hasSpare(path), false, 'nobody has told')
    for (const name of ['a', 'b', 'c']) status(name, ['a', 'b', 'c'])
    assert.equal(observation.hasSpare(path), true)
    status('c', ['a', 'b'])
    assert.equal(observation.hasSpare(path), false, 'one of them knows two voters')
    status('c', [], 'observer')
    assert.equal(observation.hasSpare(path), true, 'who only looks on does not count')
    status('c', ['a', 'b', 'c'])
    nodes[1].paused = true
    assert.equal(observation.hasSpare(path), false)
    Object.assign(nodes[1], { paused: false, ended: { code: 0, signal: null } })
    assert.equal(observation.hasSpare(path), false)
    assert.equal(observation.hasSpare('world'), false)
  })

  it('its delegates are told by those that are in it, its aggregator by the newest term', () => {
    const { observation, nodes, take, status } = seen()
    status('a', ['a'])
    status('b', ['a'], 'joining')
    assert.deepEqual(observation.federations.get(path)!.delegates, ['delegate of a'])
    const elect = (peer: string, term: number) => take(nodes[0], { type: 'aggregator', federation: path, peer, term })
    assert.equal(elect('b', 4), `${path}: x/b is aggregator (term 4)`)
    assert.equal(elect('a', 3), null)
    assert.deepEqual([observation.aggregatorOf(path), observation.ledBy(nodes[1])], ['x/b', [path]])
    assert.equal(elect('b', 5), null, 'the same, in another term')
    take(nodes[2], { type: 'round-phase', federation: path, round: 1, phase: 'collecting' })
    assert.equal(observation.aggregatorOf(path), 'x/c', 'who makes a round leads')
    assert.equal(elect('c', 6), null)
    assert.equal(observation.federations.get(path)!.phase, 'collecting')
    elect('a', 7)
    assert.equal(observation.federations.get(path)!.phase, null)
  })

  it('each round is told once, with how long its commit took, which its aggregator alone knows', () => {
    const { observation, nodes, certify } = seen()
    assert.match(certify(nodes[1], 1) ?? '', /round 1 certified in term 3, 3 members$/)
    assert.equal(certify(nodes[0], 1, 0.5), null)
    assert.equal(certify(nodes[2], 1), null)
    assert.deepEqual(
      [...observation.rounds.values()].map(({ round, seconds }) => [round, seconds.commit]),
      [[1, 0.5]]
    )
  })

  it('a fault is expected to be recovered from where rounds are left, and who has ended has not finished', () => {
    const { observation, nodes, take, certify } = seen()
    take(nodes[0], { type: 'aggregator', federation: 'world', peer: 'a', term: 1 })
    const early = observation.plan('kill-aggregator', [nodes[0]], '')
    assert.deepEqual(early.federations, [path, 'world'])
    certify(nodes[0], 5)
    assert.deepEqual(observation.plan('kill-aggregator', [nodes[0]], '').federations, ['world'])
    take(nodes[0], { type: 'finished', round: 5 })
    nodes[0].ended = { code: 3, signal: null }
    assert.equal(observation.lose(nodes[0]), 'x/a is gone (code 3); it was aggregator of world, world/x')
    const { finished, status, phase } = observation.nodes.get('x/a')!
    assert.deepEqual([finished, status, phase], [false, null, 'starting'])
    assert.deepEqual(
      observation.faults.map(({ kind, planned }) => [kind, planned]),
      [
        ['kill-aggregator', true],
        ['kill-aggregator', true],
        ['lost-aggregator', false]
      ]
    )
  })

  it('an absence is told once, though all tell of it', () => {
    const { nodes, take } = seen()
    const absent = { type: 'member', federation: path, member: 'c', name: 'c', change: 'absent', reason: '' } as const
    assert.deepEqual(
      nodes.map(node => take(node, absent)),
      [`${path}: c is absent`, null, null]
    )
  })
})
