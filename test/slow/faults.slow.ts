/**
 * The hard faults on real processes (docs/protocol.md, "Lost votes", "Members that leave, lie, or are gone"): each story ends with the
 * invariants checked over the records of all nodes, and with every certificate checked.
 */
import assert from 'node:assert/strict'
import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { linkOf } from '../../src/wire/codec.ts'
import { Cluster, withCluster } from '../integration/cluster.ts'
import { Liar } from '../integration/liar.ts'

const others = ['b', 'c']

describe('the aggregator dies', function () {
  this.timeout(600_000)
  for (const point of ['open', 'pull', 'receipt', 'aggregate', 'accept', 'sign', 'store', 'publish']) {
    it(`at the point ${point} of round 2, and comes back with its old disk`, async () => {
      await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
        await cluster.startAll({ a: { WORLDLM_CRASH_AT: `${point}:2` } })
        assert.equal((await cluster.ended('a')).ended?.signal, 'SIGKILL')
        await cluster.untilRound(4, others)
        await cluster.start('a')
        const reached = await cluster.round('b')
        await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
      })
    })
  }

  it('again and again, each time another', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    await withCluster(await Cluster.create(names), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(5, names)
      for (let death = 0; death < 5; death++) {
        const led = cluster.nameOf((await cluster.federation(cluster.living()[0]!.name))?.aggregator ?? null)
        const victim = led ?? 'a'
        const before = Math.max(...(await Promise.all(names.map(name => cluster.round(name)))))
        await cluster.kill(victim)
        await cluster.untilRound(
          before + 2,
          names.filter(name => name !== victim)
        )
        await cluster.start(victim)
        await cluster.until(`${victim} caught up`, async () => (await cluster.round(victim)) >= before + 2)
      }
    })
  })
})

describe('a member dies', function () {
  this.timeout(600_000)
  for (const point of ['train', 'announce', 'accept', 'sign', 'store', 'apply']) {
    it(`at the point ${point} of round 2, and comes back with its old disk`, async () => {
      await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
        await cluster.startAll({ b: { WORLDLM_CRASH_AT: `${point}:2` } })
        assert.equal((await cluster.ended('b')).ended?.signal, 'SIGKILL')
        await cluster.untilRound(4, ['a', 'c'])
        await cluster.start('b')
        const reached = await cluster.round('a')
        await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
      })
    })
  }
})

describe('a node comes back', function () {
  this.timeout(900_000)

  it('with an empty disk and its old key: votes again once the others have certified its return', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, ['a', 'b', 'c'])
      await cluster.untilRound(2, ['a', 'b', 'c'])
      await cluster.kill('b')
      cluster.emptyDisk('b')
      await cluster.start('b')
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
      // Now a majority needs its vote.
      await cluster.kill('c')
      const without = await cluster.round('a')
      await cluster.untilRound(without + 2, ['a', 'b'])
    })
  })

  it('the founder and aggregator with an empty disk, while two others go on', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, ['a', 'b', 'c'])
      await cluster.untilRound(2, ['a', 'b', 'c'])
      await cluster.kill('a')
      cluster.emptyDisk('a')
      await cluster.untilRound(4, others)
      await cluster.start('a')
      const reached = await cluster.round('b')
      await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
      await cluster.kill('b')
      const without = await cluster.round('c')
      await cluster.untilRound(without + 2, ['a', 'c'])
    })
  })

  it('the founder, whose certified log was moved away because of damage: fetches it, and certifies nothing in its place', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(3, ['a', 'b', 'c'])
      await cluster.untilRound(2, ['a', 'b', 'c'])
      await cluster.kill('a')
      rmSync(join(cluster.node('a').folder.root, 'certified.car'))
      await cluster.start('a')
      const reached = await cluster.round('b')
      await cluster.untilRound(reached + 2, ['a', 'b', 'c'])
    })
  })

  it('a hundred rounds behind, through changes of members and voters', async () => {
    const keepRounds = 5
    await withCluster(await Cluster.create(['a', 'b', 'c', 'd'], { voters: 3, retention: { keepRounds } }), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c', 'd'])
      await cluster.kill('c', 'SIGTERM')
      const { code } = await cluster.cli('federation', 'leave', 'world', '--dir', cluster.node('b').folder.root)
      assert.equal(code, 0)
      await cluster.add('e')
      cluster.join('e', 'world')
      await cluster.start('e')
      const behind = await cluster.round('a')
      await cluster.until('a hundred rounds', async () => (await cluster.round('a')) >= behind + 100, 600_000)
      await cluster.start('c')
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 2, ['a', 'c', 'd', 'e'])
      // What is younger may be on its way.
      for (const name of ['a', 'd', 'e']) {
        const { blobs } = cluster.node(name).folder
        const old = readdirSync(blobs).filter(
          one => !one.includes('.') && Date.now() - statSync(join(blobs, one)).mtimeMs > 70_000
        )
        assert.ok(old.length <= keepRounds, `${name} keeps ${old.length} old blobs`)
      }
    })
  })

  it('after all have been killed at once', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(3, ['a', 'b', 'c'])
      await Promise.all(['a', 'b', 'c'].map(name => cluster.kill(name)))
      await cluster.startAll()
      await cluster.untilRound(6, ['a', 'b', 'c'])
    })
  })
})

describe('members', function () {
  this.timeout(900_000)

  it('join and leave in the middle of rounds', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c'])
      for (const name of ['d', 'e']) {
        await cluster.add(name)
        cluster.join(name, 'world')
        await cluster.start(name)
        await cluster.until(`${name} counts`, async () => (await cluster.round(name)) > 0)
      }
      for (const name of ['a', 'd']) {
        const { code } = await cluster.cli('federation', 'leave', 'world', '--dir', cluster.node(name).folder.root)
        assert.equal(code, 0, name)
      }
      const reached = await cluster.round('b')
      await cluster.untilRound(reached + 2, ['b', 'c', 'e'])
      assert.deepEqual((await cluster.federation('b'))?.members.map(({ name }) => name).sort(), ['b', 'c', 'e'])
    })
  })

  it('that are gone for good are replaced as voters, one after another', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    await withCluster(await Cluster.create(names), async cluster => {
      await cluster.startAll()
      await cluster.untilVoters(5, names)
      for (const victim of ['c', 'a', 'e']) {
        await cluster.kill(victim)
        const { peer } = cluster.node(victim)
        const survivors = cluster.living().map(({ name }) => name)
        await cluster.until(`${victim} has no vote any more`, async () => {
          const seen = await Promise.all(survivors.map(name => cluster.federation(name)))
          return seen.every(one => one !== null && !one.voters.includes(peer))
        })
      }
      const reached = await cluster.round('b')
      await cluster.untilRound(reached + 2, ['b', 'd'])
      await cluster.start('c')
      await cluster.until('c votes again', async () => {
        return (await cluster.federation('b'))?.voters.includes(cluster.node('c').peer) ?? false
      })
    })
  })

  it('that sign two entries for one index and term are evicted, with the proof in the log, and never come back', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c', 'd']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c', 'd'])
      await cluster.kill('c', 'SIGTERM')
      const { folder, peer } = cluster.node('c')
      const { index, term } = (await cluster.federation('a'))!
      const liar = await Liar.start(folder.identity(), cluster.node('a').folder.running()!.addresses, cluster.id)
      try {
        await liar.acceptAll(
          index + 1,
          term,
          ['one', 'two'].map(text => linkOf(new TextEncoder().encode(text)))
        )
        await cluster.until('c is evicted', async () => {
          const seen = await Promise.all(['a', 'b', 'd'].map(name => cluster.federation(name)))
          return seen.every(
            one => one !== null && !one.members.some(({ member }) => member === peer) && !one.voters.includes(peer)
          )
        })
      } finally {
        await liar.stop()
      }
      assert.ok(cluster.log('a').some(({ code }) => code === 'TWO_ACCEPTANCES'))
      await cluster.start('c')
      await cluster.until('c is told', async () => cluster.log('c').some(({ code }) => code === 'EVICTED'))
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 2, ['a', 'b', 'd'])
      assert.ok(!(await cluster.federation('a'))?.members.some(({ member }) => member === peer))
    })
  })
})

describe('two levels', function () {
  this.timeout(900_000)
  const above = ['u', 'v', 'w']
  const below = ['a', 'b', 'c']

  async function twoLevels(): Promise<Cluster> {
    const cluster = await Cluster.create(above, { startMembers: 4 })
    for (const name of below) await cluster.add(name)
    cluster.found('a', { name: 'x', startMembers: 3 }, 'world')
    for (const name of below) cluster.join(name, 'world/x')
    return cluster
  }

  it('the child goes on alone while its parent has no majority, and is part of it again when it has', async () => {
    await withCluster(await twoLevels(), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(2, below, 'world/x')
      await cluster.untilVoters(5, ['a'], 'world')
      for (const name of above) await cluster.kill(name)
      const reached = await cluster.round('a', 'world/x')
      await cluster.untilRound(reached + 3, below, 'world/x')
      const world = await cluster.round('a', 'world')
      for (const name of above) await cluster.start(name)
      await cluster.until('the parent counts the child again', async () => {
        const rounds = cluster.log('u').flatMap(({ type, round }) => (type === 'round' ? [round as RoundLine] : []))
        return rounds.some(
          one => one.federation === 'world' && one.round > world + 1 && one.included.some(({ name }) => name === 'x')
        )
      })
      await cluster.until('the child takes the parent’s result again', async () => {
        const rounds = cluster.log('b').flatMap(({ type, round }) => (type === 'round' ? [round as RoundLine] : []))
        return rounds.some(one => one.federation === 'world/x' && one.round > reached + 3 && one.alone === null)
      })
    })
  })

  it('a child’s delegates die one after another, and another hands its contribution in', async () => {
    const cluster = await twoLevels()
    await cluster.add('d')
    cluster.join('d', 'world/x')
    await withCluster(cluster, async () => {
      await cluster.startAll()
      await cluster.untilRound(2, [...below, 'd'], 'world/x')
      for (const victim of ['a', 'b']) {
        await cluster.kill(victim)
        const world = await cluster.round('u', 'world')
        await cluster.until(`the parent counts x without ${victim}`, async () => {
          const rounds = cluster.log('u').flatMap(({ type, round }) => (type === 'round' ? [round as RoundLine] : []))
          return rounds.some(
            one => one.federation === 'world' && one.round > world + 2 && one.included.some(({ name }) => name === 'x')
          )
        })
      }
    })
  })
})

interface RoundLine {
  federation: string
  round: number
  alone: string | null
  included: { name: string }[]
}
