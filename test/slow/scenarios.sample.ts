/** A sample of scenarios.slow.ts: one scenario, drawn by WORLDLM_SEED. */
import { Random } from '../../src/math/random.ts'
import { stories } from '../../testnet/scenarios/stories.ts'
import { play } from '../testnet/play.ts'

const seed = Number(process.env.WORLDLM_SEED ?? 0)
const names = Object.keys(stories)
const name = names[new Random(`scenario/${seed}`).below(names.length)]!

describe('a sample: scenarios on real processes', () => {
  it(`${name}, drawn by seed ${seed}`, async function () {
    this.timeout(300_000)
    await play(name, seed)
  })
})
