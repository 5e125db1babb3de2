/** Residuals beside peers that lie: a member of one federation, which is its delegate too, against a target in another. Real nodes, whose rounds are over. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { sketchGroupBytes } from '../../src/aggregate/sketch.ts'
import { isMalformed, linkOf } from '../../src/wire/codec.ts'
import { type Answer, type Shown, signedCodec } from '../../src/wire/messages.ts'
import { charterCodec } from '../../src/wire/records.ts'
import { readFingerprint, signFingerprint, signGrant } from '../../src/wire/residual-records.ts'
import { peerOf, type TestPeer } from '../wire/peers.ts'
import { Cluster, withCluster } from './cluster.ts'
import { Impostor } from './impostor.ts'

const charterNamed = (cluster: Cluster, path: string) => cluster.federations.get(path)!

async function foundTwo(): Promise<Cluster> {
  const cluster = new Cluster()
  for (const name of ['a1', 'a2', 'b1']) await cluster.add(name)
  cluster.found('a1', { name: 'world', startMembers: 1, algorithm: { rounds: 1 } })
  const egress = [
    { tensor: 'residual', to: 'world/b/b1', allow: true },
    { tensor: 'residual', allow: false, reason: 'contract 17' },
    ...['members', 'parent', 'world/a'].map(to => ({ tensor: 'keys', to, allow: true })),
    { tensor: 'keys', allow: false, reason: 'contract 18' }
  ]
  cluster.found('a1', { name: 'a', startMembers: 1, egress }, 'world')
  cluster.found('b1', { name: 'b', startMembers: 1 }, 'world')
  for (const name of ['a1', 'a2']) cluster.join(name, 'world/a')
  cluster.join('b1', 'world/b')
  return cluster
}

/** What is offered to `b1` by whoever acts as `a2`. */
class Offers {
  readonly #cluster: Cluster
  readonly #impostor: Impostor
  readonly #sketches: Uint8Array

  constructor(cluster: Cluster, impostor: Impostor) {
    this.#cluster = cluster
    this.#impostor = impostor
    const { folder } = cluster.node('b1')
    const signed = signedCodec.decode(readFileSync(folder.fingerprint(charterNamed(cluster, 'world/b').id)))
    assert.ok(!isMalformed(signed))
    this.#sketches = readFingerprint(signed)!.sketches
  }

  /** An organization of world/a that nobody has let in. @param unlike - the more, the less its fingerprint is like the target's. */
  source({ peer, sign, name }: TestPeer, unlike: number): Shown {
    const { id, charter } = charterNamed(this.#cluster, 'world/a')
    const sketches = this.#sketches.slice().fill(0, 0, Math.min(unlike, sketchGroupBytes / 2 - 1) * 2)
    return {
      lineage: [charterCodec.encode(charter)],
      signed: signFingerprint(sign, { node: peer, federation: id, name, sketches })
    }
  }

  async offer(source: TestPeer, shown: Shown, model: string, held: boolean): Promise<Extract<Answer, { kind: 'offer' }>> {
    const to = this.#cluster.node('b1').peer
    const grant = signGrant(source.sign, { from: source.peer, to, model, modelBytes: 1, textBytes: 1024 })
    const federation = charterNamed(this.#cluster, 'world/b').id
    const answer = await this.#impostor.ask(to, { kind: 'offer', federation, to, source: shown, grant, held })
    assert.ok(answer.kind === 'offer', JSON.stringify(answer))
    return answer
  }
}

describe('residuals beside liars', function () {
  this.timeout(300_000)

  it('a target takes few, gives none away, and waits for nobody who grants and does not give', async () => {
    const cluster = await foundTwo()
    const ends: (() => Promise<void>)[] = []
    await withCluster(cluster, async () => {
      await cluster.startAll()
      const [a2, b1] = [cluster.node('a2'), cluster.node('b1')]
      await cluster.untilRound(1, ['b1'], 'world/b')
      await cluster.until('a2 speaks in world', async () => {
        const world = await cluster.federation('b1', 'world')
        return world?.members.some(({ peers }) => peers.includes(a2.peer)) === true
      })
      await cluster.kill('a2')
      const impostor = await Impostor.start(a2.folder.identity(), [b1])
      const stranger = await Impostor.start(null, [b1])
      ends.push(
        () => impostor.stop(),
        () => stranger.stop()
      )
      const offers = new Offers(cluster, impostor)

      // A charter whose rules take minutes when they are tried in every way.
      const charter = charterCodec.encode({
        ...charterNamed(cluster, 'world/a').charter,
        path: 'world/slow',
        name: 'slow',
        parent: charterNamed(cluster, 'world').id,
        egress: Array.from({ length: 100 }, () => ({ tensor: 'residual' as const, to: `${'**/'.repeat(90)}x`, allow: false }))
      })
      const slow = peerOf('slow')
      const { signed } = offers.source(slow, 9)
      const { sketches } = readFingerprint(signed)!
      const shown = signFingerprint(slow.sign, { node: slow.peer, federation: linkOf(charter), name: 'slow', sketches })
      const began = performance.now()
      await offers.offer(slow, { lineage: [charter], signed: shown }, linkOf(Uint8Array.of(1)), false)
      assert.ok(performance.now() - began < 5_000, 'it answers at once')

      // Granted, and never given: the bridge goes on to the next in line.
      const nothing = linkOf(Uint8Array.of(2))
      const [first, second] = [peerOf('first'), peerOf('second')]
      assert.equal((await offers.offer(first, offers.source(first, 100), nothing, false)).verdict, 'wanted')
      assert.equal((await offers.offer(second, offers.source(second, 200), linkOf(Uint8Array.of(3)), false)).verdict, 'wanted')

      // What is no model is not taken from that source again, soon.
      const bad = peerOf('bad')
      const spoiled = await impostor.put(new TextEncoder().encode('no model'))
      assert.equal((await offers.offer(bad, offers.source(bad, 90), spoiled.link, true)).verdict, 'take')
      await cluster.until('b1 has seen what it is', async () => cluster.log('b1').some(({ code }) => code === 'BAD_RESIDUAL'))
      assert.equal((await offers.offer(bad, offers.source(bad, 90), spoiled.link, true)).verdict, 'dropped')

      // The charter of a lets its residuals go to b1, and nowhere else.
      const model = await impostor.put(readFileSync(a2.folder.model('initial')))
      const good = peerOf('good')
      assert.equal((await offers.offer(good, offers.source(good, 80), model.link, true)).verdict, 'take')
      await cluster.until('b1 has pulled it', async () => impostor.exchange.bytes.out >= model.bytes)
      assert.equal(await stranger.fetch(model.link, b1.peer), 'BLOB_FORBIDDEN')

      // One that is more like it than all before, and another, and another.
      let taken = 0
      for (let place = 0; place < 40; place++) {
        const one = peerOf(`made up ${place}`)
        const { verdict } = await offers.offer(one, offers.source(one, 70 - place), linkOf(Uint8Array.of(9, place)), true)
        if (verdict === 'take') taken++
      }
      assert.ok(taken <= 4, `${taken} were taken at once`)
      for (const end of ends.splice(0)) await end()
    }).finally(() => Promise.all(ends.map(end => end())))
  })
})
