/** How long blobs take between simulated peers: lines of their own rate, holders that serve in turn, receivers that pass on what they have. */
import assert from 'node:assert/strict'
import { Quadratic } from '../../src/sim/quadratic.ts'
import { Simulation } from '../../src/sim/simulation.ts'
import type { Peer } from '../../src/sim/peer.ts'
import { topologyOfFile } from '../../src/sim/topology.ts'

const modelBytes = 1_000_000
const links = {
  continental: { latencyMs: 10, mbitUp: 200, mbitDown: 400, loss: 0 },
  '4g': { latencyMs: 40, mbitUp: 10, mbitDown: 30, loss: 0 }
}
/** Of a blob over one line. */
const [lineUpMs, lineDownMs, mobileUpMs, mobileDownMs] = [40, 20, 800, 8_000 / 30]

/** Peers that are up and do nothing of their own accord; the mobile ones come last. */
function peersAtHome(count: number, mobile = 0): { world: Simulation; peers: Peer[] } {
  const federations = {
    'world/home': { organizations: count },
    ...(mobile > 0 && { 'world/mobile': { organizations: mobile, access: '4g' } })
  }
  const topology = topologyOfFile('transfers', { federations: withLines(federations), links }, 1)
  if (topology.kind !== 'tree') throw new Error('no tree')
  const paths = topology.organizations.map(({ federation }) => topology.federations[federation]!.path)
  const learner = new Quadratic({ paths, heterogeneity: 0.5, keyFraction: 1, floats: 8, seed: 1 })
  const faults = { name: 'none', clockDrift: 0, faults: [] }
  const world = new Simulation({ topology, rounds: 1, seed: 1, faults, learner, horizonMs: 1e6, keyFraction: 1, modelBytes })
  for (const peer of world.peers) peer.up = true
  return { world, peers: world.peers }
}

/** Whether somebody is mobile is drawn where a file does not say. */
const withLines = (federations: Record<string, { organizations: number; access?: string }>) =>
  Object.fromEntries(Object.entries(federations).map(([path, one]) => [path, { access: 'line', ...one }]))

/** When each of the receivers had it, or null. */
function pulled(world: Simulation, receivers: Peer[], link: string, holders: string[]): (number | null)[] {
  const atMs = receivers.map((): number | null => null)
  for (const [place, receiver] of receivers.entries())
    receiver.pull(link, holders, world.topics[0]!, 1, got => {
      if (got) atMs[place] = world.clock.nowMs
    })
  while (world.clock.next());
  return atMs
}

const latest = (atMs: (number | null)[]): number => Math.max(...atMs.map(one => one ?? Number.POSITIVE_INFINITY))

describe('a simulated transfer', () => {
  it('takes what the slower of both lines takes, each with its own rate', () => {
    const { world, peers } = peersAtHome(2, 2)
    const [home, other, mobile] = peers as [Peer, Peer, Peer]
    const link = home.put(new Float32Array(8), 1)
    // Three ways of a connection and a question, one of the last byte.
    assert.equal(pulled(world, [other], link, [home.name])[0], 4 * 10 + lineUpMs)
    const began = world.clock.nowMs
    assert.equal(latest(pulled(world, [mobile], link, [home.name])) - began, 4 * 40 + mobileDownMs)
    const beganUp = world.clock.nowMs
    const another = mobile.put(new Float32Array(8).fill(1), 1)
    assert.equal(latest(pulled(world, [other], another, [mobile.name])) - beganUp, 4 * 40 + mobileUpMs)
  })

  it('leaves the line of an aggregator to others while a slow member sends', () => {
    const { world, peers } = peersAtHome(9, 1)
    const [aggregator] = peers as [Peer]
    const slow = peers.at(-1)!
    const at: number[] = []
    for (const member of [slow, ...peers.slice(1, -1)]) {
      const link = member.put(new Float32Array(8).fill(member.index), 1)
      aggregator.pull(link, [member.name], world.topics[0]!, 1, () => at.push(world.clock.nowMs))
    }
    while (world.clock.next());
    assert.equal(at.length, 9)
    // Eight others over its own line, one after another; the slow one meanwhile.
    assert.ok(at[7]! <= 4 * 10 + 8 * lineDownMs + mobileDownMs && at[8]! >= mobileUpMs, `${at}`)
    assert.ok(at[8]! <= 4 * 40 + mobileUpMs + 8 * lineDownMs, `${at}`)
  })

  it('spreads: twice as many have it after each, and each line sends one after another', () => {
    const { world, peers } = peersAtHome(128)
    const [home, ...others] = peers as [Peer, ...Peer[]]
    const link = home.put(new Float32Array(8), 1)
    const atMs = pulled(world, others, link, [home.name])
    // All from the one holder would be 127 blobs over one line.
    assert.ok(latest(atMs) <= 7 * (lineUpMs + 4 * 10) && latest(atMs) >= 7 * lineUpMs, `${latest(atMs)} ms`)
    // No line sent more than it could.
    for (const peer of peers) assert.ok(peer.upFreeMs <= latest(atMs) + lineUpMs, `${peer.name} ${peer.upFreeMs}`)
  })

  it('comes from who has just got it, where its first holder is busy with other things', () => {
    const { world, peers } = peersAtHome(3)
    const [home, first, second] = peers as [Peer, Peer, Peer]
    const link = home.put(new Float32Array(8), 1)
    const atMs: number[] = []
    first.pull(link, [home.name], world.topics[0]!, 1, () => atMs.push(world.clock.nowMs))
    home.upFreeMs = 60_000
    second.pull(link, [home.name], world.topics[0]!, 1, () => atMs.push(world.clock.nowMs))
    while (world.clock.next());
    assert.ok(atMs[1]! - atMs[0]! <= 4 * 10 + lineUpMs, `${atMs}`)
  })

  it('goes on from another where its holder dies, also for those that wait', () => {
    const { world, peers } = peersAtHome(20)
    const [home, ...others] = peers as [Peer, ...Peer[]]
    const link = home.put(new Float32Array(8), 1)
    world.clock.call(4 * 10 + lineUpMs + 5, () => {
      home.up = false
      home.incarnation++
    })
    const atMs = pulled(world, others, link, [home.name])
    assert.ok(
      atMs.every(at => at !== null),
      `${atMs}`
    )
  })

  it('ends, for all that wait, where nobody is left who has it', () => {
    const { world, peers } = peersAtHome(20)
    const [home, ...others] = peers as [Peer, ...Peer[]]
    const link = home.put(new Float32Array(8), 1)
    world.clock.call(30, () => {
      home.up = false
      home.incarnation++
    })
    let ended = 0
    for (const other of others)
      other.pull(link, [home.name], world.topics[0]!, 1, got => {
        assert.equal(got, false)
        ended++
      })
    while (world.clock.next());
    assert.equal(ended, others.length)
  })
})
