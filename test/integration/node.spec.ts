/** The daemon from its folder: init, start, status, stop, and a restart that goes on where it was; damage that is told and mended. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeStatus } from '../../src/node/status.ts'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { Command, isAlive, microYaml, run, stopAll } from './command.ts'

/** A node that is a federation by itself. */
async function founder(dir = join(temporaryFolder(), 'node'), rounds = 0): Promise<string> {
  const data = writeTree({ 'train.txt': textOf(9000) })
  const init = [
    'node',
    'init',
    '--dir',
    dir,
    '--name',
    'Klinik',
    '--data',
    data,
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    '--api-port',
    '0'
  ]
  const made = await run(init)
  assert.equal(made.code, 0, made.stderr)
  const charter = join(
    writeTree({ 'c.yaml': `name: world\n${microYaml.replace('batch: 2', `batch: 2, steps: 2, rounds: ${rounds}`)}` }),
    'c.yaml'
  )
  const created = await run(['federation', 'create', '--dir', dir, '--file', charter])
  assert.equal(created.code, 0, created.stderr)
  return dir
}
const start = async (dir: string): Promise<Command> => {
  const node = new Command(['node', 'start', '--dir', dir])
  await node.says(/listens on/)
  return node
}
async function status(dir: string): Promise<NodeStatus> {
  const { code, stdout, stderr } = await run(['node', 'status', '--dir', dir, '--json'])
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout) as NodeStatus
}
async function untilRound(dir: string, round: number): Promise<NodeStatus> {
  const { api } = JSON.parse(readFileSync(join(dir, 'run.json'), 'utf8')) as { api: string }
  for (;;) {
    const now = (await (await fetch(`${api}/v1/status`)).json()) as NodeStatus
    if ((now.federations[0]?.round ?? 0) >= round) return now
    await sleep(50)
  }
}

describe('a node', function () {
  this.timeout(120_000)
  afterEach(stopAll)

  it('trains in one federation: in the child that it founds, and is a witness in a second one', async () => {
    const dir = await founder()
    const idOf = ({ stdout, stderr }: { stdout: string; stderr: string }) => {
      assert.match(stdout, /^\{/, stderr)
      return (JSON.parse(stdout) as { id: string }).id
    }
    const create = (name: string, ...more: string[]) =>
      run(['federation', 'create', '--dir', dir, '--name', name, '--json', ...more]).then(idOf)
    const child = await create('child', '--parent', 'world')
    const config = readFileSync(join(dir, 'worldlm.yaml'), 'utf8')
    assert.deepEqual(config.match(/bafy\w+/g), [child], 'it takes part in world through its child')
    const second = await create('second')
    const node = await start(dir)
    const { federations } = await untilRound(dir, 2)
    node.kill('SIGTERM')
    const roles = new Map(federations.map(({ path, role }) => [path, role]))
    assert.deepEqual([...roles].sort(), [
      ['second', 'witness'],
      ['world', 'delegate'],
      ['world/child', 'organization']
    ])
    assert.equal((await node.ended).code, 0)
    assert.match(readFileSync(join(dir, 'node.log'), 'utf8'), /TRAINS_ELSEWHERE.*in second it is a witness/)
    assert.notEqual(second, child)
  })

  it('starts, says how it is, stops when it is told, and goes on where it was', async () => {
    const dir = await founder()
    const node = await start(dir)
    await untilRound(dir, 2)
    const second = await run(['node', 'start', '--dir', dir])
    assert.deepEqual([second.code, /process \d+ runs the node/.test(second.stderr)], [1, true], second.stderr)
    const { organization, federations, peer } = await status(dir)
    assert.deepEqual([organization.name, federations[0]!.path, federations[0]!.aggregator], ['Klinik', 'world', peer])
    const shown = await run(['node', 'status', '--dir', dir])
    assert.match(shown.stdout, /Klinik[\s\S]*world/)
    const listed = await run(['federation', 'list', '--dir', dir])
    assert.match(listed.stdout, /world +bafy/)
    const stopped = await run(['node', 'stop', '--dir', dir])
    assert.equal(stopped.code, 0, stopped.stderr)
    assert.equal((await node.ended).code, 0)
    assert.equal(existsSync(join(dir, 'run.json')), false)
    const gone = await run(['node', 'status', '--dir', dir])
    assert.deepEqual([gone.code, gone.stdout], [1, ''], 'no node runs here')

    const verified = JSON.parse((await run(['audit', 'verify', dir, '--json'])).stdout)
    const roundsBefore = verified.logs[0].rounds as number
    assert.ok(roundsBefore >= 2 && verified.ok)
    const again = await start(dir)
    const first = await untilRound(dir, 1)
    assert.ok(first.federations[0]!.round >= roundsBefore, 'it began with the rounds that it had')
    assert.equal(first.peer, peer)
    await untilRound(dir, roundsBefore + 2)
    again.kill('SIGTERM')
    assert.equal((await again.ended).code, 0)
    assert.equal(JSON.parse((await run(['audit', 'verify', dir, '--json'])).stdout).ok, true)
  })

  it('ends cleanly when it is told while it starts, and when its terminal is closed', async () => {
    const dir = await founder()
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      const node = new Command(['node', 'start', '--dir', dir])
      while (!existsSync(join(dir, 'run.json'))) await sleep(1)
      node.kill(signal)
      assert.deepEqual([(await node.ended).code, existsSync(join(dir, 'run.json'))], [0, false], signal)
    }
    const node = await start(dir)
    await untilRound(dir, 1)
    node.kill('SIGHUP')
    assert.equal((await node.ended).code, 0)
    assert.match(readFileSync(join(dir, 'node.log'), 'utf8'), /"phase":"stopping"/)
  })

  it('makes its rounds where few files may be open, and a stranger opens connections and says nothing', async function () {
    if (process.platform === 'win32') this.skip()
    const dir = await founder()
    const node = new Command(['node', 'start', '--dir', dir], {}, '-n 128')
    const [, port] = await node.says(/listens on \/ip4\/127\.0\.0\.1\/tcp\/(\d+)/)
    const sockets: Socket[] = []
    const { federations } = await untilRound(dir, 1)
    for (let flood = 1; flood <= 3; flood++) {
      for (let count = 0; count < 300; count++) sockets.push(connect(Number(port), '127.0.0.1').on('error', () => undefined))
      await untilRound(dir, federations[0]!.round + 3 * flood)
    }
    for (const socket of sockets) socket.destroy()
    node.kill('SIGTERM')
    assert.equal((await node.ended).code, 0)
  })

  it('names its folder as a shell takes it, spaces and all', async () => {
    const dir = join(temporaryFolder(), "Müller's node")
    const { stdout } = await run(['node', 'init', '--dir', dir, '--name', 'n', '--data', temporaryFolder()])
    const next = /^Then: worldlm node start (.*)$/m.exec(stdout)![1]!
    const words = execFileSync('sh', ['-c', `printf '%s\\n' ${next}`], { encoding: 'utf8' })
    assert.equal(words, `--dir\n${dir}\n`)
  })

  it('is told by `federation create` what its rules stop', async () => {
    const dir = await founder()
    const create = async (egress: object, ...more: string[]) => {
      const path = join(writeTree({ 'c.yaml': JSON.stringify({ name: `child${more.length}`, egress: [egress] }) }), 'c.yaml')
      return (await run(['federation', 'create', '--dir', dir, '--file', path, ...more])).stdout
    }
    const keys = { tensor: 'keys', allow: false, reason: 'law 7' }
    assert.match(await create({ ...keys, to: 'members' }), /! Its members may not .*\(child0: law 7\): .* no round/)
    assert.match(await create({ ...keys, to: 'parent' }, '--parent', 'world'), /! Its parent may not .*law 7/)
    assert.doesNotMatch(await create({ ...keys, tensor: 'residual' }, '--parent', 'child0'), /!/)
  })

  it('says that it may open no more files', async function () {
    if (process.platform === 'win32') this.skip()
    const { code, stderr } = await new Command(['node', 'start', '--dir', await founder()], {}, '-n 26').ended
    assert.equal(code, 1)
    assert.match(stderr, /^error FILES_MAX: [\s\S]*ulimit -n/)
  })

  it('is killed (kill -9) and goes on where it was: nothing certified is lost, nothing is signed twice', async () => {
    const dir = await founder()
    let before = 0
    for (let life = 0; life < 3; life++) {
      const node = await start(dir)
      await untilRound(dir, before + 2)
      node.kill('SIGKILL')
      assert.equal((await node.ended).signal, 'SIGKILL')
      const report = JSON.parse((await run(['audit', 'verify', dir, '--json'])).stdout)
      assert.ok(report.ok && report.logs[0].rounds >= before + 2)
      before = report.logs[0].rounds
    }
    const lines = readFileSync(join(dir, 'records.jsonl'), 'utf8').trim().split('\n')
    const accepts = lines.map(line => JSON.parse(line)).filter(({ record }) => record === 'accept')
    const signed = new Map<string, string>()
    for (const { index, term, entry } of accepts) {
      const key = `${index} ${term}`
      assert.ok((signed.get(key) ?? entry) === entry, `I2: two entries at ${key}`)
      signed.set(key, entry)
    }
  })

  it('finds a blob that was damaged while it was away, says so and goes on; a damaged log stops it, by name', async () => {
    const dir = await founder()
    const node = await start(dir)
    await untilRound(dir, 2)
    node.kill('SIGTERM')
    await node.ended
    const blobs = readdirSync(join(dir, 'blobs')).filter(name => !name.includes('.'))
    for (const blob of blobs) {
      const bytes = readFileSync(join(dir, 'blobs', blob))
      bytes[100]! ^= 1
      writeFileSync(join(dir, 'blobs', blob), bytes)
    }
    const again = await start(dir)
    await untilRound(dir, 1)
    again.kill('SIGTERM')
    await again.ended
    const log = readFileSync(join(dir, 'node.log'), 'utf8')
    for (const blob of blobs) assert.match(log, new RegExp(`blob ${blob} was damaged`))
    const car = join(dir, 'certified.car')
    const bytes = readFileSync(car)
    bytes[Math.floor(bytes.length / 2)]! ^= 1
    writeFileSync(car, bytes)
    const { code, stderr } = await run(['node', 'start', '--dir', dir])
    assert.equal(code, 1)
    assert.match(stderr, /certified\.car is damaged at byte \d+/)
    assert.match(stderr, /Move the file away/)
  })

  it('whose disk is full ends by saying so, and goes on when there is room', async function () {
    const root = temporaryFolder()
    const disk = join(root, 'disk')
    mkdirSync(disk)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk], { stdio: 'ignore' })
    } catch {
      this.skip()
    }
    try {
      const dir = await founder(join(disk, 'node'))
      const filler = join(disk, 'filler')
      const node = await start(dir)
      await untilRound(dir, 1)
      try {
        for (let size = 1 << 20; size >= 1024; ) {
          try {
            writeFileSync(filler, Buffer.alloc(size), { flag: 'a' })
          } catch {
            size >>= 1
          }
        }
      } catch {}
      const { code, stderr } = await node.ended
      assert.equal(code, 1, stderr)
      assert.match(stderr, /the disk is full/)
      assert.ok(statSync(filler).size > 0)
      execFileSync('rm', [filler])
      const before = JSON.parse((await run(['audit', 'verify', dir, '--json'])).stdout).logs[0].rounds as number
      const again = await start(dir)
      await untilRound(dir, before + 1)
      again.kill('SIGTERM')
      await again.ended
    } finally {
      await stopAll()
      execFileSync('umount', ['-l', disk], { stdio: 'ignore' })
    }
  })

  it('leaves nothing behind on Ctrl-C', async () => {
    const dir = await founder()
    const node = await start(dir)
    const { pid } = await untilRound(dir, 1)
    node.kill('SIGINT')
    assert.ok([0, 130].includes((await node.ended).code!))
    assert.deepEqual([isAlive(pid), existsSync(join(dir, 'run.json'))], [false, false])
  })
})
