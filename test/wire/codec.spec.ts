/** Records and bytes: one encoding of each record, and whatever a stranger sends is a value, never an exception. */
import assert from 'node:assert/strict'
import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { blobIndexCodec } from '../../src/wire/blob-index.ts'
import {
  blobQuestionCodec,
  decodeAnswerHead,
  encodeAnswerHead,
  frameQuestion,
  holdingCodec
} from '../../src/wire/blob-messages.ts'
import { type Codec, isMalformed, linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { answerCodec, consensusCodec, questionCodec, signedCodec, topicCodec } from '../../src/wire/messages.ts'
import { certificateCodec, charterCodec, entryCodec, updateCodec } from '../../src/wire/records.ts'
import { LogBuilder, peerOf } from './peers.ts'

const log = new LogBuilder().admit('a', 'b', 'c').addRound('a', 'b')
const { entry, certificate } = log.entries.at(-1)!
const decoded = <Record>(codec: Codec<Record>, bytes: Uint8Array): Record => {
  const record = codec.decode(bytes)
  assert.ok(!isMalformed(record))
  return record as Record
}
const [update] = log.updates.values()
const blob = linkOf(new Uint8Array(1))

/** A record of each kind. */
const codecs: Record<string, { codec: Codec<never>; bytes: Uint8Array }> = {
  charter: { codec: charterCodec as Codec<never>, bytes: log.charterBytes },
  'members entry': { codec: entryCodec as Codec<never>, bytes: log.entries[0]!.entry },
  'round entry': { codec: entryCodec as Codec<never>, bytes: entry },
  certificate: { codec: certificateCodec as Codec<never>, bytes: certificate },
  signed: { codec: signedCodec as Codec<never>, bytes: update! },
  update: { codec: updateCodec as Codec<never>, bytes: decoded(signedCodec, update!).record },
  topic: { codec: topicCodec as Codec<never>, bytes: topicCodec.encode({ kind: 'head', entry, certificate }) },
  consensus: {
    codec: consensusCodec as Codec<never>,
    bytes: consensusCodec.encode({ federation: log.id, message: { type: 'vote', term: 3, commitIndex: 2, acceptedTerm: 0 } })
  },
  'consensus, where a voter stands': {
    codec: consensusCodec as Codec<never>,
    bytes: consensusCodec.encode({
      federation: log.id,
      message: { type: 'recalled', term: 3, commitIndex: 2, acceptedTerm: 1, accepted: log.id, voters: [peerOf('a').peer] }
    })
  },
  'consensus, that asks for it': {
    codec: consensusCodec as Codec<never>,
    bytes: consensusCodec.encode({ federation: log.id, message: { type: 'recall' } })
  },
  question: {
    codec: questionCodec as Codec<never>,
    bytes: questionCodec.encode({ kind: 'updates', federation: log.id, links: [log.head] })
  },
  answer: {
    codec: answerCodec as Codec<never>,
    bytes: answerCodec.encode({ kind: 'entries', charter: log.charterBytes, entries: log.entries, headIndex: 9 })
  },
  'blob index': {
    codec: blobIndexCodec as Codec<never>,
    bytes: blobIndexCodec.encode({ length: 5, chunkBytes: limits.blobChunkBytes, chunks: [new Uint8Array(32)] })
  },
  'blob question': {
    codec: blobQuestionCodec as Codec<never>,
    bytes: blobQuestionCodec.encode({ ask: 'have', blob, known: 2, lacks: Uint8Array.of(5), offers: 4 })
  },
  'what a holder has': {
    codec: holdingCodec as Codec<never>,
    bytes: holdingCodec.encode({
      held: Uint8Array.of(3),
      others: [{ peer: peerOf('a').peer, addresses: ['/ip4/127.0.0.1/tcp/1'] }],
      offers: [1, 0]
    })
  }
}

describe('records and bytes', () => {
  for (const [name, { codec, bytes }] of Object.entries(codecs)) {
    it(`${name}: comes back as it was, to the same bytes`, () => {
      const record = decoded(codec, bytes)
      assert.deepEqual(codec.encode(record), bytes)
    })

    it(`${name}: lies in memory of its own, so that who keeps it keeps nothing else`, () => {
      assert.equal(codec.encode(decoded(codec, bytes)).buffer.byteLength, bytes.length)
    })

    it(`${name}: other bytes are another record, or a fault, never an exception, and never two encodings of one`, () => {
      const changes = fc.array(fc.record({ at: fc.nat({ max: bytes.length - 1 }), to: fc.integer({ min: 0, max: 255 }) }), {
        maxLength: 3
      })
      const seen = fc.oneof(
        fc.tuple(changes, fc.nat({ max: bytes.length })).map(([edits, length]) => {
          const changed = bytes.slice(0, edits.length === 0 ? length : bytes.length)
          for (const { at, to } of edits) changed[at] = to
          return changed
        }),
        fc.uint8Array({ maxLength: 64 })
      )
      fc.assert(
        fc.property(seen, changed => {
          const record = codec.decode(changed)
          if (isMalformed(record)) assert.deepEqual([record.verdict, record.detail !== ''], ['reject', true])
          else assert.deepEqual(codec.encode(record as never), changed)
        }),
        { numRuns: 400, seed: 1 }
      )
    })

    it(`${name}: a field that is missing, of another type, or unknown is named`, () => {
      const value = dagCbor.decode(bytes) as Record<string, unknown>
      const inner = (value.message ?? value) as Record<string, unknown>
      for (const field of Object.keys(inner)) {
        const { [field]: _gone, ...rest } = inner
        for (const edited of [rest, { ...inner, [field]: { wrong: true } }]) {
          const record = codec.decode(dagCbor.encode(value.message === undefined ? edited : { ...value, message: edited }))
          // A few fields may be left out.
          if (isMalformed(record)) assert.notEqual(record.detail, '')
          else assert.ok(edited === rest, field)
        }
      }
      const more = codec.decode(dagCbor.encode({ ...value, surprise: 1 }))
      assert.ok(isMalformed(more) && more.detail.includes('surprise'))
    })
  }

  const others = [
    undefined,
    null,
    true,
    0,
    -1,
    1.5,
    'text',
    [],
    {},
    new Uint8Array(3),
    CID.parse(blob),
    [[[[]]]],
    { kind: 'x' }
  ]
  it('what is no record at all is a fault too', () => {
    for (const { codec } of Object.values(codecs))
      for (const value of others)
        if (value !== undefined) assert.ok(isMalformed(codec.decode(dagCbor.encode(value))), JSON.stringify(value))
  })

  it('what is too long is refused unread', () => {
    const most: [Codec<never>, number][] = [
      [entryCodec as Codec<never>, limits.entryBytesMax],
      [certificateCodec as Codec<never>, limits.certificateBytesMax],
      [topicCodec as Codec<never>, limits.gossipBytesMax],
      [questionCodec as Codec<never>, limits.fetchQuestionBytesMax]
    ]
    for (const [codec, bytesMax] of most) {
      const record = codec.decode(new Uint8Array(bytesMax + 1))
      assert.ok(isMalformed(record) && record.detail.includes(`at most ${bytesMax}`))
    }
  })

  it('counts from 0, in whole numbers; keys, hashes and signatures are as long as they are', () => {
    const edited = (name: string, edit: (value: never) => void): boolean => {
      const { codec, bytes } = codecs[name]!
      const value = dagCbor.decode(bytes)
      edit(value as never)
      return isMalformed(codec.decode(dagCbor.encode(value)))
    }
    for (const wrong of [-1, 0.5])
      for (const [name, field] of [
        ['members entry', 'index'],
        ['round entry', 'round'],
        ['round entry', 'term'],
        ['certificate', 'index'],
        ['update', 'round'],
        ['update', 'blobBytes'],
        ['answer', 'headIndex'],
        ['blob index', 'length'],
        ['blob question', 'known']
      ] as const)
        assert.ok(
          edited(name, (value: Record<string, number>) => {
            value[field] = wrong
          }),
          `${field} of a ${name}: ${wrong}`
        )
    assert.ok(
      edited('certificate', ({ signatures: [first] }: { signatures: [{ signature: Uint8Array }] }) => {
        first.signature = new Uint8Array(65)
      })
    )
    assert.ok(
      edited('blob index', (value: { chunks: Uint8Array[] }) => {
        value.chunks = [new Uint8Array(33)]
      })
    )
    assert.ok(
      edited('blob question', (value: { lacks: Uint8Array }) => {
        value.lacks = new Uint8Array(limits.blobChunksMax / 8 + 1)
      })
    )
  })

  it('of the blob protocol have their length before them, whatever it is', () => {
    for (let lacking = 0; lacking <= 2048; lacking += lacking < 200 ? 1 : 154) {
      const question = { ask: 'have', blob, known: 2, lacks: new Uint8Array(lacking), offers: 4 } as const
      const framed = frameQuestion(question)
      const head = framed[0]! < 0x80 ? 1 : 2
      assert.equal(head === 1 ? framed[0] : (framed[0]! & 0x7f) + framed[1]! * 0x80, framed.length - head)
      assert.deepEqual(blobQuestionCodec.decode(framed.subarray(head)), question)
    }
    for (const length of [0, 1, limits.blobAnswerBytesMax])
      assert.deepEqual(decodeAnswerHead(encodeAnswerHead(3, length)), { code: 3, length })
    assert.equal(decodeAnswerHead(encodeAnswerHead(0, limits.blobAnswerBytesMax + 1)), null)
  })

  it('has one encoding of a record: keys in another order, longer numbers and floats for integers are refused', () => {
    const question = blobQuestionCodec.encode({ ask: 'chunk', blob, chunk: 3 })
    const link = dagCbor.encode(CID.parse(blob))
    const text = (word: string) => Uint8Array.from([0x60 + word.length, ...new TextEncoder().encode(word)])
    const map = (...parts: Uint8Array[]) => Uint8Array.from([0xa3, ...parts.flatMap(part => [...part])])
    const ask = [text('ask'), text('chunk')]
    assert.deepEqual(map(...ask, text('blob'), link, text('chunk'), Uint8Array.of(3)), question)
    const same: Record<string, Uint8Array> = {
      'keys in another order': map(...ask, text('chunk'), Uint8Array.of(3), text('blob'), link),
      'a longer number': map(...ask, text('blob'), link, text('chunk'), Uint8Array.of(0x18, 3)),
      'a float': map(...ask, text('blob'), link, text('chunk'), Uint8Array.of(0xfb, 0x40, 0x08, 0, 0, 0, 0, 0, 0)),
      'a short float': map(...ask, text('blob'), link, text('chunk'), Uint8Array.of(0xf9, 0x42, 0x00)),
      'a key twice': Uint8Array.from([
        0xa4,
        ...map(...ask, text('blob'), link, text('chunk'), Uint8Array.of(3)).subarray(1),
        ...text('blob'),
        ...link
      ]),
      'a map without its length': Uint8Array.from([0xbf, ...question.subarray(1), 0xff]),
      'bytes behind it': Uint8Array.from([...question, 0])
    }
    for (const [why, bytes] of Object.entries(same)) assert.ok(isMalformed(blobQuestionCodec.decode(bytes)), why)
  })

  it('names are peers’ and links: what is neither is refused', () => {
    const accept = (peer: string) => {
      const bytes = topicCodec.encode({
        kind: 'presence',
        index: 0,
        term: 0,
        aggregator: peerOf('a').peer,
        addresses: [],
        phase: 'away',
        starting: false,
        strength: 0
      })
      const value = { ...(dagCbor.decode(bytes) as object), aggregator: peer }
      return !isMalformed(topicCodec.decode(dagCbor.encode(value)))
    }
    assert.deepEqual([peerOf('b').peer, '', 'b', `${peerOf('b').peer}0`, 'x'.repeat(65)].map(accept), [
      true,
      false,
      false,
      false,
      false
    ])
  })

  it('a link is one of dag-cbor by its sha2-256, another is as long as whoever makes it up likes', () => {
    const { code, multihash } = CID.parse(blob)
    const given = [
      CID.createV1(code, multihash),
      CID.createV1(code, Digest.create(0, new Uint8Array(600))),
      CID.createV1(code, Digest.create(multihash.code, new Uint8Array(31))),
      CID.createV1(0x55, multihash),
      CID.createV0(multihash as never)
    ]
    const asked = given.map(one => questionCodec.decode(dagCbor.encode({ kind: 'entries', federation: one, fromIndex: 0 })))
    assert.deepEqual(asked.map(isMalformed), [false, true, true, true, true])
  })
})
