/** The commands of `worldlm bench`. */
import { type Command, Option } from 'commander'
import { add, outputOf, sizeList, whole } from './command.ts'

export function bench(program: Command): void {
  const group = program.command('bench').description('Speed and memory, as ratios measured side by side.').exitOverride()
  const run =
    (name: Parameters<typeof import('./bench.ts').benchCommand>[0]) =>
    async (options: Parameters<typeof import('./bench.ts').benchCommand>[1] & { json?: boolean }) =>
      (await import('./bench.ts')).benchCommand(name, options, outputOf(options))
  add(group, 'engine', 'Tokens/s and memory of the training step at sizes S, M and L.', [
    'worldlm bench engine',
    'WORLDLM_PYTHON=venv/bin/python worldlm bench engine --vs torch',
    'worldlm bench engine --vs ../prototype --sizes S',
    'worldlm bench engine --vs tfjs',
    'worldlm bench engine --device webgpu --sizes S'
  ])
    .option('--vs <torch|tfjs|dir>', 'in turns with PyTorch, engine tfjs, or a folder’s model.mjs, onnx.mjs and adam.as.ts')
    .option('--sizes <list>', 'S, M, L (default: S,M; with torch all, with tfjs S)', sizeList)
    .option('--threads <n>', 'of each engine', whole(1))
    .addOption(
      new Option('--device <name>', 'where ours computes, and PyTorch: on the CPU, or else on CUDA').choices([
        'cpu',
        'webgpu',
        'cuda'
      ])
    )
    .option('--micro-batch <n>', 'windows that ours computes at once, at most (see engine.microBatch)', whole(1))
    .addOption(
      new Option('--recompute <what>', 'what ours computes again (see engine.recompute)').choices([
        'none',
        'attention',
        'blocks'
      ])
    )
    .action(run('engine'))
  add(group, 'trainer', 'What the trainer protocol costs: the PyTorch trainer in bf16 beside a bare script.', [
    'WORLDLM_PYTHON=venv/bin/python worldlm bench trainer',
    'WORLDLM_PYTHON=venv/bin/python worldlm bench trainer --sizes M --steps 20',
    'worldlm bench trainer --device cuda --sizes M --steps 500'
  ])
    .option('--sizes <list>', 'S, M, L (default: S)', sizeList)
    .option('--steps <n>', 'of a round (default: 50)', whole(1))
    .option('--rounds <n>', 'of each side (default: 5)', whole(1))
    .addOption(new Option('--device <name>', 'where both compute').choices(['cpu', 'cuda']).default('cpu'))
    .option('--threads <n>', 'of each side', whole(1))
    .action(run('trainer'))
  add(group, 'generate', 'Milliseconds to the first token behind 200 bytes, then tokens/s, at size S.', [
    'worldlm bench generate'
  ])
    .option('--threads <n>', 'of the engine', whole(1))
    .action(run('generate'))
  add(group, 'aggregate', 'Bytes/s of attention over 64 updates of 25 M parameters, beside a plain copy.', [
    'worldlm bench aggregate'
  ])
    .option('--members <n>', 'updates', whole(1))
    .option('--floats <n>', 'parameters', whole(4))
    .action(run('aggregate'))
  add(group, 'simulate', 'The simulator: 10,000 peers, and events a second under faults.', [
    'worldlm bench simulate',
    'worldlm bench simulate --peers 1000 --rounds 5'
  ])
    .option('--peers <n>', 'of the large run (default 10000)', whole(400))
    .option('--rounds <n>', 'of the large run (default 20)', whole(1))
    .action(run('simulate'))
  add(group, 'blob', 'The blob exchange: beside a raw socket, from one to eight, and over a long link.', ['worldlm bench blob'])
    .option('--megabytes <n>', 'size of the blob', whole(1))
    .action(run('blob'))
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
