import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Cluster, withCluster } from './cluster.ts'

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

  it('let a member leave in the middle of a round', async () => {
    await withCluster(await Cluster.create(['a', 'b', 'c', 'd']), async cluster => {
      await cluster.startAll()
      await cluster.untilRound(1, ['a', 'b', 'c', 'd'])
      const { code, document } = await cluster.cli('federation', 'leave', 'world', '--dir', cluster.node('b').folder.root)
      assert.deepEqual([code, document.certified], [0, true])
      const reached = await cluster.round('a')
      await cluster.untilRound(reached + 2, ['a', 'c', 'd'])
      const federation = await cluster.federation('a')
      assert.deepEqual(federation?.members.map(({ name }) => name).sort(), ['a', 'c', 'd'])
      assert.ok(!federation?.voters.includes(cluster.node('b').peer))
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
