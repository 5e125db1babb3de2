/**
 * Cuts a plan of faults down to the smallest that still fails (Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing
 * Input", ddmin): parts of the plan are left out, ever smaller ones, as long as the run still fails.
 *
 * Is not: a search for another failure; `fails` says what counts as the same one.
 */
import type { Fault, FaultPlan } from './faults.ts'

/** Runs that a shrinking may take. */
const runsMax = 300

/** @param fails - whether a run under the plan still fails as the first did. @returns a plan that fails; the given one at worst. */
export async function shrink(plan: FaultPlan, fails: (plan: FaultPlan) => Promise<boolean>): Promise<FaultPlan> {
  let runs = 0
  const still = async (smaller: FaultPlan): Promise<boolean> => runs++ < runsMax && (await fails(smaller))
  let best = plan
  const calm = { ...best, clockDrift: 0 }
  if (plan.clockDrift > 0 && (await still(calm))) best = calm
  for (let parts = 2; best.faults.length > 0 && parts <= 2 * best.faults.length; ) {
    const size = Math.max(1, Math.ceil(best.faults.length / parts))
    const smaller = await firstThatFails(best, size, still)
    if (smaller !== null) {
      best = smaller
      parts = Math.max(2, parts - 1)
    } else if (size === 1) break
    else parts *= 2
  }
  return best
}

async function firstThatFails(
  plan: FaultPlan,
  size: number,
  still: (plan: FaultPlan) => Promise<boolean>
): Promise<FaultPlan | null> {
  for (let begin = 0; begin < plan.faults.length; begin += size) {
    const faults: Fault[] = [...plan.faults.slice(0, begin), ...plan.faults.slice(begin + size)]
    const smaller = { ...plan, faults }
    if (await still(smaller)) return smaller
  }
  return null
}
