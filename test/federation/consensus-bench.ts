/** One consensus peer on a bench: events in, effects and the state kept. Entries are as small as consensus needs them. */
import {
  type ConsensusEffect,
  type ConsensusEvent,
  type ConsensusMessage,
  type ConsensusStart,
  type ConsensusState,
  type ConsensusTimer,
  initialConsensus,
  type LogEntry
} from '../../src/federation/consensus-state.ts'
import { stepConsensus } from '../../src/federation/consensus.ts'
import type { Certificate } from '../../src/federation/entry.ts'

export interface TestEntry extends LogEntry {
  value: string
}

export const federation = 'bafyF'
export const timing = { electionTimeoutMs: 1000, heartbeatMs: 250 }

export const entryAt = (index: number, value: string, prev = federation, voters?: string[]): TestEntry => ({
  index,
  prev,
  value,
  ...(voters === undefined ? {} : { voters })
})
export const linkOf = ({ index, value }: TestEntry): string => `${index}${value}`
export const signatureOf = (voter: string): Uint8Array => new TextEncoder().encode(voter)

export function certificateOf(entry: TestEntry, term: number, voters: string[]): Certificate {
  const signatures = voters.map(voter => ({ voter, signature: signatureOf(voter) }))
  return { federation, index: entry.index, term, entry: linkOf(entry), signatures }
}

type Message = ConsensusMessage<TestEntry>
/** The message of a type; votes and their pre-votes share a shape. */
type Of<Type extends Message['type'], One = Message> = One extends { type: string }
  ? Type extends One['type']
    ? One
    : never
  : never

export class Peer {
  state: ConsensusState<TestEntry>
  effects: ConsensusEffect<TestEntry>[] = []

  /** `a` of the voters a, b, c, d, e, with nothing on its disk, unless `start` says otherwise. */
  constructor(start: Partial<ConsensusStart<TestEntry>> = {}) {
    this.state = initialConsensus({
      self: 'a',
      federation,
      term: 0,
      votedFor: null,
      commitIndex: 0,
      head: federation,
      voters: ['a', 'b', 'c', 'd', 'e'],
      accepted: null,
      timing,
      rank: 0,
      ...start
    })
  }

  on(event: ConsensusEvent<TestEntry>): this {
    const [state, effects] = stepConsensus(this.state, event)
    this.state = state
    this.effects.push(...effects)
    // What a real peer answers itself at once.
    for (const effect of effects)
      if (effect.do === 'sign' && effect.to === this.state.self)
        this.on({ type: 'signed', ...effect, signature: signatureOf(this.state.self) })
    return this
  }

  hears = (from: string, message: Message): this => this.on({ type: 'message', from, message })
  timer = (name: ConsensusTimer): this => this.on({ type: 'timer', name })
  certified(entry: TestEntry, term = 1, voters = ['a', 'b', 'c']): this {
    return this.on({ type: 'certified', link: linkOf(entry), entry, certificate: certificateOf(entry, term, voters) })
  }

  /** Leads in the term after its own. */
  elected(): this {
    this.timer('election')
    const { term } = this.state
    for (const from of ['b', 'c']) this.hears(from, { type: 'pre-vote-reply', term, granted: true, commitIndex: 0 })
    for (const from of ['b', 'c']) this.hears(from, { type: 'vote-reply', term: term + 1, granted: true, commitIndex: 0 })
    this.effects = []
    return this
  }

  proposes(value: string, voters?: string[]): this {
    const { commitIndex, head } = this.state
    const entry = entryAt(commitIndex + 1, value, head, voters)
    return this.on({ type: 'propose', link: linkOf(entry), entry })
  }

  accepts(from: string, entry: TestEntry, term = this.state.term): this {
    return this.hears(from, { type: 'accept', term, index: entry.index, link: linkOf(entry), signature: signatureOf(from) })
  }

  sent = <Type extends Message['type']>(type: Type) =>
    this.effects.flatMap(effect =>
      effect.do === 'send' && effect.message.type === type ? [{ to: effect.to, message: effect.message as Of<Type> }] : []
    )
  find = <Kind extends ConsensusEffect<TestEntry>['do']>(kind: Kind) =>
    this.effects.filter(effect => effect.do === kind) as Extract<ConsensusEffect<TestEntry>, { do: Kind }>[]
  /** Effects in their order, in short: `persist`, `sign`, `send vote-reply`, … */
  done = (): string[] => this.effects.map(effect => (effect.do === 'send' ? `send ${effect.message.type}` : effect.do))
  forget(): this {
    this.effects = []
    return this
  }
}
