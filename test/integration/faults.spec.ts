import assert from 'node:assert/strict'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../../src/config.ts'
import type { Update } from '../../src/federation/entry.ts'
import { addFederation, noteLeaving } from '../../src/node/config-file.ts'
import { readConsensus } from '../../src/node/store.ts'
import { loadRecords } from '../../testnet/checks/records.ts'
import { askOnce } from './asker.ts'
import { Cluster, withCluster } from './cluster.ts'

const warningsOf = (cluster: Cluster, name: string): string[] =>
  cluster.log(name).flatMap(({ code }) => (/^MEMORY_OLD$|^ENROLL_WAITS$/.test(`${code}`) ? [`${code}`] : []))

// A selection; all moments of a round, and what takes minutes, stand in test/slow/faults.slow.ts.
describe('real nodes under faults', function () {
  this.timeout(300_000)

  it('go on when the aggregator kills itself with a majority’s signatures in its hands, and take it back', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll({ a: { WORLDLM_CRASH_AT: 'store:2' } })
      assert.equal((await cluster.ended('a')).ended?.signal, 'SIGKILL')
      await cluster.untilRound(3, ['b', 'c'])
      await cluster.start('a')
      const reached = await cluster.round('b')
      await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
    })
  })

  it('count the update of an aggregator that was killed, whole and in its round, from another’s disk', async () => {
    // No round without all three: the one that is open waits for a member that is gone.
    await withCluster(await Cluster.create(['a', 'b', 'c'], { minMembers: 3 }), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, ['a', 'b', 'c'])
      await cluster.untilRound(1, ['a', 'b', 'c'])
      const led = cluster.nameOf((await cluster.federation('a'))?.aggregator ?? null)!
      const [missing, deputy] = ['a', 'b', 'c'].filter(name => name !== led) as [string, string]
      await cluster.kill(missing)
      let update: Update | null = null
      await cluster.until(`${deputy} holds the update of ${led}`, async () => {
        const federation = await cluster.federation(led)
        const isGone = federation?.members.find(({ name }) => name === missing)?.present === false
        update = cluster.pending(led)
        if (federation === null || !isGone || update?.round !== federation.round + 1) return false
        return existsSync(join(cluster.node(deputy).folder.blobs, update.blob))
      })
      const { round, weight } = update! as Update
      await cluster.kill(led)
      await cluster.start(missing)
      await cluster.untilRound(round, [missing, deputy])
      const { entries } = await loadRecords([{ name: deputy, root: cluster.node(deputy).folder.root }])
      const certified = entries.get(cluster.id)?.find(({ entry }) => entry.kind === 'round' && entry.round === round)?.entry
      assert.ok(certified?.kind === 'round' && certified.proposer !== cluster.node(led).peer)
      const input = certified.inputs.find(({ member }) => member === cluster.node(led).peer)
      assert.deepEqual([input?.round, input?.weight], [round, weight])
    })
  })

  it('let a member leave in the middle of a round', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c', 'd']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c', 'd'])
      const { code, document } = await cluster.cli('federation', 'leave', 'world', '--dir', cluster.node('b').folder.root)
      assert.deepEqual([code, document.certified], [0, true])
      // It may be the only one to hold the certificate of its own going.
      const { folder, peer } = cluster.node('b')
      const question = { kind: 'entries', federation: cluster.id, fromIndex: 1 } as const
      const answer = await askOnce(folder.running()!.addresses, peer, question)
      assert.ok(answer.kind === 'entries' && answer.entries.length > 0, JSON.stringify(answer))
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 2, ['a', 'c', 'd'])
      const federation = await cluster.federation('a')
      assert.deepEqual(federation?.members.map(({ name }) => name).sort(), ['a', 'c', 'd'])
      assert.ok(!federation?.voters.includes(cluster.node('b').peer))
    })
  })

  it('have one that is out stay, also after a power cut, until the others show that they know it', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c'])
      const { root, config } = cluster.node('b').folder
      await cluster.cli('federation', 'leave', 'world', '--dir', root)
      for (const name of ['a', 'b', 'c']) await cluster.kill(name)
      // As if the power had gone before it could ask anybody.
      addFederation(config, cluster.id, 'organization', [])
      noteLeaving(config, cluster.id)
      await cluster.start('b')
      const others = ['a', 'c'].map(name => cluster.node(name).peer).sort()
      const waitsFor = async () => (await cluster.federation('b'))?.leavingWaitsFor ?? []
      await cluster.until('b waits', async () => (await waitsFor()).length > 0)
      for (const peer of await waitsFor()) assert.ok(others.includes(peer))
      await cluster.until('b says so', async () => cluster.log('b').some(({ code }) => code === 'LEAVE_UNSEEN'))
      await cluster.start('a')
      await cluster.start('c')
      await cluster.until('b has gone', async () => (await cluster.federation('b')) === null)
      assert.deepEqual(readConfig(config, {}).federations, [])
      await cluster.untilRound((await cluster.round('a')) + 1, ['a', 'c'])
    })
  })

  it('let who asked for a place leave when it has been told that it has none, and no sooner', async () => {
    await withCluster(await Cluster.create(['a', 'b']), async cluster => {
      // It has met somebody before who had the charter.
      cluster.node('b').folder.addCharter(cluster.node('a').folder.charters().get(cluster.id)!)
      await cluster.start('b')
      const leaving = cluster.cli('federation', 'leave', 'world', '--dir', cluster.node('b').folder.root)
      await cluster.until('b is leaving', async () => (await cluster.federation('b'))?.leaving === true)
      await cluster.start('a')
      const { code, document } = await leaving
      assert.deepEqual([code, document.certified], [0, true])
      const federation = await cluster.federation('a')
      assert.deepEqual(
        federation?.members.map(({ name }) => name),
        ['a']
      )
    })
  })

  it('wait for a model that nobody holds any more, say so, and go on when one has it back', async () => {
    const names = ['a', 'b', 'c']
    await withCluster(await Cluster.create(names), async cluster => {
      // All updates of round 3 are announced and on disk; nobody is left to aggregate them.
      const die = { WORLDLM_CRASH_AT: 'aggregate:3' }
      await cluster.startAll({ a: die, b: die, c: die })
      await cluster.until('two die', async () => cluster.living().length === 1)
      await cluster.kill(cluster.living()[0]!.name)
      const folders = names.map(name => cluster.node(name).folder)
      const records = readFileSync(folders[2]!.records, 'utf8').trim().split('\n')
      const applied = records
        .map(line => JSON.parse(line) as Record<string, unknown>)
        .filter(({ record }) => record === 'applied')
      const model = `${applied.at(-1)?.model}`
      for (const { blobs, root } of folders)
        for (const name of [`${model}.index`, model]) renameSync(join(blobs, name), join(root, name))
      await cluster.startAll()
      await cluster.until('an aggregator hands over', async () =>
        names.some(name =>
          cluster.log(name).some(({ code, message }) => code === 'MODEL_AWAY' && /hands over/.test(`${message}`))
        )
      )
      assert.equal(cluster.living().length, names.length)
      const { blobs, root } = folders[2]!
      for (const name of [`${model}.index`, model]) renameSync(join(root, name), join(blobs, name))
      await cluster.untilRound(4, names)
    })
  })

  it('tell an old copy of a folder what it has forgotten, and count on its vote again', async () => {
    const names = ['a', 'b', 'c']
    await withCluster(await Cluster.create(names), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, names)
      await cluster.untilRound(2, names)
      await cluster.kill('c')
      cluster.copyFolder('c', 'backup')
      // With its newest disk it is as it was, and needs nobody's leave.
      await cluster.start('c')
      await cluster.untilRound((await cluster.round('c')) + 1, names)
      assert.deepEqual(warningsOf(cluster, 'c'), [])
      // A certificate holds the signatures of the two that are first: with one away, these.
      await cluster.kill('b')
      await cluster.untilRound((await cluster.round('a')) + 2, ['a', 'c'])
      await cluster.start('b')
      await cluster.untilRound((await cluster.round('a')) + 1, names)
      await cluster.kill('c')
      cluster.putBack('backup', 'c')
      await cluster.start('c')
      await cluster.until('c finds out', async () => warningsOf(cluster, 'c').includes('MEMORY_OLD'))
      const memory = cluster.node('c').folder.consensus(cluster.id)
      await cluster.until('a and b have told it', async () => !readConsensus(memory, Math.random).old)
      const federation = await cluster.federation('a')
      const counted = async () => (await cluster.federation('a'))!.round
      await cluster.untilRound((await counted()) + 2, names)
      // Of three voters two are left: nothing is certified without its vote.
      await cluster.kill('b')
      await cluster.untilRound((await counted()) + 2, ['a', 'c'])
      const { entries } = await loadRecords([{ name: 'a', root: cluster.node('a').folder.root }])
      const later = entries.get(cluster.id)!.filter(({ entry }) => entry.index > federation!.index)
      const rounds = later.flatMap(({ entry }) => (entry.kind === 'round' ? [entry] : []))
      assert.ok(rounds.some(({ inputs }) => inputs.some(({ member }) => member === cluster.node('c').peer)))
      assert.ok(later.every(({ entry }) => entry.kind === 'round' || entry.enrolled.length === 0))
    })
  })

  it('stop, both, when a copied folder runs a second node with one identity', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c'])
      cluster.copyFolder('c', 'copy')
      await cluster.start('copy')
      for (const name of ['c', 'copy']) {
        const { ended, folder } = await cluster.ended(name)
        assert.equal(ended?.code, 1)
        assert.match(readFileSync(join(folder.root, 'stderr.log'), 'utf8'), /IDENTITY_IN_USE/)
      }
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 1, ['a', 'b'])
      cluster.nodes.delete('copy')
    })
  })
})
