/** A node that is behind: what it fetches, of whom, and what it leaves alone until it has it. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FederationEvent, stepFederation } from '../../src/federation/federation.ts'
import { emptyLog, foldEntry, initialFederation, resumeFederation } from '../../src/federation/federation-start.ts'
import type { PeerName } from '../../src/ids.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { LogSync } from '../../src/node/log-sync.ts'
import { apply } from '../../src/node/member-effects.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { type Answer, answerCodec, type CertifiedBytes, type Question, questionCodec } from '../../src/wire/messages.ts'
import { LogBuilder } from '../wire/peers.ts'

const headOf = (round: number) => ({ round, link: `round ${round}`, entry: null })

describe('a node that catches up', () => {
  it('applies no round of long ago while newer ones are on their way, and then the newest', async () => {
    const applied: number[] = []
    const organization = { apply: async ({ round }: { round: number }) => void applied.push(round) }
    // What the effect asks of a node, and no more.
    const node = { isBehind: true, organization, options: {}, state: { head: headOf(43) }, dispatch: () => undefined }
    await apply(node as unknown as FederationCore, headOf(43))
    Object.assign(node, { isBehind: false, state: { head: headOf(437) } })
    assert.deepEqual(applied, [])
    for (let waited = 0; applied.length === 0 && waited < 50; waited++) await sleep(100)
    assert.deepEqual(applied, [437])
  })

  it('is behind no longer than it asks, whatever it was told', async () => {
    const node = {
      self: 'a',
      id: 'world',
      stopped: false,
      state: { consensus: { commitIndex: 3 } },
      ask: async () => ({ kind: 'entries', charter: null, entries: [], headIndex: 1e9 })
    }
    const sync: LogSync = new LogSync(node as unknown as FederationCore)
    assert.equal(sync.isBehind, false)
    await sync.catchUp('a liar')
    assert.equal(sync.isBehind, false, 'nobody waits for a log that does not come')
  })

  it('asks each that tells of more in turn: one that is slow, or gives little, holds up nobody else', async () => {
    const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b').addRound('a', 'b')
    const asked: PeerName[] = []
    let catchUp = (_: PeerName) => Promise.resolve()
    const node = behind(builder, async (peer, fromIndex) => {
      asked.push(peer)
      for (const other of ['a liar', 'an honest one']) void catchUp(other)
      await sleep(10)
      const entries = builder.entries.slice(fromIndex - 1, peer === 'a liar' ? fromIndex : undefined)
      return { kind: 'entries', charter: null, entries, headIndex: peer === 'a liar' ? 1e9 : builder.entries.length }
    })
    const sync = new LogSync(node as unknown as FederationCore)
    catchUp = peer => sync.catchUp(peer)
    void sync.catchUp('a liar')
    await sleep(200)
    node.stopped = true
    assert.deepEqual(asked.slice(0, 2), ['a liar', 'an honest one'])
    assert.equal(node.state.consensus.commitIndex, builder.entries.length)
    assert.equal(sync.isBehind, false, 'though one tells without end of more')
  })

  it('asks one beside another that does not answer, where it must not wait', async () => {
    const builder = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')
    const { entries } = builder
    const node = behind(builder, async (peer, fromIndex) => {
      if (peer === 'mute') await new Promise(() => undefined)
      return { kind: 'entries', charter: null, entries: entries.slice(fromIndex - 1, fromIndex), headIndex: entries.length }
    })
    const sync = new LogSync(node as unknown as FederationCore)
    void sync.askBeside('mute')
    await sync.askBeside('another')
    assert.equal(node.state.consensus.commitIndex, entries.length, 'all that it has, part by part')
    assert.equal(sync.isBehind, false)
  })
})

/** A node that has none of the entries yet. */
function behind(builder: LogBuilder, ask: (peer: PeerName, fromIndex: number) => Promise<object>) {
  const node = {
    self: 'self',
    id: builder.id,
    stopped: false,
    signedUpdates: builder.updates,
    state: initialFederation({
      ...{ id: builder.id, charter: builder.charter, self: 'self', rank: 0, entries: [] },
      persisted: { term: 0, votedFor: null, accepted: null }
    }),
    settled: async () => undefined,
    dispatch: (event: FederationEvent) => {
      node.state = stepFederation({ linkOf, sketchBytes: 0, roundTokens: 1000 } as never, node.state, event)[0]
    },
    ask: (peer: PeerName, { fromIndex }: { fromIndex: number }) => ask(peer, fromIndex)
  }
  return node
}

/** Who has these entries of a log, as it answers. */
function holderOf(entries: CertifiedBytes[], charterBytes: Uint8Array): LogSync {
  const log = { from: (place: number) => entries.slice(Math.max(0, place)), length: entries.length }
  return new LogSync({ log, options: { charterBytes } } as unknown as FederationCore)
}

function told(answer: Answer): Extract<Answer, { kind: 'entries' }> {
  const read = answerCodec.decode(answerCodec.encode(answer))
  assert.ok(!isMalformed(read) && read.kind === 'entries')
  return read
}

/** A federation's log of more entries than one answer takes. */
const long = new LogBuilder().admit('a', 'b', 'c')

/** A node that has nothing yet, and asks `answer`. Events are taken a moment later, as effects before them take their time. */
function newcomer(answer: (from: string, question: Question) => Promise<Answer | null>) {
  const start = {
    id: long.id,
    charter: long.charter,
    self: 'self',
    persisted: { term: 0, votedFor: null, accepted: null },
    rank: 0
  }
  let folded = emptyLog(long.id, long.charter)
  const waiting: FederationEvent[] = []
  const asked: number[] = []
  const faults: string[] = []
  const node = {
    id: long.id,
    self: 'self',
    path: 'prose',
    stopped: false,
    state: resumeFederation(start, folded),
    signedUpdates: new Map(long.updates),
    options: {
      services: { events: { emit: ({ peer, code }: { peer: string; code: string }) => faults.push(`${peer} ${code}`) } }
    },
    ask: (from: string, question: Question) => {
      questionCodec.encode(question)
      if (question.kind === 'entries') asked.push(question.fromIndex)
      return answer(from, question)
    },
    dispatch: (event: FederationEvent) => waiting.push(event),
    settled: async () => {
      await sleep(0)
      for (const event of waiting.splice(0))
        if (event.type === 'consensus' && event.event.type === 'certified') folded = foldEntry(folded, event.event)
      node.state = resumeFederation(start, folded)
    }
  }
  const sync: LogSync = new LogSync(node as unknown as FederationCore)
  return { node, sync, asked, faults, index: () => node.state.consensus.commitIndex }
}

/** Records of what was signed end with a signature. */
function lastBitTurned(bytes: Uint8Array): Uint8Array {
  const turned = bytes.slice()
  turned[turned.length - 1]! ^= 1
  return turned
}

const forgedOf = ({ entry, certificate }: CertifiedBytes) => ({ entry, certificate: lastBitTurned(certificate) })

describe('certified entries between nodes', () => {
  const whole = () => holderOf(long.entries, long.charterBytes)
  before(() => {
    while (long.entries.length < limits.fetchEntriesMax + 40) long.addRound('a', 'b')
  })

  it('are given in parts, from the one that is asked for on; the charter by itself, for it is asked of many at once', () => {
    assert.deepEqual(told(whole().entriesFrom(0)), {
      kind: 'entries',
      charter: long.charterBytes,
      entries: [],
      headIndex: long.entries.length
    })
    const { charter, entries, headIndex } = told(whole().entriesFrom(1))
    assert.deepEqual([charter, headIndex], [null, long.entries.length])
    assert.deepEqual(entries, long.entries.slice(0, limits.fetchEntriesMax))
    assert.deepEqual(told(whole().entriesFrom(limits.fetchEntriesMax + 1)).entries, long.entries.slice(limits.fetchEntriesMax))
    assert.deepEqual(told(whole().entriesFrom(1_000)).entries, [])
  })

  it('are as many as come in five seconds on a line of 1 Mbit/s, and one of the largest in any case', () => {
    const countOf = (entryBytes: number) => {
      const one = { entry: new Uint8Array(entryBytes), certificate: new Uint8Array(limits.certificateBytesMax) }
      const answer = holderOf(Array(500).fill(one), long.charterBytes).entriesFrom(1)
      return { count: told(answer).entries.length, bytes: answerCodec.encode(answer).length }
    }
    const { count, bytes } = countOf(6_000)
    assert.ok(count > 40 && bytes < (5 * 1e6) / 8, `${count} entries, ${bytes} bytes`)
    assert.equal(countOf(limits.entryBytesMax).count, 1)
  })

  it('are fetched until none is missing, each once, and one question at a time', async () => {
    const holder = whole()
    let [open, most] = [0, 0]
    const { sync, asked, faults, index } = newcomer(async (_, question) => {
      most = Math.max(most, ++open)
      await sleep(1)
      open--
      return question.kind === 'entries' ? holder.entriesFrom(question.fromIndex) : null
    })
    await sync.catchUp('self')
    assert.deepEqual(asked, [], 'itself it does not ask')
    const both = Promise.all([sync.catchUp('holder'), sync.catchUp('another')])
    await sleep(20)
    assert.equal(sync.isBehind, true)
    await both
    assert.deepEqual([index(), faults, most, sync.isBehind], [long.entries.length, [], 1, false])
    // In turn; the first had more when it was asked, and is asked whether it has more still.
    assert.deepEqual(asked.splice(0), [1, limits.fetchEntriesMax + 1, long.entries.length + 1])
    await sync.catchUp('another')
    assert.deepEqual(asked.length, 1, 'it can be asked for again')
  })

  it('are taken up to the first that is not rightly certified, which is told', async () => {
    const forged = [...long.entries.slice(0, 4), forgedOf(long.entries[4]!)]
    const { sync, faults, index } = newcomer(async () =>
      holderOf([...forged, ...long.entries.slice(5)], long.charterBytes).entriesFrom(1)
    )
    await sync.catchUp('forger')
    assert.deepEqual([index(), faults], [4, ['forger WRONG_CERTIFICATE']])
  })

  it('that count another update than the one that is known here are not taken', async () => {
    const { node, sync, faults, index } = newcomer(async () => whole().entriesFrom(1))
    const [counted] = [...long.updates.keys()]
    node.signedUpdates.set(counted!, lastBitTurned(long.updates.get(counted!)!))
    await sync.catchUp('holder')
    assert.deepEqual(faults, ['holder WRONG_ROUND'])
    assert.ok(index() < 9)
  })

  it('that are told of are taken if they follow, fetched if some are missing before, and no fault if they are known', async () => {
    const { node, sync, asked, faults, index } = newcomer(async () => whole().entriesFrom(1))
    sync.onHead('teller', long.entries[0]!)
    sync.onHead('teller', long.entries[0]!)
    await node.settled()
    assert.deepEqual([index(), asked, faults], [1, [], []])
    sync.onHead('teller', long.entries[0]!)
    sync.onHead('teller', { ...long.entries[0]!, certificate: new Uint8Array(1) })
    sync.onHead('teller', { entry: new Uint8Array(1), certificate: new Uint8Array(1) })
    assert.deepEqual([asked, faults], [[], []])
    sync.onHead('teller', forgedOf(long.entries[1]!))
    assert.deepEqual(faults, ['teller WRONG_CERTIFICATE'])
    sync.onHead('teller', long.entries[2]!)
    assert.deepEqual(asked, [2])
  })
})
