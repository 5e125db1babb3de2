/** One round on a bench: what an aggregation made, a parent's head. */
import { type RoundEffect, type RoundEvent, type RoundFacts, stepRound } from '../../src/federation/round.ts'
import type { Aggregated, ParentHead, RoundState } from '../../src/federation/round-state.ts'
import { testCharter } from './charters.ts'
import { memberOf, updateOf } from './federation-bench.ts'

export const aggregated: Aggregated = {
  model: 'bafyM',
  modelBytes: 4,
  outer: null,
  contribution: 'bafyC',
  contributionBytes: 4,
  contributionBase: null,
  sketches: new Uint8Array(),
  attention: [[0.5], [0.5], [0]],
  measured: { bytesIn: 0, bytesOut: 0, transferSeconds: 0, aggregateSeconds: 0 }
}
export const parentHead: ParentHead = {
  federation: 'bafyP',
  path: 'world',
  round: 1,
  entry: 'bafyE',
  model: 'bafyPM',
  textBytes: 9,
  ancestors: [],
  holders: []
}

/** One round under test: events in, effects and the state kept. */
export class Bench {
  state: RoundState = { phase: 'idle' }
  facts: RoundFacts
  effects: RoundEffect[] = []
  readonly away = new Set<string>()

  constructor(members: string[], overrides: Parameters<typeof testCharter>[0] = {}) {
    this.facts = {
      id: 'bafyF',
      charter: testCharter(overrides),
      self: 'a',
      term: 3,
      contributors: members.map(name => memberOf(name)),
      isPresent: ({ name }) => !this.away.has(name),
      isAwaited: ({ name }) => !this.away.has(name),
      evicted: () => false,
      parentHead: null,
      startTimedOut: false
    }
  }

  send(...events: RoundEvent[]): this {
    for (const event of events) {
      const [state, effects] = stepRound(this.state, event, this.facts)
      this.state = state
      this.effects.push(...effects)
    }
    return this
  }

  open = (): this => this.send({ type: 'open', round: 1, base: 'bafyF' })
  bring = (name: string, staleness = 0): this =>
    this.send(
      { type: 'update', link: `u-${name}`, update: updateOf(name), staleness },
      { type: 'pulled', link: `u-${name}`, keysDistance: 1 }
    )
  leaves(name: string): this {
    this.away.add(name)
    return this.send({ type: 'look' })
  }
  find = <Kind extends RoundEffect['do']>(kind: Kind) =>
    this.effects.filter(effect => effect.do === kind) as Extract<RoundEffect, { do: Kind }>[]
}
