/** Protocol names on the wire. The number grows when a peer of the old version would misread the new. */
import type { FederationId } from '../ids.ts'

export const protocols = {
  dht: '/worldlm/kad/1',
  consensus: '/worldlm/consensus/1',
  fetch: '/worldlm/fetch/1',
  instance: '/worldlm/instance/1',
  blob: '/worldlm/blob/1'
} as const

/** The gossipsub topic of a federation. */
export const topicOf = (federation: FederationId): string => `/worldlm/1/${federation}`
