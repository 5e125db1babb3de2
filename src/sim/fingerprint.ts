/** What is known in a topic of an organization in or below it. */
import type { Fingerprinted } from '../federation/residuals.ts'
import type { Place, RuledBy } from '../governance/egress.ts'

/** An organization's sketches after its first round, as they are known in one topic. */
export interface Fingerprint {
  node: Fingerprinted
  floats: Float32Array
  place: Place
  /** Charters from its own federation up to the root. */
  line: readonly RuledBy[]
}
