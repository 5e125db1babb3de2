import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { timingMsMax } from '../../src/governance/charter.ts'
import { Timers } from '../../src/node/timers.ts'

/** Holds the whole process up, as a busy machine does. */
function standStill(ms: number): void {
  for (const began = performance.now(); performance.now() - began < ms; );
}

describe('timers', () => {
  it('have one name each: starting one again moves it, stopping it ends it', async () => {
    const fired: string[] = []
    const timers = new Timers(name => fired.push(name))
    timers.start('a', 5)
    timers.start('b', 5)
    timers.start('a', 20)
    timers.stop('b')
    timers.start('c', 10_000)
    timers.stopAll()
    timers.start('a', 20)
    await sleep(60)
    assert.deepEqual(fired, ['a'])
  })

  it('of weeks wait, though Node fires what is longer than 25 days at once', async () => {
    const fired: string[] = []
    const timers = new Timers(name => fired.push(name))
    timers.start('election', 2 * timingMsMax)
    await sleep(20)
    timers.stopAll()
    assert.deepEqual(fired, [])
  })

  it('that stand for a silence let the process listen first when it was held up itself', async () => {
    const happened: string[] = []
    const timers = new Timers(name => happened.push(name))
    timers.start('plain', 10)
    timers.start('election', 10, true)
    // What others said meanwhile is read after the timers that are due.
    setTimeout(() => setImmediate(() => happened.push('heard')), 10)
    standStill(400)
    await sleep(300)
    assert.deepEqual(happened, ['plain', 'heard', 'election'])
  })

  it('that stand for a silence fire in the end, however busy the process is', async () => {
    const fired: string[] = []
    const timers = new Timers(name => fired.push(name))
    timers.start('election', 10, true)
    for (let turn = 0; turn < 8; turn++) {
      standStill(250)
      await sleep(0)
    }
    assert.deepEqual(fired, ['election'])
  })
})
