/** One federation on one peer: what effects ask for is answered at once, as a daemon without trouble would; all of it is kept. */
import type { Entry, Member, RoundEntry, Update } from '../../src/federation/entry.ts'
import type { Environment, FederationState } from '../../src/federation/federation-state.ts'
import { type FederationEffect, type FederationEvent, stepFederation } from '../../src/federation/federation.ts'
import { type FederationStart, initialFederation } from '../../src/federation/federation-start.ts'
import { testCharter } from './charters.ts'

export const environment: Environment = {
  linkOf: entry => `bafy${entry.index}${entry.kind}`,
  sketchBytes: 4,
  roundTokens: 1000
}

export const memberOf = (name: string, kind: Member['kind'] = 'organization', peers = [name]): Member => ({
  member: name,
  kind,
  name,
  peers,
  proof: new Uint8Array()
})

export const updateOf = (member: string, facts: Partial<Update> = {}): Update => ({
  federation: 'bafyF',
  round: 1,
  base: 'bafyF',
  member,
  by: member,
  term: 0,
  blob: `blob-${member}`,
  blobBytes: 4,
  holders: [member],
  weight: 100,
  organizations: 1,
  textBytes: 1024,
  sketches: new Uint8Array(environment.sketchBytes),
  loss: 1,
  trainSeconds: 1,
  ...facts
})

export class FederationBench {
  state: FederationState
  effects: FederationEffect[] = []
  /** Certified entries, as the disk has them. */
  readonly log: { link: string; entry: Entry }[] = []
  /** Whether aggregation and blobs answer by themselves. */
  readonly automatic: boolean

  constructor(
    { charter = testCharter(), ...start }: Partial<FederationStart> = {},
    { automatic = true }: { automatic?: boolean } = {}
  ) {
    this.automatic = automatic
    const persisted = { term: 0, votedFor: null, accepted: null }
    this.state = initialFederation({ id: 'bafyF', charter, self: 'a', entries: [], persisted, rank: 0, ...start })
  }

  on(event: FederationEvent): this {
    const [state, effects] = stepFederation(environment, this.state, event)
    this.state = state
    for (const effect of effects) {
      this.effects.push(effect)
      this.#answer(effect)
    }
    return this
  }

  #answer(effect: FederationEffect): void {
    if (effect.do === 'store') this.log.push({ link: effect.link, entry: effect.entry })
    if (effect.do === 'sign' && effect.to === this.state.self) {
      const { index, term, link } = effect
      this.on({ type: 'consensus', event: { type: 'signed', index, term, link, signature: new Uint8Array() } })
    }
    if (!this.automatic) return
    if (effect.do === 'pull') this.on({ type: 'pulled', link: effect.link, keysDistance: 1 })
    if (effect.do === 'aggregate')
      this.aggregated(
        effect.round,
        effect.inputs.map(({ link }) => link)
      )
  }

  aggregated(round: number, inputs: string[]): this {
    const measured = { bytesIn: 0, bytesOut: 0, transferSeconds: 0, aggregateSeconds: 0 }
    const attention = inputs.map(() => [1 / inputs.length])
    const made = {
      model: `bafyM${round}`,
      modelBytes: 4,
      outer: null,
      contribution: null,
      contributionBytes: 0,
      contributionBase: null
    }
    return this.on({ type: 'aggregated', round, inputs, result: { ...made, sketches: new Uint8Array(), attention, measured } })
  }

  start = (): this => this.on({ type: 'consensus', event: { type: 'start' } })
  /** Admits organizations, present from then on. */
  admit(...names: string[]): this {
    for (const name of names) {
      this.on({ type: 'presence', peer: name, present: true })
      this.on({ type: 'join', member: memberOf(name) })
    }
    return this
  }
  /** An update of the newest base, unless `facts` say otherwise; its link is its member and round. */
  announce(member: string, facts: Partial<Update> = {}): this {
    const update = updateOf(member, { round: this.state.head.round + 1, base: this.state.head.link, ...facts })
    return this.on({ type: 'update', link: `u-${member}-${update.round}`, update })
  }

  get rounds(): RoundEntry[] {
    return this.log.flatMap(({ entry }) => (entry.kind === 'round' ? [entry] : []))
  }
  find = <Kind extends FederationEffect['do']>(kind: Kind) =>
    this.effects.filter(effect => effect.do === kind) as Extract<FederationEffect, { do: Kind }>[]
}
