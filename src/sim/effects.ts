/**
 * The simulator's answer to each effect; the daemon's is node/effects.ts. What is durable there before the next effect is durable here,
 * what takes time there comes back as a later event here.
 */
import { assertNever } from '../errors.ts'
import { parentHeadOf } from '../federation/levels.ts'
import type { Entry, Update } from '../federation/entry.ts'
import type { EffectToPerform as Effect, PeerCore, PersistedConsensus, ReplicaCore, SignedRecord, Topic } from './core.ts'
import { verify } from './entry-checks.ts'
import { aggregate, combine, pull, receipt } from './round-effects.ts'
import { sharedIn, sign as signatureOf } from './stand-ins.ts'

export function performEffect(replica: ReplicaCore, effect: Effect): void {
  const { peer, topic, services } = replica
  switch (effect.do) {
    case 'persist':
      peer.disk.write(topic.files.consensus, {
        term: effect.term,
        votedFor: effect.votedFor,
        accepted: effect.accepted,
        givenUp: effect.givenUp,
        nonce: effect.nonce,
        signed: effect.signed,
        old: effect.old,
        updates: updatesOf(replica, effect.accepted?.entry)
      } satisfies PersistedConsensus)
      return
    case 'send':
      if (effect.message.type === 'vote-reply' && effect.message.granted)
        services.observer.voted(peer, topic, effect.message.term, effect.to)
      replica.send(effect.to, effect.message)
      return
    case 'sign':
      sign(replica, effect)
      return
    case 'verify':
      verify(replica, effect)
      return
    case 'store':
      store(replica, effect)
      return
    case 'publish':
      replica.voice.head({ link: effect.link, entry: effect.entry, certificate: effect.certificate })
      return
    case 'became-aggregator':
      services.observer.aggregator(peer, topic, effect.term)
      return
    case 'stepped-down':
    case 'aggregator-changed':
    case 'finish':
      return
    case 'refused':
      services.measures.told(topic, `UPDATE_REFUSED ${effect.fault.code}`)
      return
    case 'refused-entry':
      services.measures.told(topic, `ENTRY_REFUSED ${effect.fault.code}`)
      return
    case 'pull':
      pull(replica, effect.link, effect.update)
      return
    case 'hold':
      hold(peer, topic, effect.update)
      return
    case 'receipt':
      receipt(replica, effect)
      return
    case 'aggregate':
      aggregate(replica, effect.round, effect.inputs)
      return
    case 'contribute':
      replica.handIn.contribute(effect.update)
      return
    case 'combine':
      combine(replica, effect.model, effect.parent)
      return
    case 'train':
      replica.organization?.train(effect.round, effect.base.link)
      return
    case 'pass-on':
      replica.voice.update('update', { link: effect.link, update: effect.update })
      return
    case 'announce':
      announce(replica, effect.link)
      return
    case 'apply':
      replica.organization?.apply()
      return
    case 'memory-old':
      services.measures.told(topic, 'MEMORY_OLD')
      return
    case 'tell':
      services.measures.told(topic, effect.code)
      return
    default:
      assertNever(effect)
  }
}

/** The updates that an entry counts, as far as they are here: whoever has accepted a round may have to propose it again. */
function updatesOf({ updates }: ReplicaCore, entry: Entry | undefined): SignedRecord[] {
  const inputs = entry?.kind === 'round' ? entry.inputs : []
  return inputs.flatMap(({ update: link }) => {
    const update = updates.get(link)
    return update === undefined ? [] : [{ link, update }]
  })
}

function hold(peer: PeerCore, topic: Topic, { blob, holders, round }: Update): void {
  if (!peer.blobs.has(blob)) peer.pull(blob, holders, topic, round, () => undefined)
}

function sign(replica: ReplicaCore, { to, index, term, link, signedFor }: Extract<Effect, { do: 'sign' }>): void {
  const { peer, topic, services } = replica
  services.observer.signed(peer, topic, index, term, link)
  const signature = signatureOf(peer.name, topic.id, index, term, link)
  if (to === peer.name) replica.dispatch({ type: 'consensus', event: { type: 'signed', index, term, link, signature } })
  else {
    replica.send(to, { type: 'accept', term, index, link, signature, signedFor })
    replica.evidence?.tell({ index, term, link, signature }, to)
  }
}

function store(replica: ReplicaCore, { link, entry, certificate }: Extract<Effect, { do: 'store' }>): void {
  const { peer, topic, services } = replica
  const certified = sharedIn(topic.log, { link, entry, certificate })
  peer.disk.append(topic.files.log, certified)
  topic.newestIndex = Math.max(topic.newestIndex, entry.index)
  services.observer.committed(replica, certified)
  if (entry.kind === 'members') return
  const head = parentHeadOf(replica.state, entry, link)
  for (const child of peer.below(topic)) child.dispatch({ type: 'parent-head', head })
}

function announce(replica: ReplicaCore, link: string): void {
  const update = replica.updates.get(link)
  if (update === undefined || replica.voice.updateAgain({ link, update })) return
  const announced = replica.voice.update('update', { link, update })
  if (replica.busy || !announced) replica.takeUpdate({ link, update })
}
