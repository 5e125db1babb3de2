/** `worldlm model import | export | tokenizer`: models and tokenizers as files. */
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { trainBpe } from '../data/bpe.ts'
import type { Bytes } from '../data/spool.ts'
import { loadText, type OrganizationText, readTree } from '../data/text-tree.ts'
import { openTokenizer, piecesOf, type Tokenizer } from '../data/tokenizer.ts'
import { buildGenerationGraph } from '../engine/onnx/generation-graph.ts'
import { writeFully, writeWhole } from '../engine/tensor-file.ts'
import { WorldlmError } from '../errors.ts'
import type { Encoding } from '../model/checkpoint.ts'
import { contextOf } from '../model/hugging-face.ts'
import { isNodeFolder, type NodeModelName, readNodeModel } from '../node/node-model.ts'
import { readModel, type StandaloneModel, writeModel } from '../train/model-source.ts'
import type { Output } from './output.ts'

/** A model file, a folder of transformers', or a node's folder. */
export async function openModel(
  path: string,
  { which, context }: { which?: NodeModelName; context?: number } = {}
): Promise<StandaloneModel> {
  if (isNodeFolder(path)) {
    const model = await readNodeModel(path, which)
    return { ...model, config: { ...model.config, context: contextOf(model.config.context, context, path) } }
  }
  if (which !== undefined)
    throw new WorldlmError('USAGE', `--which ${which} is for a node’s folder, ${path} is none`, 'Leave it out.')
  return readModel(path, context)
}

export async function importModel(
  source: string,
  options: { out: string; context?: number; dtype?: Encoding },
  output: Output
): Promise<void> {
  const model = readModel(source, options.context)
  checkTokenizer(model, source)
  makeFolderFor(options.out)
  writeModel(options.out, model, options.dtype ?? 'f32')
  report(`${source} → ${options.out}`, model, output, { source, out: options.out })
}

export async function exportModel(
  source: string,
  options: { out: string; which?: NodeModelName; dtype?: Encoding; shardMegabytes?: number },
  output: Output
): Promise<void> {
  const { shardMegabytes } = options
  const model = await openModel(source, options.which === undefined ? {} : { which: options.which })
  checkTokenizer(model, source)
  makeFolderFor(options.out)
  if (options.out.endsWith('.onnx')) writeOnnx(options.out, model)
  else writeModel(options.out, model, options.dtype ?? 'f32', shardMegabytes && shardMegabytes * 1e6)
  report(`${source} → ${options.out}`, model, output, { source, out: options.out })
}

/** Before anything is written. @throws {WorldlmError} TOKENIZER_INVALID, TOKENIZER_TOO_LARGE */
export function checkTokenizer({ config, tokenizer: json }: StandaloneModel, source: string): Tokenizer {
  const tokenizer = openTokenizer(json, `the tokenizer of ${source}`)
  if (tokenizer.vocabulary <= config.vocabulary) return tokenizer
  throw new WorldlmError(
    'TOKENIZER_TOO_LARGE',
    `the tokenizer of ${source} has ${tokenizer.vocabulary} tokens, the model knows ${config.vocabulary}`,
    'Give the tokenizer that belongs to the model.'
  )
}

const makeFolderFor = (path: string): void => void mkdirSync(dirname(path), { recursive: true })

/** A file of protobuf ends at 2 GiB. */
const onnxBytesMax = 2 ** 31 - 2 ** 24

/** The graph that `generate` runs, with the weights in it (docs/models.md). @throws {WorldlmError} MODEL_TOO_LARGE */
function writeOnnx(path: string, { config, parameters }: StandaloneModel): void {
  if (parameters.byteLength > onnxBytesMax)
    throw new WorldlmError(
      'MODEL_TOO_LARGE',
      `${parameters.byteLength} bytes of weights do not fit an ONNX file, which ends at 2 GiB`,
      'Export a folder for transformers instead.'
    )
  const model = buildGenerationGraph(config, parameters)
  writeWhole(path, fd => writeFully(fd, model))
}

function report(what: string, { config, parameters, tokenizer }: StandaloneModel, output: Output, facts: object): void {
  const { name, vocabulary } = openTokenizer(tokenizer, 'tokenizer.json')
  output.line(`${what}: ${(parameters.length / 1e6).toFixed(2)} M parameters, ${config.layers} blocks, width ${config.width}`)
  output.line(`tokens: ${name} (${vocabulary} of ${config.vocabulary} that the model knows), windows of ${config.context}`)
  output.document({ ...facts, model: config, parameters: parameters.length, tokenizer: { name, vocabulary } })
}

/** Trains a BPE over the training text of a tree, or of one organization's folder. */
export async function trainTokenizer(
  options: { train: string; vocabulary: number; out: string },
  output: Output
): Promise<void> {
  let bytes = 0
  const texts: Bytes[] = []
  for (const organization of organizations(options.train)) {
    const { train } = await loadText(organization, { context: 1, keptBackBytes: 0 })
    bytes += train.length
    texts.push(train)
  }
  const tell = (merges: number) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${256 + merges} of ${options.vocabulary} tokens`)
  }
  const { tokenizer, vocabulary } = trainBpe(stringsOf(texts), options.vocabulary, tell)
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
  makeFolderFor(options.out)
  writeFileSync(options.out, `${JSON.stringify(tokenizer)}\n`)
  output.line(`${options.out}: ${vocabulary} tokens from ${bytes} bytes of text`)
  if (vocabulary < options.vocabulary)
    output.line(`fewer than the ${options.vocabulary} asked for: no further pair is seen twice in this text`)
  output.document({ out: options.out, vocabulary, bytes })
}

/** A string holds no more than half a gigabyte. */
const stringBytes = 1 << 26

function* stringsOf(texts: Bytes[]): Generator<string> {
  const utf8 = new TextDecoder()
  for (const text of texts) for (const piece of piecesOf(text, stringBytes)) yield utf8.decode(piece)
}

/** A tree, or a folder that holds text itself. */
export function organizations(folder: string): OrganizationText[] {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new WorldlmError('DATA_MISSING', `${folder} is not a folder`, 'Give a tree of text, or a folder with text files.')
  const entries = readdirSync(folder, { withFileTypes: true })
  return entries.some(entry => entry.isDirectory() && !entry.name.startsWith('.'))
    ? readTree(folder)
    : [{ path: folder, folder }]
}
