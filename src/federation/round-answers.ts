/** A round beside the federation that it is in: whom its entry names, and which answers are still its own. */
import type { Link } from '../ids.ts'
import type { FederationState } from './federation-state.ts'
import { contributors } from './membership.ts'
import type { RoundBody, RoundState } from './round-state.ts'

/** Members that joined after the round was closed are named too: each contributor is either counted or excluded. */
export function withLatecomers(body: RoundBody, state: FederationState): RoundBody {
  const named = new Set([...body.inputs, ...body.excluded].map(({ member }) => member))
  const late = contributors(state.roster).filter(({ member }) => !named.has(member))
  return { ...body, excluded: [...body.excluded, ...late.map(({ member }) => ({ member, reason: 'late' }))] }
}

type Answer = { type: 'aggregated'; round: number; inputs: readonly Link[] } | { type: 'combined'; round: number; own: Link }

/** Whether it answers what the round asked last. The same round may have been opened twice, with other inputs. */
export function isAnswer(round: RoundState, event: Answer): boolean {
  if (event.type === 'combined')
    return round.phase === 'combining' && round.round === event.round && round.result.model === event.own
  return (
    round.phase === 'aggregating' &&
    round.round === event.round &&
    round.inputs.length === event.inputs.length &&
    round.inputs.every(({ link }, place) => link === event.inputs[place])
  )
}
