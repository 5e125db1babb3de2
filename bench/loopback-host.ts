/** Hosts of benches and tests: on loopback, at a port of the system's choice, and nobody finds them that is not told of them. */
import { createIdentity, Host, type HostOptions } from '../src/net/host.ts'

/** @param options - what is not to be as said above; without an identity it gets a new one. @throws {WorldlmError} as `Host.start`. */
export async function loopbackHost(options: Partial<HostOptions> = {}): Promise<Host> {
  const identity = options.identity ?? (await createIdentity())
  const alone = { listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false, onWarning: () => undefined }
  return Host.start({ ...alone, ...options, identity })
}
