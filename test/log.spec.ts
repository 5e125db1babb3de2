/** node.log stays within its bounds, and a node's last lines are in it, or in the file before. */
import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { showLogs } from '../src/cli/node.ts'
import { createLogger } from '../src/log.ts'
import { temporaryFolder } from './temporary.ts'

const linesOf = (path: string) =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .filter(line => line !== '')
    .map(line => (JSON.parse(line) as { place: number }).place)

describe('node.log', () => {
  it('makes room for another file when it is too long, and keeps one before it', () => {
    const path = join(temporaryFolder(), 'node.log')
    const log = createLogger(path, 'info', 10_000)
    for (let place = 0; place < 1_000; place++) log.info({ place })
    for (const file of [path, `${path}.1`]) assert.ok(statSync(file).size < 10_200, file)
    const kept = [...linesOf(`${path}.1`), ...linesOf(path)]
    assert.deepEqual(
      kept,
      kept.map((_, place) => 1_000 - kept.length + place)
    )
    assert.ok(kept.length > 90)
  })

  it('counts what an earlier process wrote', () => {
    const path = join(temporaryFolder(), 'node.log')
    createLogger(path, 'info', 10_000).info({ place: 0, text: 'x'.repeat(9_900) })
    const log = createLogger(path, 'info', 10_000)
    log.info({ place: 1 })
    log.info({ place: 2 })
    assert.deepEqual([linesOf(`${path}.1`), linesOf(path)], [[0, 1], [2]])
  })

  it('is shown with the end of the file before, where it has just begun', async () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'worldlm.yaml'), '')
    const log = createLogger(join(dir, 'node.log'), 'info', 10_000)
    for (let place = 0; statSync(join(dir, 'node.log')).size > 0 || place === 0; place++) log.info({ place })
    log.info({ place: -1 })
    const shown: string[] = []
    const output = { json: false, line: (text: string) => void shown.push(text), document: () => {}, failure: () => {} }
    await showLogs({ dir, lines: 3 }, output)
    const places = shown.map(line => (JSON.parse(line) as { place: number }).place)
    assert.deepEqual(places, [places[0], places[0]! + 1, -1])
  })
})
