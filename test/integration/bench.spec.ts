/** `worldlm bench …` that is interrupted: no process and no folder of it is left. What it measures is its own business. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryFolder } from '../temporary.ts'
import { Command, stopAll } from './command.ts'

describe('an interrupted benchmark', function () {
  this.timeout(60_000)
  afterEach(stopAll)

  const rows = [
    { args: ['blob', '--megabytes', '16'], begun: /turn 1 of/, signal: 'SIGINT', code: 130 },
    { args: ['api'], begun: /turn 1 of/, signal: 'SIGTERM', code: 143 }
  ] as const
  for (const { args, begun, signal, code } of rows) {
    it(`leaves nothing behind: bench ${args[0]}, ${signal}`, async () => {
      const folder = temporaryFolder()
      const bench = new Command(['bench', ...args], { TMPDIR: folder })
      await bench.says(begun)
      bench.kill(signal)
      const ended = await bench.ended
      assert.equal(ended.code, code, ended.stderr)
      await sleep(1_000)
      // Libraries leave files of their own there.
      const left = readdirSync(folder).filter(name => name.startsWith('worldlm-'))
      assert.deepEqual(left, [])
    })
  }
})
