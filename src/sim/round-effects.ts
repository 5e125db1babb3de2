/** A round on its aggregator, simulated: pull, judge, aggregate, combine (node/round-effects.ts). */
import type { Update } from '../federation/entry.ts'
import { holdersOf, holdersOfUpdate } from '../federation/levels.ts'
import type { ParentHead, Received } from '../federation/round-state.ts'
import type { Link } from '../ids.ts'
import type { EffectToPerform as Effect, ReplicaCore } from './core.ts'

/** What cannot be had is asked for again so late, … */
const retryMs = 1_000
/** … and the model before it so often, until the aggregator hands over. */
const triesMax = 5

export function pull(replica: ReplicaCore, link: Link, update: Update): void {
  const { peer, topic, services } = replica
  const away = (detail: string) =>
    replica.dispatch({ type: 'unpulled', link, fault: { code: 'NOT_FOUND', verdict: 'ignore', detail } })
  peer.pull(update.blob, holdersOfUpdate(replica.state, update), topic, replica.state.head.round, got => {
    if (!replica.alive) return
    const blob = peer.blobs.get(update.blob)
    if (!got || blob === undefined) {
      away('no holder gave it')
      return
    }
    previousModel(replica, previous => {
      if (previous === null) away('the previous model is away')
      else replica.dispatch({ type: 'pulled', link, keysDistance: services.mixing.keysDistance(blob.model, previous) })
    })
  })
}

/** The federation's newest model: the head's, or what the tree began with. */
function previousModel(replica: ReplicaCore, then: (model: Float32Array | null) => void): void {
  const { peer, topic, services, state } = replica
  const { entry, round } = state.head
  if (entry === null) {
    then(services.learner.initial)
    return
  }
  const held = peer.blobs.get(entry.model)
  if (held !== undefined) {
    then(held.model)
    return
  }
  peer.pull(entry.model, holdersOf(state), topic, round, () => {
    if (replica.alive) then(peer.blobs.get(entry.model)?.model ?? null)
  })
}

export function receipt(replica: ReplicaCore, { update: link, verdict }: Extract<Effect, { do: 'receipt' }>): void {
  const update = replica.updates.get(link)
  if (update === undefined) return
  const word = verdict === 'accepted' ? 'accepted' : verdict.code
  if (update.by !== replica.peer.name) {
    replica.ask(update.by, { kind: 'receipt', update: link, verdict: word }, () => undefined)
    return
  }
  replica.recordReceipt(link, word)
  replica.dispatch({ type: 'participation', event: { type: 'receipt', link, accepted: verdict === 'accepted' } })
}

export function aggregate(replica: ReplicaCore, round: number, inputs: Received[], tries = 1): void {
  const { peer, services, topic } = replica
  replica.later(services.aggregateMs * peer.slowness, () =>
    previousModel(replica, previous => {
      if (previous === null) {
        if (replica.state.consensus.role !== 'leader') return
        if (tries >= triesMax) replica.dispatch({ type: 'consensus', event: { type: 'hand-over' } })
        else replica.later(retryMs, () => aggregate(replica, round, inputs, tries + 1))
        return
      }
      const { state } = replica
      const { charter } = topic
      const models = inputs.map(({ update, weight, keysDistance }) => ({
        model: peer.blobs.get(update.blob)?.model ?? null,
        weight,
        sketches: update.sketches,
        keysDistance
      }))
      const held = models.filter((one): one is typeof one & { model: Float32Array } => one.model !== null)
      // The round was closed in between, and what it needed is gone: another result is on its way.
      if (held.length < models.length) return
      const { model, attention } = services.mixing.aggregate(charter.algorithm, held, previous)
      const base = state.parentHead === null ? services.learner.initial : peer.blobs.get(state.parentHead.model)?.model
      const send = (contribution: Link | null, contributionBase: Link | null) =>
        replica.dispatch({
          type: 'aggregated',
          round,
          inputs: inputs.map(({ link }) => link),
          result: {
            model: peer.put(model, round),
            modelBytes: services.blobBytes,
            outer: null,
            contribution,
            contributionBytes: services.blobBytes,
            contributionBase,
            sketches: services.mixing.sketch(model, previous),
            attention,
            measured: { bytesIn: inputs.length * services.blobBytes, bytesOut: 0, transferSeconds: 0, aggregateSeconds: 0 }
          }
        })
      if (charter.parent === null) send(null, null)
      else if (base !== undefined)
        send(peer.put(services.mixing.difference(model, base), round), state.parentHead?.entry ?? charter.parent)
      else contributeLater(replica, model, round, send)
    })
  )
}

/** The parent's model is pulled first: the contribution is its change. Where nobody gives it, the federation goes on alone. */
function contributeLater(
  replica: ReplicaCore,
  model: Float32Array,
  round: number,
  send: (link: Link | null, base: Link | null) => void,
  tries = 1,
  until = replica.services.clock.nowMs + replica.topic.charter.timings.parentTimeoutMs
): void {
  const { peer, topic, services } = replica
  const head = replica.state.parentHead!
  peer.pull(head.model, head.holders, topic, round, () => {
    const base = peer.blobs.get(head.model)?.model
    if (!replica.alive) return
    if (base === undefined && (tries >= triesMax || services.clock.nowMs >= until)) send(null, null)
    else if (base === undefined) replica.later(retryMs, () => contributeLater(replica, model, round, send, tries + 1, until))
    else send(peer.put(services.mixing.difference(model, base), round), head.entry)
  })
}

/** The parent's backbone under the federation's own key layers. */
export function combine(replica: ReplicaCore, model: Link, parent: ParentHead): void {
  const { peer, topic, services } = replica
  const round = replica.state.round.phase === 'idle' ? 0 : replica.state.round.round
  const own = peer.blobs.get(model)?.model
  if (own === undefined) return
  const send = (combined: Link) =>
    replica.dispatch({ type: 'combined', round, own: model, parent, model: combined, modelBytes: services.blobBytes })
  if (services.learner.shape.backbone.length === 0) {
    replica.later(1, () => send(model))
    return
  }
  peer.pull(parent.model, parent.holders, topic, round, () => {
    if (!replica.alive) return
    const above = peer.blobs.get(parent.model)?.model
    if (above !== undefined) send(peer.put(services.mixing.combine(above, own), round))
    // Its next certified round, or the parent's timeout, moves the federation on.
    else
      replica.later(retryMs, () => {
        const { round: open, parentHead } = replica.state
        if (open.phase === 'combining' && open.result.model === model) combine(replica, model, parentHead ?? parent)
      })
  })
}
