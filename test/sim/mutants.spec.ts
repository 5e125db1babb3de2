/**
 * That the checker can see: for each invariant the code is broken on purpose, and the violation must be found within so many seeds.
 * What is broken lies around the machines (events, disks, arithmetic), so that no line of src is changed.
 */
import assert from 'node:assert/strict'
import type { RoundState } from '../../src/federation/round-state.ts'
import type { FederationEvent } from '../../src/federation/federation.ts'
import type { TargetState } from '../../src/federation/residual-target.ts'
import { mayEnter, mayLeave } from '../../src/governance/egress.ts'
import { Random } from '../../src/math/random.ts'
import type { Fault, FaultPlan } from '../../src/sim/faults.ts'
import { Replica } from '../../src/sim/replica.ts'
import { shrink } from '../../src/sim/shrink.ts'
import { planFor, simulate } from '../../src/sim/simulate.ts'
import type { Simulation } from '../../src/sim/simulation.ts'
import { topologyOfFile, type TreeTopology } from '../../src/sim/topology.ts'

interface Mutant {
  what: string
  finds: string
  faults: string
  seedsMax: number
  /** By default four. */
  rounds?: number
  /** Votes of the only federation. */
  voters?: number
  /** Instead of one of five organizations. */
  federations?: Record<string, { organizations: number }>
  /** Three federations whose organizations are brought each other's residuals, with these rules in every charter. */
  residuals?: { egress?: object[]; ingress?: object[] }
  /** Sees an event before its replica does; null: it never comes. */
  event?: (replica: Replica, event: FederationEvent) => FederationEvent | null
  world?: (world: Simulation) => void
}

const allowed = () => ({ allowed: true })

const edit = (replica: Replica, round: RoundState): void => {
  replica.state = { ...replica.state, round }
}

/** It asks no other voter where it stands before it votes. */
const trustsItsDisk = (replica: Replica, event: FederationEvent): FederationEvent => {
  const { state } = replica
  replica.state = { ...state, consensus: { ...state.consensus, recall: null, old: false } }
  return event
}

const mutants: Mutant[] = [
  {
    what: 'a certificate of a minority: the aggregator takes its own signature for enough',
    finds: 'I1',
    faults: 'none',
    seedsMax: 2,
    event: (replica, event) => {
      if (event.type !== 'consensus' || event.event.type !== 'signed') return event
      const { index, term, link, signature } = event.event
      const { accepted, voters } = replica.state.consensus
      if (voters.length < 3 || accepted === null) return event
      const signatures = [{ voter: replica.peer.name, signature }]
      const certificate = { federation: replica.topic.id, index, term, entry: link, signatures }
      return { type: 'consensus', event: { type: 'certified', link, entry: accepted.entry, certificate } }
    }
  },
  {
    what: 'votes that are not on disk, and that nobody is asked for',
    finds: 'I2',
    faults: 'storm',
    seedsMax: 80,
    event: trustsItsDisk,
    world: world => {
      for (const { disk } of world.peers) {
        const write = disk.write.bind(disk)
        disk.write = (path, content) =>
          write(path, path.startsWith('consensus/') ? { ...(content as object), votedFor: null, term: 0 } : content)
      }
    }
  },
  {
    what: 'an old copy of a disk that its peer takes for the newest',
    finds: 'I2',
    faults: 'old-disks',
    seedsMax: 120,
    rounds: 12,
    event: trustsItsDisk
  },
  {
    what: 'an old copy of a disk whose peer is told nothing of the newest term',
    finds: 'I2',
    faults: 'old-disks',
    seedsMax: 40,
    voters: 3,
    federations: { world: { organizations: 3 } },
    event: (_, event) => {
      if (event.type !== 'consensus' || event.event.type !== 'message' || event.event.message.type !== 'recalled') return event
      return { ...event, event: { ...event.event, message: { ...event.event.message, term: 0 } } }
    }
  },
  {
    what: 'evidence that everybody ignores',
    finds: 'I2',
    faults: 'two-faced',
    seedsMax: 2,
    event: (_, event) => (event.type === 'accuse' ? null : event)
  },
  {
    what: 'an eviction without a proof, by voters that ask for none',
    finds: 'I2',
    faults: 'none',
    seedsMax: 2,
    event: (replica, event) => {
      if (event.type === 'aggregated') {
        const peer = replica.state.roster.voters.find(voter => voter !== replica.peer.name) ?? ''
        replica.dispatch({ type: 'accuse', evicted: { peer, proof: new Uint8Array() } })
      }
      return event.type === 'verified' ? { ...event, fault: null } : event
    }
  },
  {
    what: 'a stranger among the inputs',
    finds: 'I3',
    faults: 'none',
    seedsMax: 2,
    voters: 1,
    event: (replica, event) => {
      const { round } = replica.state
      if (event.type !== 'aggregated' || round.phase !== 'aggregating') return event
      const stranger = { ...round.inputs[0]!, update: { ...round.inputs[0]!.update, member: 'stranger' } }
      edit(replica, { ...round, inputs: [...round.inputs, stranger] })
      return { ...event, inputs: [...event.inputs, stranger.link] }
    }
  },
  {
    what: 'an update counted in two rounds',
    finds: 'I4',
    faults: 'none',
    seedsMax: 2,
    voters: 1,
    event: (() => {
      const before = new WeakMap<object, Extract<RoundState, { phase: 'aggregating' }>['inputs'][number]>()
      return (replica, event) => {
        const { round } = replica.state
        if (event.type !== 'aggregated' || round.phase !== 'aggregating') return event
        const [first, ...rest] = round.inputs
        const old = before.get(replica)
        before.set(replica, first!)
        if (old === undefined) return event
        edit(replica, { ...round, inputs: [old, ...rest] })
        return { ...event, inputs: [old.link, ...event.inputs.slice(1)] }
      }
    })()
  },
  {
    what: 'a receipt for an update that is neither counted nor named',
    finds: 'I4',
    faults: 'none',
    seedsMax: 2,
    voters: 1,
    event: (replica, event) => {
      const { round, roster } = replica.state
      if (event.type !== 'aggregated' || round.phase !== 'aggregating' || round.inputs.length < 3) return event
      const lost = round.inputs.at(-1)!
      // Out of the inputs, and out of the list of those who did not come.
      const members = new Map([...roster.members].filter(([member]) => member !== lost.update.member))
      replica.state = { ...replica.state, roster: { ...roster, members } }
      edit(replica, { ...round, inputs: round.inputs.slice(0, -1) })
      return { ...event, inputs: event.inputs.slice(0, -1) }
    }
  },
  {
    what: 'a residual used twice',
    finds: 'I6',
    faults: 'none',
    seedsMax: 2,
    voters: 1,
    event: (replica, event) => {
      const { round } = replica.state
      if (event.type !== 'aggregated' || round.phase !== 'aggregating') return event
      const [from, via, model] = ['peer-000001', 'peer-000002', 'blobX']
      const used = { from, via, model, similarity: 1, weight: 0.1 }
      const inputs = round.inputs.map(input => ({ ...input, update: { ...input.update, residuals: [used, used] } }))
      edit(replica, { ...round, inputs })
      return event
    }
  },
  {
    what: 'a residual used again after a restart: what was used is not on disk',
    finds: 'I6',
    faults: 'kills',
    seedsMax: 40,
    residuals: {},
    world: world => {
      for (const { disk } of world.peers) {
        const write = disk.write.bind(disk)
        disk.write = (path, content) => {
          const before = disk.read<TargetState>(path)?.usedRound ?? 0
          if (path !== 'residuals' || (content as TargetState).usedRound === before) write(path, content)
        }
      }
    }
  },
  {
    what: 'a residual routed without consent',
    finds: 'I5',
    faults: 'none',
    seedsMax: 2,
    residuals: { egress: [{ tensor: 'residual', to: 'world/b/**', allow: false }] },
    world: world => Object.assign(world.services, { consent: { mayLeave: allowed, mayEnter } })
  },
  {
    what: 'a residual taken although the target’s charter keeps it out',
    finds: 'I5',
    faults: 'none',
    seedsMax: 2,
    residuals: { ingress: [{ tensor: 'residual', from: 'world/a/**', allow: false }] },
    world: world => Object.assign(world.services, { consent: { mayLeave, mayEnter: allowed } })
  },
  {
    what: 'inputs summed in the order of their arrival',
    finds: 'I7',
    faults: 'none',
    seedsMax: 4,
    world: ({ services: { mixing } }) => {
      const aggregate = mixing.aggregate.bind(mixing)
      let calls = 0
      mixing.aggregate = (algorithm, inputs, previous) =>
        aggregate(algorithm, calls++ % 2 === 0 ? [...inputs].reverse() : inputs, previous)
    }
  },
  {
    what: 'voters that believe a lying aggregator',
    finds: 'I7',
    faults: 'liars',
    seedsMax: 20,
    event: (_, event) => (event.type === 'verified' ? { ...event, fault: null } : event)
  },
  {
    what: 'elections that nobody stands for',
    finds: 'I8',
    faults: 'crashes',
    seedsMax: 10,
    event: (_, event) =>
      event.type === 'consensus' && event.event.type === 'timer' && event.event.name === 'election' ? null : event
  },
  {
    what: 'a federation of organizations and of one below it that aggregates nothing',
    finds: 'I8',
    faults: 'none',
    seedsMax: 1,
    federations: { world: { organizations: 3 }, 'world/below': { organizations: 3 } },
    event: (replica, event) => (event.type === 'aggregated' && replica.topic.level === 0 ? null : event)
  }
]

const seedBase = 7000

function topologyFor({ voters = 5, residuals, ...mutant }: Omit<Mutant, 'event' | 'world'>, seed: number): TreeTopology {
  if (residuals !== undefined) {
    const federations = { 'world/a': { organizations: 2 }, 'world/b': { organizations: 2 }, 'world/c': { organizations: 2 } }
    const charter = { algorithm: { residuals: { perNode: 2 } }, ...residuals }
    return topologyOfFile('mutants', { federations, charter, trainMs: 1500 }, seed) as TreeTopology
  }
  const { federations = { world: { organizations: 5 } } } = mutant
  const document = { federations, charter: { voters, minMembers: 2 }, trainMs: 1500 }
  return topologyOfFile('mutants', document, seed) as TreeTopology
}

/** One after the other, at any moment, whatever the peer is about. */
function kills(seed: number): FaultPlan {
  const random = new Random(`kills/${seed}`)
  const faults = Array.from({ length: 40 }, (_, place): Fault => {
    const [atMs, downMs] = [8_000 + 700 * place + 700 * random.float(), 20 + random.float() * 300]
    return { kind: 'crash', atMs, who: { peer: random.below(6) }, downMs, afterEffects: 0 }
  })
  return { name: 'kills', clockDrift: 0.01, faults }
}

/** Crashes one upon the other, each short: elections at any moment of another. */
function storm(seed: number): FaultPlan {
  const random = new Random(`storm/${seed}`)
  const faults = Array.from({ length: 60 }, (): Fault => {
    const who = random.float() < 0.6 ? { aggregatorOf: 0 } : { peer: random.below(5) }
    const [atMs, downMs] = [3_000 + random.float() * 25_000, 20 + random.float() * 600]
    return { kind: 'crash', atMs, who, downMs, afterEffects: 1 + random.below(8) }
  })
  return { name: 'storm', clockDrift: 0.01, faults: faults.sort((left, right) => left.atMs - right.atMs) }
}

/** Whoever leads once the voters are there signs two entries in every round from then on. */
const twoFaced: FaultPlan = {
  name: 'two-faced',
  clockDrift: 0,
  faults: [{ kind: 'equivocate', atMs: 5_000, forMs: 60_000, who: { aggregatorOf: 0 } }]
}

const drawn: Record<string, (seed: number) => FaultPlan> = { storm, kills, 'two-faced': () => twoFaced }

/** The first seed that shows it, and its run. */
async function hunt({ event, world, rounds = 4, ...mutant }: Mutant) {
  const { faults, seedsMax } = mutant
  const real = Replica.prototype.dispatch
  if (event !== undefined)
    Replica.prototype.dispatch = function (this: Replica, given: FederationEvent): void {
      const seen = event(this, given)
      if (seen !== null) real.call(this, seen)
    }
  try {
    for (let seed = seedBase; seed < seedBase + seedsMax; seed++) {
      const options = {
        topology: topologyFor(mutant, seed),
        rounds,
        seed,
        ...(world === undefined ? {} : { sabotage: world })
      }
      const plan = drawn[faults]?.(seed) ?? planFor(options, faults)
      const report = await simulate({ ...options, faults: plan })
      const [first] = report.invariants.violations
      if (first === undefined) continue
      const again = async (smaller: typeof plan) => {
        const { invariants } = await simulate({ ...options, faults: smaller })
        return invariants.violations[0]?.invariant === first.invariant
      }
      return { seed, first, trace: report.trace, plan, smallest: plan.faults.length > 0 ? await shrink(plan, again) : plan }
    }
    return null
  } finally {
    Replica.prototype.dispatch = real
  }
}

describe('the checker of invariants sees', () => {
  for (const mutant of mutants) {
    it(`${mutant.what} (${mutant.finds}, within ${mutant.seedsMax} seeds)`, async () => {
      const found = await hunt(mutant)
      assert.ok(found !== null, `not found in seeds ${seedBase} to ${seedBase + mutant.seedsMax - 1}`)
      // Some are asserted by the machines themselves before the checker comes to see them.
      const { invariant, detail } = found.first
      assert.ok(invariant === mutant.finds || detail.includes(`${mutant.finds}: `), `${invariant}: ${detail}`)
      assert.ok(found.trace.length > 0)
      // What is left of the plan is what it takes: a fault or a few; for a vote that is forgotten, a chain of elections, or all who knew of it.
      const [whole, left] = [found.plan.faults, found.smallest.faults]
      assert.ok(
        left.length <= Math.max(mutant.faults === 'old-disks' ? 5 : 2, (whole.length * 2) / 3) && left.length <= whole.length,
        JSON.stringify(left)
      )
    })
  }
})
