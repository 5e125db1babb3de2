/** An organization in its federation's rounds: every state meets every event, and an update is settled once. */
import assert from 'node:assert/strict'
import type { RoundEntry, Update } from '../../src/federation/entry.ts'
import {
  type Participation,
  type ParticipationEvent,
  type ParticipationFacts,
  restBeforeReady,
  stepParticipation
} from '../../src/federation/participation.ts'
import { updateOf } from './federation-bench.ts'

const roundEntry = (round: number, facts: Partial<RoundEntry> = {}): RoundEntry => ({
  kind: 'round',
  federation: 'bafyF',
  index: round,
  prev: '',
  term: 1,
  proposer: 'a',
  round,
  base: '',
  inputs: [],
  excluded: [],
  model: '',
  modelBytes: 0,
  outer: null,
  weight: 0,
  organizations: 0,
  textBytes: 0,
  ancestors: [],
  alone: null,
  residuals: [],
  charterVersion: 1,
  measured: { bytesIn: 0, bytesOut: 0, trainSeconds: 0, transferSeconds: 0, aggregateSeconds: 0 },
  ...facts
})

/** Round r is the newest; its link is `r<r>`, and that of the beginning `r0`. */
function factsAt(round: number, facts: Partial<ParticipationFacts> = {}, entry: Partial<RoundEntry> = {}): ParticipationFacts {
  return {
    self: 'a',
    head: { round, link: `r${round}`, entry: round === 0 ? null : roundEntry(round, entry) },
    rounds: 0,
    stale: 'discount',
    staleness: base => (base.startsWith('r') ? round - Number(base.slice(1)) : null),
    counted: 0,
    ...facts
  }
}

const mine = (base: string): { link: string; update: Update } => ({ link: `u-${base}`, update: updateOf('a', { base }) })
const announcedAt = (base: string): Participation => ({
  phase: 'announced',
  ...mine(base),
  accepted: false,
  pauseMs: 2_000
})
const training: Participation = { phase: 'training', round: 1, base: 'r0' }

describe('participation of an organization', () => {
  const rows: {
    why: string
    from: Participation
    event: ParticipationEvent
    facts: ParticipationFacts
    to: Participation['phase']
    does: string[]
  }[] = [
    {
      why: 'begins to train when it is in the roster and up to date',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: null },
      facts: factsAt(0),
      to: 'training',
      does: ['train']
    },
    {
      why: 'takes the newest round first after it was away',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: null },
      facts: factsAt(3),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'announces an update that its disk still holds, if no round has passed since',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r2', pending: mine('r2') },
      facts: factsAt(2),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'trains anew where the update on its disk is settled',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r2', pending: mine('r1') },
      facts: factsAt(2, { counted: 1 }),
      to: 'training',
      does: ['train']
    },
    {
      why: 'announces late an update that its disk still holds, where rounds went on without it',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: mine('r0') },
      facts: factsAt(2),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'takes the newest round where its update is counted and it died before it took that over',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: mine('r0') },
      facts: factsAt(1, { counted: 1 }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'takes the newest round where the update on its disk is four rounds old',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: mine('r0') },
      facts: factsAt(4),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'takes the newest round where the charter drops what is late',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: mine('r0') },
      facts: factsAt(1, { stale: 'drop' }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'takes the last round over, after which nothing is counted',
      from: { phase: 'away' },
      event: { type: 'ready', applied: 'r0', pending: mine('r0') },
      facts: factsAt(1, { rounds: 1 }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'announces what it trained',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(0),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'announces nothing for a round that has counted an update of it, which an old copy of its disk had it forget',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(1, { counted: 1 }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'announces late what it trained, to be counted in the next round',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(1),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'announces what comes three rounds late',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(3),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'drops what came late where the charter says so',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(1, { stale: 'drop' }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'drops what came four rounds late',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(4),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'drops what came after the last round: no round will count it',
      from: training,
      event: { type: 'trained', ...mine('r0') },
      facts: factsAt(1, { rounds: 1 }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'trains again when training failed',
      from: training,
      event: { type: 'untrained' },
      facts: factsAt(0),
      to: 'training',
      does: ['train']
    },
    {
      why: 'takes the newest round when training failed meanwhile',
      from: training,
      event: { type: 'untrained' },
      facts: factsAt(1),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'goes on training while others certify: its update comes late',
      from: training,
      event: { type: 'certified' },
      facts: factsAt(1),
      to: 'training',
      does: []
    },
    {
      why: 'applies the round that counts its update',
      from: announcedAt('r0'),
      event: { type: 'certified' },
      facts: factsAt(1, {}, { inputs: [{ member: 'a', round: 1, update: 'u-r0', weight: 1, attention: [] }] }),
      to: 'applying',
      does: ['apply']
    },
    ...(['late', 'absent', 'its model could not be fetched: no holder gave it'] as const).map(reason => ({
      why: `announces again what a round left out as ${reason}`,
      from: announcedAt('r0'),
      event: { type: 'certified' } as const,
      facts: factsAt(1, {}, { excluded: [{ member: 'a', reason }] }),
      to: 'announced' as const,
      does: ['announce']
    })),
    {
      why: 'waits where the round has counted an earlier update of its own in its place, or it would be late for ever',
      from: {
        phase: 'announced',
        link: 'u',
        update: updateOf('a', { base: 'r3', round: 4 }),
        accepted: false,
        pauseMs: 2_000
      },
      event: { type: 'certified' },
      facts: factsAt(4, {}, { inputs: [{ member: 'a', round: 2, update: 'earlier', weight: 1, attention: [] }] }),
      to: 'announced',
      does: ['announce']
    },
    {
      why: 'gives up an update that was refused for what it is',
      from: announcedAt('r0'),
      event: { type: 'certified' },
      facts: factsAt(1, {}, { excluded: [{ member: 'a', reason: 'its model was refused: not finite' }] }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'gives up an update that was late once too often',
      from: announcedAt('r0'),
      event: { type: 'certified' },
      facts: factsAt(4, {}, { excluded: [{ member: 'a', reason: 'late' }] }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'gives up a late update after the last round',
      from: announcedAt('r0'),
      event: { type: 'certified' },
      facts: factsAt(1, { rounds: 1 }, { excluded: [{ member: 'a', reason: 'late' }] }),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'says an update again while it is not settled, for gossip loses messages',
      from: announcedAt('r0'),
      event: { type: 'announce-again' },
      facts: factsAt(0),
      to: 'announced',
      does: ['announce', 'start-timer']
    },
    {
      why: 'trains on when it has applied the newest round',
      from: { phase: 'applying', head: factsAt(1).head },
      event: { type: 'applied', link: 'r1' },
      facts: factsAt(1),
      to: 'training',
      does: ['train']
    },
    {
      why: 'applies once more when the next round was certified meanwhile',
      from: { phase: 'applying', head: factsAt(1).head },
      event: { type: 'applied', link: 'r1' },
      facts: factsAt(2),
      to: 'applying',
      does: ['apply']
    },
    {
      why: 'is finished after the last round',
      from: { phase: 'applying', head: factsAt(2).head },
      event: { type: 'applied', link: 'r2' },
      facts: factsAt(2, { rounds: 2 }),
      to: 'finished',
      does: ['finish']
    }
  ]
  for (const { why, from, event, facts, to, does } of rows) {
    it(why, () => {
      const [state, effects] = stepParticipation(from, event, facts)
      assert.deepEqual([state.phase, effects.map(effect => effect.do)], [to, does])
    })
  }

  it('trains for the round after the newest, from it', () => {
    const facts = factsAt(4)
    const [state, effects] = stepParticipation({ phase: 'away' }, { type: 'ready', applied: 'r4', pending: null }, facts)
    assert.deepEqual(state, { phase: 'training', round: 5, base: 'r4' })
    assert.deepEqual(effects, [{ do: 'train', round: 5, base: facts.head }])
  })

  it('believes a receipt for its own update only', () => {
    const receipt = (link: string, accepted: boolean): ParticipationEvent => ({ type: 'receipt', link, accepted })
    const [other] = stepParticipation(announcedAt('r0'), receipt('u-other', true), factsAt(0))
    assert.equal(other.phase === 'announced' && other.accepted, false)
    const [mineAccepted] = stepParticipation(announcedAt('r0'), receipt('u-r0', true), factsAt(0))
    assert.equal(mineAccepted.phase === 'announced' && mineAccepted.accepted, true)
  })

  it('says it again every two seconds until it is accepted, then less and less often, and at once when another leads', () => {
    let state = announcedAt('r0')
    const after = (event: ParticipationEvent) => {
      const [next, effects] = stepParticipation(state, event, factsAt(0))
      state = next
      return effects.map(effect => (effect.do === 'start-timer' ? effect.ms : effect.do))
    }
    const again: ParticipationEvent = { type: 'announce-again' }
    const accepted: ParticipationEvent = { type: 'receipt', link: 'u-r0', accepted: true }
    assert.deepEqual([again, again].flatMap(after), ['announce', 2_000, 'announce', 2_000])
    assert.deepEqual([accepted, accepted].flatMap(after), [4_000])
    assert.deepEqual([again, again].flatMap(after), ['announce', 8_000, 'announce', 8_000])
    assert.deepEqual([{ type: 'led-anew' } as const, again].flatMap(after), ['announce', 2_000, 'announce', 4_000])
  })

  it('answers every event in every state, and never trains while an update waits', () => {
    const states: Participation[] = [
      { phase: 'away' },
      training,
      announcedAt('r0'),
      { phase: 'applying', head: factsAt(0).head },
      { phase: 'finished', round: 1 }
    ]
    const events: ParticipationEvent[] = [
      { type: 'ready', applied: 'r0', pending: null },
      { type: 'certified' },
      { type: 'trained', ...mine('r0') },
      { type: 'untrained' },
      { type: 'applied', link: 'r0' },
      { type: 'receipt', link: 'u-r0', accepted: true },
      { type: 'announce-again' },
      { type: 'led-anew' }
    ]
    for (const state of states)
      for (const event of events)
        for (const round of [0, 1, 5]) {
          const [next, effects] = stepParticipation(state, event, factsAt(round))
          if (next.phase === 'announced') assert.ok(effects.every(effect => effect.do !== 'train'))
          if (state.phase === 'finished') assert.deepEqual([next, effects], [state, []])
        }
  })
})

describe('a node that comes back', () => {
  const id = 'r0'
  const at = (round: number) => ({ id, head: { round, link: `r${round}`, entry: round === 0 ? null : roundEntry(round) } })
  const nothing = { applied: id, pending: null }

  it('begins at once where there is nothing to catch up with, else a moment later', () => {
    assert.equal(restBeforeReady(at(0), nothing, 0), 0)
    assert.equal(restBeforeReady(at(3), { applied: 'r3', pending: null }, 500), 2_000)
    assert.equal(restBeforeReady(at(3), { applied: 'r3', pending: null }, 9_000), 0)
  })

  it('waits for what its update is based on, where its log has lost that, but not for good', () => {
    const disk = { applied: 'r4', pending: { update: updateOf('m', { round: 5, base: 'r4' }) } }
    for (const round of [0, 2, 3]) assert.equal(restBeforeReady(at(round), disk, 10_000), 50_000)
    assert.equal(restBeforeReady(at(4), disk, 10_000), 0)
    assert.equal(restBeforeReady(at(7), disk, 10_000), 0)
    assert.equal(restBeforeReady(at(3), disk, 60_000), 0)
  })
})
