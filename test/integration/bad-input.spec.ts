/** Bad input on the command line: exit code 2 for wrong use, 1 for what is wrong in files; an error that names it; nothing left behind. */
import assert from 'node:assert/strict'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { Command, microModel, run, stopAll } from './command.ts'

describe('bad input', function () {
  this.timeout(60_000)
  afterEach(stopAll)

  const usage: { args: string[]; says: RegExp }[] = [
    { args: ['testnet', '--rouds', '3'], says: /unknown option '--rouds'[\s\S]*--rounds/ },
    { args: ['testnet', '--rounds', '0'], says: /rounds/ },
    { args: ['testnet', '--rounds', 'many'], says: /rounds/ },
    { args: ['testnet', '--model', 'huge'], says: /--model huge is neither a preset/ },
    { args: ['testnett'], says: /unknown command 'testnett'[\s\S]*testnet/ },
    { args: ['node', 'start'], says: /--dir/ },
    { args: ['node', 'init', '--dir', temporaryFolder()], says: /--name/ },
    { args: ['audit', 'verify'], says: /path/ },
    { args: ['simulate', '--topology', 'tre:4x8'], says: /tre:4x8 is not known[\s\S]*tree:4x8/ },
    { args: ['simulate', '--topology', 'mine.yaml'], says: /no file mine\.yaml/ },
    { args: ['simulate', '--topology', 'tree:2x3', '--peers', '10000000'], says: /more than 100000 peers/ },
    { args: ['simulate', '--topology', 'tree:2x3', '--faults', 'mine.yaml'], says: /no file mine\.yaml/ },
    {
      args: ['simulate', '--topology', 'tree:2x3', '--faults', 'krashes'],
      says: /no fault plan is named krashes[\s\S]*crashes/
    },
    { args: ['testnet', '--seed', ''], says: /seed/ },
    { args: ['testnet', '--data', ''], says: /--data is empty/ },
    { args: ['node', 'init', '--dir', '', '--name', 'n'], says: /--dir is empty/ },
    { args: ['audit', 'verify', ''], says: /an argument is empty/ },
    { args: ['bench', 'engine', '--vs', 'torhc'], says: /^error USAGE: --vs torhc: neither/ },
    { args: [], says: /Usage: worldlm/ }
  ]
  for (const { args, says } of usage) {
    it(`is wrong use (2): worldlm ${args.join(' ').replace(/\/tmp\S+/, 'DIR')}`, async () => {
      const { code, stdout, stderr } = await run(args)
      assert.deepEqual([code, stdout], [2, ''])
      assert.match(stderr, says)
    })
  }

  it('in worldlm.yaml is told by its name by who changes the file, and the file is left alone', async () => {
    const dir = join(temporaryFolder(), 'node')
    await run(['node', 'init', '--dir', dir, '--name', 'n', '--data', temporaryFolder()])
    const id = `bafyrei${'a'.repeat(52)}`
    for (const yaml of ['name: [\n', 'name: n\nfederations: *none\n', 'name: n\nfederations: 5\n']) {
      writeFileSync(join(dir, 'worldlm.yaml'), yaml)
      for (const given of [
        ['join', id],
        ['leave', id],
        ['create', '--name', 'w']
      ]) {
        const { code, stderr } = await run(['federation', ...given, '--dir', dir])
        assert.deepEqual([code, /^error CONFIG_INVALID: .*worldlm\.yaml/.test(stderr)], [2, true], stderr)
        assert.equal(readFileSync(join(dir, 'worldlm.yaml'), 'utf8'), yaml)
        assert.deepEqual(readdirSync(join(dir, 'charters')), [])
      }
    }
  })

  it('is told from a full disk, also where the system names no file', async function () {
    if (process.platform === 'win32') this.skip()
    // No file may grow beyond 8 blocks: the built-in text does.
    const { code, stderr } = await new Command(['testnet', '--out', join(temporaryFolder(), 'out')], {}, '-f 8').ended
    assert.equal(code, 1)
    assert.match(stderr, /^error DISK_FULL: the disk is full: /m)
  })

  it('is one document with --json, with the reason said once', async () => {
    const { code, stdout, stderr } = await run(['testnet', '--rounds', '0', '--json'])
    assert.equal(code, 2)
    assert.match((JSON.parse(stdout) as { error: { message: string } }).error.message, /^option '--rounds/)
    assert.equal(stderr.match(/--rounds/g)!.length, 1, stderr)
  })

  it('is not a reader who has had enough: the work is done, and nothing is said of it', async () => {
    const dir = join(temporaryFolder(), 'node')
    const command = new Command(['node', 'init', '--dir', dir, '--name', 'n'])
    command.closeStdout()
    const { code, stderr } = await command.ended
    assert.deepEqual([code, stderr, existsSync(join(dir, 'worldlm.yaml'))], [0, '', true])
  })

  it('is what the system refuses (1), said without a stack: a file where a folder is asked for', async () => {
    const file = join(writeTree({ file: '' }), 'file')
    const { code, stderr } = await run(['testnet', '--rounds', '1', '--out', join(file, 'out')])
    assert.equal(code, 1)
    assert.match(stderr, /^error PATH_REFUSED: ENOTDIR: [^\n]*file\/out'\n {2}Check the path[^\n]*\n$/)
  })

  const text = textOf(9000)
  const trees: { why: string; files: Record<string, string | Uint8Array>; folders?: string[]; says: RegExp }[] = [
    {
      why: 'an empty organization',
      files: { 'f/full/a.txt': text },
      folders: ['f/empty'],
      says: /organization f\/empty has no text file/
    },
    {
      why: 'text that is not UTF-8',
      files: { 'f/a/a.txt': text, 'f/latin/b.txt': Buffer.concat([Buffer.from(text), Buffer.from([0xe9])]) },
      says: /b\.txt of organization f\/latin is not UTF-8: byte 9000/
    },
    {
      why: 'text that is too short',
      files: { 'f/a/a.txt': text, 'f/short/a.txt': 'a few words' },
      says: /organization f\/short has \d+ bytes/
    },
    { why: 'text beside folders', files: { 'f/a/a.txt': text, 'f/b.txt': text }, says: /f\/b\.txt lies beside folders/ }
  ]
  for (const { why, files, folders = [], says } of trees) {
    it(`is refused before anything starts (1): ${why}`, async () => {
      const data = writeTree(files)
      for (const folder of folders) mkdirSync(join(data, folder), { recursive: true })
      const out = join(temporaryFolder(), 'out')
      const { code, stderr } = await run(['testnet', '--data', data, '--out', out, '--model', microModel()])
      assert.equal(code, 1)
      assert.match(stderr, says)
      assert.equal(existsSync(join(out, 'f-full')), false, 'no node was made')
    })
  }

  it('is refused (1): a folder that is not there, a model file with an unknown key, a folder that is full of something else', async () => {
    const missing = await run(['testnet', '--data', '/nowhere'])
    assert.deepEqual([missing.code, /\/nowhere is not a folder/.test(missing.stderr)], [1, true], missing.stderr)
    const model = join(writeTree({ 'm.yaml': 'modell: tiny\n' }), 'm.yaml')
    const unknown = await run(['testnet', '--model', model])
    assert.deepEqual([unknown.code, /m\.yaml: unknown key modell/.test(unknown.stderr)], [2, true], unknown.stderr)
    const used = await run(['testnet', '--out', writeTree({ 'thesis.txt': 'mine' })])
    assert.deepEqual([used.code, used.stderr.includes('thesis.txt') || /not empty/.test(used.stderr)], [1, true], used.stderr)
  })

  describe('to a node', () => {
    const made = async (yaml = '') => {
      const dir = join(temporaryFolder(), 'node')
      const { code, stderr } = await run([
        'node',
        'init',
        '--dir',
        dir,
        '--name',
        'n',
        '--listen',
        '/ip4/127.0.0.1/tcp/0',
        '--api-port',
        '0'
      ])
      assert.equal(code, 0, stderr)
      if (yaml !== '') appendFileSync(join(dir, 'worldlm.yaml'), `\n${yaml}\n`)
      return dir
    }
    const refused = async (dir: string, says: RegExp, more: string[] = [], want = 1) => {
      const { code, stderr } = await run(['node', 'start', '--dir', dir, ...more])
      assert.equal(code, want, stderr)
      assert.match(stderr, says)
      assert.equal(existsSync(join(dir, 'run.json')), false, 'the folder is free again')
    }

    it('an unknown option, with the nearest known', async () => {
      await refused(await made('enginee: { threads: 1 }'), /there is no option enginee[\s\S]*Did you mean engine\?/, [], 2)
    })

    it('an address that is none, and ports that others have', async () => {
      const dir = await made()
      const before = readFileSync(join(dir, 'worldlm.yaml'), 'utf8')
      const joining = ['federation', 'join', `bafyrei${'a'.repeat(52)}`, '--dir', dir]
      const init = ['node', 'init', '--dir', join(dir, 'new'), '--name', 'n']
      for (const args of [joining, init]) {
        const { code, stderr } = await run([...args, '--bootstrap', 'localhost:4000'])
        assert.deepEqual([code, /^error BAD_ADDRESS: localhost:4000 is not a multiaddr/.test(stderr)], [1, true], stderr)
      }
      assert.deepEqual([readFileSync(join(dir, 'worldlm.yaml'), 'utf8'), existsSync(join(dir, 'new'))], [before, false])
      await refused(dir, /not a multiaddr/, ['--set', 'listen=["localhost:4000"]'])
      const server = createServer().listen(0, '127.0.0.1')
      await new Promise(resolve => server.once('listening', resolve))
      const { port } = server.address() as { port: number }
      try {
        await refused(
          dir,
          new RegExp(`cannot listen on /ip4/127.0.0.1/tcp/${port}: EADDRINUSE: [^\\n]*\\n {2}Another program[^\\n]*\\n$`),
          ['--set', `listen=["/ip4/127.0.0.1/tcp/${port}"]`]
        )
        await refused(dir, new RegExp(`the API cannot listen on 127.0.0.1:${port}`), ['--set', `api.port=${port}`])
      } finally {
        server.close()
      }
    })

    it('a folder without a node, and a second node in one folder’s place', async () => {
      const none = await run(['node', 'start', '--dir', temporaryFolder()])
      assert.deepEqual([none.code, /holds no node/.test(none.stderr)], [1, true], none.stderr)
      const dir = await made()
      const again = await run(['node', 'init', '--dir', dir, '--name', 'n'])
      assert.deepEqual([again.code, /holds a node already/.test(again.stderr)], [1, true], again.stderr)
    })

    it('an identity that is none', async () => {
      const dir = await made()
      writeFileSync(join(dir, 'identity.key'), 'no key')
      await refused(dir, /identity\.key is not a libp2p private key/)
    })

    it('a token that is none, and a place in its folder that cannot be written when it runs already: nothing runs on', async () => {
      const dir = await made()
      writeFileSync(join(dir, 'token'), '\n')
      await refused(dir, /token holds no token for the API/)
      rmSync(join(dir, 'token'))
      await refused(dir, /token holds no token for the API/)
      writeFileSync(join(dir, 'token'), 'secret\n')
      mkdirSync(join(dir, 'run.json.tmp'))
      await refused(dir, /run\.json\.tmp/)
    })
  })
})
