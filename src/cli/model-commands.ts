/** The commands of `worldlm model`. */
import { type Command, Option } from 'commander'
import { add, between, outputOf, whole } from './command.ts'

const which = () =>
  new Option('--which <name>', 'of a node’s models (default: the newest)').choices(['personal', 'start', 'initial'])

export function model(program: Command): void {
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
    .addOption(which())
    .action(async (source, options) => (await import('./model.ts')).exportModel(source, options, outputOf(options)))
  const run = (command: Command) =>
    command
      .addOption(which())
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
