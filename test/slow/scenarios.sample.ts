/** A sample of scenarios.slow.ts: `lost-member`, or one that is drawn by WORLDLM_SEED. */
import { Random } from '../../src/math/random.ts'
import { stories } from '../../testnet/scenarios/stories.ts'
import { play } from '../testnet/play.ts'

const { WORLDLM_SEED } = process.env
const seed = Number(WORLDLM_SEED ?? 0)
const names = Object.keys(stories)
// What is run each time leaves every federation its majority from the first second on, and is short.
const name = WORLDLM_SEED === undefined ? 'lost-member' : names[new Random(`scenario/${seed}`).below(names.length)]!

describe('a sample: scenarios on real processes', () => {
  it(`${name}, drawn by seed ${seed}`, async function () {
    this.timeout(300_000)
    await play(name, seed)
  })
})
