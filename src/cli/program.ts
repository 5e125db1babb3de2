/** All commands with their flags and examples. What they do stands in a file each. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { WorldlmError } from '../errors.ts'
import { experimentHelp } from '../experiment/help.ts'
import { exitCodes, type Output, output } from './output.ts'

const version = '0.1.0'

/** Parses and runs. Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted. */
export async function run(argv: string[]): Promise<void> {
  const program = build()
  try {
    await program.parseAsync(argv)
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : exitCodes.usage
      if (argv.includes('--json') && error.exitCode !== 0) output(true).failure('USAGE', error.message, 'See --help.')
      return
    }
    const { code, hint } =
      error instanceof WorldlmError
        ? error
        : { code: 'INTERNAL', hint: 'This is a mistake of worldlm: please report it with these lines.' }
    const message =
      error instanceof WorldlmError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)
    output(argv.includes('--json')).failure(code, message, hint)
    process.exitCode = usageCodes.has(code) ? exitCodes.usage : exitCodes.failed
  }
}

/** What was given is wrong, not what happened. */
const usageCodes = new Set([
  'USAGE',
  'METHOD_UNKNOWN',
  'NEWCOMER_UNKNOWN',
  'NOT_YET',
  'CONFIG_INVALID',
  'CHARTER_INVALID',
  'CHARTER_CONTRADICTION'
])

const whole = (least: number) => (text: string) => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgumentError(`It must be a whole number ≥ ${least}.`)
  return value
}

const between = (least: number, most: number) => (text: string) => {
  const value = Number(text)
  if (text.trim() === '' || !(value >= least && value <= most))
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`)
  return value
}

const sizeList = (text: string) => {
  const sizes = text.split(',')
  if (sizes.some(size => !['S', 'M', 'L'].includes(size))) throw new InvalidArgumentError('It must be a list of S, M, L.')
  return sizes
}

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

/** A command with --json, whose errors throw instead of exiting. */
function add(parent: Command, usage: string, description: string, examples: string[]): Command {
  return parent
    .command(usage)
    .description(description)
    .option('--json', 'one JSON document on stdout, progress on stderr')
    .exitOverride()
    .showSuggestionAfterError()
    .addHelpText('after', `\nExamples:\n${examples.map(example => `  $ ${example}`).join('\n')}`)
}

const outputOf = (options: { json?: boolean }): Output => output(options.json === true)

function testnet(program: Command): void {
  add(program, 'testnet', 'Organizations as processes on this machine: trains, aggregates, and reports what it brought.', [
    'worldlm testnet',
    'worldlm testnet --data ./texts --rounds 12 --out runs/mine',
    'worldlm testnet --model small --steps 100 --seed 7',
    'worldlm testnet --scenario list',
    'worldlm testnet --scenario churn --seed 3'
  ])
    .option('--data <dir>', 'tree of text, federation/…/organization (default: text that npm brought along)')
    .option('--rounds <n>', 'rounds in all (default: 8, or the scenario’s)', whole(1))
    .option('--steps <h>', 'local steps a round (default: 40, with a scenario 10)', whole(1))
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
    .option('--evaluate-every <n>', 'rounds between evaluations (default: about ten in all)', whole(1))
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
    .option('--faults <name|file>', 'none, crashes, churn, partitions, lossy, slow, disk, liars, chaos, or a YAML file', 'none')
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
    'worldlm federation leave world/prose --dir ./node'
  ])
    .requiredOption('--dir <dir>', 'the node’s folder')
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

function model(program: Command): void {
  const group = program.command('model').description('Models and tokenizers as files, in and out.').exitOverride()
  const dtype = (command: Command) =>
    command.addOption(new Option('--dtype <type>', 'how numbers are stored').choices(['f32', 'bf16']).default('f32'))
  dtype(
    add(group, 'import <dir>', 'Reads a Llama-family folder: config.json, safetensors, tokenizer.json.', [
      'worldlm model import ./SmolLM2-135M --out smol.safetensors --context 512'
    ])
  )
    .requiredOption('--out <path>', 'FILE.safetensors, or a folder')
    .option('--context <n>', 'tokens of a window, instead of all that the model allows', whole(1))
    .action(async (source, options) => (await import('./model.ts')).importModel(source, options, outputOf(options)))
  dtype(
    add(group, 'export <model>', 'Writes a model as `transformers` loads it: config.json, safetensors, tokenizer.json.', [
      'worldlm model export ./node --out ./exported',
      'worldlm model export smol.safetensors --out ./exported --dtype bf16'
    ])
  )
    .option('--shard-megabytes <n>', 'of a folder’s files, at most (default: 5000)', whole(1))
    .requiredOption('--out <path>', 'a folder, FILE.safetensors, or FILE.onnx (for onnxruntime, f32)')
    .addOption(
      new Option('--which <name>', 'of a node’s models (default: the newest)').choices(['personal', 'start', 'initial'])
    )
    .action(async (source, options) => (await import('./model.ts')).exportModel(source, options, outputOf(options)))
  const run = (command: Command) =>
    command
      .addOption(
        new Option('--which <name>', 'of a node’s models (default: the newest)').choices(['personal', 'start', 'initial'])
      )
      .option('--context <n>', 'tokens of a window, instead of all that the model allows', whole(1))
      .option('--threads <n>', 'of the engine (default: all cores; 1 gives equal bits for equal seeds)', whole(1))
  run(
    add(group, 'generate <model>', 'Goes on with a text, token by token.', [
      'worldlm model generate ./node --prompt "The licence says" --tokens 200',
      'worldlm model generate smol.safetensors --prompt "Once" --temperature 0'
    ])
  )
    .option('--prompt <text>', 'what comes before', '')
    .option('--tokens <n>', 'to make', whole(1), 200)
    .option('--temperature <t>', '0: always the likeliest token', between(0, 100), 0.8)
    .option('--top-p <p>', 'of the likeliest tokens so many as together have this probability', between(0, 1), 0.95)
    .option('--seed <n>', 'of what is drawn', whole(0), 0)
    .action(async (source, options) => (await import('./model-run.ts')).generateText(source, options, outputOf(options)))
  run(
    add(group, 'evaluate <model>', 'Perplexity and bits per byte on validation text.', [
      'worldlm model evaluate ./exported --data ./texts'
    ])
  )
    .requiredOption('--data <dir>', 'tree of text, or a folder of text files')
    .option('--tokens <n>', 'of each text, spread over it', whole(1), 6144)
    .action(async (source, options) => (await import('./model-run.ts')).evaluateModel(source, options, outputOf(options)))
  add(group, 'tokenizer', 'Makes a byte-level BPE tokenizer from text.', [
    'worldlm model tokenizer --train ./texts --vocabulary 4096 --out tokenizer.json'
  ])
    .requiredOption('--train <dir>', 'tree of text, or a folder of text files')
    .requiredOption('--vocabulary <n>', 'tokens in all, the 256 bytes among them', whole(256))
    .requiredOption('--out <file>', 'tokenizer.json')
    .action(async options => (await import('./model.ts')).trainTokenizer(options, outputOf(options)))
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

function bench(program: Command): void {
  const group = program.command('bench').description('Speed and memory, as ratios measured side by side.').exitOverride()
  add(group, 'engine', 'Tokens/s and memory of the training step at sizes S, M and L.', [
    'worldlm bench engine',
    'WORLDLM_PYTHON=venv/bin/python worldlm bench engine --vs torch',
    'worldlm bench engine --vs ../prototype --sizes S',
    'worldlm bench engine --device webgpu --sizes S --vs tfjs'
  ])
    .option('--vs <torch|tfjs|dir>', 'in turns with PyTorch, engine tfjs, or a folder’s model.mjs, onnx.mjs and adam.as.ts')
    .option('--sizes <list>', 'S, M, L (default: S,M; with torch all)', sizeList)
    .option('--threads <n>', 'of each engine', whole(1))
    .addOption(new Option('--device <name>', 'where ours computes').choices(['cpu', 'webgpu', 'cuda']))
    .addOption(
      new Option('--recompute <what>', 'what ours computes again (see engine.recompute)').choices([
        'none',
        'attention',
        'blocks'
      ])
    )
    .action(async options => (await import('./bench.ts')).benchCommand('engine', options, outputOf(options)))
  add(group, 'trainer', 'What the trainer protocol costs: the PyTorch trainer in bf16 beside a bare script.', [
    'WORLDLM_PYTHON=venv/bin/python worldlm bench trainer',
    'WORLDLM_PYTHON=venv/bin/python worldlm bench trainer --sizes M --steps 20'
  ])
    .option('--sizes <list>', 'S, M, L (default: S)', sizeList)
    .option('--steps <n>', 'of a round (default: 50)', whole(1))
    .option('--rounds <n>', 'of each side (default: 5)', whole(1))
    .option('--threads <n>', 'of each side', whole(1))
    .action(async options => (await import('./bench.ts')).benchCommand('trainer', options, outputOf(options)))
  add(group, 'generate', 'Milliseconds to the first token behind 200 bytes, then tokens/s, at size S.', [
    'worldlm bench generate'
  ])
    .option('--threads <n>', 'of the engine', whole(1))
    .action(async options => (await import('./bench.ts')).benchCommand('generate', options, outputOf(options)))
  add(group, 'aggregate', 'Bytes/s of attention over 64 updates of 25 M parameters, beside a plain copy.', [
    'worldlm bench aggregate'
  ])
    .option('--members <n>', 'updates', whole(1))
    .option('--floats <n>', 'parameters', whole(4))
    .action(async options => (await import('./bench.ts')).benchCommand('aggregate', options, outputOf(options)))
  add(group, 'simulate', 'The simulator: 10,000 peers, and events a second under faults.', [
    'worldlm bench simulate',
    'worldlm bench simulate --peers 1000 --rounds 5'
  ])
    .option('--peers <n>', 'of the large run (default 10000)', whole(400))
    .option('--rounds <n>', 'of the large run (default 20)', whole(1))
    .action(async options => (await import('./bench.ts')).benchCommand('simulate', options, outputOf(options)))
  add(group, 'blob', 'The blob exchange: beside a raw socket, from one to eight, and over a long link.', ['worldlm bench blob'])
    .option('--megabytes <n>', 'size of the blob', whole(1))
    .action(async options => (await import('./bench.ts')).benchCommand('blob', options, outputOf(options)))
  const run =
    (name: Parameters<typeof import('./bench.ts').benchCommand>[0]) =>
    async (options: Parameters<typeof import('./bench.ts').benchCommand>[1] & { json?: boolean }) =>
      (await import('./bench.ts')).benchCommand(name, options, outputOf(options))
  const seed = (command: Command) => command.option('--seed <n>', 'draws what is random', whole(0), 0)
  add(group, 'gossip', 'How long a message takes to all who follow a topic, beside a direct one.', [
    'worldlm bench gossip --peers 16'
  ])
    .option('--peers <n>', 'processes', whole(2))
    .option('--messages <n>', 'in all', whole(1))
    .action(run('gossip'))
  seed(
    add(group, 'discovery', 'How long until processes that know one address are all in their federations.', [
      'worldlm bench discovery --peers 12'
    ])
  )
    .option('--peers <n>', 'processes, six a federation', whole(2))
    .action(run('discovery'))
  seed(
    add(group, 'failover', 'How long a federation stands still when its aggregator is killed.', [
      'worldlm bench failover --times 5 --seed 3'
    ])
  )
    .option('--times <n>', 'kills', whole(1))
    .action(run('failover'))
  seed(add(group, 'round', 'What a round costs besides training.', ['worldlm bench round --rounds 10']))
    .option('--rounds <n>', 'measured rounds', whole(1))
    .action(run('round'))
  add(group, 'api', 'Requests/s of a node’s status, beside a bare HTTP server.', ['worldlm bench api']).action(run('api'))
}
