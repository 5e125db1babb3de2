/**
 * What the daemon does with an effect of a federation. Storing effects end before the next begins; long ones are started here and
 * come back as events: the aggregator's in round-effects.ts, a member's in member-effects.ts, a voter's checks in entry-checks.ts. The
 * simulator has its own answer to each.
 */
import { assertNever } from '../errors.ts'
import type { Entry } from '../federation/entry.ts'
import { describeEntryFault, describeUpdateFault } from '../federation/fault.ts'
import { parentHeadOf } from '../federation/levels.ts'
import type { Link } from '../ids.ts'
import { limits } from '../wire/limits.ts'
import { certificateCodec, entryCodec } from '../wire/records.ts'
import { acceptBytes } from '../wire/signature.ts'
import { type EffectToPerform as Effect, type FederationCore, nothingMeasured } from './federation-core.ts'
import { announce, apply, passOn, train } from './member-effects.ts'
import { aggregate, combine, hold, pull, receipt } from './round-effects.ts'
import { verify } from './entry-checks.ts'
import { writeConsensus } from './store.ts'
import { summarize } from './summary.ts'

export async function performEffect(node: FederationCore, effect: Effect): Promise<void> {
  const { services } = node.options
  switch (effect.do) {
    case 'persist':
      // Whoever has accepted a round may be the only one to propose it again, and the others believe it by what it counts.
      if (effect.accepted !== null) services.car.addUpdates(updatesOf(node, effect.accepted.entry))
      writeConsensus(services.folder.consensus(node.id), effect)
      return
    case 'send':
      node.send(effect.to, { federation: node.id, message: effect.message })
      return
    case 'sign':
      sign(node, effect)
      return
    case 'verify':
      void verify(node, effect)
      return
    case 'store':
      store(node, effect)
      return
    case 'publish':
      publish(node, effect)
      return
    case 'became-aggregator':
      node.measured = nothingMeasured(services.exchange.bytes.out)
      return
    case 'stepped-down':
      return
    case 'memory-old':
      services.events.emit({ type: 'warning', code: 'MEMORY_OLD', message: `${node.path}: ${memoryOld(effect.index)}` })
      return
    case 'aggregator-changed':
      services.events.emit({ type: 'aggregator', federation: node.path, peer: effect.peer, term: effect.term })
      return
    case 'pull':
      void pull(node, effect.link, effect.update)
      return
    case 'hold':
      hold(node, effect.update)
      return
    case 'receipt':
      receipt(node, effect)
      return
    case 'aggregate':
      aggregate(node, effect.round, effect.inputs)
      return
    case 'contribute':
      node.handIn.contribute(effect.update)
      return
    case 'combine':
      void combine(node, effect.model, effect.parent)
      return
    case 'train':
      void train(node, effect.round, effect.base)
      return
    case 'pass-on':
      passOn(node, effect.link)
      return
    case 'announce':
      announce(node, effect.link)
      return
    case 'apply':
      void apply(node, effect.head)
      return
    case 'finish':
      services.events.emit({ type: 'finished', round: effect.round })
      return
    case 'tell':
      services.events.emit({ type: 'warning', code: effect.code, message: `${node.path}: ${effect.message}` })
      return
    case 'refused':
      // Late or early messages of honest peers are no news.
      if (effect.fault.verdict === 'reject')
        services.events.emit({
          type: 'fault',
          federation: node.path,
          peer: effect.peer,
          code: effect.fault.code,
          detail: describeUpdateFault(effect.fault)
        })
      return
    case 'refused-entry':
      services.events.emit({
        type: 'warning',
        code: 'ENTRY_REFUSED',
        message: `${node.path}: a proposed entry was refused: ${describeEntryFault(effect.fault)}`
      })
      return
    default:
      assertNever(effect)
  }
}

const memoryOld = (index: number): string =>
  `this node’s disk is an older copy of what it was: the certified entry ${index} is signed by it, and it does not remember that. It votes and accepts again as soon as every other voter has told it what it may have forgotten`

function sign(node: FederationCore, { to, index, term, link, signedFor }: Extract<Effect, { do: 'sign' }>): void {
  const { host, records } = node.options.services
  // I2: what was signed is on disk before the signature leaves.
  records.append({ record: 'accept', federation: node.id, index, term, entry: link })
  const signature = host.sign(acceptBytes(node.id, index, term, link))
  if (to === node.self) node.dispatch({ type: 'consensus', event: { type: 'signed', index, term, link, signature } })
  else {
    const told = signedFor === undefined ? {} : { signedFor }
    node.send(to, { federation: node.id, message: { type: 'accept', term, index, link, signature, ...told } })
    node.accepted({ index, term, link, signature }, to)
  }
}

function store(node: FederationCore, { link, entry, certificate }: Extract<Effect, { do: 'store' }>): void {
  const { car, events, exchange } = node.options.services
  const bytes = { entry: entryCodec.encode(entry), certificate: certificateCodec.encode(certificate) }
  car.addEntry(node.log, entry, bytes, updatesOf(node, entry))
  if (entry.kind === 'members') {
    for (const { member, name } of entry.joined)
      events.emit({ type: 'member', federation: node.path, member, name, change: 'joined' })
    for (const { member, reason } of [...entry.left, ...entry.evicted.map(({ peer }) => ({ member: peer, reason: 'evicted' }))])
      events.emit({ type: 'member', federation: node.path, member, name: member.slice(-6), change: 'left', reason })
    return
  }
  const commit =
    node.measured.proposedAt > 0 && entry.proposer === node.self ? (performance.now() - node.measured.proposedAt) / 1000 : 0
  node.measured = nothingMeasured(exchange.bytes.out)
  events.emit({ type: 'round', round: summarize(node, entry, link, certificate.term, commit) })
  const head = parentHeadOf(node.state, entry, link)
  for (const child of node.options.children(node.id)) child.dispatch({ type: 'parent-head', head })
  // Of the rounds that it catches up with it has nothing; to look costs as much as to check an entry.
  if (!node.isBehind) node.options.onRound()
}

/** The signed updates that an entry counts, as far as they are here. */
function updatesOf({ signedUpdates }: FederationCore, entry: Entry): { link: Link; bytes: Uint8Array }[] {
  const inputs = entry.kind === 'round' ? entry.inputs : []
  return inputs.flatMap(({ update: link }) => {
    const bytes = signedUpdates.get(link)
    return bytes === undefined ? [] : [{ link, bytes }]
  })
}

function publish(node: FederationCore, { entry, certificate }: Extract<Effect, { do: 'publish' }>): void {
  const message = { kind: 'head', entry: entryCodec.encode(entry), certificate: certificateCodec.encode(certificate) } as const
  // A larger one is fetched: the next heartbeat and presence tell of it.
  if (message.entry.length + message.certificate.length < limits.gossipBytesMax - 1024) node.say(message)
}
