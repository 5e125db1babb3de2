/** Timers by name, and what it means that one has run out. The daemon and the simulator run them, each by its own clock. */
import type { FederationEffect, FederationEvent } from './federation.ts'

export type TimerName = Extract<FederationEffect, { do: 'start-timer' }>['name'] | 'start'

export function timerEvent(name: TimerName): FederationEvent {
  switch (name) {
    case 'election':
    case 'heartbeat':
    case 'recall':
      return { type: 'consensus', event: { type: 'timer', name } }
    case 'announce':
      return { type: 'participation', event: { type: 'announce-again' } }
    default:
      return { type: 'timer', name }
  }
}
