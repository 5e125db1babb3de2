/** Fingerprints, the charters that they are shown with, and grants: what is believed, and each way of lying. */
import assert from 'node:assert/strict'
import { charterCodec } from '../../src/wire/records.ts'
import { linkOf } from '../../src/wire/codec.ts'
import type { Shown, Signed } from '../../src/wire/messages.ts'
import {
  type Fingerprint,
  fingerprintCodec,
  grantCodec,
  readFingerprint,
  readGrant,
  readShown,
  signFingerprint,
  signGrant,
  topOf
} from '../../src/wire/residual-records.ts'
import { testCharter } from '../federation/charters.ts'
import { peerOf } from './peers.ts'

/** world ← english ← law, and an organization `acts` in law. */
const world = charterCodec.encode(testCharter({ name: 'world', path: 'world', parent: null, founders: [peerOf('a').peer] }))
const child = (name: string, path: string, parent: Uint8Array) =>
  charterCodec.encode(testCharter({ name, path, parent: linkOf(parent), founders: [peerOf('a').peer] }))
const english = child('english', 'world/english', world)
const law = child('law', 'world/english/law', english)
const above = { id: linkOf(world), path: 'world' }

const acts = peerOf('acts')
const fingerprintOf = (more: Partial<Fingerprint> = {}): Fingerprint => ({
  node: acts.peer,
  federation: linkOf(law),
  name: 'acts',
  sketches: new Uint8Array(1024),
  ...more
})
const shown = (lineage: Uint8Array[], more: Partial<Fingerprint> = {}): Shown => ({
  lineage,
  signed: signFingerprint(acts.sign, fingerprintOf(more))
})

describe('a fingerprint that is shown', () => {
  it('is of the place in the tree that its charters lead to', () => {
    const read = readShown(shown([law, english]), above)
    assert.ok(read !== null)
    assert.equal(read.path, 'world/english/law/acts')
    assert.deepEqual(
      read.line.map(({ charter }) => charter.path),
      ['world/english/law', 'world/english']
    )
    assert.equal(topOf(shown([law, english])), above.id)
  })

  it('needs no charters in its own federation', () => {
    const own = { id: linkOf(law), path: 'world/english/law' }
    assert.equal(readShown(shown([]), own)?.path, 'world/english/law/acts')
    assert.equal(topOf(shown([])), own.id)
  })

  const elsewhere = child('law', 'world/languages/law', english)
  const lies: { why: string; shown: () => Shown }[] = [
    { why: 'a charter is missing', shown: () => shown([law]) },
    { why: 'its charters are in another order', shown: () => shown([english, law]) },
    { why: 'the last one has another parent', shown: () => shown([law, english, world]) },
    {
      why: 'a charter gives itself another path than its parent’s',
      shown: () => shown([elsewhere, english], { federation: linkOf(elsewhere) })
    },
    {
      why: 'it is of another federation than its charters',
      shown: () => shown([law, english], { federation: linkOf(english) })
    },
    { why: 'its name makes another path', shown: () => shown([law, english], { name: '../languages/german' }) },
    { why: 'a charter is no charter', shown: () => shown([Uint8Array.of(1), english]) },
    {
      why: 'another peer signed it',
      shown: () => ({ lineage: [law, english], signed: signFingerprint(peerOf('mallory').sign, fingerprintOf()) })
    },
    {
      why: 'it was changed after it was signed',
      shown: () => {
        const { lineage, signed } = shown([law, english])
        return { lineage, signed: { ...signed, record: fingerprintCodec.encode(fingerprintOf({ name: 'laws' })) } }
      }
    }
  ]
  for (const lie of lies) it(`is not believed where ${lie.why}`, () => assert.equal(readShown(lie.shown(), above), null))
})

describe('a grant', () => {
  const grant = {
    from: acts.peer,
    to: peerOf('target').peer,
    model: linkOf(Uint8Array.of(7)),
    modelBytes: 4096,
    textBytes: 1024
  }
  const signed = (): Signed => signGrant(acts.sign, grant)

  it('is the word of its source', () => assert.deepEqual(readGrant(signed()), grant))

  it('is not believed for another target or model, from another source, or as another kind of record', () => {
    for (const change of [{ to: peerOf('other').peer }, { model: linkOf(Uint8Array.of(8)) }, { textBytes: 2 ** 30 }])
      assert.equal(readGrant({ ...signed(), record: grantCodec.encode({ ...grant, ...change }) }), null)
    assert.equal(readGrant(signGrant(peerOf('mallory').sign, grant)), null)
    assert.equal(readGrant({ ...signGrant(peerOf('mallory').sign, grant), by: peerOf('mallory').peer }), null)
    const record = grantCodec.encode(grant)
    assert.equal(readGrant({ record, by: acts.peer, signature: acts.signIn('fingerprint', record) }), null)
    assert.equal(readFingerprint(signed()), null)
  })
})
