/** Random weather over random consensus (consensus-cluster.ts), by seed. */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import type { Weather } from './cluster-parts.ts'
import { Cluster } from './consensus-cluster.ts'

interface Special extends Partial<Pick<Weather, 'old' | 'lost' | 'refusalForGood'>> {
  /** Nobody tells, or knows, for whom else it signed what it holds. */
  untold?: boolean
}

/** A stormy while, then calm: safety is asserted throughout, progress at the end. Prints its seed when it fails. */
export function storm(
  seed: number,
  stormMs: number,
  { old = 0, lost = 0, refusalForGood, untold = false }: Special = {}
): Cluster {
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
      refusalForGood: refusalForGood ?? Math.max(0, random.float() - 0.5) * 0.6,
      old,
      lost
    },
    peers,
    1 + random.below(peers)
  )
  cluster.untold = untold
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
    // What is refused for good is given up after a few election timeouts, by one that holds it after the other; the more have forgotten, the more often.
    const calmMs = cluster.weather.refusalForGood > 0 ? (lost > 0 ? 90_000 : 30_000) : 4_000
    cluster.run(calmMs)
    if (cluster.isUndecidable) return cluster
    assert.ok(cluster.height > before + 5, `no progress: index ${before} to ${cluster.height} in ${calmMs} calm milliseconds`)
    cluster.run(1_000)
    for (const { name, disk } of cluster.peers)
      assert.ok(disk.log.length >= before, `${name} is behind: ${disk.log.length} of ${before}`)
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
  }
  return cluster
}
