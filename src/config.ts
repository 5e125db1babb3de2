/**
 * Every option of a node, with unit, range and default: `worldlm.yaml`, then `WORLDLM_*`, then flags (docs/configuration.md).
 */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { WorldlmError } from './errors.ts'
import { logLevels } from './log.ts'
import { nearest } from './nearest.ts'
import { isMapping, parseYaml } from './yaml.ts'

/** What others read on their terminals moves no cursor there. */
const printable = /^\P{Cc}*$/u

const federation = z.strictObject({
  id: z.string().regex(/^bafy[a-z2-7]{20,80}$/, 'a federation’s id begins with bafy'),
  as: z.enum(['organization', 'witness']).default('organization'),
  leaving: z.boolean().default(false)
})

export const configSchema = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(80)
    .regex(printable, 'it has control characters')
    .describe('Name of the organization, as the other members see it.'),
  path: z
    .string()
    .max(300)
    .regex(printable, 'it has control characters')
    .default('')
    .describe('Its path in reports, federation/…/organization; empty: its name.'),
  data: z
    .string()
    .default('')
    .describe(
      'Folder with its text: train.* and valid.*, or any .txt and .md. Relative to this file. Empty: a witness, without text.'
    ),
  listen: z
    .array(z.string())
    .default(['/ip4/127.0.0.1/tcp/4890'])
    .describe(
      'Multiaddrs to listen on. Port 0: any free one. Loopback only by default: name an address of this machine to be reached from others.'
    ),
  announce: z
    .array(z.string())
    .default([])
    .describe(
      'Multiaddrs that others are told to dial, instead of those listened on: for a node behind a forwarded port, in a container. Empty: what it listens on.'
    ),
  dialFrom: z
    .union([z.literal(''), z.ipv4(), z.ipv6()])
    .default('')
    .describe('IP address of this machine that connections go out from. Empty: the system chooses.'),
  bootstrap: z.array(z.string()).default([]).describe('Multiaddrs of peers to begin with; one that answers is enough.'),
  mdns: z.boolean().default(false).describe('Whether to look for peers on the local network too.'),
  network: z
    .strictObject({
      uploadBytesPerSecond: z
        .number()
        .min(0)
        .max(1e12)
        .default(0)
        .describe('Models sent to all peers together, in bytes a second; 0: no limit. 100 Mbit/s are 12500000.')
    })
    .prefault({}),
  federations: z
    .array(federation)
    .default([])
    .describe(
      'Federations to take part in: { id: bafy…, as: organization | witness }; `leaving: true` is written by `worldlm federation leave`, until the node has left.'
    ),
  api: z
    .strictObject({
      // An empty one would be every address of the machine.
      host: z
        .string()
        .min(1)
        .default('127.0.0.1')
        .describe('Address of the HTTP API. Any but loopback needs the bearer token.'),
      port: z.int().min(0).max(65535).default(4880).describe('Port of the HTTP API. 0: any free one.')
    })
    .prefault({}),
  engine: z
    .strictObject({
      name: z
        .enum(['onnx', 'tfjs', 'external', 'reference'])
        .default('onnx')
        .describe(
          'onnx: fast, on the CPU. tfjs: TensorFlow.js, if it is installed. external: a program of your own, engine.command (docs/trainer-protocol.md). reference: plain loops, for checks.'
        ),
      device: z
        .enum(['cpu', 'webgpu', 'cuda'])
        .default('cpu')
        .describe(
          'Where the engine `onnx` computes. webgpu: a GPU of any vendor, with a driver for Vulkan, Direct3D 12 or Metal. cuda: where onnxruntime’s CUDA libraries are installed.'
        ),
      recompute: z
        .enum(['none', 'attention', 'blocks'])
        .default('none')
        .describe(
          'Memory for time, with the engine `onnx` on the CPU: what the backward pass computes again instead of keeping it. attention: a few percent slower; blocks: about a quarter.'
        ),
      microBatch: z
        .int()
        .min(0)
        .default(0)
        .describe(
          'Memory for time, with the engine `onnx` on the CPU: windows of a step that are computed at once, at most; gradients are accumulated over the charter’s batch. 0: all at once.'
        ),
      command: z
        .array(z.string())
        .default([])
        .describe('Program and arguments of the engine `external`, run in the node’s folder. One with spaces is one argument.'),
      silenceSeconds: z
        .number()
        .min(1)
        .max(86_400)
        .default(600)
        .describe('Seconds without a word after which an external trainer counts as hanging, and is started again.'),
      checkpointSeconds: z
        .number()
        .min(0)
        .max(86_400)
        .default(60)
        .describe(
          'Seconds between checkpoints within a round: so much work is done again after a crash. 0: only after a round.'
        ),
      threads: z
        .int()
        .min(0)
        .max(256)
        .default(0)
        .describe('Threads of the engine. 0: as many as there are cores. 1 gives equal bits for equal seeds.')
    })
    .prefault({}),
  seed: z.int().min(0).default(0).describe('Draws the order of the text.'),
  validationTokens: z
    .int()
    .min(1)
    .max(10_000_000)
    .default(6144)
    .describe('Tokens of the fixed validation set, spread over the validation text.'),
  logLevel: z.enum(logLevels).default('info').describe('What node.log holds.')
})

export type NodeConfig = z.output<typeof configSchema>
export type NodeConfigInput = z.input<typeof configSchema>

/** An option as documents list it. */
export interface OptionInfo {
  key: string
  description: string
  default: unknown
}

/** Every option by its dotted key. */
export function listOptions(shape: Record<string, z.ZodType> = configSchema.shape, prefix = ''): OptionInfo[] {
  return Object.entries(shape).flatMap(([key, schema]) => {
    const inner = unwrap(schema)
    if (inner instanceof z.ZodObject) return listOptions(inner.shape as Record<string, z.ZodType>, `${prefix}${key}.`)
    const parsed = schema.safeParse(undefined)
    return [{ key: prefix + key, description: schema.description ?? '', default: parsed.success ? parsed.data : undefined }]
  })
}

function unwrap(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault ? unwrap(schema.unwrap() as z.ZodType) : schema
}

/** @param overrides - flags, by dotted key. @throws {WorldlmError} CONFIG_INVALID, CONFIG_MISSING: file, key, value, what is allowed. */
export function readConfig(
  path: string,
  environment: Record<string, string | undefined>,
  overrides: Record<string, unknown> = {}
): NodeConfig {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new WorldlmError(
      'CONFIG_MISSING',
      `${path} cannot be read: ${(cause as Error).message}`,
      'Make it with `worldlm node init`, or name another with --config.',
      { cause }
    )
  }
  const parsed = parseYaml(text)
  if ('fault' in parsed) throw invalid(`${path}: ${parsed.fault}`, 'Mend the YAML there.')
  const values = parsed.value ?? {}
  if (!isMapping(values)) throw invalid(`${path} is not a list of options`, 'Write one `key: value` a line.')
  for (const { key } of listOptions()) {
    const name = `WORLDLM_${key
      .replaceAll('.', '_')
      .replace(/([a-z])([A-Z])/g, '$1_$2')
      .toUpperCase()}`
    const value = environment[name]
    if (value !== undefined) put(values, key, scalar(value))
  }
  for (const [key, value] of Object.entries(overrides)) if (value !== undefined) put(values, key, value)
  return checkConfig(values, path)
}

/** @throws {WorldlmError} CONFIG_INVALID */
export function checkConfig(values: unknown, where: string): NodeConfig {
  const parsed = configSchema.safeParse(values)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  const key = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    const unknown = [...issue.path, issue.keys[0]].join('.')
    const known = listOptions().flatMap(({ key }) => [key, key.split('.')[0]!])
    const near = nearest(unknown, [...new Set(known)])
    throw invalid(
      `${where}: there is no option ${unknown}`,
      near === null ? 'See docs/configuration.md.' : `Did you mean ${near}?`
    )
  }
  const value = issue.path.reduce<unknown>((at, step) => (at as Record<PropertyKey, unknown> | undefined)?.[step], values)
  const option = listOptions().find(one => key.startsWith(one.key))
  throw invalid(
    `${where}: ${key} is ${JSON.stringify(value) ?? 'missing'}: ${issue.message}`,
    option?.description ?? 'See docs/configuration.md.'
  )
}

const invalid = (message: string, hint: string): WorldlmError => new WorldlmError('CONFIG_INVALID', message, hint)

/** JSON where it is JSON, else the text itself. */
function scalar(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function put(values: Record<string, unknown>, key: string, value: unknown): void {
  const [first, ...rest] = key.split('.')
  if (first === undefined) return
  if (rest.length === 0) values[first] = value
  else {
    // What is no section (`engine: onnx`), or no option (`__proto__`), stays as it is: it is refused by name.
    const inner = (Object.hasOwn(values, first) ? values[first] : undefined) ?? {}
    if (typeof inner !== 'object') return
    Object.defineProperty(values, first, { value: inner, enumerable: true, configurable: true, writable: true })
    put(inner as Record<string, unknown>, rest.join('.'), value)
  }
}

/** A commented `worldlm.yaml`: what is given is set, every other option stands there with its default, commented out. */
export function writeYaml(given: Record<string, unknown>): string {
  const lines = ['# A node of worldlm. Options that are commented out have the value shown.', '']
  let section = ''
  for (const { key, description, default: value } of listOptions()) {
    const [head, tail] = key.includes('.') ? (key.split('.') as [string, string]) : ['', key]
    if (head !== '' && head !== section) lines.push(`${head}:`)
    section = head
    const indent = head === '' ? '' : '  '
    const set = head === '' ? given[tail] : (given[head] as Record<string, unknown> | undefined)?.[tail]
    lines.push(...wrap(description).map(line => `${indent}# ${line}`))
    lines.push(`${set === undefined && head === '' ? '# ' : indent}${tail}: ${JSON.stringify(set ?? value ?? '')}`)
    if (head === '') lines.push('')
  }
  return `${lines.join('\n')}\n`
}

function wrap(text: string): string[] {
  const lines: string[] = ['']
  for (const word of text.split(' ')) {
    const last = lines.at(-1)!
    if (last.length + word.length > 100) lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  return lines
}
