import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { addFederation, noteLeaving, removeFederation } from '../../src/node/config-file.ts'
import { NodeFolder } from '../../src/node/folder.ts'
import { initNodeFolder } from '../../src/node/genesis.ts'
import { temporaryFolder } from '../temporary.ts'

const runFile = (folder: NodeFolder) => join(folder.root, 'run.json')
const dead = () => spawnSync(process.execPath, ['-e', '']).pid

describe('the lock of a node’s folder', () => {
  it('is taken, shown, and given back', () => {
    const folder = new NodeFolder(temporaryFolder())
    folder.lock()
    assert.equal(folder.running()?.pid, process.pid)
    folder.unlock()
    assert.equal(folder.running(), null)
    assert.deepEqual(readdirSync(folder.root), [])
  })

  it('refuses a second process, naming the first', async () => {
    const folder = new NodeFolder(temporaryFolder())
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'ignore' })
    try {
      folder.writeRun({ pid: child.pid!, api: '', addresses: [], peer: '' })
      assert.throws(() => folder.lock(), { code: 'FOLDER_IN_USE', message: new RegExp(`process ${child.pid} `) })
    } finally {
      child.kill('SIGKILL')
    }
  })

  it('is not held by a process that was killed', () => {
    const folder = new NodeFolder(temporaryFolder())
    writeFileSync(runFile(folder), JSON.stringify({ pid: dead(), api: 'http://x', addresses: [], peer: '' }))
    assert.equal(folder.running(), null)
    folder.lock()
    assert.equal(folder.running()?.pid, process.pid)
    assert.deepEqual(readdirSync(folder.root), ['run.json'])
  })

  it('is not held by a stranger that was given the number of a killed process', function () {
    if (process.platform !== 'linux') this.skip()
    const folder = new NodeFolder(temporaryFolder())
    folder.writeRun({ pid: process.pid, api: '', addresses: [], peer: '' })
    const run = JSON.parse(readFileSync(runFile(folder), 'utf8'))
    assert.match(run.began, /^[0-9a-f-]{36}\/\d+$/)
    writeFileSync(runFile(folder), JSON.stringify({ ...run, began: run.began.replace(/\d+$/, '1') }))
    assert.equal(folder.running(), null)
    // Of an earlier version, or where the system does not tell.
    writeFileSync(runFile(folder), JSON.stringify({ ...run, began: null }))
    assert.equal(folder.running()?.pid, process.pid)
  })

  it('is held by a process whatever it calls itself: each has the time at which it began', function () {
    if (process.platform !== 'linux') this.skip()
    const folder = new NodeFolder(temporaryFolder())
    const beganAt = (pid: number) => {
      folder.writeRun({ pid, api: '', addresses: [], peer: '' })
      return JSON.parse(readFileSync(runFile(folder), 'utf8')).began
    }
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'ignore' })
    const { title } = process
    try {
      assert.notEqual(beganAt(child.pid!), beganAt(process.pid))
      process.title = 'a) S 1 (b'
      assert.equal(folder.running()?.pid, process.pid)
    } finally {
      process.title = title
      child.kill('SIGKILL')
    }
  })

  it('is not held by a file that was torn while it was written', () => {
    const folder = new NodeFolder(temporaryFolder())
    writeFileSync(runFile(folder), '{"pid": 1')
    folder.lock()
    assert.equal(folder.running()?.pid, process.pid)
  })
})

describe('the list of federations in worldlm.yaml', () => {
  async function made(): Promise<NodeFolder> {
    const folder = new NodeFolder(temporaryFolder())
    await initNodeFolder(folder, { name: 'a' })
    return folder
  }
  const written = ({ config }: NodeFolder) => {
    const { federations, bootstrap } = parse(readFileSync(config, 'utf8'))
    return { federations, bootstrap }
  }

  it('is changed in place: comments and other options stay', async () => {
    const folder = await made()
    const before = readFileSync(folder.config, 'utf8')
    addFederation(folder.config, 'bafyaaa', 'organization', ['/ip4/127.0.0.1/tcp/1'])
    addFederation(folder.config, 'bafybbb', 'witness', [])
    assert.match(readFileSync(folder.config, 'utf8'), /bafyaaa[\s\S]*bafybbb[\s\S]*witness/)
    assert.equal(removeFederation(folder.config, 'bafyaaa'), true)
    assert.equal(removeFederation(folder.config, 'bafyaaa'), false)
    const after = readFileSync(folder.config, 'utf8')
    assert.ok(!after.includes('bafyaaa') && after.includes('bafybbb'))
    const comments = (text: string) => text.split('\n').filter(line => /^# [A-Z]/.test(line))
    assert.deepEqual(comments(after), comments(before))
  })

  it('has each once, with the addresses of all; who is leaving one, and joins it anew, is not leaving', async () => {
    const folder = await made()
    const [one, other] = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2']
    addFederation(folder.config, 'bafyaaa', 'organization', [one!])
    addFederation(folder.config, 'bafybbb', 'witness', [other!])
    noteLeaving(folder.config, 'bafyaaa')
    const leaving = { id: 'bafyaaa', leaving: true }
    const witness = { id: 'bafybbb', as: 'witness' }
    assert.deepEqual(written(folder), { federations: [leaving, witness], bootstrap: [one, other] })
    addFederation(folder.config, 'bafyaaa', 'organization', [])
    assert.deepEqual(written(folder), { federations: [witness, { id: 'bafyaaa' }], bootstrap: [one, other] })
  })

  it('is left alone where something else stands in its place', async () => {
    const folder = await made()
    for (const yaml of ['federations: world', 'bootstrap: { a: 1 }', '- a', '{']) {
      writeFileSync(folder.config, yaml)
      assert.throws(() => addFederation(folder.config, 'bafyaaa', 'organization', []), { code: 'CONFIG_INVALID' }, yaml)
      assert.throws(() => noteLeaving(folder.config, 'bafyaaa'), { code: 'CONFIG_INVALID' }, yaml)
      assert.equal(readFileSync(folder.config, 'utf8'), yaml)
    }
  })
})
