/** A peer's timeouts against one happening for each: those that are not answered come at the same moments, and among others in the same order. */
import assert from 'node:assert/strict'
import { Random } from '../../src/math/random.ts'
import { Clock } from '../../src/sim/clock.ts'
import { Timeouts, type Waiting } from '../../src/sim/timeouts.ts'

type Add = (delayMs: number, waiting: Waiting) => void

/** Questions that are asked now and then, several in a moment at times, and of which most are answered; and what else happens meanwhile. */
function told(seed: number, addTo: (clock: Clock) => Add): { seen: string[]; fired: number } {
  const clock = new Clock(new Random(`timeouts/${seed}`))
  const random = new Random(`questions/${seed}`)
  const add = addTo(clock)
  const seen: string[] = []
  const ask = (name: number) => {
    const waiting = { isOpen: true, timedOut: () => seen.push(`${clock.nowMs} question ${name}`) }
    add(50, waiting)
    if (random.float() < 0.8) clock.call(random.below(50), () => Object.assign(waiting, { isOpen: false }))
  }
  for (let name = 0; name < 200; name++) {
    const atMs = 10 * random.below(60)
    clock.call(atMs, () => ask(name))
    clock.call(atMs, () => seen.push(`${clock.nowMs} other ${name}`))
  }
  while (clock.next());
  return { seen, fired: clock.fired }
}

describe('timeouts of questions', () => {
  it('come as if each had a happening of its own, and cost fewer, 40 seeds', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const plain = told(seed, clock => (delayMs, waiting) => {
        clock.call(delayMs, () => {
          if (waiting.isOpen) waiting.timedOut()
        })
      })
      const together = told(seed, clock => {
        const timeouts = new Timeouts(clock)
        return (delayMs, waiting) => timeouts.add(delayMs, waiting)
      })
      assert.deepEqual(together.seen, plain.seen, `seed ${seed}`)
      assert.ok(together.fired < plain.fired - 100, `${together.fired} happenings, ${plain.fired} one by one`)
    }
  })
})
