/** What handing in (federation/hand-in.ts) asks of a node. */
import type { HandIn, HandInHost, Waiting } from '../federation/hand-in.ts'
import type { FederationId } from '../ids.ts'
import type { Signed } from '../wire/messages.ts'
import type { FederationCore } from './federation-core.ts'
import { signUpdate } from './signed.ts'

export function handInHost(
  node: FederationCore,
  wait: (what: Waiting, ms: number) => void,
  above: (parent: FederationId) => HandIn<Signed> | null
): HandInHost<Signed> {
  const { host } = node.options.services
  return {
    get state() {
      return node.state
    },
    above,
    wait,
    sign: update => {
      const { link, bytes, signed } = signUpdate(host.sign.bind(host), update)
      node.keepUpdate(link, bytes)
      return { link, update, signed }
    },
    say: (kind, signed) => node.say({ kind, signed }),
    take: ({ link, update }) => node.dispatch({ type: 'update', link, update })
  }
}
