/** `worldlm simulate` as a command: what is refused before anything runs, folders that are called as names are, the command that replays. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder, textOf, writeTree } from '../temporary.ts'
import { microYaml, run, stopAll } from './command.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

describe('worldlm simulate', function () {
  this.timeout(60_000)
  afterEach(stopAll)

  const text = textOf(9000)
  const files = {
    'the model.yaml': microYaml,
    'two.yaml': 'federations: { world: { organizations: 2 } }\n',
    "one's gone.yaml": 'faults: [{ kind: leave, atMs: 3000, who: { peer: 1 } }]\n',
    'my texts/f/a/a.txt': text,
    'my texts/f/b/b.txt': text.replaceAll('a', 'e')
  }
  /** The folder that they lie in, where a user may have called one as the tree of the texts is called. */
  const engine = (folder: string) => [
    ...['--learner', 'engine', '--engine', 'reference', '--model', join(folder, 'the model.yaml'), '--steps', '1'],
    ...['--data', join(folder, 'my texts'), '--rounds', '1']
  ]

  it('refuses (2) the last of several topologies before it runs the first, and leaves nothing behind', async () => {
    const folder = writeTree(files)
    const out = join(folder, 'out')
    const wrong = await run(['simulate', '--topology', 'tree:2x3,ring:6,moebius:4', '--rounds', '1', '--out', out])
    assert.deepEqual([wrong.code, /moebius:4 is not known/.test(wrong.stderr)], [2, true], wrong.stderr)
    const many = await run(['simulate', '--topology', 'ring:2,ring:9', '--out', out, ...engine(folder)])
    assert.deepEqual([many.code, /ring:9 has 9 organizations, the data has 2/.test(many.stderr)], [1, true], many.stderr)
    assert.equal(existsSync(out), false)
  })

  it('refuses (2) --peers for a topology that says itself who is in it', async () => {
    const topology = join(writeTree(files), 'two.yaml')
    const { code, stderr } = await run(['simulate', '--topology', topology, '--peers', '30'])
    assert.deepEqual([code, /two\.yaml says itself who is in it/.test(stderr)], [2, true], stderr)
  })

  it('takes names for names where folders are called so', async () => {
    const folder = writeTree(files)
    for (const name of ['data', 'none']) mkdirSync(join(folder, name))
    const args = ['simulate', '--topology', 'data', '--faults', 'none', '--out', join(folder, 'out'), ...engine(folder)]
    execFileSync(process.execPath, [main, ...args], { cwd: folder, stdio: 'pipe' })
    assert.equal(existsSync(join(folder, 'out', 'report.json')), true)
  })

  it('says how to replay what went wrong, as a shell takes it', async () => {
    const folder = writeTree(files)
    const faults = join(folder, "one's gone.yaml")
    const args = ['simulate', '--topology', 'tree:2', '--faults', faults, '--key-fraction', '0.5', ...engine(folder)]
    const first = await run([...args, '--out', join(folder, 'first')])
    assert.equal(first.code, 1, first.stderr)
    const [, command] = /^Replay: worldlm (.*)$/m.exec(first.stdout) ?? []
    assert.ok(command !== undefined, first.stdout)
    const again = join(temporaryFolder(), 'again')
    assert.throws(() =>
      execFileSync('sh', ['-c', `"$0" "$1" ${command} --out "$2"`, process.execPath, main, again], { stdio: 'pipe' })
    )
    const outcome = (out: string) => {
      const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8')) as { seconds: number }
      return { ...report, seconds: 0 }
    }
    assert.deepEqual(outcome(again), outcome(join(folder, 'first')))
  })
})
