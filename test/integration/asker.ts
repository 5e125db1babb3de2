/** A stranger who asks a node one question, as any peer may. */
import { loopbackHost } from '../../bench/loopback-host.ts'
import type { PeerName } from '../../src/ids.ts'
import { Direct } from '../../src/net/direct.ts'
import { isMalformed } from '../../src/wire/codec.ts'
import { type Answer, answerCodec, type Question, questionCodec } from '../../src/wire/messages.ts'

/** @param addresses - of the one that is asked. */
export async function askOnce(addresses: string[], peer: PeerName, question: Question): Promise<Answer> {
  const host = await loopbackHost({ bootstrap: addresses })
  try {
    const nothing = async () => new Uint8Array()
    const direct = await Direct.start(host, () => undefined, nothing)
    await host.learn(peer, addresses)
    const answer = answerCodec.decode(await direct.ask(peer, questionCodec.encode(question), 10_000))
    if (isMalformed(answer)) throw new Error(answer.detail)
    return answer
  } finally {
    await host.stop()
  }
}
