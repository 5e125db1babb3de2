/** Addresses that people write: in worldlm.yaml, on the command line. */
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { WorldlmError } from '../errors.ts'

/** @throws {WorldlmError} BAD_ADDRESS */
export function parseAddress(address: string): Multiaddr {
  try {
    return multiaddr(address)
  } catch (cause) {
    throw new WorldlmError(
      'BAD_ADDRESS',
      `${address} is not a multiaddr`,
      'Write it like /ip4/127.0.0.1/tcp/4890 or /dns4/name/tcp/4890/p2p/12D3Koo….',
      { cause }
    )
  }
}
