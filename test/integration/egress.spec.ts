/** Who may fetch a blob: two federations of real nodes, one of which lets its key layers reach neither the other nor strangers. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BlobAway } from '../../src/errors.ts'
import type { RoundEntry } from '../../src/federation/entry.ts'
import { BlobExchange } from '../../src/net/blob-exchange.ts'
import { createIdentity } from '../../src/net/host.ts'
import { Blobs } from '../../src/node/blobs.ts'
import { CertifiedCar } from '../../src/node/certified-car.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { entryCodec } from '../../src/wire/records.ts'
import { Cluster, type TestNode, withCluster } from './cluster.ts'
import { loopbackHost } from '../../bench/loopback-host.ts'

const reason = 'contract 17'

async function foundTwo(): Promise<Cluster> {
  const cluster = new Cluster()
  for (const name of ['a1', 'a2', 'b1']) await cluster.add(name)
  cluster.found('a1', { name: 'world', startMembers: 2 })
  const egress = [{ tensor: 'keys', to: 'world/b/**', allow: false, reason }]
  cluster.found('a1', { name: 'a', startMembers: 2, egress }, 'world')
  cluster.found('b1', { name: 'b', startMembers: 1 }, 'world')
  for (const name of ['a1', 'a2']) cluster.join(name, 'world/a')
  cluster.join('b1', 'world/b')
  return cluster
}

/** The certified rounds of a federation, from the log of a node that has stopped. */
async function roundsOf(cluster: Cluster, node: TestNode, path: string): Promise<RoundEntry[]> {
  const { car, archive } = await CertifiedCar.open(node.folder.certifiedCar)
  const log = archive.logs.get(cluster.federations.get(path)!.id)
  const entries = [...(log?.from(0) ?? [])].map(({ entry }) => entryCodec.decode(entry))
  car.close()
  const rounds = entries.flatMap(entry => (isMalformed(entry) || entry.kind !== 'round' ? [] : [entry]))
  assert.ok(rounds.length > 0, `no round of ${path} in the log of ${node.name}`)
  return rounds
}

const modelOf = async (cluster: Cluster, node: TestNode, path: string): Promise<string> =>
  (await roundsOf(cluster, node, path)).at(-1)!.model

/** As a peer with this identity. @returns how the pull ended. */
async function fetchAs(identity: Uint8Array, blob: string, holder: TestNode): Promise<string> {
  const folder = mkdtempSync(join(holder.folder.root, '..', 'fetch-'))
  const { blobs } = await Blobs.open(folder)
  const host = await loopbackHost({ identity })
  try {
    const exchange = await BlobExchange.start({ host, store: blobs, allow: () => 'forbidden', onLiar: () => undefined })
    await host.learn(holder.peer, holder.folder.running()!.addresses)
    await exchange.pull(blob, [holder.peer])
    return blobs.has(blob) ? 'fetched' : 'nothing'
  } catch (error) {
    assert.ok(error instanceof BlobAway, String(error))
    return error.code
  } finally {
    await host.stop()
    await blobs.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

describe('egress of blobs', function () {
  this.timeout(300_000)

  it('from a child to its parent is held to by a delegate that leads the parent, too', async () => {
    const cluster = new Cluster()
    for (const name of ['a1', 'b1']) await cluster.add(name)
    cluster.found('a1', { name: 'world', startMembers: 2 })
    cluster.found(
      'a1',
      { name: 'a', startMembers: 1, egress: [{ tensor: 'keys', to: 'parent', allow: false, reason }] },
      'world'
    )
    cluster.found('b1', { name: 'b', startMembers: 1 }, 'world')
    cluster.join('a1', 'world/a')
    cluster.join('b1', 'world/b')
    await withCluster(cluster, async () => {
      await cluster.startAll()
      await cluster.untilRound(2, ['a1', 'b1'], 'world')
      await cluster.untilRound(2, ['a1'], 'world/a')
      for (const name of ['a1', 'b1']) await cluster.kill(name, 'SIGTERM')
      const a = cluster.federations.get('world/a')!.id
      const rounds = await roundsOf(cluster, cluster.node('a1'), 'world')
      assert.ok(
        rounds.every(({ inputs }) => !inputs.some(({ member }) => member === a)),
        JSON.stringify(rounds)
      )
      assert.ok(rounds.some(({ excluded }) => excluded.some(one => one.member === a && one.reason.includes(reason))))
    })
  })

  it('is held to by the holder, whoever asks', async () => {
    await withCluster(await foundTwo(), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a1', 'a2'], 'world/a')
      await cluster.untilRound(1, ['a1', 'a2'], 'world')
      for (const name of ['a2', 'b1']) await cluster.kill(name, 'SIGTERM')
      const [a1, a2, b1] = ['a1', 'a2', 'b1'].map(name => cluster.node(name)) as [TestNode, TestNode, TestNode]
      const own = await modelOf(cluster, a2, 'world/a')
      const above = await modelOf(cluster, a2, 'world')
      const fetched = {
        member: await fetchAs(a2.folder.identity(), own, a1),
        elsewhere: await fetchAs(b1.folder.identity(), own, a1),
        stranger: await fetchAs(await createIdentity(), own, a1),
        // What the parent certified leaves by the parent's rules, which forbid nothing.
        above: await fetchAs(b1.folder.identity(), above, a1)
      }
      assert.deepEqual(fetched, {
        member: 'fetched',
        elsewhere: 'BLOB_FORBIDDEN',
        stranger: 'BLOB_FORBIDDEN',
        above: 'fetched'
      })
      const told = cluster.log('a1').filter(({ code }) => code === 'EGRESS_FORBIDDEN')
      assert.ok(
        told.some(({ peer, detail }) => peer === b1.peer && detail === `${own}: world/a: ${reason}`),
        JSON.stringify(told)
      )
    })
  })
})
