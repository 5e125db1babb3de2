/** Faults that a peer commits again and again: what is told of them, and what they count. */
import assert from 'node:assert/strict'
import { mock } from 'node:test'
import { EventLog } from '../../src/node/events.ts'
import { meterMs } from '../../src/node/fault-meter.ts'
import { Metrics } from '../../src/node/metrics.ts'
import type { NodeStatus, NumberedEvent } from '../../src/node/status.ts'

const fault = (peer: string, code = 'MALFORMED', detail = 'no record') =>
  ({ type: 'fault', federation: 'world', peer, code, detail }) as const
const nothing = { federations: [], evaluations: {}, bytes: { in: 0, out: 0 }, training: null } as unknown as NodeStatus

describe('faults of other peers', () => {
  let events: EventLog
  let told: Extract<NumberedEvent, { type: 'fault' }>[]
  let metrics: Metrics
  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout'] })
    events = new EventLog()
    metrics = new Metrics()
    told = []
    events.subscribe(event => {
      metrics.count(event)
      if (event.type === 'fault') told.push(event)
    })
  })
  afterEach(() => mock.timers.reset())

  it('are told one by one where they are few, and together where they are a flood', async () => {
    for (let count = 0; count < 5_000; count++) events.emit(fault('liar'))
    events.emit(fault('liar', 'BAD_ACCEPTANCE'))
    events.emit(fault('other'))
    assert.equal(told.length, 12)
    mock.timers.tick(meterMs)
    const last = told.at(-1)!
    assert.deepEqual(
      [told.length, last.peer, last.code, last.detail, last.times],
      [13, 'liar', 'MALFORMED', '4990 more of the like within a minute', 4_990]
    )
    assert.match(await metrics.render(nothing), /worldlm_faults_total\{code="MALFORMED"\} 5001/)
    mock.timers.tick(meterMs)
    assert.equal(told.length, 13)
    events.emit(fault('liar', 'MALFORMED', 'again'))
    assert.equal(told.at(-1)!.detail, 'again', 'a minute later it is news')
    for (let minute = 0; minute < 3; minute++) {
      const before: number = told.length
      for (let count = 0; count < 30; count++) events.emit(fault('other'))
      mock.timers.tick(meterMs)
      assert.deepEqual([told.length - before, told.at(-1)!.times], [11, 20], 'and so on, minute by minute')
    }
  })

  it('are told like warnings of the same words', async () => {
    const heard: string[] = []
    events.subscribe(event => void (event.type === 'warning' && heard.push(event.message)))
    for (let count = 0; count < 50; count++) events.emit({ type: 'warning', code: 'ENTRY_REFUSED', message: 'no model' })
    events.emit({ type: 'warning', code: 'ENTRY_REFUSED', message: 'other words' })
    assert.deepEqual([heard.length, heard.at(-1)], [11, 'other words'])
    mock.timers.tick(meterMs)
    assert.deepEqual([heard.length, heard.at(-1)], [12, 'no model (40 more of the like within a minute)'])
    assert.match(await metrics.render(nothing), /worldlm_warnings_total\{code="ENTRY_REFUSED"\} 51/)
  })

  it('of ever new peers are a flood too', () => {
    for (let count = 0; count < 20_000; count++) events.emit(fault(`peer ${count}`))
    assert.ok(told.length < 1_100, `${told.length} were told`)
    mock.timers.tick(meterMs)
    assert.equal(told.at(-1)!.times! + told.length - 1, 20_000)
  })
})
