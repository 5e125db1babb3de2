/** All commands with their flags and examples. What they do stands in a file each. */
import { Command, CommanderError, Option } from 'commander'
import { isDiskFull, WorldlmError } from '../errors.ts'
import { experimentHelp } from '../experiment/help.ts'
import { bench } from './bench-commands.ts'
import { add, between, outputOf, whole } from './command.ts'
import { model } from './model-commands.ts'
import { exitCodes, failed, output } from './output.ts'

const version = '0.1.0'

/** Parses and runs. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted. */
export async function run(argv: string[]): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', unread)
  const program = build()
  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : exitCodes.usage
      if (argv.includes('--json') && error.exitCode !== 0)
        output(true).document(failed('USAGE', error.message.replace(/^error: /, ''), 'See --help.'))
      return
    }
    const { code, message, hint } = error instanceof WorldlmError ? error : (ofPath(error) ?? ofOurs(error))
    output(argv.includes('--json')).failure(code, message, hint)
    process.exitCode = usageCodes.has(code) ? exitCodes.usage : exitCodes.failed
  }
}

/**
 * Who reads may leave first (`| head`, a terminal that is closed): what is trained, and what is written into files, goes on without them.
 * Where output cannot be written for another reason (`> /dev/full`), something is lost that was asked for.
 */
function unread(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE' && error.code !== 'EIO') process.exitCode = exitCodes.failed
}

/** What the system refuses to do with a file that a person named. */
const refusals = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY', 'EACCES', 'EPERM', 'EROFS', 'ENAMETOOLONG'])

function ofPath(error: unknown): { code: string; message: string; hint: string } | null {
  const { code = '', path, message = '' } = (error ?? {}) as Partial<NodeJS.ErrnoException>
  // A worker that could not start, and a module that could not be read, say it in their messages alone.
  if (/\bE[MN]FILE\b|too many open files/.test(`${code} ${message}`))
    return {
      code: 'FILES_MAX',
      message: `no more files may be opened: ${message}`,
      hint: 'Allow more (ulimit -n, LimitNOFILE of a service): 2000 are enough for a node.'
    }
  // Of a file that is open already the system does not say which.
  if (isDiskFull(error))
    return {
      code: 'DISK_FULL',
      message: path === undefined ? `the disk is full: ${message}` : `the disk is full: ${path} could not be written`,
      hint: 'Free some space and run it again.'
    }
  if (path === undefined) return null
  if (!refusals.has(code)) return null
  return { code: 'PATH_REFUSED', message, hint: 'Check the path and who may read and write there, or name another one.' }
}

const ofOurs = (error: unknown) => ({
  code: 'INTERNAL',
  message: error instanceof Error ? (error.stack ?? error.message) : String(error),
  hint: 'This is a mistake of worldlm: please report it with these lines.'
})

/** What was given is wrong, not what happened. */
const usageCodes = new Set([
  'USAGE',
  'METHOD_UNKNOWN',
  'NEWCOMER_UNKNOWN',
  'NOT_YET',
  'CONFIG_INVALID',
  'TOPOLOGY_INVALID',
  'FAULTS_UNKNOWN',
  'FAULTS_INVALID',
  'SCENARIO_INVALID',
  'CHARTER_INVALID',
  'CHARTER_CONTRADICTION'
])

function build(): Command {
  const program = new Command('worldlm')
    .description('Train one family of language models together, across organizations, without handing over text.')
    .version(version)
    .showSuggestionAfterError()
    .showHelpAfterError('(add --help for all options and examples)')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
  testnet(program)
  simulate(program)
  experiment(program)
  data(program)
  node(program)
  federation(program)
  model(program)
  audit(program)
  bench(program)
  return program
}

function testnet(program: Command): void {
  add(program, 'testnet', 'Organizations as processes on this machine: trains, aggregates, and reports what it brought.', [
    'worldlm testnet',
    'worldlm testnet --data ./texts --rounds 12 --out runs/mine',
    'worldlm testnet --model small --steps 100 --seed 7',
    'worldlm testnet --scenario list',
    'worldlm testnet --scenario churn --seed 3'
  ])
    .option('--data <dir>', 'tree of text, federation/…/organization (default: text that npm brought along)')
    .option('--rounds <n>', 'rounds in all (default: 6; with a scenario its own, or 8)', whole(1))
    .option('--steps <h>', 'local steps a round (default: 60; with a scenario its own, or 10)', whole(1))
    .option('--model <name|path>', 'tiny, small, medium, a YAML file with `model:` and `algorithm:`, or a checkpoint', 'tiny')
    .option('--tokenizer <file>', 'tokenizer.json (default: the checkpoint’s, or bytes)')
    .option('--context <n>', 'tokens of a window, instead of all that the checkpoint allows', whole(1))
    .option('--scenario <name|file>', 'a story of faults: lost-aggregator, churn, …, or a YAML file; `list` shows them all')
    .option('--out <dir>', 'folder of the report and the nodes (default: runs/testnet-<time>)')
    .option('--seed <n>', 'of the initial model and the order of the text', whole(0), 0)
    .option('--dashboard <port|off>', 'the dashboard (only `off` yet)', 'off')
    .option('--no-alone', 'leave out what training alone would give')
    .action(async options => (await import('./testnet.ts')).runTestnetCommand(options, outputOf(options)))
}

function experiment(program: Command): void {
  add(program, 'experiment', 'Methods side by side on the same text: the same windows, seed, steps and validation for each.', [
    'worldlm experiment --data ./texts --methods local,fedavg,worldlm --rounds 20 --steps 50',
    'worldlm experiment --methods all --seeds 0,1,2 --out runs/all',
    'worldlm experiment --data ./texts --methods worldlm --sweep keyFraction=0,0.3,1 --sweep downTemperature=0.1,0.25',
    'worldlm experiment --data ./texts --methods local,worldlm --sweep poor=0,50kB'
  ])
    .option('--data <dir>', 'tree of text, federation/…/organization (default: text that npm brought along)')
    .option('--methods <a,b,c>', 'methods, or `all`; the list stands below', 'local,fedavg,worldlm')
    .option('--rounds <n>', 'rounds in all', whole(1), 8)
    .option('--steps <h>', 'local steps a round', whole(1), 40)
    .option(
      '--sweep <key=v1,v2…>',
      'an option of the algorithm or of the setting, with its values; several: all combinations',
      collect
    )
    .option('--model <name|file>', 'tiny, small, medium, or a YAML file with `model:` and `algorithm:`', 'tiny')
    .option('--seed <n>', 'of the initial model and the order of the text', whole(0), 0)
    .option('--seeds <a,b,c>', 'several; the report gives means and spreads')
    .option('--out <dir>', 'folder of the report (default: runs/experiment-<time>)')
    .option('--cache <dir>', 'folder of finished and begun cells, which are not computed again', 'runs/cells')
    .option('--threads <n>', 'threads that train (default: all cores)', whole(1))
    .option('--evaluate-every <n>', 'rounds between evaluations (default: about eight in all)', whole(1))
    .option('--save-seconds <n>', 'a begun cell is saved this often, to go on from after a kill', whole(0), 15)
    .addOption(new Option('--engine <name>', 'what trains').choices(['onnx', 'reference']).default('onnx'))
    .addHelpText('after', () => experimentHelp())
    .action(async options => (await import('./experiment.ts')).runExperimentCommand(options, outputOf(options), version))
}

function data(program: Command): void {
  const group = program.command('data').description('Text for training.').exitOverride()
  add(group, 'inspect <dir>', 'What each organization of a tree would train on: bytes, scripts, lines, samples, overlap.', [
    'worldlm data inspect ./texts',
    'worldlm data inspect ./texts --json | jq .warnings'
  ])
    .option('--no-samples', 'leave out the samples of the text')
    .action(async (dir, options) => (await import('./data.ts')).inspectData(dir, options, outputOf(options)))
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

function simulate(program: Command): void {
  add(
    program,
    'simulate',
    'Thousands of peers in one process, on a virtual network with faults; the daemon’s own state machines.',
    [
      'worldlm simulate --topology tree:4x8 --rounds 10',
      'worldlm simulate --topology tree:3x4 --rounds 8 --faults chaos --seed 7',
      'worldlm simulate --topology tree:19x20x26 --peers 10000 --rounds 20',
      'worldlm simulate --topology ring:6,clique:6,star:6,data --learner engine --rounds 10'
    ]
  )
    .requiredOption(
      '--topology <name|file>',
      'tree:4x8, tree:3x4x8, ring:16, clique:8, star:9, small-world:100, random:100, data (the tree of the texts), or a YAML file; several, parted by commas, are compared'
    )
    .option('--peers <n>', 'organizations in all (default: as the topology says)', whole(1))
    .option('--rounds <n>', 'rounds of every federation', whole(1), 10)
    .option(
      '--faults <name|file>',
      'none, crashes, churn, partitions, lossy, slow, disk, liars, equivocators, old-disks, chaos, or a YAML file',
      'none'
    )
    .addOption(
      new Option('--learner <name>', 'quadratic: closed form, for thousands; engine: real training on text, for a few')
        .choices(['quadratic', 'engine'])
        .default('quadratic')
    )
    .option('--data <dir>', 'engine: folder of federations and organizations (default: text from node_modules)')
    .option('--model <name|file>', 'engine: tiny, small, medium, or a YAML file with `model:` and `algorithm:`', 'tiny')
    .option('--steps <n>', 'engine: training steps a round', whole(1), 20)
    .option('--threads <n>', 'engine: threads that train, an organization each (default: as the machine has cores)', whole(1))
    .addOption(new Option('--engine <name>', 'engine: what trains').choices(['onnx', 'reference']).default('onnx'))
    .option('--heterogeneity <h>', 'how far the organizations’ optima lie apart (default 0.5)', between(0, 1000))
    .option('--key-fraction <share>', 'share of the model that is key layers, 0 to 1', between(0, 1), 1)
    .option('--residuals <n>', 'residuals brought to each organization a round (default: none, or as the file says)', whole(0))
    .option('--model-bytes <n>', 'what a model weighs on the network (default 1000000)', whole(1))
    .option('--train-ms <n>', 'virtual milliseconds of a round’s local training (default 4000)', whole(1))
    .option('--shrink', 'after a violation: the fewest faults that still bring it about, as OUT/faults.yaml', false)
    .option('--out <dir>', 'folder of the report (default: runs/simulate-<time>)')
    .option('--seed <n>', 'of everything that is drawn', whole(0), 0)
    .action(async options => (await import('./simulate.ts')).simulateCommand(options, outputOf(options)))
}

function node(program: Command): void {
  const group = program.command('node').description('The daemon of one organization.').exitOverride()
  const dir = (command: Command) => command.requiredOption('--dir <dir>', 'the node’s folder')
  dir(
    add(group, 'init', 'Makes the folder of a node: identity, commented worldlm.yaml, token.', [
      'worldlm node init --dir ./node --name "City Hospital" --data ./text'
    ])
  )
    .requiredOption('--name <name>', 'of the organization')
    .option('--data <dir>', 'its text; without it the node is a witness')
    .option('--listen <multiaddr...>', 'where it listens (default /ip4/127.0.0.1/tcp/4890)')
    .option('--bootstrap <multiaddr...>', 'peers to begin with')
    .option('--api-port <n>', 'port of the HTTP API', whole(0))
    .action(async options => (await import('./node.ts')).initNode(options, outputOf(options)))
  dir(
    add(group, 'start', 'Runs the node until it is stopped.', [
      'worldlm node start --dir ./node',
      'WORLDLM_API_PORT=0 worldlm node start --dir ./node'
    ])
  )
    .option('--config <file>', 'instead of the folder’s worldlm.yaml')
    .option('--set <key=value...>', 'an option of worldlm.yaml, e.g. --set engine.threads=1')
    .action(async options => (await import('./node-start.ts')).startCommand(options, outputOf(options)))
  dir(add(group, 'status', 'What a running node says of itself.', ['worldlm node status --dir ./node'])).action(async options =>
    (await import('./node.ts')).statusOfNode(options, outputOf(options))
  )
  dir(add(group, 'stop', 'Stops a running node cleanly.', ['worldlm node stop --dir ./node'])).action(async options =>
    (await import('./node.ts')).stopNode(options, outputOf(options))
  )
  dir(add(group, 'logs', 'Shows node.log.', ['worldlm node logs --dir ./node --follow']))
    .option('-f, --follow', 'go on as lines come')
    .option('-n, --lines <n>', 'the last lines', whole(1), 50)
    .action(async options => (await import('./node.ts')).showLogs(options, outputOf(options)))
}

function federation(program: Command): void {
  const group = program
    .command('federation')
    .description('Federations: create one, join one, leave it, look at them.')
    .exitOverride()
  add(group, 'create', 'Writes a genesis charter, with this node as its founder, and adds it to the node.', [
    'worldlm federation create --dir ./node --name world',
    'worldlm federation create --dir ./node --name biomedicine --parent bafy…',
    'worldlm federation create --dir ./node --file charter.yaml',
    'worldlm federation create --dir ./node --name world --model ./SmolLM2-135M --context 512'
  ])
    .requiredOption('--dir <dir>', 'the node’s folder')
    .option('--name <name>', 'last segment of its path')
    .option('--file <yaml>', 'charter: name, model, algorithm, voters, minMembers, timings, …')
    .option('--model <name|path>', 'what it begins with: a preset, a YAML file, a Llama-family folder, FILE.safetensors')
    .option('--tokenizer <file>', 'tokenizer.json (default: the checkpoint’s, or bytes)')
    .option('--context <n>', 'tokens of a window, instead of all that the checkpoint allows', whole(1))
    .option('--parent <id>', 'federation above it, whose charter this node holds')
    .action(async options => (await import('./federation.ts')).createFederation(options, outputOf(options)))
  add(group, 'join <id>', 'Adds a federation to the node; it joins when it is started.', [
    'worldlm federation join bafy… --dir ./node --bootstrap /ip4/127.0.0.1/tcp/4890/p2p/12D3Koo…'
  ])
    .requiredOption('--dir <dir>', 'the node’s folder')
    .option('--witness', 'vote, but contribute nothing')
    .option('--bootstrap <multiaddr...>', 'peers to begin with')
    .action(async (id, options) => (await import('./federation.ts')).joinFederation(id, options, outputOf(options)))
  add(group, 'leave <id>', 'Leaves a federation: signed by the node and certified by the others.', [
    'worldlm federation leave world/prose --dir ./node',
    'worldlm federation leave world/prose --dir ./node --now'
  ])
    .requiredOption('--dir <dir>', 'the node’s folder')
    .option('--now', 'once it is certified, do not wait until those that stay know it: they may stand still for good')
    .action(async (id, options) => (await import('./federation.ts')).leaveFederation(id, options, outputOf(options)))
  add(group, 'list', 'The federations of a node.', ['worldlm federation list --dir ./node'])
    .requiredOption('--dir <dir>', 'the node’s folder')
    .action(async options => (await import('./federation.ts')).listFederations(options, outputOf(options)))
  add(group, 'show <id>', 'A charter, by id or path, and how the federation stands.', [
    'worldlm federation show world/prose --dir ./node'
  ])
    .requiredOption('--dir <dir>', 'the node’s folder')
    .action(async (id, options) => (await import('./federation.ts')).showFederation(id, options, outputOf(options)))
}

function audit(program: Command): void {
  const group = program.command('audit').description('Proofs of what happened.').exitOverride()
  add(
    group,
    'verify <path...>',
    'Checks certified logs from the genesis charter on; a path is a node’s folder or the --out of a testnet.',
    ['worldlm audit verify ./node', 'worldlm audit verify runs/testnet-20260101-120000']
  ).action(async (paths, options) => (await import('./audit.ts')).verifyCommand(paths, outputOf(options)))
}
