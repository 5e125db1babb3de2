import assert from 'node:assert/strict'
import { join } from 'node:path'
import { createLogger, inLog } from '../../src/log.ts'
import { WorldlmError } from '../../src/errors.ts'
import { lastWords } from '../../testnet/last-words.ts'
import { temporaryFolder, writeTree } from '../temporary.ts'

describe('the last words of a node', () => {
  it('are its last fatal error, however much was said before and after', () => {
    const path = join(temporaryFolder(), 'node.log')
    const log = createLogger(path, 'info')
    log.fatal({ error: inLog(new WorldlmError('DISK_FULL', 'an earlier life', '')) }, 'the node cannot go on')
    for (let line = 0; line < 2000; line++) log.warn({ error: inLog(new Error('no end')) }, `line ${line}`)
    assert.equal(lastWords(path), '', 'it lies before the part that is looked at')
    log.fatal({ error: inLog(new WorldlmError('DISK_FULL', 'the life before', '')) }, 'the node cannot go on')
    log.fatal(
      { error: inLog(new WorldlmError('TRAINER_DIED', 'it ended (code 3)\nand said this', '')) },
      'the node cannot go on'
    )
    log.info('stopped')
    assert.equal(lastWords(path), 'TRAINER_DIED: it ended (code 3)')
  })

  it('are none where there is no log, or no whole line', () => {
    assert.equal(lastWords(join(temporaryFolder(), 'node.log')), '')
    assert.equal(lastWords(join(writeTree({ 'node.log': '{"level":60,"error":{"mess' }), 'node.log')), '')
  })
})
