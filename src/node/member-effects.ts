/** A round on a member organization: train, announce, take the certified result. */
import { BlobAway } from '../errors.ts'
import type { RoundHead } from '../federation/participation.ts'
import type { Link } from '../ids.ts'
import type { FederationCore } from './federation-core.ts'
import { updateRecord } from './organization.ts'
import { readSigned, signUpdate } from './signed.ts'

/** What nobody gives is asked for again so late. */
const retryMs = 1_000
const triesPerWarning = 30

export async function train(node: FederationCore, round: number, base: RoundHead): Promise<void> {
  const { services } = node.options
  const { organization } = node
  if (organization === null) return
  try {
    const hasFingerprint = node.options.charter.algorithm.residuals.perNode === 0 || node.residuals.hasOwn
    const made = await organization.train(round, base, !hasFingerprint)
    const { trained, blob, blobBytes, sketches, fingerprint } = made
    if (fingerprint !== null) node.residuals.makeOwn(fingerprint)
    const facts = {
      federation: node.id,
      round,
      base: base.link,
      member: node.self,
      by: node.self,
      blob,
      blobBytes,
      holders: [node.self],
      textBytes: organization.textBytes,
      sketches,
      ...(organization.residuals.length > 0 && { residuals: organization.residuals })
    }
    const update = updateRecord(facts, trained)
    const { link, bytes } = signUpdate(services.host.sign.bind(services.host), update)
    organization.announce(link, bytes, made.newest)
    node.keepUpdate(link, bytes)
    services.events.emit({ type: 'trained', round, loss: trained.loss, tokens: trained.tokens, seconds: trained.seconds })
    node.dispatch({ type: 'participation', event: { type: 'trained', link, update } })
    await organization.evaluatePersonal(round)
  } catch (error) {
    if (!(error instanceof BlobAway)) {
      services.fail(error)
      return
    }
    // The model that the update is to be told against was lost here, and nobody gives it.
    services.events.emit({
      type: 'warning',
      code: 'MODEL_AWAY',
      message: `${node.path}: the update of round ${round} waits for the model before it: ${error.message}`
    })
    setTimeout(() => node.dispatch({ type: 'participation', event: { type: 'untrained' } }), retryMs).unref()
  }
}

export function announce(node: FederationCore, link: Link): void {
  const bytes = node.signedUpdates.get(link)
  if (bytes === undefined) return
  const signed = readSigned(bytes)
  node.say({ kind: 'update', signed })
  node.takeUpdate(node.self, { kind: 'update', signed })
}

/** It is another's, and its signature that one's. */
export function passOn(node: FederationCore, link: Link): void {
  const bytes = node.signedUpdates.get(link)
  if (bytes !== undefined) node.say({ kind: 'update', signed: readSigned(bytes) })
}

/** A model that nobody gives is asked for again, until a newer round makes it needless. @param tries - how often that was in vain. */
export async function apply(node: FederationCore, head: RoundHead, tries = 0): Promise<void> {
  const { services } = node.options
  const { organization } = node
  if (organization === null) return
  // Models of old rounds are gone, and nobody needs them.
  if (node.isBehind) {
    setTimeout(() => void apply(node, node.state.head, tries), retryMs).unref()
    return
  }
  try {
    await organization.apply(head)
    node.dispatch({ type: 'participation', event: { type: 'applied', link: head.link } })
  } catch (error) {
    if (!(error instanceof BlobAway)) {
      services.fail(error)
      return
    }
    if (tries % triesPerWarning === 0)
      services.events.emit({
        type: 'warning',
        code: 'MODEL_AWAY',
        message: `${node.path}: round ${head.round} waits for its model: ${error.message}`
      })
    setTimeout(() => void apply(node, node.state.head, tries + 1), retryMs).unref()
  }
}
