/** The memory before libp2p's peer store: it says what the store would say, whatever is done, and spares it what is known. */
import assert from 'node:assert/strict'
import type { Peer, PeerId, PeerStore } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import fc from 'fast-check'
import { createIdentity, type Host, peerNameOf } from '../../src/net/host.ts'
import { rememberPeers } from '../../src/net/peer-memory.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

/** The same things said to both stores. */
type Act = (store: PeerStore, name: string) => Promise<unknown>

const address = (port: number) => multiaddr(`/ip4/127.0.0.1/tcp/${port}`)
const act = fc.oneof(
  fc.record({ port: fc.integer({ min: 1, max: 4 }), ofPeer: fc.boolean() }).map(
    ({ port, ofPeer }): Act =>
      (store, name) =>
        store.merge(peerIdFromString(name), { multiaddrs: [multiaddr(`${address(port)}${ofPeer ? `/p2p/${name}` : ''}`)] })
  ),
  fc.constantFrom('/a', '/b').map(
    (protocol): Act =>
      (store, name) =>
        store.merge(peerIdFromString(name), { protocols: [protocol] })
  ),
  fc.constantFrom('/a', '/c').map(
    (protocol): Act =>
      (store, name) =>
        store.patch(peerIdFromString(name), { protocols: [protocol] })
  ),
  fc.nat(3).map(
    (value): Act =>
      (store, name) =>
        store.merge(peerIdFromString(name), { tags: { tag: { value } } })
  ),
  fc.nat(9).map(
    (port): Act =>
      (store, name) =>
        store.save(peerIdFromString(name), { multiaddrs: [address(port + 1)] })
  ),
  fc.constant<Act>((store, name) => store.delete(peerIdFromString(name))),
  fc.constant<Act>((store, name) => store.get(peerIdFromString(name)).catch(() => null))
)

const told = (peer: Peer | null) =>
  peer === null
    ? null
    : {
        // The store writes an address twice that is told once with the peer's name and once without.
        addresses: [...new Set(peer.addresses.map(({ multiaddr }) => multiaddr.toString()))].sort(),
        protocols: [...peer.protocols].sort(),
        tags: [...peer.tags].map(([tag, { value }]) => `${tag} ${value}`)
      }

describe('the memory of peers', () => {
  let plain: Host
  let remembering: Host
  before(async () => {
    plain = await loopbackHost()
    remembering = await loopbackHost()
  })
  after(async () => {
    await plain.stop()
    await remembering.stop()
  })

  it('says what the store says, after any changes, waited for or not', async () => {
    const bare = Object.getPrototypeOf(plain.libp2p.peerStore) as PeerStore
    const store = Object.create(plain.libp2p.peerStore, methodsOf(bare)) as PeerStore
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(act, fc.boolean()), { maxLength: 12 }), async acts => {
        const name = peerNameOf(await createIdentity())
        const waiting: Promise<unknown>[] = []
        for (const [perform, waits] of acts) {
          const both = Promise.all([store, remembering.libp2p.peerStore].map(one => perform(one, name).catch(() => null)))
          if (waits) await both
          else waiting.push(both)
        }
        await Promise.all(waiting)
        const [expected, actual] = await Promise.all(
          [store, remembering.libp2p.peerStore].map(one => one.get(peerIdFromString(name)).catch(() => null))
        )
        assert.deepEqual(told(actual!), told(expected!))
      }),
      { numRuns: 200, seed: 1 }
    )
  })

  it('asks the store once for what it knows, and tells it nothing twice', async () => {
    const calls: string[] = []
    const name = peerNameOf(await createIdentity())
    const peer = peerIdFromString(name)
    const known = { id: peer, addresses: [{ multiaddr: address(1), isCertified: false }], protocols: ['/a'] } as unknown as Peer
    const call = (what: string) => async () => {
      calls.push(what)
      return known
    }
    const store = { get: call('get'), merge: call('merge'), patch: call('patch'), save: call('save') } as unknown as PeerStore
    rememberPeers(store)
    for (const _ of [1, 2, 3]) await store.get(peer)
    for (const port of [1, 1, 2]) await store.merge(peer, { multiaddrs: [address(port)] })
    for (const protocol of ['/a', '/b']) await store.merge(peer, { protocols: [protocol] })
    await store.patch(peer, { protocols: ['/a'] })
    assert.deepEqual(calls, ['get', 'merge', 'merge', 'patch'])
    await store.merge(peer, { multiaddrs: [multiaddr(`${address(1)}/p2p/${name}`)] })
    assert.equal(calls.length, 4, 'its name is no part of where it is')
  })

  it('tells the store again, after a while, what it would forget; and forgets itself whom it knows the longest', async () => {
    const calls: string[] = []
    const idOf = (name: string) => ({ toString: () => name }) as unknown as PeerId
    const call = (what: string) => async (id: PeerId) => {
      calls.push(what)
      return {
        id,
        addresses: [{ multiaddr: address(1), isCertified: false }],
        protocols: [],
        tags: new Map()
      } as unknown as Peer
    }
    const store = { get: call('get'), merge: call('merge') } as unknown as PeerStore
    rememberPeers(store)
    const nowReally = performance.now
    let nowMs = 0
    performance.now = () => nowMs
    try {
      const tell = () => store.merge(idOf('one'), { multiaddrs: [address(1)] })
      for (nowMs = 0; nowMs < 3_600_000; nowMs += 60_000) await tell()
      assert.deepEqual(calls, Array(10).fill('merge'))
      for (let place = 0; place < 5_000; place++) await store.get(idOf(`stranger ${place}`))
      await tell()
      assert.equal(calls.at(-1), 'merge')
      await store.get(idOf('stranger 4999'))
      assert.equal(calls.at(-1), 'merge', 'the newest is known')
    } finally {
      performance.now = nowReally
    }
  })

  it('believes no change before all that are on their way are there', async () => {
    const name = peerNameOf(await createIdentity())
    const peer = peerIdFromString(name)
    const ends: (() => void)[] = []
    let gets = 0
    const at = (port: number) => ({ id: peer, addresses: [{ multiaddr: address(port) }], protocols: [] }) as unknown as Peer
    const store = {
      get: async () => at(9 + gets++),
      merge: (_: PeerId, { multiaddrs }: { multiaddrs: { toString(): string }[] }) =>
        new Promise<Peer>(resolve => ends.push(() => resolve(at(Number(multiaddrs[0]!.toString().split('/').at(-1))))))
    } as unknown as PeerStore
    rememberPeers(store)
    const changes = [1, 2].map(port => store.merge(peer, { multiaddrs: [address(port)] }))
    ends[0]!()
    await changes[0]
    const between = await store.get(peer)
    assert.equal(between.addresses[0]!.multiaddr.toString(), String(address(9)), 'the second is on its way')
    ends[1]!()
    await changes[1]
    assert.equal((await store.get(peer)).addresses[0]!.multiaddr.toString(), String(address(2)))
    assert.equal(gets, 1)
  })
})

/** The methods of the class, without what was put before them on one store. */
function methodsOf(prototype: PeerStore): PropertyDescriptorMap {
  return Object.fromEntries(
    (['get', 'merge', 'patch', 'save', 'delete'] as const).map(name => [name, { value: prototype[name], writable: true }])
  )
}
