/** Random weather over random consensus (consensus-cluster.ts), by seed. */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import { Cluster } from './consensus-cluster.ts'

/** A stormy while, then calm: safety is asserted throughout, progress at the end. Prints its seed when it fails. */
export function storm(seed: number, stormMs: number, old = 0): Cluster {
  const random = new Random(`storm/${seed}`)
  const peers = 3 + random.below(4)
  const cluster = new Cluster(
    seed,
    {
      loss: random.float() * 0.4,
      doubling: random.float() * 0.2,
      delayMsMax: 10 + random.float() ** 2 * 600,
      crash: random.float() * 0.002,
      refusal: random.float() * 0.1,
      refusalForGood: Math.max(0, random.float() - 0.5) * 0.6,
      old
    },
    peers,
    1 + random.below(peers)
  )
  try {
    for (let passed = 0; passed < stormMs; passed += 500) {
      cluster.run(500)
      if (random.float() < 0.1) cluster.partition()
      if (random.float() < 0.1) cluster.kill(cluster.peers[random.below(peers)]!)
    }
    cluster.heal()
    // An election takes a second or two; then entries come at the pace of proposals.
    cluster.run(5_000)
    const before = cluster.height
    // What is refused for good is given up after a few election timeouts, by one that holds it after the other.
    const calmMs = cluster.weather.refusalForGood > 0 ? 30_000 : 4_000
    cluster.run(calmMs)
    assert.ok(cluster.height > before + 5, `no progress: index ${before} to ${cluster.height} in ${calmMs} calm milliseconds`)
    cluster.run(1_000)
    for (const { name, disk } of cluster.peers)
      assert.ok(disk.log.length >= before, `${name} is behind: ${disk.log.length} of ${before}`)
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
  }
  return cluster
}
