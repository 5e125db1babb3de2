/** Who is simulated: names and files, and what is refused; gossip averaging on graphs against what it must come to. */
import assert from 'node:assert/strict'
import type { WorldlmError } from '../../src/errors.ts'
import type { Fault } from '../../src/sim/faults.ts'
import { simulate } from '../../src/sim/simulate.ts'
import { namedTopology, topologyOfFile } from '../../src/sim/topology.ts'

const refused = (make: () => unknown): string => {
  try {
    make()
  } catch (error) {
    return `${(error as WorldlmError).code} ${(error as Error).message}`
  }
  return 'taken'
}

describe('a topology', () => {
  it('deals peers out to the leaves of a tree', () => {
    const topology = namedTopology('tree:19x20x26', 10_000, 1)
    assert.ok(topology.kind === 'tree')
    const { federations, organizations } = topology
    assert.deepEqual([federations.length, organizations.length], [400, 10_000])
    const leaves = federations.filter(({ level }) => level === 2)
    assert.deepEqual([...new Set(leaves.map(({ members }) => members))].sort(), [26, 27])
    assert.deepEqual([federations[0]!.members, federations[0]!.founder, federations[1]!.members], [19, 0, 20])
  })

  const rows = [
    { name: 'ring:6', degrees: [2, 2] },
    { name: 'clique:6', degrees: [5, 5] },
    { name: 'star:6', degrees: [1, 5] },
    { name: 'small-world:60', degrees: [1, 12] },
    { name: 'random:60', degrees: [2, 20] }
  ]
  for (const { name, degrees } of rows) {
    it(`${name} hangs together, each peer with ${degrees.join(' to ')} neighbours`, () => {
      const topology = namedTopology(name, null, 3)
      assert.ok(topology.kind === 'graph')
      const { neighbours } = topology
      const counts = neighbours.map(({ length }) => length)
      assert.ok(Math.min(...counts) >= degrees[0]! && Math.max(...counts) <= degrees[1]!, counts.join())
      const reached = new Set([0])
      for (const place of reached) for (const other of neighbours[place]!) reached.add(other)
      assert.equal(reached.size, neighbours.length)
      for (const [place, list] of neighbours.entries())
        for (const other of list) assert.ok(other !== place && neighbours[other]!.includes(place))
    })
  }

  it('comes from a file: federations by path, links, places', () => {
    const topology = topologyOfFile(
      'mine.yaml',
      {
        federations: {
          'world/europe/health': { organizations: 2 },
          'world/asia': { organizations: 3, continent: 'asia', access: '4g' }
        },
        links: { lan: { latencyMs: 9 } }
      },
      0
    )
    assert.ok(topology.kind === 'tree')
    assert.deepEqual(
      topology.federations.map(({ path, parent, members, founder }) => [path, parent, members, founder]),
      [
        ['world', null, 2, 0],
        ['world/europe', 0, 1, 0],
        ['world/europe/health', 1, 2, 0],
        ['world/asia', 0, 3, 2]
      ]
    )
    assert.deepEqual([topology.links.lan.latencyMs, topology.links.lan.mbitUp], [9, 1000])
    assert.equal(topology.organizations[4]!.place.access, '4g')
  })

  const wrong = [
    { why: 'no such shape', make: () => namedTopology('moebius:4', null, 0), says: /TOPOLOGY_INVALID .*moebius/ },
    { why: 'a shape that every object has', make: () => namedTopology('toString:4', null, 0), says: /toString:4 is not known/ },
    {
      why: 'more peers than memory holds, in a file',
      make: () =>
        topologyOfFile('f', { federations: { 'world/a': { organizations: 60_000 }, 'world/b': { organizations: 1e12 } } }, 0),
      says: /more than 100000 peers/
    },
    { why: 'a size that is none', make: () => namedTopology('tree:4xx', null, 0), says: /TOPOLOGY_INVALID/ },
    { why: 'fewer peers than leaves', make: () => namedTopology('tree:9x9', 3, 0), says: /3 peers do not fill 9/ },
    { why: 'too large a clique', make: () => namedTopology('clique:900', null, 0), says: /at most 500/ },
    {
      why: 'an unknown key',
      make: () => topologyOfFile('f', { federatoins: {} }, 0),
      says: /TOPOLOGY_INVALID topology f: .*federatoins/
    },
    {
      why: 'two worlds',
      make: () => topologyOfFile('f', { federations: { a: { organizations: 2 }, b: { organizations: 2 } } }, 0),
      says: /begin with one world/
    },
    {
      why: 'an edge to nowhere',
      make: () => topologyOfFile('f', { nodes: [{}, {}], edges: [[0, 2]] }, 0),
      says: /\[0, 2\] does not join/
    }
  ]
  for (const { why, make, says } of wrong) it(`is refused: ${why}`, () => assert.match(refused(make), says))
})

describe('gossip averaging', () => {
  const run = (name: string, faults: string, seed = 1) =>
    simulate({ topology: namedTopology(name, null, seed), rounds: 5, seed, faults })

  it('comes to the mean in one round where all are neighbours of all', async () => {
    const { convergence, complete, invariants } = await run('clique:6', 'none')
    assert.deepEqual([complete, invariants.checked], [true, []])
    for (const { consensus, organizations } of convergence.curve) {
      assert.equal(organizations, 6)
      assert.ok(consensus < 1e-3, String(consensus))
    }
  })

  it('mixes slower on a ring than on a clique, and faster than not at all', async () => {
    const distance = async (name: string) => (await run(name, 'none')).convergence.consensus!
    const [clique, ring] = [await distance('clique:12'), await distance('ring:12')]
    assert.ok(clique < ring / 10, `${clique} ${ring}`)
  })

  it('is over when the last peer has averaged for the last time, with peers that have left', async () => {
    const { virtualSeconds, convergence, complete } = await run('ring:2', 'none')
    assert.deepEqual([complete, virtualSeconds], [true, convergence.curve.at(-1)!.seconds])
    const faults: Fault[] = [{ kind: 'leave', atMs: 3_000, who: { peer: 2 } }]
    const topology = namedTopology('ring:4', null, 1)
    const left = await simulate({ topology, rounds: 3, seed: 1, faults: { name: 'one leaves', clockDrift: 0, faults } })
    assert.deepEqual([left.complete, left.virtualSeconds], [true, left.convergence.curve.at(-1)!.seconds])
  })

  it('lets itself be interrupted, though it waits for nothing', async () => {
    const abort = new AbortController()
    setTimeout(() => abort.abort(), 1)
    const topology = namedTopology('ring:500', null, 1)
    const { complete } = await simulate({ topology, rounds: 5_000, seed: 1, faults: 'none', signal: abort.signal })
    assert.equal(complete, false)
  })

  it('goes on under every fault, and is the same run for the same seed', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const [one, other] = [await run('ring:8', 'chaos', seed), await run('ring:8', 'chaos', seed)]
      assert.deepEqual([one.complete, one.digest], [true, other.digest], `seed ${seed}`)
    }
  })
})
