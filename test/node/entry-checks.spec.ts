/** What a voter checks of an entry's bytes before it signs, each way of cheating by its name; and the updates that it asks for before. */
import assert from 'node:assert/strict'
import { sketchGroupBytes } from '../../src/aggregate/sketch.ts'
import type { Entry, RoundEntry, Update } from '../../src/federation/entry.ts'
import type { FederationEvent } from '../../src/federation/federation.ts'
import type { FederationState } from '../../src/federation/federation-state.ts'
import { initialFederation } from '../../src/federation/federation-start.ts'
import { totals } from '../../src/federation/round-sums.ts'
import type { Charter } from '../../src/governance/charter.ts'
import type { Link } from '../../src/ids.ts'
import { createLayout, type Layout } from '../../src/model/layout.ts'
import { fetchMissing, verify } from '../../src/node/entry-checks.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { partOf } from '../../src/node/log-sync.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import type { Answer, Question } from '../../src/wire/messages.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { LogBuilder, peerOf } from '../wire/peers.ts'

describe('updates of a proposed entry', () => {
  const builder = new LogBuilder()
  const names = Array.from({ length: 2 * limits.fetchUpdatesMax + 7 }, (_, place) => `member ${place}`)
  const entry = builder.roundEntry(names)

  /** Of a peer that gives what it has, a page at a time. */
  function voter(given: ReadonlyMap<Link, Uint8Array>) {
    const kept = new Map<Link, Uint8Array>()
    const asked: number[] = []
    return {
      asked,
      signedUpdates: kept,
      id: builder.id,
      keepUpdate: (link: Link, bytes: Uint8Array) => void kept.set(link, bytes),
      ask: async (_: string, question: Question): Promise<Answer | null> => {
        if (question.kind !== 'updates') return null
        asked.push(question.links.length)
        const known = question.links.flatMap(link => given.get(link) ?? [])
        return { kind: 'updates', updates: partOf(known, ({ length }) => length, limits.fetchUpdatesMax) }
      }
    }
  }

  it('are asked for page by page until all are here', async () => {
    const node = voter(builder.updates)
    await fetchMissing(node, 'proposer', entry)
    assert.deepEqual(new Set(node.signedUpdates.keys()), new Set(entry.inputs.map(({ update }) => update)))
    assert.deepEqual(node.asked, [limits.fetchUpdatesMax, limits.fetchUpdatesMax, 7])
  })

  it('are asked for no more when nothing new comes', async () => {
    const few = new Map([...builder.updates].slice(0, 3))
    const node = voter(few)
    await fetchMissing(node, 'proposer', entry)
    assert.ok(node.asked.length <= 2, `${node.asked.length} questions`)
    assert.ok(node.signedUpdates.size <= 3)
  })
})

describe('a voter that is asked to sign', () => {
  const builder = new LogBuilder().admit('a', 'b', 'c')
  const layout = createLayout(builder.charter.model, builder.charter.algorithm)
  const sketchBytes = layout.groups.length * sketchGroupBytes
  const [even, half] = [layout.groups.map(() => 0.5), blobOf('half')]
  const outer = blobOf('outer')

  function blobOf(name: string): Link {
    return linkOf(new TextEncoder().encode(name))
  }

  /** Of two whose updates are alike, so that each has half of the attention. */
  function proposed(facts: Partial<RoundEntry> = {}, edit: Partial<Update> = {}, log = builder): RoundEntry {
    const updates = ['a', 'b'].map(name => log.update(name, { sketches: new Uint8Array(sketchBytes), ...edit }))
    const inputs = updates
      .map(update => ({ update, link: log.signUpdate(update), weight: update.weight }))
      .sort((one, other) => (one.update.member < other.update.member ? -1 : 1))
    return log.roundEntry(['a', 'b'], {
      ...totals(inputs),
      outer,
      inputs: inputs.map(({ update: { member, round }, link, weight }) => ({
        member,
        round,
        update: link,
        weight,
        attention: even
      })),
      ...facts
    })
  }

  function stateOf({ id, charter, entries }: LogBuilder): FederationState {
    const log = entries.map(({ entry }) => ({ link: linkOf(entry), entry: entryCodec.decode(entry) as Entry }))
    const persisted = { term: 1, votedFor: null, accepted: null, signed: null, old: false, fromDisk: false }
    return initialFederation({ id, charter, self: peerOf('c').peer, entries: log, persisted, rank: 0 })
  }

  interface Given {
    pull: (blob: Link) => Promise<void>
    spoiled?: Link
    knows?: boolean
    charter?: Charter
  }

  function voter(
    log: LogBuilder,
    answers: FederationEvent[],
    { pull, spoiled = '', knows = true, charter = log.charter }: Given
  ): FederationCore {
    const sections = (path: Link) => (path === outer ? ['outer.0.'] : undefined)
    const mixer = {
      faultOf: async (_: Layout, path: Link, asked?: string[]) => {
        assert.deepEqual(asked, sections(path))
        return path === spoiled ? 'it holds a value that is not finite' : null
      }
    }
    return {
      id: log.id,
      state: stateOf(log),
      layout,
      environment: { linkOf: () => '', sketchBytes, roundTokens: 1000 },
      options: { charter, services: { exchange: { pull }, blobs: { path: (blob: Link) => blob }, mixer } },
      signedUpdates: knows ? log.updates : new Map(),
      ask: async () => null,
      dispatch: (event: FederationEvent) => answers.push(event)
    } as unknown as FederationCore
  }

  /** What `c` finds, and what it pulled. */
  async function judged(
    entry: Entry,
    { link = linkOf(entryCodec.encode(entry)), lost = half, spoiled = '', knows = true, asks = 1, nesterov = false } = {}
  ) {
    const charter: Charter = nesterov
      ? { ...builder.charter, algorithm: { ...builder.charter.algorithm, outer: 'nesterov' } }
      : builder.charter
    const pulled: Link[] = []
    const answers: FederationEvent[] = []
    const pull = async (blob: Link) => {
      if (blob === lost) throw new Error('nobody has it')
      pulled.push(blob)
    }
    const node = voter(builder, answers, { pull, spoiled, knows, charter })
    const question = { from: peerOf('a').peer, link, term: 1, entry }
    await Promise.all(Array.from({ length: asks }, () => verify(node, question)))
    assert.equal(answers.length, 1)
    const [answer] = answers
    assert.ok(answer?.type === 'verified')
    assert.deepEqual([answer.from, answer.link, answer.term], [question.from, question.link, question.term])
    const found = { fault: answer.fault, pulled: [...pulled] }
    await verify(node, question)
    assert.deepEqual(answers.slice(1), [answer], 'who is asked again, later, answers again')
    return found
  }

  it('does, where all is in order and it holds what the entry names; asked twice at once it looks once', async () => {
    const entry = proposed()
    assert.deepEqual(await judged(entry), { fault: null, pulled: [entry.model, outer] })
    assert.deepEqual(await judged(entry, { asks: 2 }), { fault: null, pulled: [entry.model, outer] })
    assert.deepEqual(await judged(builder.membersEntry({})), { fault: null, pulled: [] })
  })

  it('fetches no further model while one comes whose entry was certified meanwhile, and none of an entry that is certified by then', async () => {
    const log = new LogBuilder().admit('a', 'b', 'c')
    const [coming, answers] = [new Map<Link, () => void>(), [] as FederationEvent[]]
    const pull = (blob: Link) => new Promise<void>(resolve => void coming.set(blob, resolve))
    const node = voter(log, answers, { pull })
    const settled = () => new Promise(resolve => setImmediate(resolve))
    const propose = async (name: string) => {
      const entry = proposed({ model: blobOf(name), outer: null }, {}, log)
      void verify(node, { from: peerOf('a').peer, link: linkOf(entryCodec.encode(entry)), term: 1, entry })
      await settled()
      return entry
    }
    const certify = (entry: RoundEntry) => Object.assign(node, { state: stateOf(log.add(entry)) })
    const arrives = async (name: string) => {
      coming.get(blobOf(name))!()
      coming.delete(blobOf(name))
      await settled()
    }
    const isComing = (...names: string[]) => assert.deepEqual([...coming.keys()], names.map(blobOf))

    const one = await propose('one')
    // Another leader's for the same place waits for nothing: who proposed the first may be gone.
    await propose('instead')
    isComing('one', 'instead')
    certify(one)
    const two = await propose('two')
    isComing('one', 'instead')
    certify(two)
    await propose('three')
    await arrives('one')
    isComing('instead')
    await arrives('instead')
    isComing('three')
    await arrives('three')
    const verified = answers.flatMap(answer => (answer.type === 'verified' && answer.entry.kind === 'round' ? [answer] : []))
    assert.deepEqual(
      verified.map(({ entry, fault }) => [entry.kind === 'round' && entry.model, fault]),
      ['one', 'instead', 'three'].map(name => [blobOf(name), null])
    )
  })

  const rows: { why: string; code: string; entry: () => Entry; given?: Parameters<typeof judged>[1] }[] = [
    { why: 'under another name than its bytes have', code: 'NOT_VERIFIABLE', entry: proposed, given: { link: half } },
    { why: 'what the offline check refuses', code: 'NOT_VERIFIABLE', entry: () => proposed({ prev: builder.id }) },
    {
      why: 'a change whose proofs do not hold',
      code: 'NOT_VERIFIABLE',
      entry: () => builder.membersEntry({ joined: [{ ...peerOf('d').member(builder.id), proof: new Uint8Array(64) }] })
    },
    { why: 'updates that nobody gives', code: 'UPDATE_UNKNOWN', entry: proposed, given: { knows: false } },
    { why: 'an update that no aggregator may take', code: 'BAD_INPUT', entry: () => proposed({}, { weight: 1001 }) },
    { why: 'sums that are not theirs', code: 'WRONG_SUM', entry: () => proposed({ weight: 65 }) },
    ...[
      { why: 'attention that does not follow from the sketches', attention: even.with(0, 0.6) },
      { why: 'attention that is missing for a group', attention: even.slice(1) }
    ].map(({ why, attention }) => ({
      why,
      code: 'WRONG_ATTENTION',
      entry: () => {
        const entry = proposed()
        return { ...entry, inputs: [entry.inputs[0]!, { ...entry.inputs[1]!, attention }] }
      }
    })),
    { why: 'a model that it cannot get', code: 'MODEL_MISSING', entry: () => proposed({ model: half }) },
    {
      why: 'a state of the outer optimizer that it cannot get',
      code: 'MODEL_MISSING',
      entry: proposed,
      given: { lost: outer }
    },
    {
      why: 'what is no model, which all would begin the next round from',
      code: 'NOT_A_MODEL',
      entry: proposed,
      given: { spoiled: proposed().model }
    },
    {
      why: 'what is no state of its outer optimizer',
      code: 'NOT_A_MODEL',
      entry: proposed,
      given: { spoiled: outer, nesterov: true }
    }
  ]
  for (const { why, code, entry, given } of rows)
    it(`refuses as ${code}: ${why}`, async () => assert.equal((await judged(entry(), given)).fault?.code, code))
})
