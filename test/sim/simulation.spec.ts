/** Runs of whole trees: that nothing is lost without faults, that a seed is a run, that no plan of faults breaks an invariant. */
import assert from 'node:assert/strict'
import { rosterPeers } from '../../src/federation/membership.ts'
import type { Fault, Who } from '../../src/sim/faults.ts'
import { planFor, simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { topologyOfFile } from '../../src/sim/topology.ts'
import type { SimulationReport } from '../../src/report/simulation.ts'
import { faultPlanNames } from '../../src/sim/fault-plans.ts'
import { economy } from '../../src/sim/voice.ts'
import { short, story, treeOf } from './runs.ts'

/** The answer to a heartbeat that told nothing is counted with it, a moment early; of 200 bytes, from four voters of each of three federations. */
const answersUnderWay = 12

/** Without the bytes at the end of each round. */
const curveOf = ({ convergence }: SimulationReport) => convergence.curve.map(({ bytes: _, ...round }) => round)

describe('a simulated tree', () => {
  it('certifies every round of every federation, and learns', async () => {
    const report = await short({ tree: 'tree:2x2x4', rounds: 3 })
    assert.deepEqual(report.invariants.violations, [])
    assert.equal(report.complete, true)
    const { curve } = report.convergence
    assert.equal(curve.length, 3)
    assert.ok(curve[2]!.personal < curve[0]!.personal / 2, `${curve[0]!.personal} → ${curve[2]!.personal}`)
    assert.equal(curve[1]!.organizations, 16)
  })

  it('takes the time that large models take for what it is, and no broken promise (I8)', async () => {
    for (const modelBytes of [5e8, 2e9]) {
      const { invariants, complete } = await short({ rounds: 2, modelBytes })
      assert.deepEqual([invariants.violations, complete], [[], true], `${modelBytes} bytes`)
    }
  })

  it('breaks no promise (I8) where somebody whom all wait for trains on what it began while its machine was slow', async () => {
    const report = await short({ tree: 'tree:2', seed: 7_000_212, faults: 'slow' })
    assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'slow'))
  })

  it('says of a round that it was ended in when that was', async () => {
    const abort = new AbortController()
    let trained = 0
    const sabotage = ({ measures }: Simulation) => {
      const { trained: note } = measures
      measures.trained = (organization, round, loss) => {
        note.call(measures, organization, round, loss)
        if (round === 2 && ++trained === 3) abort.abort()
      }
    }
    const { convergence, complete, virtualSeconds } = await short({ rounds: 3, signal: abort.signal, sabotage })
    const [first, second] = convergence.curve
    assert.deepEqual([complete, convergence.curve.length, second!.organizations], [false, 2, 0])
    assert.ok(second!.seconds > first!.seconds && second!.seconds <= virtualSeconds, `${second!.seconds}`)
    assert.ok(second!.bytes >= first!.bytes)
    assert.ok((convergence.secondsToTarget ?? 1) > 0)
  })

  it('is the same run for the same seed, and another for another', async () => {
    const [first, again, other] = [
      await short({ seed: 5, faults: 'chaos' }),
      await short({ seed: 5, faults: 'chaos' }),
      await short({ seed: 6, faults: 'chaos' })
    ]
    assert.equal(first.digest, again.digest)
    assert.deepEqual({ ...first, seconds: 0 }, { ...again, seconds: 0 })
    assert.notEqual(first.digest, other.digest)
  })

  it('does the same whether what tells nothing is noted or delivered', async () => {
    const noted = await short({ seed: 3, tree: 'tree:2x6' })
    economy.on = false
    try {
      const delivered = await short({ seed: 3, tree: 'tree:2x6' })
      assert.equal(delivered.virtualSeconds, noted.virtualSeconds)
      assert.deepEqual(curveOf(delivered), curveOf(noted))
      const [one, other] = [delivered.bytes.total, noted.bytes.total]
      assert.ok(Math.abs(one - other) <= answersUnderWay * 200, `${one} and ${other} bytes`)
    } finally {
      economy.on = true
    }
  })
})

describe('what tells nothing', () => {
  const document = {
    federations: { 'world/a': { organizations: 9, access: '4g' }, 'world/b': { organizations: 7, continent: 'asia' } },
    links: { '4g': { loss: 0.15 }, intercontinental: { loss: 0.05 } }
  }
  /** Long ones, so that the dead are missed, and short ones. */
  const crashes = (seed: number): Fault[] =>
    Array.from({ length: 8 }, (_, place) => ({
      kind: 'crash',
      atMs: 8_000 + place * 4_000 + seed * 37,
      who: { peer: (seed * 5 + place * 3) % 16 },
      downMs: place % 2 === 0 ? 2_000 : 25_000,
      afterEffects: 0
    }))

  /** An update that is refused, and said again, is refused again: that alone is told more often. */
  const outcome = ({ virtualSeconds, convergence, bytes, faults }: SimulationReport) => {
    const warnings = Object.entries(faults.warnings).filter(([code]) => !code.startsWith('UPDATE_REFUSED'))
    return { virtualSeconds, convergence, bytes, faults: { ...faults, warnings } }
  }

  for (const seed of [1, 2, 3]) {
    it(`changes nothing where messages get lost and peers die, seed ${seed}`, async () => {
      const topology = topologyOfFile('lossy', document, seed)
      const run = () =>
        simulate({ topology, rounds: 5, seed, faults: { name: 'crashes', clockDrift: 0, faults: crashes(seed) } })
      const noted = await run()
      economy.on = false
      try {
        const delivered = await run()
        assert.deepEqual(outcome(noted), outcome(delivered))
        const { events } = delivered
        assert.ok(noted.events < events * 0.9, `${noted.events} of ${events}`)
      } finally {
        economy.on = true
      }
    })
  }
})

describe('no fault breaks an invariant', () => {
  const seeds = Array.from({ length: 12 }, (_, place) => 1000 + place)
  for (const plan of faultPlanNames) {
    it(`${plan}, ${seeds.length} seeds`, async () => {
      for (const seed of seeds) {
        const report = await short({ seed, faults: plan, tree: seed % 3 === 0 ? 'tree:2x2x3' : 'tree:2x4', rounds: 3 })
        assert.equal(report.invariants.violations.length, 0, story(report, plan))
      }
    })
  }
})

describe('federations of one and of two', () => {
  // One has the only vote, and most of what is there.
  for (const plan of ['churn', 'liars', 'old-disks', 'chaos'])
    it(`break no invariant: ${plan}, 24 runs with residuals`, async () => {
      for (const tree of ['tree:2x1', 'tree:2x2', 'tree:3x2x2'])
        for (let seed = 1; seed <= 8; seed++) {
          const report = await short({ seed, faults: plan, tree, rounds: 6, residuals: 2 })
          assert.equal(report.invariants.violations.length, 0, story(report, `${plan} --residuals 2`))
        }
    })

  it('say so where liars alone have certified a round: nobody could check it', async () => {
    const lie: Fault = { kind: 'lie', atMs: 4_000, forMs: 60_000, who: { aggregatorOf: 0 } }
    const report = await short({ tree: 'tree:2', rounds: 4, faults: { name: 'liar', clockDrift: 0, faults: [lie] } })
    assert.deepEqual(report.invariants.violations, [])
    assert.ok((report.faults.warnings.CERTIFIED_BY_LIARS ?? 0) > 0, JSON.stringify(report.faults.warnings))
  })
})

describe('a federation that goes on alone', () => {
  it('does not wait for a parent’s model that nobody holds any more', async () => {
    const sabotage = ({ invariants, clock, peers }: Simulation) => {
      const { committed } = invariants
      invariants.committed = (replica, certified) => {
        const { entry } = certified
        committed.call(invariants, replica, certified)
        // All have combined it by then, and their next change is to be against it.
        if (entry.kind !== 'round' || entry.round !== 2 || replica.topic.level > 0) return
        clock.call(1_000, () => {
          for (const { blobs } of peers) blobs.delete(entry.model)
        })
      }
    }
    const report = await short({ tree: 'tree:2x3', rounds: 6, sabotage })
    assert.equal(report.complete, true, story(report, 'none'))
  })

  it('keeps what the one above has not counted yet, which is rounds behind it', async () => {
    const federations = {
      'world/a': { organizations: 3 },
      'world/b/c': { organizations: 1 },
      'world/b/d/e': { organizations: 3 },
      world: { organizations: 2 }
    }
    const charter = { voters: 1, minMembers: 1, timings: { deadlineMs: 30_000, parentTimeoutMs: 5_000 } }
    for (const trainMs of [300, 1_500]) {
      const report = await simulate({
        topology: topologyOfFile('ahead', { federations, charter, trainMs }, 20),
        rounds: 7,
        seed: 20,
        faults: 'chaos'
      })
      assert.deepEqual(report.invariants.violations, [], story(report, 'chaos'))
    }
  })
})

describe('residuals in simulated federations', () => {
  const federations = { 'world/a': { organizations: 4 }, 'world/b': { organizations: 4 }, 'world/c': { organizations: 3 } }
  const run = (seed: number, faults: string, charter: object = {}) => {
    const given = { algorithm: { residuals: { perNode: 2 } }, ...charter }
    const topology = topologyOfFile('residuals', { federations, charter: given, trainMs: 3_000 }, seed)
    return simulate({ topology, rounds: 5, seed, faults })
  }

  /** Without those that a target takes no more: towards the end a mix may cost ever less, and most of it is taken back. */
  const wanted = ({ dropped: _, ...others }: Record<string, number>) => others

  it('reach every organization, two a round, and each federation says who used what', async () => {
    const { residuals, invariants, complete } = await run(1, 'none')
    // 11 organizations, after all rounds but the last.
    assert.deepEqual([wanted(residuals), invariants.violations, complete], [{ brought: 11 * 2 * 4 }, [], true])
  })

  it('go where charters let them, and nowhere else', async () => {
    const egress = [{ tensor: 'residual', to: 'world/b/**', allow: false }]
    const { residuals, invariants } = await run(1, 'none', { egress })
    assert.deepEqual([wanted(residuals), invariants.violations], [{ brought: 7 * 2 * 4 }, []])
  })

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it(`break no invariant under all faults, seed ${seed}`, async () => {
      const egress = seed % 2 === 0 ? [{ tensor: 'residual', to: 'world/b/**', allow: false }] : []
      const report = await run(seed, 'chaos', { egress })
      assert.deepEqual(report.invariants.violations, [], story(report, 'chaos'))
      assert.ok((report.residuals.brought ?? 0) > 20, JSON.stringify(report.residuals))
      assert.equal(report.digest, (await run(seed, 'chaos', { egress })).digest)
    })
  }
})

describe('liars', () => {
  it('are refused by those whom they tell their lies, and their federation goes on', async () => {
    const lie = { kind: 'lie' as const, atMs: 1_000, forMs: 25_000 }
    const faults = {
      name: 'lies',
      clockDrift: 0,
      faults: [
        { ...lie, who: { aggregatorOf: 1 } },
        { ...lie, who: { peer: 5 } }
      ]
    }
    const told = new Set<string>()
    for (const seed of [1, 2, 3]) {
      const report = await short({ seed, faults, tree: 'tree:2x5', rounds: 4 })
      assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'lies'))
      for (const code of Object.keys(report.faults.warnings)) told.add(code)
    }
    for (const code of ['TOO_HEAVY', 'NO_WEIGHT', 'WRONG_COUNT', 'SKETCHES_NOT_FINITE', 'NOT_ITS_PEER'])
      assert.ok(told.has(`UPDATE_REFUSED ${code}`), `${code}: ${[...told]}`)
  })
})

describe('who signs two entries for one place', () => {
  const equivocate = (who: Who, atMs = 12_000): Fault => ({ kind: 'equivocate', atMs, forMs: 40_000, who })
  /** As an aggregator it proposes two; as a voter it tells of two, unless it is so slow that a majority has signed before it in every round. */
  const roles: { as: string; who: Who; seedsAtLeast: number }[] = [
    { as: 'aggregator', who: { aggregatorOf: 1 }, seedsAtLeast: 20 },
    { as: 'voter', who: { peer: 3 }, seedsAtLeast: 14 }
  ]

  /** Who lied where, whom each federation of the tree evicted, and who has no place there at the end, though it was not evicted. */
  async function evictions(seed: number, faults: Fault[]) {
    const lied = new Set<string>()
    const evicted = new Set<string>()
    const worlds: Simulation[] = []
    const sabotage = (world: Simulation) => {
      worlds.push(world)
      const { signedTwice, committed } = world.invariants
      world.invariants.signedTwice = (peer, topic, index) => {
        lied.add(`${peer.name} in ${topic.charter.path}`)
        signedTwice.call(world.invariants, peer, topic, index)
      }
      world.invariants.committed = (replica, certified) => {
        const { entry } = certified
        if (entry.kind === 'members')
          for (const { peer } of entry.evicted) evicted.add(`${peer} in ${replica.topic.charter.path}`)
        committed.call(world.invariants, replica, certified)
      }
    }
    // Two rounds more than the lies last.
    const report = await short({ seed, faults: { name: 'two', clockDrift: 0, faults }, tree: 'tree:2x5', rounds: 8, sabotage })
    const out = [...lied].filter(one => {
      const [name, path] = one.split(' in ') as [string, string]
      const topic = worlds[0]!.topics.find(({ charter }) => charter.path === path)!
      return !evicted.has(one) && !rosterPeers(worlds[0]!.invariants.roster(topic), topic.charter).has(name)
    })
    return { report, lied: [...lied].sort(), evicted: [...evicted].sort(), leftOffice: new Set(out) }
  }

  for (const { as, who, seedsAtLeast } of roles) {
    it(`as ${as} is evicted within two rounds, and nobody else is, 20 seeds`, async () => {
      let seeds = 0
      for (let seed = 1; seed <= 20; seed++) {
        const { report, lied, evicted, leftOffice } = await evictions(seed, [equivocate(who)])
        // I2 is broken by whoever lies in a third round, and by an eviction of who did not.
        assert.deepEqual([report.invariants.violations, report.complete], [[], true], story(report, 'two'))
        // A delegate that its child's eviction takes its office from has no place above any more that it could be evicted from.
        assert.deepEqual(
          evicted,
          lied.filter(one => !leftOffice.has(one)),
          `seed ${seed}`
        )
        assert.equal((report.faults.warnings.TWO_ACCEPTANCES ?? 0) > 0, lied.length > 0)
        if (lied.length > 0) seeds++
      }
      assert.ok(seeds >= seedsAtLeast, `somebody lied in ${seeds} seeds`)
    })
  }

  for (const plan of ['crashes', 'lossy', 'partitions', 'slow', 'liars', 'chaos']) {
    it(`breaks no invariant, whatever else goes wrong: ${plan}, 8 seeds`, async () => {
      for (let seed = 1; seed <= 8; seed++) {
        const { faults } = planFor({ topology: treeOf('tree:2x5', seed), rounds: 5, seed }, plan)
        // Of four voters, one that lies and one that leaves for good are half: nobody could be evicted any more.
        const staying = faults.filter(({ kind }) => kind !== 'leave')
        // Where messages get lost, the third voter comes late; of two, one that lies leaves nobody to evict it.
        const { report } = await evictions(seed, [...staying, equivocate({ aggregatorOf: seed % 3 }, 20_000)])
        assert.deepEqual(report.invariants.violations, [], story(report, plan))
      }
    })
  }
})

describe('the update of an aggregator that dies', () => {
  it('is counted in its round all the same: another has it, 20 seeds', async () => {
    let [counted, unfetched] = [0, 0]
    for (let seed = 0; seed < 20; seed++) {
      const faults = Array.from({ length: 8 }, (_, place): Fault => {
        const [atMs, who] = [14_000 + 9_000 * place + 300 * seed, { aggregatorOf: (place % 2) + 1 }]
        return { kind: 'crash', atMs, who, downMs: 30_000, afterEffects: 0 }
      })
      const sabotage = ({ invariants }: Simulation) => {
        const { committed } = invariants
        const seen = new Set<string>()
        invariants.committed = (replica, certified) => {
          const { entry, link } = certified
          if (entry.kind === 'round' && replica.topic.level > 0 && !seen.has(link)) {
            counted += entry.inputs.length
            unfetched += entry.excluded.filter(({ reason }) => reason.includes('could not be fetched')).length
            seen.add(link)
          }
          committed.call(invariants, replica, certified)
        }
      }
      const report = await short({
        seed,
        faults: { name: 'kills', clockDrift: 0, faults },
        tree: 'tree:2x7',
        rounds: 8,
        sabotage
      })
      assert.deepEqual(report.invariants.violations, [], story(report, 'kills'))
    }
    // Without a deputy: about 200. What is left died before its deputy had its update.
    assert.ok(counted > 1500 && unfetched <= 10, `${counted} counted, ${unfetched} could not be fetched`)
  })
})

describe('an organization that came late', () => {
  it('is in time again two rounds later, whatever goes wrong meanwhile, 36 runs', async () => {
    let late = 0
    for (const plan of ['crashes', 'churn', 'chaos'])
      for (let seed = 1; seed <= 12; seed++) {
        let world: Simulation | null = null
        const sabotage = (made: Simulation) => {
          world = made
        }
        const report = await short({ seed, faults: plan, tree: 'tree:2x7', rounds: 15, sabotage })
        assert.deepEqual(report.invariants.violations, [], story(report, plan))
        const { invariants, topics } = world! as Simulation
        for (const topic of topics.filter(({ level }) => level > 0)) {
          const inARow = new Map<string, number>()
          for (const { round, inputs } of invariants.rounds(topic))
            for (const input of inputs) {
              const count = input.round === round ? 0 : (inARow.get(input.member) ?? 0) + 1
              inARow.set(input.member, count)
              late += count > 0 ? 1 : 0
              assert.ok(count <= 2, `${plan}, seed ${seed}: ${input.member} is late in round ${round} for the ${count}th time`)
            }
        }
      }
    assert.ok(late > 10, `${late} late updates`)
  })
})
