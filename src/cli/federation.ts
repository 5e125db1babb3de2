/** `worldlm federation create | join | leave | list | show`. */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { readConfig } from '../config.ts'
import { WorldlmError } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import type { Charter } from '../governance/charter.ts'
import type { FederationId } from '../ids.ts'
import { readCharters } from '../node/certified-car.ts'
import { type Consent, mayLeave, type Place } from '../governance/egress.ts'
import { parseAddress } from '../net/address.ts'
import { addFederation, removeFederation } from '../node/config-file.ts'
import { NodeFolder } from '../node/folder.ts'
import { writeCharter } from '../node/genesis.ts'
import { addStart } from '../node/starting-model.ts'
import type { NodeStatus } from '../node/status.ts'
import { isMalformed } from '../wire/codec.ts'
import { charterCodec } from '../wire/records.ts'
import { fetchStatus } from './node.ts'
import { beginningOf } from './model-choice.ts'
import type { Output } from './output.ts'
import { table } from './table.ts'
import { readYaml } from './yaml-file.ts'

export async function createFederation(
  options: { dir: string; name?: string; file?: string; parent?: string; model?: string; tokenizer?: string; context?: number },
  output: Output
): Promise<void> {
  const folder = new NodeFolder(options.dir)
  folder.prepare()
  // It is changed last: what is wrong with it is said before a charter is written.
  readConfig(folder.config, {})
  const written = options.file === undefined ? {} : readCharterFile(options.file)
  const input = { ...written, ...(options.name === undefined ? {} : { name: options.name }) }
  const parent = options.parent === undefined ? null : await findCharter(folder, options.parent)
  const { id, charter } = writeCharter(folder, { ...input, ...(await begin(folder, options)) }, parent)
  const through = parent === null ? [] : await leaveToChild(folder, parent)
  addToConfig(folder, id, 'organization', [])
  output.line(`${charter.path} is ${id}`)
  for (const path of through) output.line(`The node takes part in ${path} through it.`)
  for (const line of whatRulesStop(charter, await charters(folder))) output.line(line)
  output.line(`Others join it with: worldlm federation join ${id} --dir DIR --bootstrap ADDRESS-OF-THIS-NODE`)
  output.document({ id, path: charter.path, charter })
}

/** Rules are kept, whatever they stop: who wrote them is told. */
function whatRulesStop(charter: Charter, all: { id: FederationId; charter: Charter }[]): string[] {
  const line = [charter]
  for (let above = all.find(({ id }) => id === charter.parent); above !== undefined; ) {
    line.push(above.charter)
    const { parent } = above.charter
    above = all.find(({ id }) => id === parent)
  }
  const { keyFraction } = charter.algorithm
  const tensors = [...(keyFraction > 0 ? (['keys'] as const) : []), ...(keyFraction < 1 ? (['backbone'] as const) : [])]
  const forbidden = (place: Place) => tensors.map(tensor => mayLeave(line, tensor, place)).find(({ allowed }) => !allowed)
  // A name that nobody has: what is said of one member alone stops nobody else.
  const members = forbidden({ path: `${charter.path}/\u0000`, kind: 'organization' })
  const parent = line[1] === undefined ? undefined : forbidden({ path: line[1].path, kind: 'federation' })
  const why = (consent: Consent) => (consent.allowed ? '' : `${consent.by}: ${consent.reason}`)
  return [
    ...(members === undefined
      ? []
      : [`! Its members may not have each other’s models (${why(members)}): with more than one it makes no round.`]),
    ...(parent === undefined ? [] : [`! Its parent may not have its model (${why(parent)}): the parent’s rounds leave it out.`])
  ]
}

/**
 * A node trains in one federation. One that has just founded those above takes part in them through their child. Where it is a member of its own
 * already it has to leave first, for which it has to run.
 */
async function leaveToChild(folder: NodeFolder, parent: { id: FederationId; charter: Charter }): Promise<string[]> {
  const through: string[] = []
  if (existsSync(folder.certifiedCar)) return through
  const all = await charters(folder)
  const { federations } = readConfig(folder.config, {})
  let above: FederationId | null = parent.id
  while (above !== null) {
    const found = all.find(({ id }) => id === above)
    if (found !== undefined && federations.some(({ id, as }) => id === found.id && as === 'organization')) {
      removeFederation(folder.config, found.id)
      through.push(found.charter.path)
    }
    above = found?.charter.parent ?? null
  }
  return through
}

/** Fields of the charter for what --model and --tokenizer name; their files are put into the node's store. */
async function begin(
  folder: NodeFolder,
  { parent, model, tokenizer, context }: { parent?: string; model?: string; tokenizer?: string; context?: number }
): Promise<Record<string, unknown>> {
  if (model === undefined && tokenizer === undefined) return {}
  if (parent !== undefined)
    throw new WorldlmError(
      'USAGE',
      '--model beside --parent',
      'A federation trains what the one above it trains: leave it out.'
    )
  const { charter, start } = beginningOf(model ?? 'tiny', {
    ...(tokenizer === undefined ? {} : { tokenizer }),
    ...(context === undefined ? {} : { context })
  })
  return { ...charter, ...(start === null ? {} : await addStart(folder, start)) }
}

export async function joinFederation(
  id: string,
  options: { dir: string; witness?: boolean; bootstrap?: string[] },
  output: Output
): Promise<void> {
  const folder = new NodeFolder(options.dir)
  folder.prepare()
  if (!/^bafy[a-z2-7]{20,80}$/.test(id))
    throw new WorldlmError(
      'USAGE',
      `${id} is no federation’s id`,
      'It begins with bafy; whoever created the federation was shown it.'
    )
  for (const address of options.bootstrap ?? []) parseAddress(address)
  addToConfig(folder, id, options.witness === true ? 'witness' : 'organization', options.bootstrap ?? [])
  output.line(`${id} is added; the node joins it when it is started: worldlm node start --dir ${shellWord(options.dir)}`)
  output.document({ id, as: options.witness === true ? 'witness' : 'organization' })
}

function addToConfig(folder: NodeFolder, id: FederationId, as: 'organization' | 'witness', bootstrap: string[]): void {
  addFederation(folder.config, id, as, bootstrap)
  readConfig(folder.config, {})
}

/** Time for the others to certify it, and to know it; a federation without a majority takes longer, and the node goes on asking. */
const leaveTimeoutMs = 30_000

/** @throws {WorldlmError} NOT_JOINED, LEAVE_PENDING */
export async function leaveFederation(
  wanted: string,
  { dir, now = false }: { dir: string; now?: boolean },
  output: Output
): Promise<void> {
  const folder = new NodeFolder(dir)
  folder.prepare()
  const run = folder.running()
  const id = (await charters(folder)).find(one => one.id === wanted || one.charter.path === wanted)?.id ?? wanted
  if (run === null || run.api === '') {
    if (!removeFederation(folder.config, id))
      throw new WorldlmError(
        'NOT_JOINED',
        `${folder.config} has no federation ${wanted}`,
        'See `worldlm federation list` for those that it has.'
      )
    output.line(`${id} is removed from ${folder.config}`)
    output.line('The node was not running, so the others do not know yet: they count it as absent.')
    output.document({ id, certified: false })
    return
  }
  const before = (await fetchStatus(dir)).federations.find(one => one.id === id)
  let waitsFor = before?.leavingWaitsFor.join(', ') ?? ''
  const answer = await fetch(`${run.api}/v1/federations/${encodeURIComponent(id)}/leave${now ? '?now=true' : ''}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${folder.token()}` }
  })
  if (!answer.ok) {
    const { code, message, hint } = (await answer.json()) as { code: string; message: string; hint: string }
    throw new WorldlmError(code, message, hint)
  }
  output.line(`asking to leave ${id}`)
  let said = ''
  for (const began = Date.now(); Date.now() - began < leaveTimeoutMs; await sleep(200)) {
    const leaving = (await fetchStatus(dir)).federations.find(one => one.id === id && one.leaving)
    if (leaving !== undefined) {
      waitsFor = leaving.leavingWaitsFor.join(', ')
      if (waitsFor !== '' && waitsFor !== said) output.line(`certified; waiting until ${waitsFor} shows that it knows`)
      said = waitsFor
      continue
    }
    output.line(`left ${id}: certified by the others, and removed from ${folder.config}`)
    if (now && waitsFor !== '')
      output.line(`${waitsFor} had not shown to know it: whoever does not may wait for this node’s vote for good`)
    output.document({ id, certified: true })
    return
  }
  if (waitsFor !== '')
    throw new WorldlmError(
      'LEAVE_PENDING',
      `it is certified, and ${waitsFor} did not show within ${leaveTimeoutMs / 1000} s to know it`,
      'The node stays until then, also after a restart: without the certificate they may wait for its vote for good. To go all the same, add --now.'
    )
  throw new WorldlmError(
    'LEAVE_PENDING',
    `the others have not certified it within ${leaveTimeoutMs / 1000} s`,
    'The node goes on asking while it runs; `worldlm federation show` tells whether a majority is there, node.log whether they refuse what is proposed (ENTRY_REFUSED). If they never will: `worldlm node stop`, and leave again; a node that does not run goes by itself, and counts as absent.'
  )
}

const readCharterFile = (path: string) =>
  readYaml(path, 'CHARTER_INVALID', 'See docs/governance.md for what a charter looks like.') as Record<string, unknown>

/** By id or path, from the node's own folder. @throws {WorldlmError} CHARTER_MISSING */
async function findCharter(folder: NodeFolder, wanted: string): Promise<{ id: FederationId; charter: Charter }> {
  const found = (await charters(folder)).find(({ id, charter }) => id === wanted || charter.path === wanted)
  if (found !== undefined) return found
  throw new WorldlmError(
    'CHARTER_MISSING',
    `this node holds no charter of ${wanted}`,
    'Join it and start the node once: it fetches the charter. `worldlm federation list` shows those that it holds.'
  )
}

async function charters(folder: NodeFolder): Promise<{ id: FederationId; charter: Charter }[]> {
  const archived = await readCharters(folder.certifiedCar)
  const all = new Map([...archived, ...folder.charters()])
  return [...all].flatMap(([id, bytes]) => {
    const charter = charterCodec.decode(bytes)
    return isMalformed(charter) ? [] : [{ id, charter }]
  })
}

async function liveStatus(dir: string): Promise<NodeStatus | null> {
  return fetchStatus(dir).catch(() => null)
}

export async function listFederations({ dir }: { dir: string }, output: Output): Promise<void> {
  const folder = new NodeFolder(dir)
  folder.prepare()
  const known = await charters(folder)
  const status = await liveStatus(dir)
  const rows = known.map(({ id, charter }) => {
    const live = status?.federations.find(one => one.id === id)
    return { id, path: charter.path, role: live?.role ?? null, round: live?.round ?? null }
  })
  output.line(
    table(
      ['federation', 'id', 'role', 'round'],
      rows.map(({ id, path, role, round }) => [path, id, role ?? '–', round === null ? '–' : String(round)])
    )
  )
  output.document(rows)
}

export async function showFederation(wanted: string, { dir }: { dir: string }, output: Output): Promise<void> {
  const folder = new NodeFolder(dir)
  folder.prepare()
  const { id, charter } = await findCharter(folder, wanted)
  const live = (await liveStatus(dir))?.federations.find(one => one.id === id) ?? null
  output.line(`# ${id}`)
  output.line(stringify(charter).trimEnd())
  if (live !== null)
    output.line(
      `# now: round ${live.round}, term ${live.term}, aggregator ${live.aggregator ?? 'none'}, ${live.members.length} members, voters ${live.voters.length}`
    )
  output.document({ id, charter, live })
}
