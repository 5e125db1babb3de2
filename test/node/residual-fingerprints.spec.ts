/** Which fingerprints a delegate takes, and passes on. */
import assert from 'node:assert/strict'
import { sketchGroupBytes } from '../../src/aggregate/sketch.ts'
import type { Charter } from '../../src/governance/charter.ts'
import type { FederationCore } from '../../src/node/federation-core.ts'
import { Fingerprints } from '../../src/node/residual-fingerprints.ts'
import { linkOf } from '../../src/wire/codec.ts'
import { limits } from '../../src/wire/limits.ts'
import { type Shown, topicCodec, type TopicMessage } from '../../src/wire/messages.ts'
import { charterCodec } from '../../src/wire/records.ts'
import { signFingerprint } from '../../src/wire/residual-records.ts'
import { testCharter } from '../federation/charters.ts'
import { peerOf } from '../wire/peers.ts'

const [self, other] = [peerOf('delegate'), peerOf('member')]
const world = testCharter({ name: 'world', path: 'world', founders: [self.peer] })

/** Charters of federations one below the other, the lowest first, down from `above`. */
function lineBelow(above: Charter, count: number): { id: string; charters: Uint8Array[]; path: string } {
  const charters: Uint8Array[] = []
  let [id, path] = [linkOf(charterCodec.encode(above)), above.path]
  for (let depth = 1; depth <= count; depth++) {
    path = `${path}/x`
    const encoded = charterCodec.encode(testCharter({ name: 'x', path, parent: id, founders: [other.peer] }))
    charters.unshift(encoded)
    id = linkOf(encoded)
  }
  return { id, charters, path }
}

/** The delegate of a child of the world. @param egress - of the child's charter. */
function delegate(egress: Charter['egress'] = []) {
  const charter = testCharter({
    name: 'a',
    path: 'world/a',
    parent: linkOf(charterCodec.encode(world)),
    founders: [self.peer],
    egress
  })
  const charterBytes = charterCodec.encode(charter)
  const id = linkOf(charterBytes)
  const said: TopicMessage[] = []
  const warned: string[] = []
  const head = { round: 1 }
  const services = { events: { emit: ({ code }: { code: string }) => void warned.push(code) } }
  const parent = {
    id: charter.parent,
    path: 'world',
    state: { head, roster: { members: new Map([[id, { kind: 'federation', peers: [self.peer] }]]) } },
    options: { charter: world, sibling: () => null },
    say: (message: TopicMessage) => void said.push(message),
    residuals: { take: () => undefined }
  }
  const members = new Map([self, other].map(({ peer }) => [peer, { kind: 'organization', peers: [peer] }]))
  const node = {
    id,
    path: charter.path,
    self: self.peer,
    layout: { groups: [{}] },
    state: { head, roster: { members }, present: new Set() },
    options: { charter, charterBytes, services, sibling: () => parent },
    say: () => undefined
  }
  const shown = (of: typeof self, first: number): Shown => {
    const sketches = new Uint8Array(sketchGroupBytes).fill(first, 0, 1)
    return { lineage: [], signed: signFingerprint(of.sign, { node: of.peer, federation: id, name: of.name, sketches }) }
  }
  const admit = (child: string) => members.set(child, { kind: 'federation', peers: [other.peer] })
  return { fingerprints: new Fingerprints(node as unknown as FederationCore), shown, said, warned, head, charter, admit }
}

describe('fingerprints', () => {
  it('are passed on with the charter on their way, unless both are longer than a message: what is longer costs whoever says it its hearing', () => {
    const rule = { tensor: 'metrics' as const, to: 'members', allow: false, reason: 'r'.repeat(290) }
    for (const [rules, isLong] of [
      [1, false],
      [190, true]
    ] as const) {
      const { fingerprints, shown, said, warned } = delegate(Array.from({ length: rules }, () => rule))
      fingerprints.take(other.peer, shown(other, 1))
      fingerprints.tick()
      assert.deepEqual([said.length, warned], isLong ? [0, ['FINGERPRINT_TOO_LONG']] : [1, []])
      for (const message of said) assert.ok(topicCodec.encode(message).length <= limits.gossipBytesMax)
    }
  })

  it('are not passed on below more charters than a message holds: whoever made a tree so deep would end each delegate above', () => {
    for (const depth of [limits.depthMax - 1, limits.depthMax]) {
      const { fingerprints, said, warned, charter, admit } = delegate()
      const { id, charters } = lineBelow(charter, depth)
      admit(linkOf(charters.at(-1)!))
      const sketches = new Uint8Array(sketchGroupBytes)
      const signed = signFingerprint(other.sign, { node: other.peer, federation: id, name: 'deep', sketches })
      fingerprints.take(other.peer, { lineage: charters, signed })
      fingerprints.tick()
      assert.deepEqual([said.length, warned], depth < limits.depthMax ? [1, []] : [0, ['FINGERPRINT_TOO_LONG']])
    }
  })

  it('change seldom: each change is work for every bridge, and says nothing of a text that is the same', () => {
    const { fingerprints, shown, head } = delegate()
    const known = () => fingerprints.known.get(other.peer)?.read.fingerprint.sketches[0]
    for (let change = 1; change <= 50; change++) fingerprints.take(other.peer, shown(other, change))
    assert.equal(known(), 1)
    head.round += 10
    fingerprints.take(other.peer, shown(other, 60))
    assert.equal(known(), 60)
  })

  it('of one’s own are what one says oneself, not what others say again', () => {
    const { fingerprints, shown } = delegate()
    const known = () => fingerprints.known.get(self.peer)?.read.fingerprint.sketches[0]
    fingerprints.take(other.peer, shown(self, 1))
    assert.equal(known(), undefined)
    for (const made of [2, 3]) {
      fingerprints.setOwn(shown(self, made))
      assert.equal(known(), made)
    }
    fingerprints.take(other.peer, shown(self, 1))
    assert.equal(known(), 3)
  })
})
