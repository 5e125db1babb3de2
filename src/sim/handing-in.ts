/** What handing in (federation/hand-in.ts) asks of a simulated replica. */
import type { Update } from '../federation/entry.ts'
import type { HandInHost, Waiting } from '../federation/hand-in.ts'
import type { ReplicaCore, SignedRecord } from './core.ts'
import { linkOfUpdate } from './stand-ins.ts'

export function handInHost(replica: ReplicaCore, wait: (what: Waiting, ms: number) => void): HandInHost<SignedRecord> {
  let announced = false
  return {
    get state() {
      return replica.state
    },
    wait,
    above: parent => replica.peer.replicas.get(parent)?.handIn ?? null,
    sign: (update: Update) => {
      const record = { link: linkOfUpdate(update), update }
      replica.keepUpdate(record)
      replica.services.observer.announced(replica.topic, record)
      return { ...record, signed: record }
    },
    say: (kind, signed) => {
      announced = replica.voice.update(kind, signed)
    },
    // What was announced to all it comes to with the others' (mail.ts).
    take: ({ link, update }) => {
      if (replica.busy || !announced) replica.dispatch({ type: 'update', link, update })
    }
  }
}
