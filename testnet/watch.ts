/**
 * Watches nodes through their HTTP API, as any user can: one stream of events a process, read until it ends; asked again after a break.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeStatus, NumberedEvent } from '../src/node/status.ts'
import type { TestnetNode } from './spawn.ts'

const retryMs = 300
const statusTimeoutMs = 2_000

/** Resolves when the process that runs now has ended. */
export async function watchNode(
  node: TestnetNode,
  onEvent: (node: TestnetNode, event: NumberedEvent) => void,
  signal: AbortSignal
): Promise<void> {
  const { process, api } = node
  let seq = 0
  while (!signal.aborted && node.process === process && node.ended === null) {
    try {
      const response = await fetch(`${api}/v1/events?since=${seq}`, { signal })
      for await (const event of eventsOf(response)) {
        if (event.seq <= seq) continue
        seq = event.seq
        onEvent(node, event)
      }
    } catch {
      // The node is gone or going: whether it comes back is seen in the next turn.
    }
    await sleep(retryMs, undefined, { signal }).catch(() => undefined)
  }
}

/** Server-sent events (WHATWG HTML §9.2), of which ours use single `data:` lines. */
async function* eventsOf(response: Response): AsyncGenerator<NumberedEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of response.body ?? []) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.startsWith('data: ')) yield JSON.parse(line.slice(6)) as NumberedEvent
  }
}

/** The node's status now; null when it does not answer. */
export async function readStatus(node: TestnetNode): Promise<NodeStatus | null> {
  if (node.process === null || node.ended !== null || node.paused) return null
  try {
    return (await (await fetch(`${node.api}/v1/status`, { signal: AbortSignal.timeout(statusTimeoutMs) })).json()) as NodeStatus
  } catch {
    return null
  }
}
