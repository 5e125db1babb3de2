/** worldlm.yaml: defaults, ranges, unknown keys, and what wins: file, then WORLDLM_*, then flags. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkConfig, listOptions, readConfig, writeYaml } from '../src/config.ts'
import type { WorldlmError } from '../src/errors.ts'
import { temporaryFolder } from './temporary.ts'

const folder = temporaryFolder()
let files = 0
function read(yaml: string, environment: Record<string, string> = {}, flags: Record<string, unknown> = {}) {
  const path = join(folder, `${files++}.yaml`)
  writeFileSync(path, yaml)
  return readConfig(path, environment, flags)
}
function refusal(run: () => unknown): WorldlmError {
  try {
    run()
  } catch (error) {
    return error as WorldlmError
  }
  throw new Error('was not refused')
}

describe('the configuration', () => {
  it('needs nothing but a name, and is then reachable from this machine alone', () => {
    const config = read('name: Hospital')
    assert.deepEqual([config.listen, config.api], [['/ip4/127.0.0.1/tcp/4890'], { host: '127.0.0.1', port: 4880 }])
    assert.deepEqual([config.mdns, config.bootstrap, config.federations, config.engine.threads], [false, [], [], 0])
  })

  it('takes the file, then WORLDLM_*, then flags', () => {
    const yaml = 'name: file\nseed: 1\napi: { port: 1000 }'
    assert.deepEqual(read(yaml).api.port, 1000)
    assert.deepEqual(read(yaml, { WORLDLM_API_PORT: '2000' }).api.port, 2000)
    assert.deepEqual(read(yaml, { WORLDLM_API_PORT: '2000' }, { 'api.port': 3000 }).api.port, 3000)
    assert.equal(read(yaml, { WORLDLM_API_PORT: '2000' }, { 'api.port': undefined }).api.port, 2000, 'a flag that is not given')
    assert.equal(read(yaml, {}, { 'api.port': 3000 }).api.host, '127.0.0.1', 'what is beside it stays')
  })

  it('reads variables of every kind, named after the option', () => {
    const config = read('name: n', {
      WORLDLM_NAME: 'From the environment',
      WORLDLM_VALIDATION_TOKENS: '99',
      WORLDLM_MDNS: 'true',
      WORLDLM_LISTEN: '["/ip4/127.0.0.1/tcp/0"]',
      WORLDLM_LOG_LEVEL: 'debug',
      WORLDLM_UNKNOWN: 'is not read'
    })
    assert.deepEqual(
      [config.name, config.validationTokens, config.mdns, config.listen, config.logLevel],
      ['From the environment', 99, true, ['/ip4/127.0.0.1/tcp/0'], 'debug']
    )
  })

  it('refuses what is no section by its name, whatever is set in it besides', () => {
    const { code, message } = refusal(() => read('name: n\nengine: onnx', { WORLDLM_ENGINE_THREADS: '2' }))
    assert.deepEqual([code, /engine is "onnx"/.test(message)], ['CONFIG_INVALID', true], message)
    assert.match(refusal(() => read('name: n', {}, { '__proto__.seed': 1 })).message, /there is no option __proto__/)
    assert.equal(({} as { seed?: number }).seed, undefined)
  })

  const unknown = [
    { yaml: 'bootstraps: []', names: 'bootstraps', hint: 'bootstrap' },
    { yaml: 'Seed: 1', names: 'Seed', hint: 'seed' },
    { yaml: 'api: { prot: 1 }', names: 'api.prot', hint: 'api.port' },
    { yaml: 'engine: { thread: 1 }', names: 'engine.thread', hint: 'engine.threads' },
    { yaml: 'enginee: { threads: 1 }', names: 'enginee', hint: 'engine' },
    { yaml: 'loglevel: info', names: 'loglevel', hint: 'logLevel' }
  ]
  for (const { yaml, names, hint } of unknown) {
    it(`refuses ${names} and names ${hint}`, () => {
      const { code, message, hint: said } = refusal(() => read(`name: n\n${yaml}`))
      assert.deepEqual([code, said], ['CONFIG_INVALID', `Did you mean ${hint}?`])
      assert.ok(message.includes(names) && message.includes('.yaml'), message)
    })
  }
  it('refuses what is like no option without guessing', () => {
    const { hint } = refusal(() => read('name: n\nxylophone: 1'))
    assert.equal(hint, 'See docs/configuration.md.')
  })

  const invalid = [
    { why: 'no name', yaml: 'seed: 1', says: /name is missing/ },
    { why: 'an empty file', yaml: '', says: /name is missing/ },
    { why: 'a port that is none', yaml: 'name: n\napi: { port: 65536 }', says: /api\.port is 65536/ },
    { why: 'a text for a number', yaml: 'name: n\nseed: many', says: /seed is "many"/ },
    { why: 'a fraction of a token', yaml: 'name: n\nvalidationTokens: 1.5', says: /validationTokens is 1\.5/ },
    { why: 'an unknown engine', yaml: 'name: n\nengine: { name: torch }', says: /engine\.name is "torch"/ },
    { why: 'a federation that is none', yaml: 'name: n\nfederations: [{ id: world }]', says: /federations\.0\.id.*bafy/ },
    { why: 'an address that is all of them', yaml: 'name: n\napi: { host: "" }', says: /api\.host is ""/ },
    { why: 'a name that moves the cursor', yaml: 'name: "n\\e[2J"', says: /name is .*control characters/ },
    { why: 'a list', yaml: '- name', says: /is not a list of options/ },
    { why: 'no YAML', yaml: 'name: [', says: /yaml: / },
    { why: 'an alias of nothing', yaml: 'name: n\nbootstrap: *peers', says: /yaml: Unresolved alias.*peers/ }
  ]
  for (const { why, yaml, says } of invalid) {
    it(`refuses ${why}, and says where and what`, () => {
      const { code, message, hint } = refusal(() => read(yaml))
      assert.equal(code, 'CONFIG_INVALID')
      assert.match(message, says)
      assert.notEqual(hint, '')
    })
  }

  it('says which file is not there', () => {
    const { code, message } = refusal(() => readConfig(join(folder, 'none.yaml'), {}))
    assert.deepEqual([code, message.includes('none.yaml')], ['CONFIG_MISSING', true])
  })

  it('is written commented, and reads as its defaults, whatever is given', () => {
    assert.deepEqual(read(writeYaml({ name: 'n' })), checkConfig({ name: 'n' }, ''))
    const given = { name: 'Ärzte "Süd": #1', bootstrap: ['/ip4/10.0.0.1/tcp/1'], api: { port: 5 }, engine: { threads: 3 } }
    assert.deepEqual(read(writeYaml(given)), checkConfig(given, ''))
    for (const { key, description } of listOptions()) {
      assert.notEqual(description, '', key)
      assert.ok(writeYaml({ name: 'n' }).includes(`${key.slice(key.lastIndexOf('.') + 1)}: `), key)
    }
  })
})
